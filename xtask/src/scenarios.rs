//! Runs what needs a running agent: the scenarios of tests/ and, by [`crate::demo`], the demos.
//!
//! Agent and peers run under several uids, so their binaries are staged where everybody may read them, and the
//! step runs as root: directly, or through `sudo -n`. What a machine cannot do is listed at the end.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use crate::{browser, engines, peers, step};

/// Stages are called this and the pid of who made them.
const STAGE: &str = "vouch-stage-";

/// Runs all tests, and the scenarios may not skip any.
///
/// # Errors
/// When a test fails or is skipped, or cannot be built.
pub(crate) fn test_all() -> anyhow::Result<()> {
    unit_tests()?;
    scenarios(None, true)
}

/// Runs all tests, or only the scenarios whose name contains `scenario`. A scenario that this machine cannot run
/// is listed; with `VOUCH_REQUIRE_ALL=1` it is a failure.
///
/// # Errors
/// When a test fails or cannot be built.
pub(crate) fn test(scenario: Option<&str>) -> anyhow::Result<()> {
    if scenario.is_none() {
        unit_tests()?;
    }
    scenarios(scenario, env::var_os("VOUCH_REQUIRE_ALL").is_some_and(|value| value == "1"))
}

/// Unit and doc tests of every package that needs no privilege.
fn unit_tests() -> anyhow::Result<()> {
    step::run(&mut step::cargo(&["test"]))
}

fn scenarios(filter: Option<&str>, require_all: bool) -> anyhow::Result<()> {
    let executables = build(&["test", "--package", "vouch-tests", "--no-run"], |artifact| {
        artifact["profile"]["test"].as_bool() == Some(true)
    })?;
    let stage = Stage::new()?;
    for executable in &executables {
        let mut command = stage.command(executable)?;
        command.current_dir("tests").arg("--test-threads=2").args(filter);
        let ran = step::run(&mut command);
        stage.report_skips()?;
        ran?;
    }
    if require_all && !stage.skips()?.is_empty() {
        bail!("scenarios were skipped where all should run");
    }
    Ok(())
}

/// Builds by `cargo arguments` and gives the executables of the artifacts that are `wanted`.
pub(crate) fn build(
    arguments: &[&str],
    wanted: impl Fn(&serde_json::Value) -> bool,
) -> anyhow::Result<Vec<PathBuf>> {
    let messages = step::read(step::cargo(arguments).arg("--message-format=json-render-diagnostics"))?;
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executables = artifacts
        .filter(|artifact| artifact["reason"] == "compiler-artifact" && wanted(artifact))
        .filter_map(|artifact| artifact["executable"].as_str().map(PathBuf::from));
    Ok(executables.collect())
}

/// A folder that every uid may enter, with the binaries in it; goes away with its last user.
pub(crate) struct Stage {
    dir: PathBuf,
    envoy: Result<PathBuf, String>,
    opa: Result<PathBuf, String>,
    engines: Result<PathBuf, String>,
    browser: Result<PathBuf, String>,
}

impl Stage {
    pub(crate) fn new() -> anyhow::Result<Self> {
        // Together, so that what both need is built once.
        let packages = ["build", "--package", "vouch", "--package", "vouch-bench"];
        let built = build(&packages, |artifact| artifact["target"]["kind"][0] == "bin")?;
        let named = |name: &str| {
            built.iter().find(|path| path.ends_with(name)).with_context(|| format!("cargo built no {name}"))
        };
        let (agent, harness) = (named("vouch")?, named("vouch-bench")?);
        remove_abandoned()?;
        // A short name: socket paths below it must stay under 108 bytes.
        let dir = env::temp_dir().join(format!("{STAGE}{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        let not_yet = || Err(String::new());
        let mut stage =
            Self { dir, envoy: not_yet(), opa: not_yet(), engines: not_yet(), browser: not_yet() };
        fs::set_permissions(&stage.dir, fs::Permissions::from_mode(0o755))?;
        fs::copy(agent, stage.agent()).context("staging the agent")?;
        // It takes the agent that lies beside it.
        fs::copy(harness, stage.dir.join("vouch-bench")).context("staging the harness")?;
        stage.envoy = peers::envoy().map_err(|error| format!("{error:#}")).and_then(|binary| {
            let staged = stage.dir.join("envoy");
            fs::copy(binary, &staged).map(|_| staged).map_err(|error| error.to_string())
        });
        // Only root starts them, so they stay where they are.
        stage.opa = peers::opa().map_err(|error| format!("{error:#}"));
        stage.engines = engines::engines().map_err(|error| format!("{error:#}"));
        stage.browser = browser::browser().map_err(|error| format!("{error:#}"));
        Ok(stage)
    }

    fn agent(&self) -> PathBuf {
        self.dir.join("vouch")
    }

    fn skips_file(&self) -> PathBuf {
        self.dir.join("skips")
    }

    /// What runs `program` with our privileges raised as far as nobody has to be asked.
    pub(crate) fn command(&self, program: &Path) -> anyhow::Result<Command> {
        let mut settings: Vec<(&str, OsString)> = vec![
            ("TMPDIR", self.dir.clone().into()),
            ("VOUCH_BIN", self.agent().into()),
            ("VOUCH_SKIPS", self.skips_file().into()),
        ];
        for (name, missing, fetched) in [
            ("VOUCH_ENVOY", "VOUCH_ENVOY_MISSING", &self.envoy),
            ("VOUCH_OPA", "VOUCH_OPA_MISSING", &self.opa),
            ("VOUCH_ENGINES", "VOUCH_ENGINES_MISSING", &self.engines),
            ("VOUCH_BROWSER", "VOUCH_BROWSER_MISSING", &self.browser),
        ] {
            match fetched {
                Ok(path) => settings.push((name, path.into())),
                Err(why) => settings.push((missing, why.into())),
            }
        }
        if is_root()? || !sudo_works() {
            let mut command = Command::new(program);
            command.envs(settings);
            return Ok(command);
        }
        // An agent of root's takes no socket directory below what somebody else may change.
        step::run(Command::new("sudo").args(["-n", "chown", "0:0"]).arg(&self.dir))?;
        let mut command = Command::new("sudo");
        command.args(["-n", "env"]);
        for (name, value) in settings {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(value);
            command.arg(setting);
        }
        command.arg(program);
        Ok(command)
    }

    /// One line for each scenario that said it cannot run here.
    fn skips(&self) -> anyhow::Result<String> {
        match fs::read_to_string(self.skips_file()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            read => read.context("reading what was skipped"),
        }
    }

    fn report_skips(&self) -> anyhow::Result<()> {
        let skips = self.skips()?;
        if !skips.is_empty() {
            println!("These scenarios did NOT run:");
            skips.lines().for_each(|line| println!("  {line}"));
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

/// Removes the stages of runs that were interrupted.
fn remove_abandoned() -> anyhow::Result<()> {
    for folder in fs::read_dir(env::temp_dir())?.flatten() {
        let name = folder.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(STAGE)?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&folder.path());
        }
    }
    Ok(())
}

/// As far as we may: what a root step left behind is root's.
fn remove(dir: &Path) {
    if fs::remove_dir_all(dir).is_err() {
        Command::new("sudo").args(["-n", "rm", "-rf", "--"]).arg(dir).status().ok();
    }
}

fn is_root() -> anyhow::Result<bool> {
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}

fn sudo_works() -> bool {
    Command::new("sudo").args(["-n", "true"]).output().is_ok_and(|output| output.status.success())
}
