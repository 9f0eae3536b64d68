//! The policies that are measured: those of the OPA mesh as they are published and in today's syntax, rules in hundreds, and
//! one that is replaced again and again.

use super::question::VERSION;

/// The rule that decides, as OPA-Envoy names it by default.
pub(crate) const ENTRYPOINT: &str = "envoy/authz/allow";
/// So many rules has a policy of many.
pub(crate) const RULES: usize = 100;

/// A service of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Service {
    EcWeb,
    EcBackend,
    NewsWeb,
    NewsBackend,
}

/// In which words a policy is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// Before OPA 1.0.
    V0,
    V1,
}

/// A policy of one file.
#[derive(Debug, Clone)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) syntax: Syntax,
    pub(crate) text: String,
}

/// What the many rules compare a path with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equality,
    Prefix,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [Self::EcWeb, Self::EcBackend, Self::NewsWeb, Self::NewsBackend];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EcWeb => "ec-web",
            Self::EcBackend => "ec-backend",
            Self::NewsWeb => "news-web",
            Self::NewsBackend => "news-backend",
        }
    }

    /// Whoever may ask it for its data: a backend is asked by its web server, that by who knows its secret.
    pub(crate) fn client(self) -> &'static str {
        match self {
            Self::EcWeb | Self::EcBackend => "ec-web",
            Self::NewsWeb | Self::NewsBackend => "news-web",
        }
    }

    pub(crate) fn policy(self, syntax: Syntax) -> Module {
        macro_rules! both {
            ($name:literal) => {
                match syntax {
                    Syntax::V0 => include_str!(concat!("../../../deploy/demos/opa-mesh/policies/", $name)),
                    Syntax::V1 => include_str!(concat!("../../../deploy/demos/opa-mesh/policies/v1/", $name)),
                }
            };
        }
        let text = match self {
            Self::EcWeb => both!("ec-web.rego"),
            Self::EcBackend => both!("ec-backend.rego"),
            Self::NewsWeb => both!("news-web.rego"),
            Self::NewsBackend => both!("news-backend.rego"),
        };
        Module { name: format!("{}.rego", self.name()), syntax, text: text.to_owned() }
    }
}

/// One rule for each of [`RULES`] paths; [`path`] gives those that match.
pub(crate) fn rules(comparison: Comparison) -> Module {
    let rule = |number: usize| match comparison {
        Comparison::Equality => {
            format!(
                "allow if {{\n\thttp_request.path == \"{}\"\n\thttp_request.method == \"GET\"\n}}\n\n",
                path(number)
            )
        }
        Comparison::Prefix => {
            let prefix = path(number).replace("data", "");
            format!(
                "allow if {{\n\tstartswith(http_request.path, \"{prefix}\")\n\thttp_request.method == \"GET\"\n}}\n\n"
            )
        }
    };
    let rules: String = (0..RULES).map(rule).collect();
    let name = match comparison {
        Comparison::Equality => "equality.rego",
        Comparison::Prefix => "prefix.rego",
    };
    let text = format!("{}default allow := false\n\n{rules}", head("import rego.v1\n\n"));
    Module { name: name.into(), syntax: Syntax::V1, text }
}

/// A path that rule `number` allows, and no other one; from [`RULES`] on none does.
pub(crate) fn path(number: usize) -> String {
    format!("/service-{number}/data")
}

/// Rules as many as [`rules`] has, the last of which knows the question of ec-backend. Says `version` in its answer, and
/// allows by the odd ones.
pub(crate) fn versioned(version: u32) -> String {
    let is_allowed = allows(version);
    let others: String = (0..RULES)
        .map(|number| format!("is_known {{\n\thttp_request.path == \"{}\"\n}}\n\n", path(number)))
        .collect();
    format!(
        "{}default allow = {{\"allowed\": false}}\n\n\
         allow = {{\"allowed\": {is_allowed}, \"headers\": {{\"{VERSION}\": \"{version}\"}}}} {{\n\tis_known\n}}\n\n\
         {others}is_known {{\n\thttp_request.path == \"/data\"\n}}\n",
        head("")
    )
}

pub(crate) fn allows(version: u32) -> bool {
    version % 2 == 1
}

fn head(import: &str) -> String {
    format!("package envoy.authz\n\n{import}import input.attributes.request.http as http_request\n\n")
}
