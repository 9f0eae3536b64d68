//! Raw sections become checked ones.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use toml::Spanned;

use super::{
    paths::{Directories, check_socket},
    raw::{
        RawAttest, RawAttestDocker, RawConfig, RawEntries, RawIssuer, RawKernel, RawLimits, RawRotation,
        RawSds, RawTelemetry, Setting,
    },
    sections::{
        Admin, Attest, AttestDocker, AttestSlurm, AttestSystemd, AttestUnix, Config, Entries, Hooks, Issuer,
        IssuerKind, Kernel, KeyType, Limits, Log, LogFormat, LogLevel, MinimumGrade, PathMeaning, Pins,
        Rotation, Sds, Telemetry, WorkloadApi,
    },
    text::FileText,
    values::{COUNT_MAX, QUEUE_MAX},
    words::{AUTO, GRADES, HOOKS, KEY_TYPES, LOG_FORMATS, LOG_LEVELS, OFF, PATH_MEANINGS},
};
use crate::{
    problem::Problem,
    registration::{MAX_SVID_TTL, MIN_SVID_TTL},
    spiffe::{IdError, TrustDomain},
};

const STATE_DIR: &str = "/var/lib/vouch";
const PUBLIC_SOCKET: &str = "/run/vouch/public/api.sock";
const ADMIN_SOCKET: &str = "/run/vouch/admin/admin.sock";
const DOCKER_SOCKET: &str = "/run/docker.sock";
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";
const PODMAN_SOCKET_TEMPLATE: &str = "/run/user/%d/podman/podman.sock";
const ENTRY_FILE: &str = "/etc/vouch/entries.json";
/// Most paths in one list.
const MAX_PATHS: usize = 64;
/// Longest name of a secret, as long as the longest SPIFFE ID, which is one too.
const MAX_SECRET_NAME: usize = 2048;

const HOUR: Duration = Duration::from_secs(3600);
/// The embedded CA makes two authorities in this time, and its SVIDs are backdated by as much.
const MIN_CA_TTL: Duration = Duration::from_secs(60);
/// As "1y" reads: 365.25 days.
const YEAR: Duration = Duration::from_secs(31_557_600);

/// Where settings come from: a file to point into, or command line flags.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checker<'t> {
    pub(super) file: Option<FileText<'t>>,
    /// Absolute; relative paths go beneath it.
    pub(super) base: &'t Path,
}

