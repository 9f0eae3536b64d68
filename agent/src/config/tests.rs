use std::{fs, time::Duration};

use proptest::prelude::*;

use super::*;

const SAMPLE: &str = include_str!("../../../deploy/vouch.toml");

fn parse(text: &str) -> Result<Config, Problem> {
    Config::parse(text, "vouch.toml", Path::new("/etc/vouch"))
}

/// The configuration of a file with a trust domain and this.
fn with(rest: &str) -> Result<Config, Problem> {
    parse(&format!("trust_domain = \"example.org\"\n{rest}"))
}

fn defaults() -> Config {
    with("").unwrap()
}

fn code(rest: &str) -> &'static str {
    with(rest).expect_err(rest).code
}

fn printed(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// Every setting of the sample, in force instead of commented out.
fn sample_in_force() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    SAMPLE.lines().map(line).collect()
}

fn keys(text: &str) -> Vec<String> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.push(format!("{section}{key}"));
        }
    }
    keys.sort();
    keys
}

#[test]
fn the_sample_says_the_defaults_and_all_of_them() {
    assert_eq!(parse(SAMPLE).unwrap(), defaults());
    assert_eq!(parse(&sample_in_force()).unwrap(), defaults());
    assert_eq!(keys(&sample_in_force()), keys(&defaults().show()));
}

#[test]
fn the_defaults_are_as_documented() {
    let config = defaults();
    assert_eq!(config.workload_api.socket, Path::new("/run/vouch/public/api.sock"));
    assert_eq!(config.entries.files, [Path::new("/etc/vouch/entries.json")]);
    assert_eq!(config.issuer.svid_ttl, Duration::from_secs(3600));
    assert_eq!(config.issuer.kind, IssuerKind::Embedded { ca_ttl: humantime::parse_duration("1y").unwrap() });
    assert_eq!((config.issuer.key_type, config.issuer.key_pool), (KeyType::EcP256, 16384));
    assert_eq!((config.rotation.at, config.rotation.jitter), (0.5, 0.1));
    assert_eq!(config.attest.docker.socket, Path::new("/run/docker.sock"));
    assert!(config.attest.docker.enabled && config.attest.systemd.enabled && config.attest.slurm.enabled);
    assert!(!config.attest.docker.rootless && !config.attest.docker.env);
    assert_eq!((config.kernel.ring, config.limits.sds_request), (1 << 20, 1 << 20));
    let limits = config.limits;
    assert_eq!((limits.connections, limits.connections_per_caller), (16_384, 128));
    assert_eq!((limits.streams_per_connection, limits.streams_per_caller), (128, 1_024));
    assert_eq!((limits.connects_per_second, limits.frames_per_second), (1_024, 32_768));
    assert_eq!(limits.flooded_queue, 64);
    assert_eq!((limits.reserve, limits.header_list, limits.header_fields), (0.25, 8 << 10, 64));
    assert_eq!((limits.pending_resets, limits.local_resets, limits.names_per_stream), (20, 64, 128));
    assert_eq!((limits.attestations, limits.attestations_per_caller), (64, 4));
    assert_eq!((limits.attestations_queued, limits.template_identities), (200, 1024));
    assert_eq!((limits.attestations_per_second, limits.attestations_burst), (50, 100));
    let authz = &config.authz;
    assert_eq!(authz.socket.as_deref(), Some(Path::new("/run/vouch/authz/authz.sock")));
    assert_eq!((authz.request, authz.policy_size, authz.data_size), (4 << 20, 1 << 20, 4 << 20));
    assert_eq!((authz.body_depth, authz.connections, authz.remembered), (128, 1024, 256));
    assert_eq!((authz.timeout, authz.errors), (Duration::from_millis(100), PolicyErrors::Deny));
    assert_eq!((authz.header_append, authz.decision_log.as_deref()), (HeaderAppend::Unset, None));
    assert!(!authz.is_on() && authz.masked_headers.is_empty());
    assert_eq!(config.telemetry.metrics, Some("127.0.0.1:9988".parse().unwrap()));
}

