use std::{fs, net::SocketAddr, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;

use super::*;
use crate::authz::{files::PolicyFiles, record::Record, result::HeaderAppend, settings::PolicySettings};
use vouch_proto::envoy::service::auth::v3::{
    AttributeContext,
    attribute_context::{HttpRequest, Request},
};

const DENIED: i32 = Code::PermissionDenied as i32;
const ALLOWED: i32 = Code::Ok as i32;

/// Policies in a folder that goes away with it.
struct Court {
    dir: TempDir,
    settings: Settings,
}

impl Court {
    fn new() -> Self {
        let settings = Settings {
            request: 1 << 20,
            body_depth: 128,
            connections: 16,
            on_error: OnError::Deny,
            header_append: HeaderAppend::Unset,
            decision_log: None,
            masked_headers: vec![],
            masked_fields: vec![],
            remembered: 64,
            policies: vec![],
        };
        Self { dir: tempfile::tempdir().unwrap(), settings }
    }

    /// With one more policy in a file of its own.
    fn with(mut self, name: &str, rego: &str, change: impl FnOnce(&mut PolicySettings)) -> Self {
        let file = self.dir.path().join(format!("{name}.rego"));
        fs::write(&file, rego).unwrap();
        let mut policy = settings_of(name, &file);
        change(&mut policy);
        self.settings.policies.push(policy);
        self
    }

    fn judge(&self) -> Judge {
        let (settings, metrics) = (Arc::new(self.settings.clone()), Metrics::default());
        Judge::new(Policies::open(&settings, metrics.clone()), settings, None, metrics)
    }
}

fn settings_of(name: &str, file: &Path) -> PolicySettings {
    PolicySettings::of(name, PolicyFiles::new(vec![file.to_owned()], "envoy/authz/allow".parse().unwrap()))
}

fn address() -> SocketAddr {
    "127.0.0.1:9191".parse().unwrap()
}

/// Whoever asks here is unknown.
fn here(policy: &mut PolicySettings) {
    policy.listeners = vec![address()];
}

fn request(path: &str) -> CheckRequest {
    let http = HttpRequest { method: "GET".into(), path: path.into(), ..HttpRequest::default() };
    let request = Request { http: Some(http), ..Request::default() };
    CheckRequest { attributes: Some(AttributeContext { request: Some(request), ..Default::default() }) }
}

async fn ask(judge: &Judge, request: CheckRequest) -> (CheckResponse, Record) {
    let response = judge.check(&Asker::unknown(address()), &request.encode_to_vec()).await.unwrap();
    let record = judge.records.get(decision(&response)).unwrap();
    (response, record)
}

fn decision(response: &CheckResponse) -> CheckId {
    let fields = &response.dynamic_metadata.as_ref().unwrap().fields;
    match &fields["decision_id"].kind {
        Some(Kind::StringValue(id)) => id.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn code(response: &CheckResponse) -> i32 {
    response.status.as_ref().unwrap().code
}

const DATA_ONLY: &str = "package envoy.authz\nimport rego.v1\nallow if input.parsed_path == [\"data\"]\n";
const NEVER: &str = "package envoy.authz\nimport rego.v1\ndefault allow := false\n";
const ALWAYS: &str = "package envoy.authz\nimport rego.v1\ndefault allow := true\n";

#[tokio::test]
async fn each_reason_to_deny_is_told_apart() {
    let broken = "package envoy.authz\nimport rego.v1\nallow if {\n";
    let conflict =
        "package envoy.authz\nimport rego.v1\nallow := true\nallow := false if input.parsed_path\n";
    let text = "package envoy.authz\nimport rego.v1\nallow := \"yes\"\n";
    for (rego, path, expected) in [
        (DATA_ONLY, "/data", "policy"),
        (DATA_ONLY, "/other", "undefined"),
        (NEVER, "/data", "policy"),
        (broken, "/data", "not_loaded"),
        (text, "/data", "result_type"),
        (conflict, "/data", "conflict"),
        (ALWAYS, "/%zz", "bad_request"),
    ] {
        let judge = Court::new().with("p", rego, here).judge();
        let (response, record) = ask(&judge, request(path)).await;
        assert_eq!(record.reason, expected, "{rego}");
        let allowed = expected == "policy" && rego == DATA_ONLY;
        assert_eq!(code(&response), if allowed { ALLOWED } else { DENIED }, "{rego}");
        assert_eq!(record.error.is_empty(), expected == "policy");
    }
    let judge = Court::new().judge();
    let (response, record) = ask(&judge, request("/data")).await;
    assert_eq!((code(&response), record.reason), (DENIED, "no_policy"));
}

#[tokio::test]
async fn a_question_that_cannot_be_read_is_told_so_and_nothing_else_is() {
    let judge = Court::new().with("p", DATA_ONLY, here).judge();
    let (response, _) = ask(&judge, request("/%zz")).await;
    let Some(HttpResponse::DeniedResponse(denied)) = response.http_response else { panic!("it is denied") };
    assert_eq!(denied.status.unwrap().code, 400);
    assert!(denied.body.starts_with("request_parse_error: "), "{}", denied.body);
    let (response, _) = ask(&judge, request("/other")).await;
    assert_eq!(response.http_response, None);
}

#[tokio::test]
async fn a_call_without_a_question_is_judged_as_any_error_is() {
    let (asker, why) = (Asker::unknown(address()), Status::out_of_range("too long"));
    let mut court = Court::new().with("p", ALWAYS, here);
    let judge = court.judge();
    let response = judge.unreadable(&asker, &why).unwrap();
    let record = judge.records.get(decision(&response)).unwrap();
    assert_eq!((code(&response), record.reason), (DENIED, "unreadable"));
    assert_eq!(record.error, "the question cannot be read: too long");
    assert!(record.policy.is_none() && record.input.is_none());
    court.settings.on_error = OnError::Grpc;
    let failed = court.judge().unreadable(&asker, &why).unwrap_err();
    assert_eq!(failed.code(), Code::Unknown);
}

#[tokio::test]
async fn where_errors_are_errors_of_the_call_a_denial_is_none() {
    let mut court = Court::new().with("p", DATA_ONLY, here);
    court.settings.on_error = OnError::Grpc;
    let judge = court.judge();
    let failed =
        judge.check(&Asker::unknown(address()), &request("/other").encode_to_vec()).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unknown);
    assert!(failed.message().contains("(decision "), "{}", failed.message());
    let bad = judge.check(&Asker::unknown(address()), &request("/%zz").encode_to_vec()).await.unwrap();
    assert_eq!(code(&bad), DENIED);
}

#[tokio::test]
async fn a_dry_run_allows_what_its_policy_denies_and_not_what_it_does_not_answer() {
    let dry = |policy: &mut PolicySettings| {
        here(policy);
        policy.dry_run = true;
    };
    let judge = Court::new().with("p", NEVER, dry).judge();
    let (response, record) = ask(&judge, request("/data")).await;
    assert_eq!((code(&response), record.answer), (ALLOWED, Answered::DryRun));
    let judge = Court::new().with("p", DATA_ONLY, dry).judge();
    let (response, record) = ask(&judge, request("/other")).await;
    assert_eq!((code(&response), record.answer), (DENIED, Answered::Denied));
}

#[tokio::test]
async fn the_first_policy_whose_conditions_hold_decides() {
    let says = |service: &'static str| {
        move |policy: &mut PolicySettings| {
            here(policy);
            policy.context_extensions = [("service".to_owned(), service.to_owned())].into();
        }
    };
    let elsewhere = |policy: &mut PolicySettings| policy.listeners = vec!["127.0.0.1:1".parse().unwrap()];
    let judge = Court::new()
        .with("elsewhere", ALWAYS, elsewhere)
        .with("at-the-socket", ALWAYS, |_| {})
        .with("web", NEVER, says("web"))
        .with("backend", ALWAYS, says("backend"))
        .judge();
    for (service, expected) in [("web", Some("web")), ("backend", Some("backend")), ("other", None)] {
        let mut request = request("/data");
        let attributes = request.attributes.as_mut().unwrap();
        attributes.context_extensions = [("service".to_owned(), service.to_owned())].into();
        let (response, record) = ask(&judge, request).await;
        assert_eq!(record.policy.as_ref().map(|decider| decider.name.as_str()), expected);
        assert_eq!(code(&response), if expected == Some("backend") { ALLOWED } else { DENIED });
    }
}

#[tokio::test]
async fn where_the_choice_rests_on_an_unknown_caller_no_later_policy_decides() {
    let known = |policy: &mut PolicySettings| {
        here(policy);
        policy.callers = vec!["spiffe://example.org/web".parse().unwrap()];
    };
    let judge = Court::new().with("web", ALWAYS, known).with("rest", ALWAYS, here).judge();
    let (response, record) = ask(&judge, request("/data")).await;
    assert_eq!((code(&response), record.reason), (DENIED, "unattested"));
}

#[tokio::test]
async fn a_policy_is_read_again_and_a_bad_one_keeps_the_old_one() {
    let court = Court::new().with("p", NEVER, here);
    let judge = court.judge();
    let file = court.dir.path().join("p.rego");
    let decides = async |expected: i32| {
        judge.policies.reload();
        assert_eq!(code(&ask(&judge, request("/data")).await.0), expected);
    };
    decides(DENIED).await;
    fs::write(&file, ALWAYS).unwrap();
    decides(ALLOWED).await;
    for bad in ["package envoy.authz\nallow if {", "", "package other\nallow = true"] {
        fs::write(&file, bad).unwrap();
        decides(ALLOWED).await;
        let status = &judge.policies.status()[0];
        assert!(status.problem.is_some() && status.loaded.is_some(), "{bad}");
    }
    fs::remove_file(&file).unwrap();
    decides(ALLOWED).await;
    fs::write(&file, NEVER).unwrap();
    decides(DENIED).await;
    assert_eq!(judge.policies.status()[0].problem, None);
}

#[tokio::test]
async fn a_folder_that_is_swapped_behind_a_link_is_read_as_a_whole() {
    let court = Court::new();
    let dir = court.dir.path();
    for (version, rego) in [("..1", NEVER), ("..2", ALWAYS)] {
        fs::create_dir(dir.join(version)).unwrap();
        fs::write(dir.join(version).join("p.rego"), rego).unwrap();
    }
    symlink("..1", dir.join("..data")).unwrap();
    symlink("..data/p.rego", dir.join("p.rego")).unwrap();
    let mut policy = settings_of("mounted", dir);
    here(&mut policy);
    let mut settings = court.settings.clone();
    settings.policies.push(policy);
    let (settings, metrics) = (Arc::new(settings), Metrics::default());
    let policies = Policies::open(&settings, metrics.clone());
    let judge = Judge::new(Arc::clone(&policies), settings, None, metrics);
    assert_eq!(code(&ask(&judge, request("/data")).await.0), DENIED);
    let follow = tokio::spawn(policies.follow());
    // As the kubelet does it: a new link is renamed over the old one.
    symlink("..2", dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    let swapped = async {
        while code(&ask(&judge, request("/data")).await.0) != ALLOWED {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), swapped).await.expect("the new policy decides");
    follow.abort();
}

#[tokio::test]
async fn an_endless_policy_is_denied_in_time_and_holds_up_no_other() {
    let endless = "package envoy.authz\nimport rego.v1\nallow if {\n\
        some a in numbers.range(1, 9999)\nsome b in numbers.range(1, 9999)\nsome c in numbers.range(1, 9999)\n\
        a + b + c == 0\n}\n";
    let service = |name: &'static str| {
        move |policy: &mut PolicySettings| {
            here(policy);
            policy.context_extensions = [("service".to_owned(), name.to_owned())].into();
        }
    };
    let judge = Arc::new(
        Court::new()
            .with("endless", endless, service("endless"))
            .with("quick", ALWAYS, service("quick"))
            .judge(),
    );
    let of = |name: &str| {
        let mut request = request("/data");
        request.attributes.as_mut().unwrap().context_extensions =
            [("service".to_owned(), name.to_owned())].into();
        request
    };
    let (response, record) = ask(&judge, of("endless")).await;
    assert_eq!((code(&response), record.reason), (DENIED, "time_limit"));
    assert!(record.took < Duration::from_secs(2), "{:?}", record.took);
    // It is known to take long now, so it leaves the thread to others.
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let (judge, request) = (Arc::clone(&judge), of("endless"));
            tokio::spawn(async move { ask(&judge, request).await.1.reason })
        })
        .collect();
    tokio::task::yield_now().await;
    let (response, _) = ask(&judge, of("quick")).await;
    assert_eq!(code(&response), ALLOWED);
    assert!(waiting.iter().any(|task| !task.is_finished()), "the quick one did not wait for them");
    for task in waiting {
        assert!(["time_limit", "overloaded"].contains(&task.await.unwrap()));
    }
}
