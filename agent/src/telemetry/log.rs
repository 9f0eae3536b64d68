//! Logs go to standard error: text for people, JSON lines for machines.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::{EnvFilter, fmt};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub format: LogFormat,
    pub level: Level,
}

/// Starts logging for this process; the variable `VOUCH_LOG` overrides the level, in the form of `RUST_LOG`.
/// A second call has no effect.
pub fn init(config: &LogConfig) {
    let level = config.level.to_string().to_lowercase();
    // `h2` warns of a peer's mistakes, as often as the peer makes them.
    let filter = EnvFilter::try_from_env("VOUCH_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,h2=error,vouch={level}")));
    let json = match config.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if json {
        log.json().flatten_event(true).with_target(false).try_init()
    } else {
        log.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    if started.is_err() {
        tracing::debug!("logging has been started already");
    }
}
