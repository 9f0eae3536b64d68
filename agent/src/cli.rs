//! The commands of the `vouch` binary.
//!
//! Data goes to standard output, everything else to standard error. Exit codes: see `exit`.

mod client;
mod config;
mod doctor;
mod entry;
mod exit;
mod explain;
mod fetch;
mod first_entry;
mod node;
mod output;
#[cfg(feature = "authz")]
mod policy;
mod status;
mod svid;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::problem::Problem;

/// Gives every process on this machine a cryptographic identity, attested by the kernel.
#[derive(Debug, Parser)]
#[command(name = "vouch", version, max_term_width = 110, disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Socket of the Workload API and SDS: a path or unix:///path; clients take SPIFFE_ENDPOINT_SOCKET too
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<String>,
    /// Socket of the operator's commands; clients take VOUCH_ADMIN_SOCKET too
    #[arg(long, global = true, value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// How results, and errors, are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// How long a command may take, such as 5s
    #[arg(long, global = true, value_parser = humantime::parse_duration, default_value = "5s")]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a node here and now: embedded CA, a first entry, Workload API and SDS; runs until Ctrl-C
    Up(node::Up),
    /// Run the agent with a configuration file
    Run(node::Run),
    /// Fetch this process's X.509-SVIDs
    Fetch(fetch::Fetch),
    /// Print each update of this process's X.509-SVIDs until Ctrl-C
    Watch,
    /// How the agent is
    Status(status::Status),
    /// Whether everything that an agent needs is there; exits 5 when not
    Doctor(doctor::Doctor),
    /// Why somebody has an identity or has none, or what a number means
    Explain(explain::Explain),
    /// Exit 0 when the agent serves, 1 when it does not, 3 when it cannot be reached
    Healthcheck,
    /// Registration entries
    #[command(subcommand)]
    Entry(entry::Entry),
    /// SVIDs that the agent holds
    #[command(subcommand)]
    Svid(svid::Svid),
    /// Policies of authorization
    #[cfg(feature = "authz")]
    #[command(subcommand)]
    Policy(policy::Command),
    /// Configuration files
    #[command(subcommand)]
    Config(config::Config),
    /// Print a completion script
    Completion { shell: clap_complete::Shell },
    /// Print the version
    Version,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = cli.common.output;
    match run(cli) {
        Ok(code) => code,
        Err(problem) => {
            output::problem(output, &problem);
            exit::of(&problem)
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Problem> {
    let common = &cli.common;
    match cli.command {
        Command::Up(up) => node::up(&up, common),
        Command::Run(run) => node::run(&run, common),
        Command::Fetch(fetch) => fetch::fetch(&fetch, common),
        Command::Watch => fetch::watch(common),
        Command::Status(status) => status::status(&status, common),
        Command::Doctor(doctor) => doctor::doctor(&doctor, common),
        Command::Explain(explain) => explain::explain(&explain, common),
        Command::Healthcheck => status::healthcheck(common),
        Command::Entry(entry) => entry::run(&entry, common),
        Command::Svid(svid) => svid::run(&svid, common),
        #[cfg(feature = "authz")]
        Command::Policy(policy) => policy::run(&policy, common),
        Command::Config(config) => config::run(&config, common),
        Command::Completion { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "vouch", &mut script);
            output::data(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Version => {
            output::print(common.output, &serde_json::json!({ "version": VERSION }), |out| {
                out.push_str(&format!("vouch {VERSION}\n"));
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
