//! Decisions and processes, held against the entries of now.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tonic::Status;
use vouch_proto::admin::{self as wire, ExplainRequest, ExplainResponse, explain_request::About};

use crate::{
    attestation::{Attested, Cost, Selector, SelectorSet},
    decision::{Applicant, Decision, DecisionId, Decisions, Outcome, Ruling},
    health::Node,
    registration::{self, Comparison, EntryId, EntryIndex, Line, RegistrationEntry, TemplateEntry},
    spiffe::SpiffeId,
};

/// Decisions that one answer shows.
const DECISIONS: usize = 8;
/// Entries that each decision is compared with.
const CLOSEST: usize = 3;
/// Entries that give one SPIFFE ID.
const ENTRIES: usize = 64;
/// Decisions without an identity that are held against a SPIFFE ID's entries.
const CANDIDATES: usize = 512;
/// Longest list of selectors in one answer.
const SELECTORS: usize = 1024;

/// Which entries decisions are held against.
enum Against {
    Closest,
    These(Chosen),
}

/// Entries that somebody named.
#[derive(Default)]
struct Chosen {
    entries: Vec<Arc<RegistrationEntry>>,
    templates: Vec<Arc<TemplateEntry>>,
}

/// Takes milliseconds where there are many entries: not for an async thread. `described` is the process of the pid
/// that is asked about, as it is now.
///
/// # Errors
/// NotFound for a decision that is not remembered, an entry that is not there, and a process that cannot be seen.
pub(super) fn explain(
    node: &Node,
    request: &ExplainRequest,
    described: Option<Attested>,
    now: SystemTime,
) -> Result<ExplainResponse, Status> {
    let index = node.entries.current();
    let against = match request.entry.as_str() {
        "" => Against::Closest,
        name => Against::These(named(&index, name)?),
    };
    let view = View { node, decisions: &node.front.callers.decisions, index: &index, now };
    match &request.about {
        Some(About::Decision(id)) => view.decision(id, &against),
        Some(About::Pid(pid)) => view.process(*pid, described, &against),
        Some(About::SpiffeId(id)) => view.spiffe_id(id),
        None => Err(Status::invalid_argument("nothing is asked about")),
    }
}

/// The entry of that id, or those that give that SPIFFE ID.
fn named(index: &EntryIndex, name: &str) -> Result<Chosen, Status> {
    let of_name = name.parse::<SpiffeId>().ok();
    let giving = of_name.iter().flat_map(|id| index.giving(id));
    let entries: Vec<_> = index.get(&EntryId::new(name)).into_iter().chain(giving).take(ENTRIES).collect();
    let is_named =
        |entry: &&Arc<TemplateEntry>| entry.id.as_str() == name || entry.spiffe_id.as_str() == name;
    let templates: Vec<_> = index.templates().filter(is_named).take(ENTRIES).cloned().collect();
    if entries.is_empty() && templates.is_empty() {
        return Err(Status::not_found(format!("no entry is called {name}")));
    }
    Ok(Chosen { entries, templates })
}

struct View<'a> {
    node: &'a Node,
    decisions: &'a Decisions,
    index: &'a EntryIndex,
    now: SystemTime,
}

