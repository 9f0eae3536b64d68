//! The meshes of four write-ups run as their demos show them: every check sees what the write-up says.

use std::path::Path;

use vouch_tests::{
    Demo,
    demo::{Network, table},
    need,
};

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
fn the_edge_proxy_and_the_sidecar_run_as_written() {
    runs_as_written(Demo::EdgeSidecar);
}

#[test]
fn the_tls_sandbox_runs_as_written() {
    runs_as_written(Demo::TlsSandbox);
}