#[test]
fn every_setting_is_read() {
    let text = "trust_domain = \"td\"\nstate_dir = \"state\"\n\
        [workload_api]\nsocket = \"p/api.sock\"\nalso = [\"/tmp/spire-agent/public/api.sock\"]\n\
        [admin]\nsocket = \"/a/admin.sock\"\n[entries]\nfiles = [\"x.json\", \"/y.toml\"]\n\
        [issuer]\nkind = \"intermediate\"\ncertificate = \"int.pem\"\nkey = \"/k/int.key\"\nroots = \"r.pem\"\n\
        svid_ttl = \"2s\"\nkey_type = \"ec-p384\"\nkey_pool = 7\n[rotation]\nat = 0.9\njitter = 0\n\
        [attest]\nminimum = \"kernel\"\ndecisions = 64\nunix = { path = \"spire\", hash_size_limit = \"1GiB\" }\n\
        [attest.docker]\nenabled = false\nsocket = \"d.sock\"\npodman_socket = \"/p.sock\"\nrootless = true\n\
        podman_socket_template = \"/u/%d.sock\"\nenv = true\n\
        [attest.systemd]\nenabled = false\n[attest.slurm]\nenabled = false\n\
        [kernel]\nhooks = \"require\"\nring = \"64KiB\"\npins = \"/bpf\"\n\
        [sds]\ndefault_svid_name = \"\"\ndefault_bundle_name = \"null\"\ndefault_all_bundles_name = \"ROOTCA\"\n\
        disable_spiffe_cert_validation = true\npartial = true\n\
        [limits]\nconnections = 1\nrequest = \"2KiB\"\nidle_timeout = \"1m\"\n\
        connections_per_caller = 7\nstreams_per_caller = 5\nreserve = 0\nheader_list = \"1MiB\"\nheader_fields = 9\n\
        [telemetry]\nmetrics = \"off\"\nlog = { format = \"json\", level = \"debug\" }\n";
    let config = parse(text).unwrap();
    assert_eq!(config.state_dir, Path::new("/etc/vouch/state"));
    assert_eq!(config.workload_api.socket, Path::new("/etc/vouch/p/api.sock"));
    assert_eq!(config.workload_api.also, [Path::new("/tmp/spire-agent/public/api.sock")]);
    assert_eq!(config.entries.files, [Path::new("/etc/vouch/x.json"), Path::new("/y.toml")]);
    let kind = IssuerKind::Intermediate {
        certificate: "/etc/vouch/int.pem".into(),
        key: "/k/int.key".into(),
        roots: "/etc/vouch/r.pem".into(),
    };
    let svid_ttl = Duration::from_secs(2);
    assert_eq!(config.issuer, Issuer { kind, svid_ttl, key_type: KeyType::EcP384, key_pool: 7 });
    assert_eq!(config.rotation, Rotation { at: 0.9, jitter: 0.0 });
    let unix = AttestUnix { path: PathMeaning::Spire, hash_size_limit: 1 << 30 };
    let docker = AttestDocker {
        enabled: false,
        socket: "/etc/vouch/d.sock".into(),
        podman_socket: "/p.sock".into(),
        rootless: true,
        podman_socket_template: "/u/%d.sock".into(),
        env: true,
    };
    let (systemd, slurm) = (AttestSystemd { enabled: false }, AttestSlurm { enabled: false });
    assert_eq!(
        config.attest,
        Attest { minimum: MinimumGrade::Kernel, decisions: 64, unix, docker, systemd, slurm }
    );
    assert_eq!(
        config.kernel,
        Kernel { hooks: Hooks::Require, ring: 64 << 10, pins: Pins::Below("/bpf".into()) }
    );
    // As Istio's recipe for SPIRE sets them.
    assert_eq!((&*config.sds.default_bundle_name, &*config.sds.default_all_bundles_name), ("null", "ROOTCA"));
    assert!(config.sds.default_svid_name.is_empty() && config.sds.partial);
    assert_eq!((config.limits.connections, config.limits.request), (1, 2048));
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(60));
    // What a caller may do in a second follows from what it may hold.
    assert_eq!((config.limits.connects_per_second, config.limits.frames_per_second), (56, 160));
    assert_eq!((config.limits.reserve, config.limits.header_list), (0.0, 1 << 20));
    assert_eq!(config.telemetry.metrics, None);
    assert_eq!(config.telemetry.log, Log { format: LogFormat::Json, level: LogLevel::Debug });
    assert_eq!(parse(&config.show()).unwrap(), config);
}

