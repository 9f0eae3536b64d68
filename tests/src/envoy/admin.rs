//! What an Envoy says of itself.

use std::{collections::BTreeSet, net::SocketAddr};

use serde_json::Value;

use crate::http;

/// The admin page of an Envoy, by its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminPage(pub SocketAddr);

impl AdminPage {
    /// Whether it is there, and says that Envoy serves.
    pub fn is_ready(self) -> bool {
        http::get(self.0, "/ready").is_ok_and(|answer| answer.status == 200)
    }

    /// The page at `path`.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn page(self, path: &str) -> String {
        http::get(self.0, path).expect("the admin page answers").body
    }

    /// `/certs`.
    ///
    /// # Panics
    /// When it does not answer with JSON.
    pub fn certs(self) -> Value {
        serde_json::from_str(&self.page("/certs")).expect("/certs is JSON")
    }

    /// SPIFFE IDs and serial numbers of the certificates it presents.
    ///
    /// # Panics
    /// When it does not answer with JSON.
    pub fn identities(self) -> BTreeSet<(String, String)> {
        let certs = self.certs();
        let chains = certs["certificates"].as_array().into_iter().flatten();
        let leaves = chains.filter_map(|chain| chain["cert_chain"].get(0));
        leaves
            .filter_map(|leaf| {
                let id = leaf["subject_alt_names"].get(0)?["uri"].as_str()?.to_owned();
                Some((id, leaf["serial_number"].as_str()?.to_owned()))
            })
            .collect()
    }

    /// The sum of all counters and gauges whose name ends with `suffix`.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn stat(self, suffix: &str) -> u64 {
        let text = self.page("/stats");
        let values = text.lines().filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.ends_with(suffix).then(|| value.parse::<u64>().ok())?
        });
        values.sum()
    }
}