impl Checker<'_> {
    pub(super) fn config(&self, raw: &RawConfig) -> Result<Config, Problem> {
        let trust_domain = self.trust_domain(&raw.trust_domain)?;
        let (state_dir, workload_api, admin) = self.places(raw)?;
        Ok(Config {
            trust_domain,
            state_dir,
            workload_api,
            admin,
            entries: self.entries(&raw.entries)?,
            issuer: self.issuer(&raw.issuer)?,
            rotation: self.rotation(&raw.rotation)?,
            attest: self.attest(&raw.attest)?,
            kernel: self.kernel(&raw.kernel)?,
            sds: self.sds(&raw.sds)?,
            limits: self.limits(&raw.limits)?,
            authz: self.authz(&raw.authz)?,
            telemetry: self.telemetry(&raw.telemetry)?,
        })
    }

    pub(super) fn problem<T>(
        &self,
        code: &'static str,
        title: impl Into<String>,
        value: &Spanned<T>,
    ) -> Problem {
        let problem = Problem::new(code, title);
        match self.file {
            // Values that no file holds, defaults among them, have no place.
            Some(file) if !value.span().is_empty() => problem.at(file.place(&value.span())),
            _ => problem,
        }
    }

    fn trust_domain(&self, setting: &Setting<String>) -> Result<TrustDomain, Problem> {
        let Some(text) = setting else {
            let problem = Problem::new("E0103", "`trust_domain` is missing")
                .why("every identity that this node gives begins with it")
                .fix("write it before the first section, such as trust_domain = \"example.org\"");
            return Err(match self.file {
                Some(file) => problem.at(file.place(&(0..0))),
                None => problem,
            });
        };
        text.get_ref().parse().map_err(|error: IdError| {
            let fix = match text.get_ref().strip_prefix("spiffe://") {
                Some(name) => format!("write the name alone: \"{name}\""),
                None => "write a name such as \"example.org\"; upper case is never folded".to_owned(),
            };
            self.problem("E0104", format!("not a trust domain: {error}"), text).fix(fix)
        })
    }

    fn places(&self, raw: &RawConfig) -> Result<(PathBuf, WorkloadApi, Admin), Problem> {
        let state_text = &or(&raw.state_dir, STATE_DIR);
        let public_text = &or(&raw.workload_api.socket, PUBLIC_SOCKET);
        let admin_text = &or(&raw.admin.socket, ADMIN_SOCKET);
        let state_dir = self.path("state_dir", state_text)?;
        let socket = self.socket("socket", public_text)?;
        let admin = self.socket("socket", admin_text)?;

        let mut public = vec![(socket.clone(), public_text)];
        for text in self.bounded_list("also", &raw.workload_api.also)? {
            let path = self.socket("also", text)?;
            if public.iter().any(|(other, _)| *other == path) {
                return Err(self.contradiction("a path of the public socket stands twice", text));
            }
            public.push((path, text));
        }
        let also = public[1..].iter().map(|(path, _)| path.clone()).collect();
        self.directories(&Directories {
            public,
            admin: (admin.clone(), admin_text),
            state: (state_dir.clone(), state_text),
        })?;
        Ok((state_dir, WorkloadApi { socket, also }, Admin { socket: admin }))
    }

    fn entries(&self, raw: &RawEntries) -> Result<Entries, Problem> {
        if raw.files.is_none() {
            return Ok(Entries { files: vec![PathBuf::from(ENTRY_FILE)] });
        }
        let list = self.bounded_list("files", &raw.files)?;
        let files = list.iter().map(|text| self.path("files", text)).collect::<Result<_, _>>()?;
        Ok(Entries { files })
    }

    fn issuer(&self, raw: &RawIssuer) -> Result<Issuer, Problem> {
        let svid_ttl = self.duration("svid_ttl", &raw.svid_ttl, HOUR, MIN_SVID_TTL..=MAX_SVID_TTL)?;
        let key_type = self.key_type(&raw.key_type)?;
        if let Some(text) = raw.kind.as_ref().filter(|text| text.get_ref() == "spire") {
            return Err(self
                .problem("E0111", "a SPIRE server as the issuer is not supported yet", text)
                .why("this release signs with a CA of its own or with an intermediate from files")
                .fix("write \"embedded\" or \"intermediate\""));
        }
        // `Some` for an intermediate: the word that asks for its files.
        let kinds = [("embedded", None), ("intermediate", raw.kind.as_ref())];
        let kind = match self.word("kind", &raw.kind, &kinds, None)? {
            None => self.embedded(raw, svid_ttl)?,
            Some(word) => self.intermediate(raw, word)?,
        };
        let key_pool = self.count("key_pool", &raw.key_pool, default_key_pool(key_type))?;
        Ok(Issuer { kind, svid_ttl, key_type, key_pool })
    }

    fn key_type(&self, setting: &Setting<String>) -> Result<KeyType, Problem> {
        let key_type = self.word("key_type", setting, KEY_TYPES, KeyType::EcP256)?;
        match setting {
            Some(text) if key_type == KeyType::Rsa2048 && !cfg!(feature = "aws-lc-rs") => Err(self
                .problem("E0111", "RSA keys are not supported by this build", text)
                .why("ring, which this build has its cryptography from, makes none")
                .fix(
                    "write \"ec-p256\", or build with: cargo build --release -p vouch --features aws-lc-rs",
                )),
            _ => Ok(key_type),
        }
    }

    fn embedded(&self, raw: &RawIssuer, svid_ttl: Duration) -> Result<IssuerKind, Problem> {
        for (key, setting) in [("certificate", &raw.certificate), ("key", &raw.key), ("roots", &raw.roots)] {
            if let Some(text) = setting {
                let title = format!("`{key}` is for kind = \"intermediate\" only");
                return Err(self.contradiction(title, text));
            }
        }
        let ca_ttl = self.duration("ca_ttl", &raw.ca_ttl, YEAR, MIN_CA_TTL..=30 * YEAR)?;
        if svid_ttl <= ca_ttl {
            return Ok(IssuerKind::Embedded { ca_ttl });
        }
        let title = "`svid_ttl` is longer than `ca_ttl`";
        let at = raw.svid_ttl.as_ref().or(raw.ca_ttl.as_ref());
        Err(match at {
            Some(text) => self.contradiction(title, text),
            None => Problem::new("E0113", title),
        }
        .why("no SVID outlives the certificate that signed it"))
    }

    fn intermediate(&self, raw: &RawIssuer, kind: &Spanned<String>) -> Result<IssuerKind, Problem> {
        let file = |key: &str, setting: &Setting<String>| match setting {
            Some(text) => self.path(key, text),
            None => Err(self
                .problem("E0103", format!("`{key}` is missing"), kind)
                .why("an intermediate needs `certificate`, `key` and `roots`")
                .fix(format!("name a PEM file: {key} = \"{key}.pem\""))),
        };
        let kind = IssuerKind::Intermediate {
            certificate: file("certificate", &raw.certificate)?,
            key: file("key", &raw.key)?,
            roots: file("roots", &raw.roots)?,
        };
        match &raw.ca_ttl {
            Some(text) => Err(self.contradiction("`ca_ttl` is for kind = \"embedded\" only", text)),
            None => Ok(kind),
        }
    }

    fn rotation(&self, raw: &RawRotation) -> Result<Rotation, Problem> {
        Ok(Rotation {
            at: self.share("at", &raw.at, 0.5, 0.25..=0.9)?,
            jitter: self.share("jitter", &raw.jitter, 0.1, 0.0..=0.5)?,
        })
    }

    fn attest(&self, raw: &RawAttest) -> Result<Attest, Problem> {
        let limit = self.size("hash_size_limit", &raw.unix.hash_size_limit, 512 << 20, 1 << 10..=64 << 30)?;
        Ok(Attest {
            minimum: self.word("minimum", &raw.minimum, GRADES, MinimumGrade::Peercred)?,
            decisions: self.count("decisions", &raw.decisions, 4096)?,
            unix: AttestUnix {
                path: self.word("path", &raw.unix.path, PATH_MEANINGS, PathMeaning::Verified)?,
                hash_size_limit: limit,
            },
            docker: self.docker(&raw.docker)?,
            systemd: AttestSystemd { enabled: flag_or(&raw.systemd.enabled, true) },
            slurm: AttestSlurm { enabled: flag_or(&raw.slurm.enabled, true) },
        })
    }

    fn docker(&self, raw: &RawAttestDocker) -> Result<AttestDocker, Problem> {
        let template = or(&raw.podman_socket_template, PODMAN_SOCKET_TEMPLATE);
        let longest = template.get_ref().replacen("%d", &u32::MAX.to_string(), 1);
        let why = match longest.strip_prefix('/') {
            None => Some("it is not absolute".to_owned()),
            Some(_) if longest.contains('%') || longest == *template.get_ref() => {
                Some("\"%d\" has to stand in it, once, and no other \"%\"".to_owned())
            }
            Some(_) => check_socket(Path::new(&longest)).err(),
        };
        if let Some(why) = why {
            return Err(self
                .problem(
                    "E0107",
                    "`podman_socket_template` cannot be the path of each user's socket",
                    &template,
                )
                .why(why)
                .fix(format!("write a path such as \"{PODMAN_SOCKET_TEMPLATE}\"")));
        }
        Ok(AttestDocker {
            enabled: flag_or(&raw.enabled, true),
            socket: self.socket("socket", &or(&raw.socket, DOCKER_SOCKET))?,
            podman_socket: self.socket("podman_socket", &or(&raw.podman_socket, PODMAN_SOCKET))?,
            rootless: flag(&raw.rootless),
            podman_socket_template: template.into_inner(),
            env: flag(&raw.env),
        })
    }

    fn kernel(&self, raw: &RawKernel) -> Result<Kernel, Problem> {
        let hooks = self.word("hooks", &raw.hooks, HOOKS, Hooks::Auto)?;
        // From 64 KiB on, the largest page of any kernel, every power of two is one of pages too.
        let ring = self.size("ring", &raw.ring, 1 << 20, 64 << 10..=256 << 20)?;
        let pins = self.pins(&raw.pins)?;
        match (&raw.ring, u32::try_from(ring)) {
            (_, Ok(ring)) if ring.is_power_of_two() => Ok(Kernel { hooks, ring, pins }),
            (Some(text), _) => Err(self.out_of_bounds("ring", "a power of two, such as \"1MiB\"", text)),
            (None, _) => Ok(Kernel { hooks, ring: 1 << 20, pins }),
        }
    }

    fn pins(&self, setting: &Setting<String>) -> Result<Pins, Problem> {
        match setting {
            Some(text) if text.get_ref().starts_with('/') => self.path("pins", text).map(Pins::Below),
            Some(text) if ![AUTO, OFF].contains(&text.get_ref().as_str()) => Err(self
                .problem("E0107", format!("`pins` cannot be {:?}", text.get_ref()), text)
                .fix("one of: auto, off, or the absolute path of a directory on a bpffs")),
            Some(text) if text.get_ref() == OFF => Ok(Pins::Off),
            _ => Ok(Pins::Auto),
        }
    }

    /// Two names may not be one, unless they are empty: it would be the name of two secrets.
    fn sds(&self, raw: &RawSds) -> Result<Sds, Problem> {
        let names = [
            or(&raw.default_svid_name, "default"),
            or(&raw.default_bundle_name, "ROOTCA"),
            or(&raw.default_all_bundles_name, "ALL"),
        ];
        for (at, name) in names.iter().enumerate() {
            if name.get_ref().len() > MAX_SECRET_NAME {
                return Err(self.out_of_bounds("name", &format!("up to {MAX_SECRET_NAME} bytes"), name));
            }
            let same =
                |other: &&Spanned<String>| other.get_ref() == name.get_ref() && !name.get_ref().is_empty();
            if let Some(other) = names[..at].iter().find(same) {
                // Point at the one that the file holds.
                let text = if name.span().is_empty() { other } else { name };
                return Err(self.contradiction(format!("two secrets are named {:?}", name.get_ref()), text));
            }
        }
        let [svid, bundle, all] = names.map(Spanned::into_inner);
        Ok(Sds {
            default_svid_name: svid,
            default_bundle_name: bundle,
            default_all_bundles_name: all,
            disable_spiffe_cert_validation: flag(&raw.disable_spiffe_cert_validation),
            partial: flag(&raw.partial),
        })
    }

    fn limits(&self, raw: &RawLimits) -> Result<Limits, Problem> {
        let wait = |key: &str, setting: &Setting<String>, seconds: u64| {
            self.duration(key, setting, Duration::from_secs(seconds), Duration::from_millis(10)..=HOUR)
        };
        let request = |key: &str, setting: &Setting<String>, default: u64| {
            // The bound is far below what a usize holds.
            self.size(key, setting, default, 1 << 10..=64 << 20).map(|size| size as usize)
        };
        let count = |key: &str, setting: &Setting<i64>, default: usize| {
            self.count(key, setting, default.min(COUNT_MAX))
        };
        let connections_per_caller = count("connections_per_caller", &raw.connections_per_caller, 128)?;
        let streams_per_caller = count("streams_per_caller", &raw.streams_per_caller, 1024)?;
        Ok(Limits {
            connections: count("connections", &raw.connections, 16384)?,
            connections_per_caller,
            connects_per_second: count(
                "connects_per_second",
                &raw.connects_per_second,
                8 * connections_per_caller,
            )?,
            flooded_queue: self.count_to(QUEUE_MAX, "flooded_queue", &raw.flooded_queue, 64)?,
            streams: count("streams", &raw.streams, 32768)?,
            streams_per_connection: count("streams_per_connection", &raw.streams_per_connection, 128)?,
            streams_per_caller,
            reserve: self.share("reserve", &raw.reserve, 0.25, 0.0..=0.9)?,
            frames_per_second: count("frames_per_second", &raw.frames_per_second, 32 * streams_per_caller)?,
            sds_request: request("sds_request", &raw.sds_request, 1 << 20)?,
            request: request("request", &raw.request, 16 << 10)?,
            names_per_stream: count("names_per_stream", &raw.names_per_stream, 128)?,
            header_list: self.size("header_list", &raw.header_list, 8 << 10, 1 << 10..=1 << 20)? as usize,
            header_fields: count("header_fields", &raw.header_fields, 64)?,
            pending_resets: count("pending_resets", &raw.pending_resets, 20)?,
            local_resets: count("local_resets", &raw.local_resets, 64)?,
            preface_timeout: wait("preface_timeout", &raw.preface_timeout, 2)?,
            first_request_timeout: wait("first_request_timeout", &raw.first_request_timeout, 5)?,
            attestation_timeout: wait("attestation_timeout", &raw.attestation_timeout, 5)?,
            idle_timeout: wait("idle_timeout", &raw.idle_timeout, 60)?,
            stalled_timeout: wait("stalled_timeout", &raw.stalled_timeout, 30)?,
            keepalive_interval: wait("keepalive_interval", &raw.keepalive_interval, 30)?,
            keepalive_timeout: wait("keepalive_timeout", &raw.keepalive_timeout, 20)?,
            attestations: count("attestations", &raw.attestations, 64)?,
            attestations_per_caller: count("attestations_per_caller", &raw.attestations_per_caller, 4)?,
            attestations_queued: count("attestations_queued", &raw.attestations_queued, 200)?,
            attestations_per_second: count("attestations_per_second", &raw.attestations_per_second, 50)?,
            attestations_burst: count("attestations_burst", &raw.attestations_burst, 100)?,
            attested_processes: count("attested_processes", &raw.attested_processes, 16384)?,
            template_identities: count("template_identities", &raw.template_identities, 1024)?,
        })
    }

    fn telemetry(&self, raw: &RawTelemetry) -> Result<Telemetry, Problem> {
        Ok(Telemetry {
            metrics: self.loopback("metrics", &raw.metrics, SocketAddr::from((Ipv4Addr::LOCALHOST, 9988)))?,
            log: Log {
                format: self.word("format", &raw.log.format, LOG_FORMATS, LogFormat::Auto)?,
                level: self.word("level", &raw.log.level, LOG_LEVELS, LogLevel::Info)?,
            },
        })
    }

    fn bounded_list<'r>(
        &self,
        key: &str,
        setting: &'r Setting<Vec<Spanned<String>>>,
    ) -> Result<&'r [Spanned<String>], Problem> {
        match setting {
            None => Ok(&[]),
            Some(list) if list.get_ref().len() <= MAX_PATHS => Ok(list.get_ref()),
            Some(list) => Err(self.out_of_bounds(key, &format!("up to {MAX_PATHS} paths"), list)),
        }
    }

    pub(super) fn contradiction<T>(&self, title: impl Into<String>, value: &Spanned<T>) -> Problem {
        self.problem("E0113", title, value)
    }
}

/// A few hundred bytes each for EC keys. An RSA key takes four times that, and a thousand times as long to make.
fn default_key_pool(key_type: KeyType) -> usize {
    match key_type {
        KeyType::EcP256 | KeyType::EcP384 => 16384,
        KeyType::Rsa2048 => 64,
    }
}

/// The setting, or a default that stands nowhere.
pub(super) fn or(setting: &Setting<String>, default: &str) -> Spanned<String> {
    setting.clone().unwrap_or_else(|| Spanned::new(0..0, default.to_owned()))
}

pub(super) fn flag(setting: &Setting<bool>) -> bool {
    flag_or(setting, false)
}

pub(super) fn flag_or(setting: &Setting<bool>, default: bool) -> bool {
    setting.as_ref().map_or(default, |value| *value.get_ref())
}