#[test]
fn rsa_keys_are_taken_by_a_build_that_makes_them_and_refused_with_a_way_out_by_another() {
    let taken = with("[issuer]\nkey_type = \"rsa-2048\"");
    if cfg!(feature = "aws-lc-rs") {
        let issuer = taken.unwrap().issuer;
        assert_eq!((issuer.key_type, issuer.key_pool), (KeyType::Rsa2048, 64));
    } else {
        let problem = taken.unwrap_err();
        assert_eq!(problem.code, "E0111");
        assert!(problem.to_string().contains("--features aws-lc-rs"), "{problem}");
    }
}

#[test]
fn what_breaks_a_rule_is_refused() {
    for (rest, expected) in [
        ("[issuer]\nkind = \"spire\"", "E0111"),
        ("[issuer]\nkind = \"vault\"", "E0107"),
        ("[issuer]\nkey_pool = 0", "E0108"),
        ("[issuer]\nsvid_ttl = \"1s\"", "E0108"),
        ("[issuer]\nsvid_ttl = \"2y\"", "E0108"),
        ("[issuer]\nsvid_ttl = \"2h\"\nca_ttl = \"1h\"", "E0113"),
        ("[issuer]\nca_ttl = \"30m\"", "E0113"),
        ("[issuer]\nca_ttl = \"999999999999y\"", "E0107"),
        ("[issuer]\nsvid_ttl = \"10s\"\nca_ttl = \"59s\"", "E0108"),
        ("[issuer]\nkey = \"int.key\"", "E0113"),
        ("[issuer]\nkind = \"intermediate\"\ncertificate = \"c\"\nkey = \"k\"", "E0103"),
        (
            "[issuer]\nkind = \"intermediate\"\ncertificate = \"c\"\nkey = \"k\"\nroots = \"r\"\nca_ttl = \"1y\"",
            "E0113",
        ),
        ("[rotation]\nat = 0.95", "E0108"),
        ("[rotation]\nat = nan", "E0108"),
        ("[rotation]\njitter = -0.1", "E0108"),
        ("[attest]\nminimum = \"best\"", "E0107"),
        ("[attest.unix]\nhash_size_limit = \"512MB\"", "E0107"),
        ("[attest.unix]\nhash_size_limit = \"0\"", "E0108"),
        ("[attest.docker]\nsocket = \"/run/\"", "E0109"),
        ("[attest.docker]\npodman_socket_template = \"u/%d.sock\"", "E0107"),
        ("[attest.docker]\npodman_socket_template = \"/u/%d/%d.sock\"", "E0107"),
        ("[attest.docker]\npodman_socket_template = \"/u/%s.sock\"", "E0107"),
        ("[attest.docker]\npodman_socket_template = \"/u/x.sock\"", "E0107"),
        ("[kernel]\nring = \"96KiB\"", "E0108"),
        ("[kernel]\npins = \"on\"", "E0107"),
        ("[kernel]\npins = \"bpf/here\"", "E0107"),
        ("[kernel]\npins = \"/\\u0000\"", "E0107"),
        ("[kernel]\nring = \"4KiB\"", "E0108"),
        ("[kernel]\nring = \"8GiB\"", "E0108"),
        ("[limits]\nconnections = 0", "E0108"),
        ("[limits]\nconnections = -1", "E0108"),
        ("[limits]\nconnections = 1000001", "E0108"),
        ("[limits]\nrequest = \"1B\"", "E0108"),
        ("[limits]\nidle_timeout = \"2h\"", "E0108"),
        ("[limits]\nreserve = 1.0", "E0108"),
        ("[limits]\nheader_list = \"2MiB\"", "E0108"),
        ("[limits]\nconnections_per_caller = 1000000\nconnects_per_second = 0", "E0108"),
        ("[limits]\nflooded_queue = 4097", "E0108"),
        ("[sds]\ndefault_bundle_name = \"ALL\"", "E0113"),
        ("[sds]\ndefault_svid_name = \"ROOTCA\"", "E0113"),
        ("[telemetry]\nmetrics = \"0.0.0.0:9988\"", "E0112"),
        ("[telemetry]\nmetrics = \"localhost\"", "E0107"),
        ("[telemetry]\nlog = { level = \"loud\" }", "E0107"),
        ("[entries]\nfiles = [\"\"]", "E0107"),
        ("state_dir = \"a\\u0000b\"", "E0107"),
        ("[workload_api]\nalso = [\"/run/vouch/public/api.sock\"]", "E0113"),
    ] {
        assert_eq!(code(rest), expected, "{rest}");
    }
    assert_eq!(code(&format!("[workload_api]\nsocket = \"/{}\"", "s".repeat(107))), "E0109");
    assert_eq!(code("[admin]\nsocket = \"/run/\""), "E0109");
    let names: Vec<String> = (0..65).map(|n| format!("\"/{n}\"")).collect();
    assert_eq!(code(&format!("[entries]\nfiles = [{}]", names.join(","))), "E0108");
}

