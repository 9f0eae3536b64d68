use std::{path::Path, time::Duration};

use super::*;
use crate::config::Config;

fn parse(text: &str) -> Result<Config, Problem> {
    Config::parse(text, "vouch.toml", Path::new("/etc/vouch"))
}

/// The configuration of a file with a trust domain and this.
fn with(rest: &str) -> Result<Config, Problem> {
    parse(&format!("trust_domain = \"example.org\"\n{rest}"))
}

const POLICY: &str = "[[authz.policies]]\nname = \"p\"\nfiles = [\"p.rego\"]\n";

#[test]
fn a_policy_of_authorization_is_read_and_shown() {
    let text = "[authz]\nsocket = \"off\"\nrequest = \"1KiB\"\nbody_depth = 7\ntimeout = \"1ms\"\nconnections = 3\n\
        policy_size = \"2KiB\"\ndata_size = \"3KiB\"\nerrors = \"grpc\"\nheader_append = \"overwrite\"\n\
        decision_log = \"d.jsonl\"\nmasked_headers = [\"X-Opa-Secret\"]\nmasked_fields = [\"/input/a~1b/0\", \"/result\"]\nremembered = 9\n\
        [[authz.policies]]\nname = \"ec-backend\"\nfiles = [\"ec.rego\", \"/data.json\"]\npath = \"a/b\"\n\
        callers = [\"spiffe://example.org/ec-backend\"]\nlisteners = [\"127.0.1.2:20000\", \"[::1]:20000\"]\n\
        context_extensions = { service = \"ec \\\"x\\\"\" }\nxfcc = \"sanitize_set\"\nspiffe = false\n\
        skip_request_body_parse = true\ndry_run = true\n\
        [[authz.policies]]\nname = \"rest\"\nfiles = [\"r.rego\"]\nlisteners = [\"127.0.1.2:20000\"]\n";
    let config = with(text).unwrap();
    let authz = &config.authz;
    assert_eq!((authz.socket.as_deref(), authz.errors), (None, PolicyErrors::Grpc));
    assert_eq!(authz.decision_log.as_deref(), Some(Path::new("/etc/vouch/d.jsonl")));
    assert_eq!((authz.header_append, authz.timeout), (HeaderAppend::Overwrite, Duration::from_millis(1)));
    assert_eq!(authz.masked_headers, ["x-opa-secret"]);
    assert_eq!(authz.masked_fields, ["/input/a~1b/0", "/result"]);
    let policy = &authz.policies[0];
    assert_eq!(policy.files, [Path::new("/etc/vouch/ec.rego"), Path::new("/data.json")]);
    assert_eq!((&*policy.path, policy.xfcc), ("a/b", XfccMeaning::SanitizeSet));
    assert_eq!(policy.context_extensions["service"], "ec \"x\"");
    assert!(policy.dry_run && policy.skip_request_body_parse && !policy.spiffe);
    assert_eq!(authz.policies[1].path, "envoy/authz/allow");
    let listeners: Vec<String> = authz.listeners().iter().map(ToString::to_string).collect();
    assert_eq!(listeners, ["127.0.1.2:20000", "[::1]:20000"]);
    assert_eq!(parse(&config.show()).unwrap(), config);
}

#[test]
fn a_policy_that_cannot_be_served_is_refused() {
    for (rest, expected) in [
        (POLICY.replace("name = \"p\"\n", ""), "E0103"),
        (POLICY.replace("files = [\"p.rego\"]\n", ""), "E0103"),
        (POLICY.replace("\"p\"", "\"a b\""), "E0107"),
        (POLICY.replace("\"p\"", &format!("\"{}\"", "n".repeat(65))), "E0107"),
        (format!("{POLICY}{POLICY}"), "E0113"),
        (format!("[authz]\nsocket = \"off\"\n{POLICY}"), "E0113"),
        (format!("{POLICY}callers = [\"example.org\"]"), "E0107"),
        (format!("{POLICY}listeners = [\"9191\"]"), "E0107"),
        (format!("{POLICY}listeners = [\"127.0.0.1:0\"]"), "E0107"),
        (format!("{POLICY}listeners = [\"0.0.0.0:9191\"]"), "E0112"),
        (format!("{POLICY}xfcc = \"true\""), "E0107"),
        (format!("{POLICY}dryrun = true"), "E0105"),
        ("[authz]\nbody_depth = 0".to_owned(), "E0108"),
        ("[authz]\ntimeout = \"11s\"".to_owned(), "E0108"),
    ] {
        assert_eq!(with(&rest).expect_err(&rest).code, expected, "{rest}");
    }
    assert!(with(&format!("{POLICY}listeners = [\"127.3.2.1:9191\"]")).is_ok());
}

#[test]
fn a_masked_field_is_a_pointer_into_what_was_asked_or_said() {
    for bad in [
        "",
        "input/a",
        "/",
        "/policy",
        "/inputs",
        "/input/",
        "/input//a",
        "/input/a~",
        "/result/a~2b",
        "/error/message",
    ] {
        let refused = with(&format!("[authz]\nmasked_fields = [\"{bad}\"]")).unwrap_err();
        assert_eq!(refused.code, "E0107", "{bad}");
        assert!(refused.fix.is_some_and(|fix| fix.contains("/input/attributes/metadataContext")), "{bad}");
    }
}
