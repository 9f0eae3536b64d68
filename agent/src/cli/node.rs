//! `vouch up` and `vouch run`: the agent itself.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::{Common, first_entry, output};
use crate::{
    app::{self, Prepared},
    config::{Choices, Config, Layout, LogLevel},
    health::Node,
    problem::Problem,
    spiffe::TrustDomain,
    telemetry::{self, LogConfig},
};

/// Where people's SPIRE configurations look for the agent's socket.
const SPIRE_SOCKETS: [&str; 5] = [
    "/tmp/spire-agent/public/api.sock",
    "/run/spire/agent/public/api.sock",
    "/run/spire/agent-sockets/spire-agent.sock",
    "/run/spire/sockets/agent.sock",
    "/run/spire/socket/agent.sock",
];

/// Overrides the level of the log.
const LOG_VARIABLE: &str = "VOUCH_LOG";

#[derive(Debug, Args)]
pub(super) struct Up {
    /// Where the authority and the entries are kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Name of the trust domain; made from the host name when this is the first start
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
    /// Address of /metrics and the probes, or off
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<String>,
    /// Also serve at the paths where SPIRE's clients look
    #[arg(long)]
    spire_socket: bool,
    /// Make no first entry for the user that calls
    #[arg(long)]
    no_demo_entry: bool,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    #[arg(long, value_name = "FILE", default_value = "/etc/vouch/vouch.toml")]
    config: PathBuf,
    /// Instead of running, remove the kernel hooks and maps that an agent of this configuration left pinned
    #[arg(long)]
    unpin: bool,
}

pub(super) fn run(run: &Run, common: &Common) -> Result<ExitCode, Problem> {
    let mut config = Config::load(&run.config)?;
    if run.unpin {
        return unpin(&config, common);
    }
    if let Some(socket) = common.public_socket()? {
        config.workload_api.socket = socket;
    }
    if let Some(socket) = &common.admin_socket {
        config.admin.socket.clone_from(socket);
    }
    start_log(&config);
    tracing::info!("configuration in force:\n{}", config.show());
    serve(config, |node| {
        for socket in &node.sockets {
            tracing::info!("serving at unix://{}", socket.display());
        }
    })
}

