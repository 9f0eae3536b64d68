//! A SPIRE server and its agents on this machine, in a directory of their own.

mod log;

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::child::Tended;

pub(crate) const TRUST_DOMAIN: &str = "bench.example";
const START_LIMIT: Duration = Duration::from_secs(60);
/// The agent logs before it answers, so this is for its writing.
const LOG_LIMIT: Duration = Duration::from_secs(5);
const SHOWN_LOG_LINES: usize = 10;

/// A server with an empty database. It ends with this.
#[derive(Debug)]
pub(crate) struct Server {
    process: Tended,
    binaries: PathBuf,
    directory: PathBuf,
    port: u16,
}

/// What an agent knows of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discovery {
    /// Users and groups.
    Ids,
    /// Path and SHA-256 of the executable as well, whatever its size.
    PathAndHash,
}

/// What may be chosen of an agent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AgentSettings<'a> {
    pub(crate) discovery: Discovery,
    /// As SPIRE names it.
    pub(crate) log_level: &'a str,
    /// The path of a SPIFFE ID, and the selector that earns it.
    pub(crate) entries: &'a [(&'a str, String)],
    /// Where the engine is that its `docker` attestor asks, if it has one.
    pub(crate) docker: Option<&'a str>,
    pub(crate) pace: Pace,
}

/// How soon server and agent find out about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As they come: five seconds each.
    Default,
    EachSecond,
}

/// An agent of that server. It ends with this.
#[derive(Debug)]
pub(crate) struct Agent {
    process: Tended,
    directory: PathBuf,
    /// Which it has joined with, and its SPIFFE ID holds.
    token: String,
}

