//! `vouch doctor`: everything an agent needs, looked at from outside and, when one runs, by itself.

mod check;
mod clock;
mod kernel;
mod plan;
mod sockets;
mod storage;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use vouch_proto::admin::{ExamineRequest, StatusRequest};

use super::{
    Common,
    client::{AS_AGENT, admin_problem, block_on},
    exit, output,
    status::FailOn,
};
use crate::problem::Problem;
use check::{Check, Verdict};
use plan::Plan;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Before an agent is started: whether this machine has what it needs. Tries the kernel hooks for a moment
    #[arg(long)]
    pre: bool,
    /// Whose paths and limits are looked at; without one, /etc/vouch/vouch.toml or the defaults of `vouch up`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Exit 4 when there is a warning
    #[arg(long, value_enum, value_name = "LEVEL")]
    fail_on: Option<FailOn>,
}

/// The agent that runs, as it says itself.
struct Running {
    pid: u32,
    sockets: Vec<PathBuf>,
    checks: Vec<Check>,
}

pub(super) fn doctor(doctor: &Doctor, common: &Common) -> Result<ExitCode, Problem> {
    let mut plan = Plan::of(doctor.config.as_deref(), common)?;
    let mut checks = kernel::look();
    if doctor.pre {
        checks.extend(kernel::try_hooks(&plan));
        checks.extend(kernel::capabilities());
        checks.extend(storage::look(&plan));
        checks.extend(sockets::look(&plan, None));
        checks.extend(sockets::metrics_port(&plan));
    } else {
        match ask(common) {
            Ok(running) => {
                plan.public.clone_from(&running.sockets);
                checks.insert(0, Check::ok("agent", format!("it answers, pid {}", running.pid)));
                checks.extend(sockets::look(&plan, Some(running.pid)));
                checks.extend(running.checks);
            }
            Err(problem) => {
                let denied = problem.fix.as_deref() == Some(AS_AGENT);
                let check = Check::of_problem(
                    "agent",
                    if denied { Verdict::Unseen } else { Verdict::Fail },
                    &problem,
                );
                checks.insert(0, check);
                checks.extend(sockets::look(&plan, None));
            }
        }
    }
    checks.extend(clock::look());
    checks.extend(kernel::settings());
    let groups = check::grouped(checks);
    let code = exit_code(&groups, doctor.fail_on);
    let shown = check::json(&groups, code);
    output::print(common.output, &shown, |out| check::page(&groups, code, out))?;
    Ok(ExitCode::from(code))
}

/// 5 when something fails, else 4 when warnings count, else 0.
fn exit_code(groups: &[(String, Vec<Check>)], fail_on: Option<FailOn>) -> u8 {
    let any = |verdict| groups.iter().flat_map(|(_, checks)| checks).any(|check| check.verdict == verdict);
    match fail_on {
        _ if any(Verdict::Fail) => exit::FOUND_PROBLEMS,
        Some(FailOn::Warn) if any(Verdict::Warn) => exit::WARNINGS,
        _ => 0,
    }
}

fn ask(common: &Common) -> Result<Running, Problem> {
    block_on(Some(common.timeout), async {
        let mut admin = common.admin().await?;
        let status =
            admin.status(StatusRequest {}).await.map_err(|status| admin_problem(&status))?.into_inner();
        let examined = admin.examine(ExamineRequest {}).await.map_err(|status| admin_problem(&status))?;
        let path = |address: &String| PathBuf::from(address.strip_prefix("unix://").unwrap_or(address));
        Ok(Running {
            pid: status.pid,
            sockets: status.sockets.iter().map(path).collect(),
            checks: examined.into_inner().checks.into_iter().map(Check::from).collect(),
        })
    })
}
