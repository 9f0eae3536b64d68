//! The meshes of four write-ups run as their demos show them: every check sees what the write-up says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use vouch_tests::{
    Demo, Need,
    demo::{Network, table},
    need, require,
};

const DEMOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/demos");

fn runs_as_written(demo: Demo) {
    if need::skips(demo.needs()) {
        return;
    }
    demo.run(Path::new(env!("CARGO_BIN_EXE_service")), Network::Own, |shown| {
        assert!(shown.differing().is_empty(), "{}", table(&shown.checks));
    });
}

#[test]
fn the_spiffe_documentations_two_services_run_as_written() {
    runs_as_written(Demo::Docs);
}

#[test]
fn the_mesh_with_policies_runs_as_written() {
    runs_as_written(Demo::OpaMesh);
}

#[test]
fn the_edge_proxy_and_the_sidecar_run_as_written() {
    runs_as_written(Demo::EdgeSidecar);
}

#[test]
fn the_tls_sandbox_runs_as_written() {
    runs_as_written(Demo::TlsSandbox);
}

#[test]
fn envoy_takes_every_file_of_the_demos_as_it_lies_there() {
    require!(Need::Envoy);
    let files = envoy_files();
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        let mut envoy = Command::new(std::env::var_os("VOUCH_ENVOY").expect("it is there"));
        envoy.args(["--mode", "validate", "--log-level", "error", "--config-path"]).arg(&file);
        let output = envoy.output().expect("Envoy runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {said}", file.display());
    }
}

/// What envoy-1.12.md calls today's stands, indented somehow, in the file that it names.
#[test]
fn each_block_of_today_stands_in_a_file_that_runs() {
    let page = fs::read_to_string(Path::new(DEMOS).join("envoy-1.12.md")).expect("the page is there");
    let blocks = blocks_of_today(&page);
    assert!(blocks.len() >= 10, "{}", blocks.len());
    for (file, block) in blocks {
        let text =
            fs::read_to_string(Path::new(DEMOS).join(&file)).expect("the page names files that are there");
        let lines: Vec<&str> = text.lines().collect();
        let found = lines.windows(block.len()).any(|window| without_indentation(window) == block);
        assert!(found, "{file} has no block\n{}", block.join("\n"));
    }
}

/// Each block before which the page says in which file it stands, the last one that was said.
fn blocks_of_today(page: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks = Vec::new();
    // Blocks and what stands between them, in turn.
    let parts: Vec<&str> = page.split("```").collect();
    for pair in parts.chunks_exact(2) {
        let [before, block] = pair else { unreachable!("chunks of two") };
        let paragraph = before.trim_end().rsplit("\n\n").next().unwrap_or_default();
        let file = paragraph.split('`').find(|word| word.ends_with(".yaml"));
        if let Some(file) = file {
            let lines: Vec<&str> = block.lines().skip(1).collect();
            blocks.push((file.to_owned(), without_indentation(&lines)));
        }
    }
    blocks
}

fn without_indentation(lines: &[&str]) -> Vec<String> {
    let depth = |line: &&str| line.len() - line.trim_start().len();
    let least = lines.iter().map(depth).min().unwrap_or_default();
    lines.iter().map(|line| line[least..].to_owned()).collect()
}

fn envoy_files() -> Vec<PathBuf> {
    let folders = fs::read_dir(DEMOS).expect("the demos are there").flatten();
    let folders = folders.filter_map(|folder| fs::read_dir(folder.path().join("envoy")).ok());
    folders.flatten().flatten().map(|file| file.path()).collect()
}
