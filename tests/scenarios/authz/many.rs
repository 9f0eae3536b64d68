//! Many at once: each of 180 parallel requests through one Envoy gets the answer that is its own, and connections have a limit
//! that counts whom it turns away and leaves room for somebody else.

use std::{os::unix::net::UnixStream, thread};

use vouch_tests::{
    Agent, Bootstrap, Need, Upstream,
    authz::{ask, is_allowed, question},
    connection::is_open,
    envoy::Gate,
    eventually, grpc,
    guise::connect_as,
    http,
    metrics::value,
    require, user,
};

use super::{SOON, checks, named, rego, settings};

const REQUESTS: usize = 180;

/// Lets even numbers pass, and says which it was asked about.
const EVEN: &str = r#"
number := to_number(input.parsed_path[0])

allow := {"allowed": true, "headers": {"x-number": input.parsed_path[0]}} if number % 2 == 0

allow := {
    "allowed": false,
    "http_status": 409,
    "body": sprintf("%s is odd", [input.parsed_path[0]]),
} if number % 2 == 1
"#;

#[test]
fn parallel_requests_get_the_answers_that_are_their_own() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let agent = Agent::start(settings().policy("even", &rego(EVEN)));
    let application = Upstream::start_echo();
    let bootstrap = Bootstrap::gate(&[]).authz_at(&agent.authz_socket());
    let gate = Gate::start("gate", user::FRONTEND, bootstrap, application.port());
    thread::scope(|scope| {
        let ask = |number: usize| http::get(gate.entrance, &format!("/{number}")).expect("the gate answers");
        let asked: Vec<_> = (0..REQUESTS).map(|number| scope.spawn(move || ask(number))).collect();
        for (number, answer) in asked.into_iter().enumerate() {
            let answer = answer.join().expect("it was answered");
            if number % 2 == 0 {
                let own = format!("x-number: {number}\r\n");
                assert!(answer.status == 200 && answer.body.contains(&own), "{number}: {answer:?}");
            } else {
                assert_eq!((answer.status, answer.body), (409, format!("{number} is odd")));
            }
        }
    });
    let half = REQUESTS as u64 / 2;
    assert_eq!(application.hits(), half);
    assert_eq!(checks(&agent, "even", "allowed", "policy"), half as f64);
    assert_eq!(checks(&agent, "even", "denied", "policy"), half as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_one_hoards_have_room_for_another() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings().set("authz.connections", 8).policy("all", &named("all")));
    let hoard: Vec<_> =
        (0..20).map(|_| UnixStream::connect(agent.authz_socket()).expect("it accepts")).collect();
    eventually("all but three quarters are closed", SOON, || {
        (hoard.iter().filter(is_open).count() == 6).then_some(())
    });
    let refused = || value(&agent.metrics(), "vouch_authz_connections_refused_total");
    assert_eq!((refused(), value(&agent.metrics(), "vouch_authz_connections")), (Some(14.0), Some(6.0)));

    let other = grpc::channel_on(connect_as(user::STRANGER, &agent.authz_socket()));
    let answer = ask(&other, &question("/")).await.expect("an answer");
    assert!(is_allowed(&answer), "{answer:?}");
    assert_eq!(refused(), Some(14.0));

    drop((hoard, other));
    eventually("places are given back", SOON, || {
        (value(&agent.metrics(), "vouch_authz_connections") == Some(0.0)).then_some(())
    });
    let again = ask(&grpc::channel(&agent.authz_socket()), &question("/")).await.expect("an answer");
    assert!(is_allowed(&again));
}