#[test]
fn two_empty_secret_names_are_no_contradiction() {
    assert!(with("[sds]\ndefault_bundle_name = \"\"\ndefault_all_bundles_name = \"\"").is_ok());
}

#[test]
fn whoever_may_enter_the_public_directory_gets_no_further() {
    let sockets = |public: &str, admin: &str, state: &str| {
        let text = format!(
            "state_dir = \"{state}\"\n[workload_api]\nsocket = \"{public}\"\n[admin]\nsocket = \"{admin}\""
        );
        with(&text).map_err(|problem| problem.code)
    };
    assert!(sockets("/r/p/api.sock", "/r/a/admin.sock", "/s").is_ok());
    assert!(sockets("/r/p/api.sock", "/r/admin.sock", "/s").is_ok());
    for (public, admin, state) in [
        ("/r/api.sock", "/r/api.sock", "/s"),
        ("/r/api.sock", "/r/admin.sock", "/s"),
        ("/r/api.sock", "/r/a/b/admin.sock", "/s"),
        ("/r/api.sock", "/x/../r/admin.sock", "/s"),
        ("/s/api.sock", "/a/admin.sock", "/s"),
        ("/s/p/api.sock", "/a/admin.sock", "/s"),
        ("/s/p/api.sock", "/a/admin.sock", "/s/x/.."),
    ] {
        assert_eq!(sockets(public, admin, state).unwrap_err(), "E0110", "{public} {admin} {state}");
    }
    assert_eq!(code("[workload_api]\nalso = [\"/run/vouch/api.sock\"]"), "E0110");
}

#[test]
fn a_file_is_loaded_beneath_its_directory_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vouch.toml");
    assert_eq!(Config::load(&path).unwrap_err().code, "E0101");
    assert_eq!(Config::load(directory.path()).unwrap_err().code, "E0101");
    fs::write(&path, "trust_domain = \"td\"\nstate_dir = \"s\"\n").unwrap();
    assert_eq!(Config::load(&path).unwrap().state_dir, directory.path().join("s"));
    fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
    assert_eq!(Config::load(&path).unwrap_err().code, "E0101");
}

