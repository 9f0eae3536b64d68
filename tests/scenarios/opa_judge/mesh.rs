//! The four policies of the OPA mesh, as published and in today's syntax, on requests as Envoy tells them.

use vouch::authz::input::{self, InputOptions};
use vouch_proto::envoy::service::auth::v3::CheckRequest;
use vouch_tests::{
    Judge, Need,
    opa::{Policy, Syntax},
    require,
};

use super::{
    ours::{self, Relation},
    requests,
};

/// A service's policy as published and in today's syntax.
macro_rules! service {
    ($side:literal, $name:literal) => {
        (
            $side,
            $name,
            include_str!(concat!("../../../deploy/demos/opa-mesh/policies/", $name, ".rego")),
            include_str!(concat!("../../../deploy/demos/opa-mesh/policies/v1/", $name, ".rego")),
        )
    };
}

const SERVICES: [(&str, &str, &str, &str); 4] = [
    service!("ec", "ec-backend"),
    service!("ec", "ec-web"),
    service!("news", "news-backend"),
    service!("news", "news-web"),
];

#[test]
fn the_mesh_s_policies_decide_every_request_as_the_judge_decides_it() {
    require!(Need::Opa);
    let mut judge = Judge::start();
    let (mut decisions, mut allowed) = (0, 0);
    for (side, name, published, today) in SERVICES {
        for (syntax, text) in [(Syntax::V0, published), (Syntax::V1, today)] {
            let policy = Policy::new(syntax, text, "data.envoy.authz.allow");
            let loaded = ours::load(&policy);
            assert!(loaded.as_ref().is_ok_and(vouch::authz::rego::Policy::has_machine), "{name} {syntax:?}");
            let cases = requests::cases(side);
            let inputs: Vec<_> = cases.iter().map(|case| document(&case.request)).collect();
            let texts: Vec<_> = inputs.iter().map(|input| input.to_json_str().unwrap()).collect();
            let questions: Vec<_> = texts.iter().map(|text| (&policy, Some(text.as_str()))).collect();
            for ((case, input), theirs) in cases.iter().zip(inputs).zip(judge.ask(&questions)) {
                let ours = ours::decide(&loaded, input);
                let about = format!("{name} {syntax:?}, {}: {ours}, judge: {theirs:?}", case.about);
                assert_eq!(ours.to(&theirs), Relation::Equal, "{about}");
                decisions += 1;
                allowed += usize::from(ours.allows());
            }
        }
    }
    assert!(decisions >= 560, "{decisions} decisions");
    assert!((100..decisions - 100).contains(&allowed), "{allowed} of {decisions} were allowed");
}

/// The input as the agent would give it to a policy that knows OPA-Envoy's keys alone.
fn document(request: &CheckRequest) -> regorus::Value {
    let attributes = request.attributes.as_ref().expect("every request has attributes");
    input::document(attributes, &InputOptions::default(), None).expect("none of them is malformed")
}
