//! What a head gives and may be undefined gets a name in the body, so that the body does not hold where it is.

use regorus::unstable::{RuleBody, Span};

use super::{Edits, each_unit, extent};
use crate::authz::rego::{
    gate::heads::{Unsure, unsure},
    program::Program,
};

/// The texts of all units with such values in the bodies; `None` where there is nothing to do.
pub(in crate::authz::rego) fn heads(program: &Program) -> Vec<Option<String>> {
    each_unit(program, |unit, edits| {
        for definition in program.rules.iter().filter(|definition| definition.unit == unit) {
            for unsure in unsure(program, definition) {
                let is_old = !program.units[unit].module.rego_v1;
                match unsure {
                    // Refused before.
                    Unsure::Name => {}
                    Unsure::Value { assign, body } => {
                        // The span begins with `:=` or `=`.
                        let sign = assign.span.text().find('=').map_or(0, |at| at as u32 + 1);
                        let range = (assign.span.start + sign, extent(&assign.span).1);
                        give_name(range, &assign.span, body, is_old, edits);
                    }
                    Unsure::Element { element, body } => {
                        give_name(extent(element.span()), element.span(), Some(body), is_old, edits);
                    }
                }
            }
        }
    })
}

fn give_name(
    (start, end): (u32, u32),
    span: &Span,
    body: Option<&RuleBody>,
    is_old: bool,
    edits: &mut Edits,
) {
    let text = span.source.contents();
    let Some(value) = text.get(start as usize..end as usize) else { return };
    let name = edits.value_name();
    let binding = format!("{name} := {}", value.trim());
    match body.map(|body| &body.query) {
        None => edits
            .close(end, &if is_old { format!(" {{ {binding} }}") } else { format!(" if {{ {binding} }}") }),
        Some(query) => {
            let is_plain = query.stmts.first().is_some_and(|first| first.span.start == query.span.start);
            if is_plain {
                edits.open(query.span.start, "{ ");
                let last = query.stmts.last().map_or(query.span.end, |last| extent(&last.span).1);
                edits.close(last, &format!("; {binding} }}"));
            } else {
                edits.open(query.span.end.saturating_sub(1), &format!("; {binding} "));
            }
        }
    }
    edits.replace(start, end, &format!(" {name}"));
}
