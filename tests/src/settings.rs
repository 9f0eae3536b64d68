//! A configuration and its entries.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::port::free_port;

pub const TRUST_DOMAIN: &str = "example.org";

/// What an agent is started with. Paths and ports are its own; everything else is the default until [`set`].
///
/// [`set`]: Self::set
#[derive(Debug, Clone)]
pub struct Settings {
    table: toml::Table,
    entries: Vec<Value>,
    policies: Vec<Policy>,
    metrics_port: u16,
}

/// One of `[[authz.policies]]`.
#[derive(Debug, Clone)]
struct Policy {
    name: String,
    rego: String,
    /// Everything but its name.
    table: toml::Table,
}

impl Settings {
    pub fn new(entries: impl IntoIterator<Item = Value>) -> Self {
        let table = toml::Table::from_iter([("trust_domain".to_owned(), TRUST_DOMAIN.into())]);
        Self {
            table,
            entries: entries.into_iter().collect(),
            policies: Vec::new(),
            metrics_port: free_port(),
        }
    }

    /// Sets the key at the dotted `path`, such as `issuer.svid_ttl`.
    ///
    /// # Panics
    /// When something on the way is not a table.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<toml::Value>) -> Self {
        let (tables, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut table = &mut self.table;
        for name in tables.split('.').filter(|name| !name.is_empty()) {
            let inner = table.entry(name).or_insert_with(|| toml::Table::new().into());
            table = inner.as_table_mut().expect("a table of the configuration");
        }
        table.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a policy of authorization, whose file is [`Agent::policy_file`].
    ///
    /// [`Agent::policy_file`]: crate::Agent::policy_file
    #[must_use]
    pub fn policy(self, name: &str, rego: &str) -> Self {
        self.policy_with(name, rego, [])
    }

    /// Adds a policy with further settings, such as `callers`.
    #[must_use]
    pub fn policy_with<const N: usize>(
        mut self,
        name: &str,
        rego: &str,
        settings: [(&str, toml::Value); N],
    ) -> Self {
        let files = toml::Value::from(vec![policy_file(name)]);
        let mut table = toml::Table::from_iter([("files".to_owned(), files)]);
        table.extend(settings.map(|(key, value)| (key.to_owned(), value)));
        self.policies.push(Policy { name: name.to_owned(), rego: rego.to_owned(), table });
        self
    }

    /// Short lives, so that rotations can be watched. A fresh SVID every half of `ttl`.
    #[must_use]
    pub fn svid_ttl(self, ttl: &str) -> Self {
        self.set("issuer.svid_ttl", ttl)
    }

    /// The configuration file of an agent whose files are in `dir`.
    pub(crate) fn text(&self, dir: &Path) -> String {
        let path = |name: &str| dir.join(name).to_str().expect("a temporary path is text").to_owned();
        let mut whole = self.clone();
        for (key, value) in [
            ("state_dir", path("state").into()),
            ("workload_api.socket", path("public/api.sock").into()),
            ("admin.socket", path("admin/admin.sock").into()),
            ("entries.files", toml::Value::Array(vec![path("entries.json").into()])),
            ("kernel.pins", "off".into()),
            ("telemetry.metrics", format!("127.0.0.1:{}", self.metrics_port).into()),
            ("authz.socket", path("authz/authz.sock").into()),
            ("authz.policies", self.policy_tables().into()),
        ] {
            if !whole.has(key) {
                whole = whole.set(key, value);
            }
        }
        whole.table.to_string()
    }

    fn policy_tables(&self) -> Vec<toml::Value> {
        let table = |policy: &Policy| {
            let mut table = policy.table.clone();
            table.insert("name".to_owned(), policy.name.clone().into());
            toml::Value::from(table)
        };
        self.policies.iter().map(table).collect()
    }

    /// Policies and their texts.
    pub(crate) fn policies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.policies.iter().map(|policy| (policy.name.as_str(), policy.rego.as_str()))
    }

    pub(crate) fn entries(&self) -> &[Value] {
        &self.entries
    }

    pub(crate) fn metrics_port(&self) -> u16 {
        self.metrics_port
    }

    pub(crate) fn state_dir(&self, dir: &Path) -> PathBuf {
        self.table
            .get("state_dir")
            .and_then(toml::Value::as_str)
            .map_or_else(|| dir.join("state"), PathBuf::from)
    }

    fn has(&self, path: &str) -> bool {
        let mut steps = path.split('.');
        let first = steps.next().and_then(|name| self.table.get(name));
        steps.fold(first, |value, name| value?.get(name)).is_some()
    }
}

/// Where the policy `name` is written, below the folder of the agent.
pub(crate) fn policy_file(name: &str) -> String {
    format!("policies/{name}.rego")
}

/// A registration entry in the shape of SPIRE's `entry create -data`. A selector is `type:value`.
///
/// # Panics
/// When a selector has no colon.
pub fn entry(spiffe_id: &str, selectors: &[&str]) -> Value {
    let selectors: Vec<_> = selectors
        .iter()
        .map(|selector| {
            let (kind, value) = selector.split_once(':').expect("a selector is `type:value`");
            json!({ "type": kind, "value": value })
        })
        .collect();
    json!({
        "parent_id": format!("spiffe://{TRUST_DOMAIN}/node"),
        "spiffe_id": spiffe_id,
        "selectors": selectors,
    })
}

/// The entry of everything that runs as `uid`.
pub fn entry_of_user(spiffe_id: &str, uid: u32) -> Value {
    entry(spiffe_id, &[&format!("unix:uid:{uid}")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_scenario_sets_stays_and_the_rest_is_filled_in() {
        let settings = Settings::new([]).svid_ttl("6s").set("admin.socket", "/elsewhere.sock");
        let table: toml::Table = settings.text(Path::new("/dir")).parse().unwrap();
        assert_eq!(table["trust_domain"].as_str(), Some(TRUST_DOMAIN));
        assert_eq!(table["issuer"]["svid_ttl"].as_str(), Some("6s"));
        assert_eq!(table["admin"]["socket"].as_str(), Some("/elsewhere.sock"));
        assert_eq!(table["workload_api"]["socket"].as_str(), Some("/dir/public/api.sock"));
        assert_eq!(table["entries"]["files"][0].as_str(), Some("/dir/entries.json"));
    }

    #[test]
    fn a_policy_is_named_with_its_file_and_its_conditions() {
        let settings = Settings::new([]).policy("one", "package one").policy_with(
            "two",
            "package two",
            [("callers", vec!["spiffe://example.org/web"].into())],
        );
        let table: toml::Table = settings.text(Path::new("/dir")).parse().unwrap();
        let policies = table["authz"]["policies"].as_array().unwrap();
        assert_eq!(policies[0]["files"][0].as_str(), Some("policies/one.rego"));
        assert_eq!(policies[1]["name"].as_str(), Some("two"));
        assert_eq!(policies[1]["callers"][0].as_str(), Some("spiffe://example.org/web"));
        let texts: Vec<_> = settings.policies().collect();
        assert_eq!(texts, [("one", "package one"), ("two", "package two")]);
    }
}