impl Server {
    /// Starts `spire-server` of the folder `binaries`, below `directory`; it reads its entries again at `pace`.
    ///
    /// # Errors
    /// When it does not serve within a minute.
    pub(crate) fn start(binaries: &Path, directory: &Path, pace: Pace) -> Result<Self> {
        let directory = directory.join("spire-server");
        fs::create_dir(&directory)?;
        let port = free_port()?;
        let configuration = directory.join("server.conf");
        fs::write(&configuration, server_configuration(&directory, port, pace))?;
        let mut command = Command::new(binaries.join("spire-server"));
        command.arg("run").arg("-config").arg(configuration);
        let process = Tended::start(quiet(&mut command, &directory)?)?;
        let mut server = Self { process, binaries: binaries.to_owned(), directory, port };
        let deadline = Instant::now() + START_LIMIT;
        while server.ask(&["healthcheck"]).is_err() {
            let ended = server.process.ended()?;
            ensure!(
                ended.is_none() && Instant::now() < deadline,
                "the SPIRE server does not serve: {}",
                server.log()
            );
            sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    /// What it says of itself.
    pub(crate) fn version(&self) -> Result<String> {
        let output = Command::new(self.binaries.join("spire-server")).arg("--version").output()?;
        // It goes to one or the other, depending on the release.
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// Starts an agent in a directory `name` beside the server's.
    ///
    /// # Errors
    /// When it does not serve within a minute.
    pub(crate) fn agent(&self, name: &str, settings: AgentSettings<'_>) -> Result<Agent> {
        let token: Value = serde_json::from_str(&self.ask(&["token", "generate", "-output", "json"])?)?;
        let token = token["value"].as_str().context("a join token without a value")?.to_owned();
        // Before the agent asks for them, so that nobody waits for its next poll.
        for (path, selector) in settings.entries {
            let parent = format!("spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}");
            let id = format!("spiffe://{TRUST_DOMAIN}/{path}");
            let entry = entry_id(name, path);
            let named = ["entry", "create", "-entryID", &entry, "-parentID", &parent];
            self.ask(&[&named[..], &["-spiffeID", &id, "-selector", selector]].concat())?;
        }
        let directory = self.directory.with_file_name(name);
        fs::create_dir(&directory)?;
        let configuration = directory.join("agent.conf");
        let text = agent_configuration(&directory, self.port, settings, &token);
        fs::write(&configuration, text)?;
        let mut command = Command::new(self.binaries.join("spire-agent"));
        command.arg("run").arg("-config").arg(configuration);
        let process = Tended::start(quiet(&mut command, &directory)?)?;
        let mut agent = Agent { process, directory, token };
        let deadline = Instant::now() + START_LIMIT;
        while std::os::unix::net::UnixStream::connect(agent.socket()).is_err() {
            let ended = agent.process.ended()?;
            ensure!(
                ended.is_none() && Instant::now() < deadline,
                "the SPIRE agent does not serve: {}",
                agent.log()
            );
            sleep(Duration::from_millis(50));
        }
        Ok(agent)
    }

    pub(crate) fn log(&self) -> String {
        end_of_log(&self.directory)
    }

    /// A command that makes the SVID of an entry of `agent` rotate: the entry as it was, with a higher revision.
    pub(crate) fn rotation(&self, agent: &Agent, path: &str, selector: &str) -> Result<Command> {
        let name = agent.directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (kind, value) = selector.split_once(':').context("a selector has a type")?;
        let entry = json!({
            "entry_id": entry_id(name, path),
            "parent_id": format!("spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{}", agent.token),
            "spiffe_id": format!("spiffe://{TRUST_DOMAIN}/{path}"),
            "selectors": [{ "type": kind, "value": value }],
        });
        let data = agent.directory.join("entry.json");
        fs::write(&data, json!({ "entries": [entry] }).to_string())?;
        let mut command = Command::new(self.binaries.join("spire-server"));
        command.args(["entry", "update", "-data"]).arg(data);
        command.arg("-socketPath").arg(self.directory.join("api.sock"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    /// Runs a command of `spire-server` against it.
    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(self.binaries.join("spire-server"))
            .args(arguments)
            .arg("-socketPath")
            .arg(self.directory.join("api.sock"))
            .output()?;
        if !output.status.success() {
            bail!("spire-server {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Agent {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("public/api.sock")
    }

    pub(crate) fn log(&self) -> String {
        end_of_log(&self.directory)
    }

    /// The selectors of `pid`, which it has attested. Its log level has to be `debug`.
    ///
    /// # Errors
    /// When it says nothing of that process.
    pub(crate) fn selectors(&self, pid: u32) -> Result<std::collections::BTreeSet<(String, String)>> {
        let deadline = Instant::now() + LOG_LIMIT;
        loop {
            let text = fs::read_to_string(log_of(&self.directory))?;
            if let Some(selectors) = log::selectors(&text, pid)? {
                return Ok(selectors);
            }
            ensure!(
                Instant::now() < deadline,
                "the SPIRE agent says nothing of process {pid}: {}",
                self.log()
            );
            sleep(Duration::from_millis(20));
        }
    }
}

impl Pace {
    fn setting(self, key: &str) -> String {
        match self {
            Self::Default => String::new(),
            Self::EachSecond => format!("    experimental {{\n        {key} = \"1s\"\n    }}\n"),
        }
    }
}

fn entry_id(agent: &str, path: &str) -> String {
    format!("{agent}-{path}")
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn log_of(directory: &Path) -> PathBuf {
    directory.join("log")
}

fn quiet<'a>(command: &'a mut Command, directory: &Path) -> Result<&'a mut Command> {
    let log = File::create(log_of(directory))?;
    Ok(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))
}

fn end_of_log(directory: &Path) -> String {
    let text = fs::read_to_string(log_of(directory)).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..].join("\n")
}

fn server_configuration(directory: &Path, port: u16, pace: Pace) -> String {
    let directory = directory.display();
    let pace = pace.setting("cache_reload_interval");
    format!(
        r#"server {{
    bind_address = "127.0.0.1"
    bind_port = "{port}"
    socket_path = "{directory}/api.sock"
    trust_domain = "{TRUST_DOMAIN}"
    data_dir = "{directory}/data"
    log_level = "WARN"
{pace}}}
plugins {{
    DataStore "sql" {{
        plugin_data {{
            database_type = "sqlite3"
            connection_string = "{directory}/entries.sqlite3"
        }}
    }}
    NodeAttestor "join_token" {{
        plugin_data {{}}
    }}
    KeyManager "memory" {{
        plugin_data {{}}
    }}
}}
"#
    )
}

fn agent_configuration(directory: &Path, port: u16, settings: AgentSettings<'_>, token: &str) -> String {
    let (directory, log_level) = (directory.display(), settings.log_level);
    let discovers = settings.discovery == Discovery::PathAndHash;
    let pace = settings.pace.setting("sync_interval");
    let docker = settings.docker.map_or_else(String::new, |url| {
        format!(
            r#"    WorkloadAttestor "docker" {{
        plugin_data {{
            docker_socket_path = "{url}"
        }}
    }}
"#
        )
    });
    format!(
        r#"agent {{
    server_address = "127.0.0.1"
    server_port = "{port}"
    socket_path = "{directory}/public/api.sock"
    trust_domain = "{TRUST_DOMAIN}"
    data_dir = "{directory}/data"
    insecure_bootstrap = true
    join_token = "{token}"
    log_level = "{log_level}"
    log_format = "json"
{pace}}}
plugins {{
    NodeAttestor "join_token" {{
        plugin_data {{}}
    }}
    KeyManager "memory" {{
        plugin_data {{}}
    }}
    WorkloadAttestor "unix" {{
        plugin_data {{
            discover_workload_path = {discovers}
            workload_size_limit = 0
        }}
    }}
{docker}}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_discovers_what_it_is_told_to() {
        let text = |discovery| {
            let settings = AgentSettings {
                discovery,
                log_level: "WARN",
                entries: &[],
                docker: None,
                pace: Pace::Default,
            };
            agent_configuration(Path::new("/d"), 1, settings, "t")
        };
        let asks = AgentSettings {
            discovery: Discovery::Ids,
            log_level: "WARN",
            entries: &[],
            docker: Some("unix:///e.sock"),
            pace: Pace::EachSecond,
        };
        let asks = agent_configuration(Path::new("/d"), 1, asks, "t");
        assert!(asks.contains("sync_interval = \"1s\"") && !text(Discovery::Ids).contains("sync_interval"));
        assert!(
            asks.contains("docker_socket_path = \"unix:///e.sock\"")
                && !text(Discovery::Ids).contains("docker")
        );
        assert!(text(Discovery::Ids).contains("discover_workload_path = false"));
        assert!(text(Discovery::PathAndHash).contains("discover_workload_path = true"));
        assert!(text(Discovery::Ids).contains("socket_path = \"/d/public/api.sock\""));
    }
}