impl View<'_> {
    fn decision(&self, id: &str, against: &Against) -> Result<ExplainResponse, Status> {
        let parsed: Option<DecisionId> = id.parse().ok();
        let known = parsed.and_then(|id| self.decisions.get(id));
        let known = known.ok_or_else(|| Status::not_found(format!("decision {id} is not remembered")))?;
        Ok(ExplainResponse { decisions: vec![self.decided(&known, against)], ..Default::default() })
    }

    fn process(
        &self,
        pid: u32,
        described: Option<Attested>,
        against: &Against,
    ) -> Result<ExplainResponse, Status> {
        let known = self.decisions.find(DECISIONS, |ruling| ruling.applicant.pid == pid);
        if described.is_none() && known.is_empty() {
            return Err(Status::not_found(format!(
                "there is no process {pid}, and nothing was decided about one"
            )));
        }
        Ok(ExplainResponse {
            now: described.map(|attested| self.as_it_is(&attested, against)),
            decisions: known.iter().map(|decision| self.decided(decision, against)).collect(),
            ..Default::default()
        })
    }

    fn spiffe_id(&self, id: &str) -> Result<ExplainResponse, Status> {
        let id: SpiffeId = id.parse().map_err(|error| Status::invalid_argument(format!("{id}: {error}")))?;
        let entries: Vec<_> = self.index.giving(&id).take(ENTRIES).collect();
        let about = |ruling: &Ruling| ruling.outcome.identities().iter().any(|(_, given)| *given == id);
        let decisions = self.decisions.find(DECISIONS, about);
        if entries.is_empty() && decisions.is_empty() {
            return Err(Status::not_found(format!("no entry gives {id}, and nobody got it lately")));
        }
        let against = Against::These(Chosen { entries: entries.clone(), ..Chosen::default() });
        Ok(ExplainResponse {
            decisions: decisions
                .iter()
                .map(|decision| self.decided(decision, &Against::These(Chosen::default())))
                .collect(),
            nearest: if entries.is_empty() { vec![] } else { self.nearest(&against) },
            entries: entries.iter().map(|entry| super::listed(entry)).collect(),
            ..Default::default()
        })
    }

    /// Who got nothing lately, closest first.
    fn nearest(&self, against: &Against) -> Vec<wire::Decision> {
        let without =
            |ruling: &Ruling| matches!(ruling.outcome, Outcome::Denied { .. } | Outcome::Lost { .. });
        let failures = self.decisions.find(CANDIDATES, without);
        let mut near: Vec<wire::Decision> =
            failures.iter().map(|decision| self.decided(decision, against)).collect();
        near.retain(|decision| !decision.closest.is_empty());
        near.sort_by_key(|decision| decision.closest[0].unmet);
        near.truncate(CLOSEST);
        near
    }

    fn decided(&self, decision: &Decision, against: &Against) -> wire::Decision {
        let ruling = &decision.ruling;
        let evidence = ruling.evidence.as_ref();
        let asked = self.asked(&ruling.outcome).map(Against::These);
        let against = match (against, &asked) {
            (Against::Closest, Some(asked)) => asked,
            _ => against,
        };
        let shown = wire::Decision {
            id: decision.id.to_string(),
            first_at: millis(decision.first_at),
            last_at: millis(decision.last_at),
            count: decision.count,
            applicant: Some(applicant(&ruling.applicant)),
            cut: decision.cut,
            ..outcome(&ruling.outcome)
        };
        match evidence {
            Some(evidence) => self.with_evidence(shown, &evidence.selectors, &evidence.costs, against),
            None => shown,
        }
    }

    /// The entries that give what was asked for by name; `None` when nothing was, or no entry gives it.
    fn asked(&self, outcome: &Outcome) -> Option<Chosen> {
        let Outcome::Denied { asked } = outcome else { return None };
        let ids: Vec<SpiffeId> = asked.iter().filter_map(|name| name.parse().ok()).collect();
        let giving = ids.iter().flat_map(|id| self.index.giving(id));
        let entries: Vec<_> = giving.take(ENTRIES).collect();
        (!entries.is_empty()).then(|| Chosen { entries, ..Chosen::default() })
    }

    /// What a new connection would get.
    fn as_it_is(&self, attested: &Attested, against: &Against) -> wire::Decision {
        let identities = self.matches(&attested.selectors);
        let outcome = if identities.is_empty() { "denied" } else { "served" };
        let shown = wire::Decision {
            outcome: outcome.into(),
            identities,
            applicant: Some(wire::Applicant {
                pid: attested.pid,
                grade: attested.grade.to_string(),
                proof: "the process as it is now, not a connection's record".into(),
                exec_count: -1,
                ..Default::default()
            }),
            ..Default::default()
        };
        self.with_evidence(shown, &attested.selectors, &attested.costs, against)
    }

    fn with_evidence(
        &self,
        shown: wire::Decision,
        selectors: &SelectorSet,
        costs: &[Cost],
        against: &Against,
    ) -> wire::Decision {
        let matches = self.matches(selectors);
        // Whoever has an identity is not asked about the others, unless by name.
        let misses = matches.is_empty() || shown.outcome == "lost" || matches!(against, Against::These(_));
        let mut closest = self.withheld(selectors);
        if misses {
            let compared = self.comparisons(selectors, against);
            closest.retain(|withheld| compared.iter().all(|other| other.entry != withheld.entry));
            closest.extend(compared);
        }
        wire::Decision {
            selectors: texts(selectors.iter()),
            gaps: texts(selectors.gaps()),
            costs: costs.iter().map(cost).collect(),
            matches,
            closest: closest.iter().map(|comparison| self.comparison(comparison)).collect(),
            ..shown
        }
    }

    fn matches(&self, selectors: &SelectorSet) -> Vec<wire::Identity> {
        let mut matching = self.index.matching(selectors, self.now);
        matching.retain(|entry| self.node.svids.has_room(entry));
        matching.iter().take(ENTRIES).map(|entry| identity(entry.id.as_str(), &entry.spiffe_id)).collect()
    }

    /// What the process would have by a template, but for a value that no SPIFFE ID may hold, or for want of room.
    fn withheld(&self, selectors: &SelectorSet) -> Vec<Comparison> {
        let mut withheld = Vec::new();
        let matching = self.index.matching_or(selectors, self.now, |template, _| {
            withheld.push(Comparison::of_template(template, selectors, self.now));
        });
        let full = matching.iter().filter(|entry| !self.node.svids.has_room(entry));
        let limit = self.node.config.limits.template_identities;
        withheld.extend(full.map(|entry| Comparison::of(entry, selectors, self.now).without_room(limit)));
        withheld.truncate(CLOSEST);
        withheld
    }

    fn comparisons(&self, selectors: &SelectorSet, against: &Against) -> Vec<Comparison> {
        match against {
            Against::Closest => registration::closest(self.index, selectors, self.now, CLOSEST),
            Against::These(Chosen { entries, templates }) => {
                let entries = entries.iter().map(|entry| Comparison::of(entry, selectors, self.now));
                let templates = templates.iter().map(|of| Comparison::of_template(of, selectors, self.now));
                let mut compared: Vec<Comparison> = entries.chain(templates).collect();
                compared.sort_by_key(Comparison::unmet);
                compared.truncate(CLOSEST);
                compared
            }
        }
    }

    fn comparison(&self, comparison: &Comparison) -> wire::Comparison {
        let origin = self.node.entries.origin(&comparison.entry);
        wire::Comparison {
            entry_id: comparison.entry.to_string(),
            spiffe_id: comparison.gives.to_string(),
            file: origin.as_ref().map(|origin| origin.file.display().to_string()).unwrap_or_default(),
            line: origin.as_ref().map_or(0, |origin| origin.line as u64),
            unmet: comparison.unmet() as u64,
            conditions: comparison.lines.iter().map(condition).collect(),
            fixes: registration::advice(comparison, origin.as_ref()),
        }
    }
}

