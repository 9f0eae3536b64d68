//! The settings in force, as a file that says the same.

use std::{fmt::Display, path::Path, time::Duration};

use toml::Value;

use super::{
    sections::{Attest, Config, Issuer, IssuerKind, Limits, Pins, Rotation, Sds, Telemetry},
    values::format_size,
    words::{AUTO, GRADES, HOOKS, KEY_TYPES, LOG_FORMATS, LOG_LEVELS, OFF, PATH_MEANINGS},
};

impl Config {
    /// All settings as TOML, defaults too. Holds no secret, only paths of some; parsed again it is this
    /// configuration.
    pub fn show(&self) -> String {
        let mut page = Page::default();
        page.key("trust_domain", quoted(self.trust_domain.name()));
        page.key("state_dir", path(&self.state_dir));
        page.section("workload_api");
        page.key("socket", path(&self.workload_api.socket));
        page.key("also", paths(&self.workload_api.also));
        page.section("admin");
        page.key("socket", path(&self.admin.socket));
        page.section("entries");
        page.key("files", paths(&self.entries.files));
        page.issuer(&self.issuer);
        page.rotation(&self.rotation);
        page.section("attest");
        page.key("minimum", word(GRADES, self.attest.minimum));
        page.key("decisions", self.attest.decisions);
        page.section("attest.unix");
        page.key("path", word(PATH_MEANINGS, self.attest.unix.path));
        page.key("hash_size_limit", quoted(&format_size(self.attest.unix.hash_size_limit)));
        page.witnesses(&self.attest);
        page.section("kernel");
        page.key("hooks", word(HOOKS, self.kernel.hooks));
        page.key("ring", quoted(&format_size(u64::from(self.kernel.ring))));
        page.key("pins", pins(&self.kernel.pins));
        page.sds(&self.sds);
        page.limits(&self.limits);
        page.authz(&self.authz);
        page.telemetry(&self.telemetry);
        page.0
    }
}

#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn section(&mut self, name: &str) {
        self.0 += &format!("\n[{name}]\n");
    }

    /// One more of a list of tables.
    pub(super) fn list_item(&mut self, name: &str) {
        self.0 += &format!("\n[[{name}]]\n");
    }

    pub(super) fn key(&mut self, key: &str, value: impl Display) {
        self.0 += &format!("{key} = {value}\n");
    }

    fn issuer(&mut self, issuer: &Issuer) {
        self.section("issuer");
        match &issuer.kind {
            IssuerKind::Embedded { ca_ttl } => {
                self.key("kind", quoted("embedded"));
                self.key("ca_ttl", duration(*ca_ttl));
            }
            IssuerKind::Intermediate { certificate, key, roots } => {
                self.key("kind", quoted("intermediate"));
                self.key("certificate", path(certificate));
                self.key("key", path(key));
                self.key("roots", path(roots));
            }
        }
        self.key("svid_ttl", duration(issuer.svid_ttl));
        self.key("key_type", word(KEY_TYPES, issuer.key_type));
        self.key("key_pool", issuer.key_pool);
    }

    fn rotation(&mut self, rotation: &Rotation) {
        self.section("rotation");
        self.key("at", Value::Float(rotation.at));
        self.key("jitter", Value::Float(rotation.jitter));
    }

    fn witnesses(&mut self, attest: &Attest) {
        let docker = &attest.docker;
        self.section("attest.docker");
        self.key("enabled", docker.enabled);
        self.key("socket", path(&docker.socket));
        self.key("podman_socket", path(&docker.podman_socket));
        self.key("rootless", docker.rootless);
        self.key("podman_socket_template", quoted(&docker.podman_socket_template));
        self.key("env", docker.env);
        self.section("attest.systemd");
        self.key("enabled", attest.systemd.enabled);
        self.section("attest.slurm");
        self.key("enabled", attest.slurm.enabled);
    }

    fn sds(&mut self, sds: &Sds) {
        self.section("sds");
        self.key("default_svid_name", quoted(&sds.default_svid_name));
        self.key("default_bundle_name", quoted(&sds.default_bundle_name));
        self.key("default_all_bundles_name", quoted(&sds.default_all_bundles_name));
        self.key("disable_spiffe_cert_validation", sds.disable_spiffe_cert_validation);
        self.key("partial", sds.partial);
    }

    fn limits(&mut self, limits: &Limits) {
        self.section("limits");
        self.key("connections", limits.connections);
        self.key("connections_per_caller", limits.connections_per_caller);
        self.key("connects_per_second", limits.connects_per_second);
        self.key("flooded_queue", limits.flooded_queue);
        self.key("streams", limits.streams);
        self.key("streams_per_connection", limits.streams_per_connection);
        self.key("streams_per_caller", limits.streams_per_caller);
        self.key("reserve", limits.reserve);
        self.key("frames_per_second", limits.frames_per_second);
        self.key("sds_request", quoted(&format_size(limits.sds_request as u64)));
        self.key("request", quoted(&format_size(limits.request as u64)));
        self.key("names_per_stream", limits.names_per_stream);
        self.key("header_list", quoted(&format_size(limits.header_list as u64)));
        self.key("header_fields", limits.header_fields);
        self.key("pending_resets", limits.pending_resets);
        self.key("local_resets", limits.local_resets);
        self.key("preface_timeout", duration(limits.preface_timeout));
        self.key("first_request_timeout", duration(limits.first_request_timeout));
        self.key("attestation_timeout", duration(limits.attestation_timeout));
        self.key("idle_timeout", duration(limits.idle_timeout));
        self.key("stalled_timeout", duration(limits.stalled_timeout));
        self.key("keepalive_interval", duration(limits.keepalive_interval));
        self.key("keepalive_timeout", duration(limits.keepalive_timeout));
        self.key("attestations", limits.attestations);
        self.key("attestations_per_caller", limits.attestations_per_caller);
        self.key("attestations_queued", limits.attestations_queued);
        self.key("attestations_per_second", limits.attestations_per_second);
        self.key("attestations_burst", limits.attestations_burst);
        self.key("attested_processes", limits.attested_processes);
        self.key("template_identities", limits.template_identities);
    }

    fn telemetry(&mut self, telemetry: &Telemetry) {
        self.section("telemetry");
        let metrics = telemetry.metrics.map_or_else(|| "off".to_owned(), |address| address.to_string());
        self.key("metrics", quoted(&metrics));
        let (format, level) =
            (word(LOG_FORMATS, telemetry.log.format), word(LOG_LEVELS, telemetry.log.level));
        self.key("log", format!("{{ format = {format}, level = {level} }}"));
    }
}

pub(super) fn quoted(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// Paths come from UTF-8 text, so nothing is lost here.
pub(super) fn path(path: &Path) -> Value {
    quoted(&path.to_string_lossy())
}

fn pins(pins: &Pins) -> Value {
    match pins {
        Pins::Auto => quoted(AUTO),
        Pins::Off => quoted(OFF),
        Pins::Below(directory) => path(directory),
    }
}

pub(super) fn paths(list: &[impl AsRef<Path>]) -> Value {
    Value::Array(list.iter().map(|item| path(item.as_ref())).collect())
}

pub(super) fn duration(duration: Duration) -> Value {
    Value::String(humantime::format_duration(duration).to_string())
}

pub(super) fn word<T: Copy + PartialEq>(words: &[(&str, T)], value: T) -> Value {
    let word = words.iter().find(|(_, meaning)| *meaning == value).map(|(word, _)| *word);
    quoted(word.expect("every variant has a word"))
}
