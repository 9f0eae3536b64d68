//! Two agents whose intermediates come from one root: an Envoy of one node and an Envoy of the other speak mutual
//! TLS.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use vouch_tests::{
    Agent, Bootstrap, Need, Settings, Upstream, agent::temporary_dir, envoy::Pair, http, require,
    settings::entry_of_user, user,
};

#[test]
fn nodes_with_intermediates_of_one_root_trust_each_other() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let keys = temporary_dir();
    let root = authority("root", None);
    fs::write(keys.path().join("roots.pem"), root.pem()).expect("the root can be written");
    let entries = [
        entry_of_user("spiffe://example.org/backend", user::BACKEND),
        entry_of_user("spiffe://example.org/frontend", user::FRONTEND),
    ];
    let [east, west] = ["east", "west"].map(|node| {
        let settings = Settings::new(entries.clone()).set("issuer.kind", "intermediate");
        Agent::start(with_intermediate(settings, keys.path(), node, &root))
    });
    let application = Upstream::start();
    let mut pair = Pair::spawn(
        Bootstrap::frontend().agent_at(&east.socket()),
        Bootstrap::backend().agent_at(&west.socket()),
        application.port(),
    );
    pair.wait_until_ready();

    let answer = http::get(pair.entrance, "/").expect("the frontend answers");

    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    assert_eq!(application.hits(), 1);
}

fn with_intermediate(
    settings: Settings,
    dir: &Path,
    node: &str,
    root: &CertifiedIssuer<'_, KeyPair>,
) -> Settings {
    let intermediate = authority(node, Some(root));
    let (certificate, key) = (dir.join(format!("{node}.pem")), dir.join(format!("{node}.key")));
    fs::write(&certificate, intermediate.pem()).expect("the certificate can be written");
    fs::write(&key, intermediate.key().serialize_pem()).expect("the key can be written");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
    let text = |path: &Path| path.to_str().expect("a temporary path is text").to_owned();
    settings
        .set("issuer.certificate", text(&certificate))
        .set("issuer.key", text(&key))
        .set("issuer.roots", text(&dir.join("roots.pem")))
}

/// A signing certificate of the trust domain, self-signed without an `issuer`.
fn authority(name: &str, issuer: Option<&CertifiedIssuer<'_, KeyPair>>) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI("spiffe://example.org".try_into().expect("ASCII"))];
    let key = KeyPair::generate().expect("a key can be made");
    let made = match issuer {
        None => CertifiedIssuer::self_signed(params, key),
        Some(issuer) => CertifiedIssuer::signed_by(params, key, issuer),
    };
    made.expect("a certificate can be made")
}