fn outcome(outcome: &Outcome) -> wire::Decision {
    let identities = outcome.identities().iter().map(|(entry, id)| identity(entry.as_str(), id)).collect();
    let mut shown = wire::Decision { outcome: outcome.word().into(), identities, ..Default::default() };
    match outcome {
        Outcome::Lost { change, .. } => shown.change = (*change).into(),
        Outcome::Refused { code, reason } => {
            shown.code = (*code).into();
            shown.reason.clone_from(reason);
        }
        Outcome::Denied { asked } => {
            shown.code = "E0412".into();
            shown.asked.clone_from(asked);
        }
        Outcome::Served(_) | Outcome::Gained(_) => {}
    }
    shown
}

fn applicant(applicant: &Applicant) -> wire::Applicant {
    wire::Applicant {
        pid: applicant.pid,
        uid: applicant.uid,
        gid: applicant.gid,
        grade: applicant.grade.map(|grade| grade.to_string()).unwrap_or_default(),
        proof: applicant.proof.into(),
        cgroup: applicant.cgroup.clone().unwrap_or_default(),
        container: applicant.container.clone().unwrap_or_default(),
        executable: applicant
            .executable
            .map(|file| format!("{}:{}:{}", file.major, file.minor, file.inode))
            .unwrap_or_default(),
        exec_count: applicant.exec_count.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX)),
    }
}

fn condition(line: &Line) -> wire::Condition {
    wire::Condition {
        verdict: line.word().into(),
        condition: line.condition.to_string(),
        instead: texts(line.instead.iter()),
        note: line.note.clone().unwrap_or_default(),
    }
}

fn cost(cost: &Cost) -> wire::Cost {
    wire::Cost {
        attestor: cost.attestor.into(),
        took_ns: u64::try_from(cost.took.as_nanos()).unwrap_or(u64::MAX),
        gap: cost.gap.clone().unwrap_or_default(),
    }
}

fn identity(entry: &str, id: &SpiffeId) -> wire::Identity {
    wire::Identity { entry_id: entry.into(), spiffe_id: id.to_string() }
}

fn texts<'a>(selectors: impl Iterator<Item = &'a Selector>) -> Vec<String> {
    let text = |selector: &Selector| match selector.value() {
        "" => selector.kind().to_owned(),
        _ => selector.to_string(),
    };
    selectors.take(SELECTORS).map(text).collect()
}

fn millis(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