#[test]
fn a_node_without_a_file_takes_its_places_from_the_layout_and_its_flags() {
    let domain = "node.local".parse().unwrap();
    let config = Config::zero(&domain, &Layout::of_root(), &Choices::default()).unwrap();
    assert_eq!(
        config,
        Config {
            trust_domain: domain.clone(),
            entries: Entries { files: vec!["/var/lib/vouch/entries.toml".into()] },
            kernel: Kernel { pins: Pins::Off, ..defaults().kernel },
            ..defaults()
        }
    );
    let choices = Choices {
        state_dir: Some("/s".into()),
        socket: Some("/p/x/api.sock".into()),
        metrics: Some("off".into()),
        also: vec!["/tmp/spire-agent/public/api.sock".into()],
        ..Choices::default()
    };
    let config = Config::zero(&domain, &Layout::of_root(), &choices).unwrap();
    assert_eq!(config.entries.files, [Path::new("/s/entries.toml")]);
    assert_eq!((config.workload_api.also.len(), config.telemetry.metrics), (1, None));
    assert_eq!(parse(&config.show()).unwrap(), config);
    let wrong = Choices { metrics: Some("1.1.1.1:1".into()), ..choices };
    let problem = Config::zero(&domain, &Layout::of_root(), &wrong).unwrap_err();
    assert_eq!((problem.code, problem.place.is_none()), ("E0112", true));
}

// What an operator reads, to the letter.

#[test]
fn unknown_key() {
    assert_eq!(
        printed("trust_domian = \"example.org\"\n"),
        "error[E0105]: unknown key `trust_domian`
 --> vouch.toml:1:1
  |
1 | trust_domian = \"example.org\"
  | ^^^^^^^^^^^^ did you mean `trust_domain`?
  fix: known here: trust_domain, state_dir, workload_api, admin, entries, issuer, rotation, attest, kernel, \
         sds, limits, authz, telemetry"
    );
}

