//! `slurm:*`: the job that a process is a step of, as the scheduler's own daemon names it in the cgroup tree.

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{Selector, Silence, Subject, Witness};
use crate::kernel;

const KIND: &str = "slurm";
const SLICE: &str = "system.slice";
const SCOPE: &str = "slurmstepd.scope";

/// Reads the path of a cgroup, and asks nobody.
#[derive(Debug)]
pub(super) struct Slurm;

impl Witness for Slurm {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn concerns(&self, subject: &Subject) -> bool {
        subject.cgroup.as_deref().is_none_or(|path| Step::of_cgroup(path).is_some())
    }

    fn testify<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<Vec<Selector>, Silence>> {
        std::future::ready(testify(subject.cgroup.as_deref(), kernel::only_root_adds_to)).boxed()
    }
}

fn testify(
    cgroup: Option<&str>,
    only_root_adds_to: impl FnOnce(&str) -> bool,
) -> Result<Vec<Selector>, Silence> {
    let path = cgroup.ok_or_else(|| Silence::new("the cgroup of the process is not known"))?;
    let Some(step) = Step::of_cgroup(path) else { return Ok(Vec::new()) };
    if !only_root_adds_to(step.above) {
        return Err(Silence::new(format!("others than root may name what is in cgroup {}", step.above)));
    }
    let job = match step.job {
        Job::Id(id) => format!("job_id:{id}"),
        Job::Sluid(sluid) => format!("sluid:{sluid}"),
    };
    Ok(vec![Selector::new(KIND, job), Selector::new(KIND, format!("step:{}", step.name))])
}

/// One step of a job.
struct Step<'a> {
    job: Job<'a>,
    name: &'a str,
    /// The cgroup in which the scheduler made the step's.
    above: &'a str,
}

enum Job<'a> {
    /// A number.
    Id(&'a str),
    Sluid(&'a str),
}

impl<'a> Step<'a> {
    /// `/system.slice/[<node>_]slurmstepd.scope/<job>/step_<step>`, from the root of the tree: what looks like it
    /// further down may be anybody's.
    fn of_cgroup(path: &'a str) -> Option<Self> {
        let mut names = path.strip_prefix('/')?.splitn(5, '/');
        let (slice, scope, job, step) = (names.next()?, names.next()?, names.next()?, names.next()?);
        let node = scope.strip_suffix(SCOPE)?;
        if slice != SLICE || !(node.is_empty() || node.ends_with('_')) {
            return None;
        }
        let name = step.strip_prefix("step_").filter(|name| !name.is_empty())?;
        let above = &path[..SLICE.len() + scope.len() + job.len() + 3];
        Some(Self { job: Job::named(job)?, name, above })
    }
}

impl<'a> Job<'a> {
    fn named(directory: &'a str) -> Option<Self> {
        let made_of =
            |text: &str, allowed: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| allowed(&b));
        if let Some(id) = directory.strip_prefix("job_") {
            return made_of(id, u8::is_ascii_digit).then_some(Self::Id(id));
        }
        let rest = directory.strip_prefix('s')?;
        made_of(rest, u8::is_ascii_alphanumeric).then_some(Self::Sluid(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str) -> Vec<String> {
        let testimony = testify(Some(path), |_| true).unwrap();
        testimony.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn job_and_step_are_read_from_the_schedulers_own_level() {
        for (path, job, step) in [
            ("/system.slice/slurmstepd.scope/s5K1KKYAYG5D00/step_0/user/task_0", "sluid:s5K1KKYAYG5D00", "0"),
            ("/system.slice/slurmstepd.scope/job_3385/step_batch/slurm", "job_id:3385", "batch"),
            ("/system.slice/node1_slurmstepd.scope/job_100/step_1", "job_id:100", "1"),
            ("/system.slice/slurmstepd.scope/job_1/step_x/job_2/step_y", "job_id:1", "x"),
        ] {
            assert_eq!(said(path), [format!("slurm:{job}"), format!("slurm:step:{step}")], "{path}");
        }
    }

    #[test]
    fn what_only_looks_like_a_job_is_none() {
        for path in [
            "",
            "/",
            "/system.slice/ssh.service",
            "/system.slice/slurmstepd.scope/job_1",
            "/system.slice/slurmstepd.scope/job_/step_0",
            "/system.slice/slurmstepd.scope/job_1x/step_0",
            "/system.slice/slurmstepd.scope/s/step_0",
            "/system.slice/slurmstepd.scope/s-1/step_0",
            "/system.slice/slurmstepd.scope/job_1/step_",
            "/system.slice/myslurmstepd.scope/job_1/step_0",
            "/user.slice/slurmstepd.scope/job_1/step_0",
            "/docker/x/system.slice/slurmstepd.scope/job_1/step_0",
            "system.slice/slurmstepd.scope/job_1/step_0",
        ] {
            assert!(said(path).is_empty(), "{path}");
        }
    }

    #[test]
    fn a_job_that_others_may_have_named_is_not_believed() {
        let path = "/system.slice/slurmstepd.scope/job_7/step_0/user/task_0";
        let mut asked = String::new();
        let silence = testify(Some(path), |above| {
            asked = above.to_owned();
            false
        });
        assert_eq!(asked, "/system.slice/slurmstepd.scope/job_7");
        assert!(silence.is_err());
        assert!(testify(None, |_| true).is_err(), "an unknown cgroup is not absence");
    }
}
