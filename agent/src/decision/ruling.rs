//! Who asked, what was known of them, and what they got.

use std::sync::Arc;

use crate::{
    attestation::{CallerKey, Cost, Grade, SelectorSet},
    kernel::FileId,
    registration::EntryId,
    spiffe::SpiffeId,
};

/// One thing that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    pub applicant: Arc<Applicant>,
    /// `None` when it was decided before anything was learned.
    pub evidence: Option<Evidence>,
    pub outcome: Outcome,
}

/// The process that asked, as its connection's evidence names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// 0 where the socket does not say.
    pub pid: u32,
    /// Effective, in the initial user namespace.
    pub uid: u32,
    pub gid: u32,
    /// Whose share of the memory it takes.
    pub caller: CallerKey,
    /// `None` when it was refused before there was evidence of any grade.
    pub grade: Option<Grade>,
    /// What holds the connection to that process, in words.
    pub proof: &'static str,
    /// Path from the cgroup2 root, when it is known.
    pub cgroup: Option<String>,
    /// Runtime and id, when it is in a container that is known.
    pub container: Option<String>,
    pub executable: Option<FileId>,
    /// How often it had executed a program, as the kernel's record says.
    pub exec_count: Option<u64>,
    /// Tells this process from another of the same pid: what of its birth is known; 0 where nothing is.
    pub birth: u64,
}

/// What was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub selectors: Arc<SelectorSet>,
    pub costs: Vec<Cost>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It got these, sorted by entry id.
    Served(Vec<(EntryId, SpiffeId)>),
    /// No entry matches, or none that gives what was asked for by name.
    Denied { asked: Vec<String> },
    /// It had these and lost them: what changed.
    Lost { identities: Vec<(EntryId, SpiffeId)>, change: &'static str },
    /// It got these in addition to what it had.
    Gained(Vec<(EntryId, SpiffeId)>),
    /// Nothing was served, whatever the entries say: its number, and why.
    Refused { code: &'static str, reason: String },
}

impl Ruling {
    /// Whether it says the same: what attestors took is not part of it.
    pub(super) fn is_repeated_by(&self, other: &Self) -> bool {
        let selectors =
            |ruling: &Self| ruling.evidence.as_ref().map(|evidence| Arc::clone(&evidence.selectors));
        let same_evidence = match (selectors(self), selectors(other)) {
            (Some(one), Some(other)) => Arc::ptr_eq(&one, &other) || one == other,
            (one, other) => one.is_none() && other.is_none(),
        };
        self.applicant == other.applicant && self.outcome == other.outcome && same_evidence
    }

    /// About how much memory it holds, what it shares with others included.
    pub(super) fn bytes(&self) -> usize {
        /// For a string's allocation and its place in a tree.
        const EACH: usize = 64;
        let applicant = [&self.applicant.cgroup, &self.applicant.container];
        let applicant: usize = applicant.into_iter().flatten().map(String::len).sum();
        // Once more as the name of a share.
        let caller = match &self.applicant.caller {
            CallerKey::Container(cgroup) => 2 * cgroup.len(),
            CallerKey::UserNamespace(_) | CallerKey::Uid(_) | CallerKey::Unknown => 0,
        };
        let evidence = self.evidence.iter().map(|evidence| {
            let set = &evidence.selectors;
            let selectors =
                set.iter().chain(set.gaps()).map(|one| one.kind().len() + one.value().len() + EACH);
            let costs = evidence.costs.iter().map(|cost| cost.gap.as_ref().map_or(0, String::len) + EACH);
            selectors.chain(costs).sum::<usize>()
        });
        let identities = self
            .outcome
            .identities()
            .iter()
            .map(|(entry, id)| entry.as_str().len() + id.as_str().len() + EACH);
        let reason = match &self.outcome {
            Outcome::Refused { reason, .. } => reason.len(),
            Outcome::Denied { asked } => asked.iter().map(|name| name.len() + EACH).sum(),
            Outcome::Served(_) | Outcome::Gained(_) | Outcome::Lost { .. } => 0,
        };
        size_of::<Self>() + applicant + caller + evidence.sum::<usize>() + identities.sum::<usize>() + reason
    }
}

impl Outcome {
    /// The identities that it is about.
    pub fn identities(&self) -> &[(EntryId, SpiffeId)] {
        match self {
            Self::Served(identities) | Self::Gained(identities) | Self::Lost { identities, .. } => identities,
            Self::Denied { .. } | Self::Refused { .. } => &[],
        }
    }

    /// The word that people and programs read.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Served(_) => "served",
            Self::Denied { .. } => "denied",
            Self::Lost { .. } => "lost",
            Self::Gained(_) => "gained",
            Self::Refused { .. } => "refused",
        }
    }
}