#[test]
fn unknown_key_in_a_section() {
    assert_eq!(
        printed("trust_domain = \"td\"\n[telemetry]\nlog = { levle = \"info\" }\n"),
        "error[E0105]: unknown key `levle`
 --> vouch.toml:3:9
  |
3 | log = { levle = \"info\" }
  |         ^^^^^ did you mean `level`?
  fix: known here: format, level"
    );
}

#[test]
fn unknown_section() {
    assert_eq!(
        printed("trust_domain = \"td\"\n\n[workload_apis]\nsocket = \"/x\"\n"),
        "error[E0105]: unknown section `workload_apis`
 --> vouch.toml:3:2
  |
3 | [workload_apis]
  |  ^^^^^^^^^^^^^ did you mean `workload_api`?
  fix: known here: trust_domain, state_dir, workload_api, admin, entries, issuer, rotation, attest, kernel, \
         sds, limits, authz, telemetry"
    );
}

#[test]
fn wrong_type() {
    assert_eq!(
        printed("trust_domain = \"td\"\n[issuer]\nsvid_ttl = 3600\n"),
        "error[E0106]: expected a string, found integer `3600`
 --> vouch.toml:3:12
  |
3 | svid_ttl = 3600
  |            ^^^^
  fix: write it in quotes; durations and sizes carry a unit: \"1h\", \"16KiB\""
    );
}

#[test]
fn value_in_place_of_a_section() {
    assert_eq!(
        printed("trust_domain = \"td\"\nissuer = \"embedded\"\n"),
        "error[E0106]: expected a section, found string \"embedded\"
 --> vouch.toml:2:10
  |
2 | issuer = \"embedded\"
  |          ^^^^^^^^^^
  fix: see how it is written: vouch config show prints every key"
    );
}

#[test]
fn bad_duration() {
    assert_eq!(
        printed("trust_domain = \"td\"\n[issuer]\nsvid_ttl = \"1 fortnight\"\n"),
        "error[E0107]: `svid_ttl` is not a duration: unknown time unit \"fortnight\", supported units: ns, us/µs, \
         ms, sec, min, hours, days, weeks, months, years (and few variations)
 --> vouch.toml:3:12
  |
3 | svid_ttl = \"1 fortnight\"
  |            ^^^^^^^^^^^^^
  fix: write a number and a unit, such as \"30s\", \"15m\", \"1h\", \"7days\" or \"1y\""
    );
}

#[test]
fn bad_trust_domain() {
    assert_eq!(
        printed("trust_domain = \"spiffe://example.org\"\n"),
        "error[E0104]: not a trust domain: trust domain may hold only a-z, 0-9, dot, dash and underscore, not ':'
 --> vouch.toml:1:16
  |
1 | trust_domain = \"spiffe://example.org\"
  |                ^^^^^^^^^^^^^^^^^^^^^^
  fix: write the name alone: \"example.org\""
    );
}

#[test]
fn missing_trust_domain() {
    assert_eq!(
        printed("# mine\n[issuer]\n"),
        "error[E0103]: `trust_domain` is missing
 --> vouch.toml:1:1
  |
1 | # mine
  | ^
  why: every identity that this node gives begins with it
  fix: write it before the first section, such as trust_domain = \"example.org\""
    );
}

#[test]
fn syntax_error() {
    assert_eq!(
        printed("trust_domain = \"td\"\n[issuer\nkind = \"embedded\"\n"),
        "error[E0102]: not valid TOML: unclosed table, expected `]`
 --> vouch.toml:2:8
  |
2 | [issuer
  |        ^"
    );
}

#[test]
fn what_nests_too_deeply_has_no_place_that_misleads() {
    let problem = parse(&format!("trust_domain = \"td\"\n[a{}]\n", ".a".repeat(200))).unwrap_err();
    assert_eq!((problem.code, problem.place), ("E0102", None));
    assert_eq!(problem.why.as_deref(), Some("somewhere in vouch.toml"));
}

#[test]
fn slip_in_a_word() {
    assert_eq!(
        printed("trust_domain = \"td\"\n[attest]\nminimum = \"pidfs\"\n"),
        "error[E0107]: `minimum` cannot be \"pidfs\"
 --> vouch.toml:3:11
  |
3 | minimum = \"pidfs\"
  |           ^^^^^^^ did you mean \"pidfd\"?
  fix: one of: kernel, pidfd, peercred"
    );
}

fn any_config() -> impl Strategy<Value = Config> {
    (
        (2u64..31_622_400, 2u64..900_000_000, any::<bool>(), 0.25..=0.9f64, 0.0..=0.5f64),
        (1024u64..1 << 36, 16u32..=28, 1usize..1_000_000, 10u64..3_600_000),
        ("[a-z0-9._-]{1,20}", "[ -~é\"\\\\\n\u{1}]{0,12}", "[a-zé \"\\\\\t]{1,12}"),
    )
        .prop_map(
            |((svid_ttl, ca_ttl, embedded, at, jitter), (hash, ring, count, wait), (domain, name, file))| {
                let mut config = with("").unwrap();
                config.trust_domain = domain.parse().unwrap();
                config.state_dir = PathBuf::from("/state").join(&file);
                config.entries.files = vec![PathBuf::from("/entries").join(&file)];
                config.issuer.svid_ttl = Duration::from_secs(svid_ttl);
                let pem = PathBuf::from("/pem").join(&file);
                config.issuer.kind = if embedded {
                    IssuerKind::Embedded { ca_ttl: Duration::from_secs(ca_ttl.max(svid_ttl).max(60)) }
                } else {
                    IssuerKind::Intermediate { certificate: pem.clone(), key: pem.clone(), roots: pem }
                };
                config.rotation = Rotation { at, jitter };
                config.attest.unix.hash_size_limit = hash;
                config.attest.decisions = count;
                config.kernel.ring = 1 << ring;
                config.limits.streams_per_caller = count;
                config.limits.stalled_timeout = Duration::from_millis(wait);
                config.sds.default_svid_name = format!("svid {name}");
                config
            },
        )
}

proptest! {
    #[test]
    fn what_is_shown_reads_as_the_same_configuration(config in any_config()) {
        prop_assert_eq!(parse(&config.show()).unwrap(), config);
    }

    #[test]
    fn no_text_breaks_the_reader(text in "(\\[?[a-z_.]{1,10}\\]?|[ =\"'{}\\n#0-9.é-]){0,30}") {
        if let Err(problem) = parse(&text) {
            prop_assert!(problem.to_string().starts_with("error[E01"));
        }
    }
}