fn unpin(config: &Config, common: &Common) -> Result<ExitCode, Problem> {
    let removed = app::unpin(config)?;
    output::print(common.output, &json!({ "removed": removed }), |out| {
        for pin in &removed {
            out.push_str(&format!("removed {}\n", pin.display()));
        }
        if removed.is_empty() {
            out.push_str("nothing was pinned\n");
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn up(up: &Up, common: &Common) -> Result<ExitCode, Problem> {
    let layout = Layout::of_this_process();
    let choices = Choices {
        state_dir: up.state_dir.clone(),
        socket: common.public_socket()?,
        admin_socket: common.admin_socket.clone(),
        also: if up.spire_socket { SPIRE_SOCKETS.map(PathBuf::from).to_vec() } else { vec![] },
        metrics: up.metrics.clone(),
    };
    // What is stored there was written beside the authority's key, and is read with it.
    app::hide_memory()?;
    let trust_domain = match &up.trust_domain {
        Some(chosen) => chosen.clone(),
        None => {
            let state_dir = up.state_dir.as_ref().unwrap_or(&layout.state_dir);
            match crate::authority::stored_trust_domain(state_dir)? {
                Some(stored) => stored,
                None => first_entry::trust_domain_of_host()?,
            }
        }
    };
    let mut config = Config::zero(&trust_domain, &layout, &choices)?;
    config.telemetry.log.level = LogLevel::Warn;
    start_log(&config);
    let prepared = app::prepare(config.clone())?;
    let entries = &config.entries.files[0];
    first_entry::write(entries, &trust_domain, !up.no_demo_entry)?;
    let told_socket = common.socket.is_some();
    run_to_the_end(prepared, |node| greet(node, &config, told_socket))
}

fn serve(config: Config, ready: impl FnOnce(&Node)) -> Result<ExitCode, Problem> {
    run_to_the_end(app::prepare(config)?, ready)
}

/// Work that hangs on a thread of its own, such as the reading of a file, does not keep the agent from ending.
fn run_to_the_end(prepared: Prepared, ready: impl FnOnce(&Node)) -> Result<ExitCode, Problem> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let runtime = runtime()?;
    let outcome = runtime.block_on(app::run(prepared, ready));
    runtime.shutdown_timeout(PATIENCE);
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Its threads start without the capabilities that this thread has given up.
fn runtime() -> Result<tokio::runtime::Runtime, Problem> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Problem::new("E0314", "no thread can be started").why(error.to_string()))
}

fn start_log(config: &Config) {
    use crate::config::LogFormat as Chosen;
    telemetry::init(&LogConfig {
        format: match config.telemetry.log.format {
            Chosen::Auto => telemetry::LogFormat::Auto,
            Chosen::Text => telemetry::LogFormat::Text,
            Chosen::Json => telemetry::LogFormat::Json,
        },
        level: match config.telemetry.log.level {
            LogLevel::Error => tracing::Level::ERROR,
            LogLevel::Warn => tracing::Level::WARN,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Debug => tracing::Level::DEBUG,
            LogLevel::Trace => tracing::Level::TRACE,
        },
    });
    if let Some(error) = std::env::var_os(LOG_VARIABLE).and_then(|text| log_filter_fault(&text)) {
        tracing::warn!("{LOG_VARIABLE} is ignored: {error} (W0118)");
    }
}

/// Why the value of [`LOG_VARIABLE`] says nothing about what to log.
fn log_filter_fault(text: &OsStr) -> Option<String> {
    match text.to_str() {
        None => Some("it is not UTF-8 text".to_owned()),
        Some(text) => EnvFilter::try_new(text).err().map(|error| error.to_string()),
    }
}

/// What a new user wants to know: what runs, what is missing, what to type next.
fn greet(node: &Node, config: &Config, told_socket: bool) {
    let now = std::time::SystemTime::now();
    let say = output::say;
    say(&format!("vouch {}  trust domain: {}", super::VERSION, node.trust_domain));
    let hooks = node.capture.iter().flat_map(|capture| capture.hooks());
    let attached = hooks.clone().filter(|hook| hook.state == crate::kernel::HookState::Attached).count();
    let mark = if node.is_degraded(now) { "[warn]" } else { "[ok]  " };
    let (grade, hooks) = (node.grade(), hooks.count());
    say(&format!("  {mark} evidence of grade {grade}, {attached} of {hooks} kernel hooks attached"));
    let until = humantime::format_rfc3339_seconds(node.authority.expires());
    say(&format!("  [ok]   embedded CA until {until}, kept in {}", config.state_dir.display()));
    for socket in &node.sockets {
        say(&format!("  [ok]   Workload API and SDS at unix://{}", socket.display()));
    }
    if let Some(address) = config.telemetry.metrics {
        say(&format!("  [ok]   metrics and probes at http://{address}/metrics"));
    }
    let index = node.entries.current();
    let written = index.iter().map(|entry| (&entry.id, &entry.selectors, entry.spiffe_id.as_str()));
    let named = index.templates().map(|entry| (&entry.id, &entry.selectors, entry.spiffe_id.as_str()));
    for (id, selectors, name) in written.chain(named).take(5) {
        let selectors: Vec<String> = selectors.iter().map(ToString::to_string).collect();
        say(&format!("  [ok]   entry {id}: {} -> {name}", selectors.join(" ")));
    }
    for fact in node.facts(now) {
        say(&format!("  [warn] {} {}", fact.code, fact.text.replace('\n', "\n         ")));
        if !fact.fix.is_empty() {
            say(&format!("         fix: {}", fact.fix));
        }
    }
    let socket = match node.sockets.first() {
        Some(path) if told_socket => format!(" --socket {}", path.display()),
        _ => String::new(),
    };
    let program = std::env::current_exe().unwrap_or_else(|_| "vouch".into());
    say(&format!("Next:  {} fetch{socket}", typed(&program, std::env::var_os("PATH").as_deref())));
    say(&format!(
        "       edit {} to give others an identity; it is read again by itself",
        config.entries.files[0].display()
    ));
}

/// What to type to run `program`: its name where the search path leads to it, else its path.
fn typed(program: &Path, search: Option<&OsStr>) -> String {
    let name = program.file_name().unwrap_or(program.as_os_str());
    let found = search.into_iter().flat_map(std::env::split_paths).map(|directory| directory.join(name));
    let first = found.filter(|path| path.is_file()).find_map(|path| path.canonicalize().ok());
    let shown = if first.is_some_and(|first| first == program) { Path::new(name) } else { program };
    shown.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_filter_that_cannot_be_read_is_noticed() {
        assert_eq!(log_filter_fault("info".as_ref()), None);
        assert_eq!(log_filter_fault("warn,vouch=trace".as_ref()), None);
        for bad in ["vouch=loud", "vouch=info=debug"] {
            assert!(log_filter_fault(bad.as_ref()).is_some(), "{bad}");
        }
    }

    #[test]
    fn what_to_type_next_is_found_by_the_shell() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().canonicalize().unwrap();
        let program = directory.join("vouch");
        std::fs::write(&program, "").unwrap();
        let shown = |search: &[&Path]| typed(&program, Some(&std::env::join_paths(search).unwrap()));
        assert_eq!(shown(&[Path::new("/nowhere"), &directory]), "vouch");
        assert_eq!(shown(&[Path::new("/nowhere")]), program.display().to_string());
        let other = directory.join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("vouch"), "").unwrap();
        assert_eq!(shown(&[&other, &directory]), program.display().to_string(), "another one comes first");
        assert_eq!(typed(&program, None), program.display().to_string());
    }
}
