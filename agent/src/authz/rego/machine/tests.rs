use std::{fs, path::Path, time::Instant};

use regorus::Value;

use crate::authz::rego::{
    Limits, Policy,
    tests::{compile, entrypoint, json, source},
};

fn mesh(file: &Path) -> Policy {
    let text = fs::read_to_string(file).unwrap();
    Policy::compile(&[source("policy.rego", &text)], &[], &entrypoint(), &Limits::default()).unwrap()
}

#[test]
fn the_policies_of_the_mesh_have_a_machine_in_both_syntaxes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demos/opa-mesh/policies");
    for name in ["ec-backend", "ec-web", "news-backend", "news-web"] {
        for file in [format!("{name}.rego"), format!("v1/{name}.rego")] {
            let policy = mesh(&folder.join(&file));
            assert!(policy.has_machine(), "{file}");
        }
    }
}

#[test]
fn timing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demos/opa-mesh/policies");
    let policy = mesh(&folder.join("ec-backend.rego"));
    let input = json(
        r#"{"attributes":{"request":{"http":{"path":"/data","method":"GET","headers":{"x-forwarded-client-cert":"By=spiffe://example.org/ec-backend;Hash=abc;URI=spiffe://example.org/ec-web"}}}}}"#,
    );
    assert_eq!(policy.evaluate(input.clone()), Ok(Value::from(true)));
    for _ in 0..2 {
        let start = Instant::now();
        for _ in 0..50_000 {
            policy.evaluate(input.clone()).unwrap();
        }
        eprintln!("machine {:?}", start.elapsed() / 50_000);
        let start = Instant::now();
        for _ in 0..50_000 {
            policy.evaluate_whole(input.clone()).unwrap();
        }
        eprintln!("engine {:?}", start.elapsed() / 50_000);
    }
}
