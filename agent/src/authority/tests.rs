mod foreign;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};
use tempfile::TempDir;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::*;
use foreign::{Ca, Files, openssl, openssl_verify, uri};

const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[test]
fn an_svid_is_what_the_standard_asks_for() {
    for key_type in key_types() {
        let dir = private_dir();
        let now = SystemTime::now();
        let authority = Authority::open(embedded(&dir, key_type), now).unwrap();
        let key = KeyPair::generate(key_type).unwrap();
        let request =
            SvidRequest { dns_names: vec!["web.example.org".into(), "*.web".into()], ..request("/web", now) };
        let svid = authority.issue(&request, &key).unwrap().svid;
        assert_eq!((svid.id.as_str(), svid.chain.len()), ("spiffe://example.org/web", 1));

        let bundle = authority.bundle();
        let (_, root) = parse_x509_certificate(&bundle.x509_authorities[0]).unwrap();
        let (_, leaf) = parse_x509_certificate(&svid.chain[0]).unwrap();
        leaf.verify_signature(Some(root.public_key())).unwrap();
        assert_eq!(leaf.public_key().subject_public_key.data, key.public());
        assert_eq!(leaf.issuer().as_raw(), root.subject().as_raw());

        let san = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(!san.critical, "critical only with an empty subject");
        assert_eq!(
            san.value.general_names,
            [
                GeneralName::URI("spiffe://example.org/web"),
                GeneralName::DNSName("web.example.org"),
                GeneralName::DNSName("*.web")
            ]
        );
        assert_eq!(leaf.subject().iter_common_name().next().unwrap().as_str().unwrap(), "web.example.org");

        let constraints = leaf.basic_constraints().unwrap().unwrap();
        assert!(
            constraints.critical && !constraints.value.ca && constraints.value.path_len_constraint.is_none()
        );
        let usage = leaf.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.digital_signature());
        assert_eq!(usage.value.key_agreement(), key_type.is_elliptic());
        assert_eq!(usage.value.key_encipherment(), !key_type.is_elliptic());
        assert!(!usage.value.key_cert_sign() && !usage.value.crl_sign());
        let extended = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && extended.client_auth && !extended.any);

        // 16 random bytes, and one more in front when the first has its sign bit set.
        assert!(
            leaf.raw_serial().len() <= 17
                && leaf.raw_serial()[0] < 0x80
                && leaf.raw_serial().iter().any(|b| *b != 0)
        );
        assert_eq!(
            seconds(leaf.validity().not_before.timestamp()),
            whole(now - Duration::from_secs(60)).max(svid.not_before)
        );
        assert_eq!(seconds(leaf.validity().not_after.timestamp()), whole(now + HOUR));
        assert_eq!(seconds(leaf.validity().not_after.timestamp()), svid.not_after);

        let constraints = root.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        let usage = root.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert!(!usage.value.digital_signature());
        let san = root.subject_alternative_name().unwrap().unwrap();
        assert_eq!(san.value.general_names, [GeneralName::URI("spiffe://example.org")]);
        assert_eq!(key_id(&root, false), key_id(&leaf, true), "the leaf names the key that signed it");
    }
}

#[test]
fn openssl_accepts_the_chain_and_the_key() {
    for key_type in key_types() {
        let dir = private_dir();
        let authority = Authority::open(embedded(&dir, key_type), SystemTime::now()).unwrap();
        let svid = issue(&authority, "/a/b");
        openssl_verify(&svid, &authority.bundle()).unwrap();
        openssl(&["pkey", "-check", "-noout"], svid.key.pem().as_bytes());
        let certified = openssl(&["x509", "-pubkey", "-noout"], svid.chain_pem().as_bytes());
        assert_eq!(certified, openssl(&["pkey", "-pubout"], svid.key.pem().as_bytes()), "{key_type}");
    }
}

#[test]
fn openssl_refuses_the_chain_of_another_authority() {
    let dir = private_dir();
    let authority = Authority::open(embedded(&dir, KeyType::EcP256), SystemTime::now()).unwrap();
    let svid = issue(&authority, "/a/b");

    let other_dir = private_dir();
    let other = Authority::open(embedded(&other_dir, KeyType::EcP256), SystemTime::now()).unwrap();
    openssl_verify(&svid, &other.bundle()).unwrap_err();
}

#[test]
fn an_svid_never_outlives_its_signer_nor_precedes_it() {
    let dir = private_dir();
    let start = SystemTime::now();
    let authority = Authority::open(embedded(&dir, KeyType::EcP256), start).unwrap();
    let end = authority.expires();
    let key = KeyPair::generate(KeyType::EcP256).unwrap();

    let late = SvidRequest { ttl: Some(5 * HOUR), ..request("/x", end - HOUR) };
    assert_eq!(authority.issue(&late, &key).unwrap().svid.not_after, end);
    let early = authority.issue(&request("/x", start), &key).unwrap().svid;
    assert_eq!(early.not_before, whole(start - Duration::from_secs(60)));
    assert!(matches!(authority.issue(&request("/x", end), &key), Err(Error::Expired(_))));
    assert!(matches!(authority.issue(&request("/x", start - HOUR), &key), Err(Error::NotYetValid(_))));
    let endless = SvidRequest { ttl: Some(Duration::MAX), ..request("/x", start) };
    assert_eq!(authority.issue(&endless, &key).unwrap().svid.not_after, end);
}

#[test]
fn what_is_no_workload_of_ours_is_not_signed() {
    let dir = private_dir();
    let now = SystemTime::now();
    let authority = Authority::open(embedded(&dir, KeyType::EcP256), now).unwrap();
    let key = KeyPair::generate(KeyType::EcP256).unwrap();
    assert!(matches!(authority.issue(&request("", now), &key), Err(Error::NoPath(_))));
    let foreign = SvidRequest { id: "spiffe://other.org/x".parse().unwrap(), ..request("/x", now) };
    assert!(matches!(authority.issue(&foreign, &key), Err(Error::ForeignId { .. })));
    for name in ["", "b\u{e9}", "a b", &"d".repeat(254)] {
        let named = SvidRequest { dns_names: vec![name.into()], ..request("/x", now) };
        assert!(matches!(authority.issue(&named, &key), Err(Error::DnsName(_))), "{name:?}");
    }
}

#[test]
fn the_end_of_an_authority_is_announced_only_when_nothing_follows() {
    let dir = private_dir();
    let start = SystemTime::now();
    let authority = Authority::open(embedded(&dir, KeyType::EcP256), start).unwrap();
    let near = authority.expires() - 29 * 24 * HOUR;
    assert!(!authority.warns(start));
    assert!(authority.warns(near));
    assert!(!authority.warns(authority.expires() + HOUR), "what is over is an error of its own");
    authority.refresh(near).unwrap();
    assert!(!authority.warns(near));
}

#[test]
fn a_new_root_is_published_before_it_signs() {
    let dir = private_dir();
    let start = SystemTime::now();
    let authority = Authority::open(embedded(&dir, KeyType::EcP256), start).unwrap();
    let key = KeyPair::generate(KeyType::EcP256).unwrap();
    let mut trust = authority.trust();
    let old = authority.issue(&request("/x", start), &key).unwrap().signer;

    let half = start + YEAR / 2 + HOUR;
    authority.refresh(half).unwrap();
    assert!(trust.has_changed().unwrap());
    assert_eq!(trust.borrow_and_update().bundle.x509_authorities.len(), 2);
    assert_eq!(authority.issue(&request("/x", half), &key).unwrap().signer, old);

    let late = start + YEAR * 6 / 7;
    authority.refresh(late).unwrap();
    let new = authority.issue(&request("/x", late), &key).unwrap().signer;
    assert_ne!(new, old);
    assert!(!trust.has_changed().unwrap(), "the bundle held both already");
    assert_eq!(trust.borrow().signers, [old, new]);
}

#[test]
fn no_secret_is_printed() {
    let dir = private_dir();
    let authority = Authority::open(embedded(&dir, KeyType::EcP256), SystemTime::now()).unwrap();
    let printed = format!("{authority:?}");
    let log = fs::read(dir.path().join("state.log")).unwrap();
    // The scalar follows this in PKCS#8.
    let at = log.windows(5).position(|bytes| bytes == [0x02, 0x01, 0x01, 0x04, 0x20]).unwrap() + 5;
    let scalar = &log[at..at + 32];
    assert!(!printed.contains(&format!("{scalar:?}")[1..40]) && !printed.contains(&hex::encode(scalar)));
}

#[test]
fn two_nodes_with_one_root_accept_each_other() {
    let root = Ca::root();
    let [one, two] = [root.child(|_| ()), root.child(|_| ())].map(|intermediate| {
        let files = Files::of(&[&intermediate], &root);
        (Authority::open(files.config(), SystemTime::now()).unwrap(), files)
    });
    let (svid_one, svid_two) = (issue(&one.0, "/one"), issue(&two.0, "/two"));
    assert_eq!(svid_one.chain.len(), 2, "leaf and intermediate, no root");
    openssl_verify(&svid_one, &two.0.bundle()).unwrap();
    openssl_verify(&svid_two, &one.0.bundle()).unwrap();
    openssl_verify(
        &svid_one,
        &Bundle { x509_authorities: vec![Ca::root().der], ..(*two.0.bundle()).clone() },
    )
    .unwrap_err();
}

#[test]
fn a_longer_chain_is_handed_out_without_its_root() {
    let root = Ca::root();
    let middle = root.child(|_| ());
    let last = middle.child(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let files = Files::of(&[&last, &middle, &root], &root);
    let authority = Authority::open(files.config(), SystemTime::now()).unwrap();
    let svid = issue(&authority, "/deep");
    assert_eq!(svid.chain[1..], [last.der, middle.der]);
    openssl_verify(&svid, &authority.bundle()).unwrap();
}

#[test]
fn keys_in_every_common_form_are_taken() {
    for (curve, algorithm) in
        [("prime256v1", &PKCS_ECDSA_P256_SHA256), ("secp384r1", &PKCS_ECDSA_P384_SHA384)]
    {
        let sec1 = openssl(&["ecparam", "-name", curve, "-genkey", "-noout"], b"");
        let sec1_with_parameters = openssl(&["ecparam", "-name", curve, "-genkey"], b"");
        let pkcs8 =
            openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", &format!("ec_paramgen_curve:{curve}")], b"");
        for pem in [sec1, sec1_with_parameters, pkcs8] {
            let as_pkcs8 = openssl(&["pkcs8", "-topk8", "-nocrypt"], pem.as_bytes());
            let key = rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(&as_pkcs8, algorithm).unwrap();
            let root = Ca::root();
            let intermediate = root.child_of_key(key, |_| ());
            let files = Files::of(&[&intermediate], &root);
            fs::write(&files.paths.key, pem).unwrap();
            let authority = Authority::open(files.config(), SystemTime::now()).unwrap();
            openssl_verify(&issue(&authority, "/x"), &authority.bundle()).unwrap();
        }
    }
}

#[test]
fn an_unfit_set_of_files_is_refused_with_its_cause() {
    let root = Ca::root();
    let good = root.child(|_| ());
    let now = SystemTime::now();
    let day = |days: i64| (now + HOUR * 24 * 400 - HOUR * 24 * u32::try_from(400 - days).unwrap()).into();
    type Change<'a> = Box<dyn Fn(&mut CertificateParams) + 'a>;
    let cases: Vec<(&str, Change<'_>)> = vec![
        ("E0213", Box::new(|params| params.is_ca = IsCa::ExplicitNoCa)),
        ("E0213", Box::new(|params| params.is_ca = IsCa::NoCa)),
        ("E0213", Box::new(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign])),
        ("E0213", Box::new(|params| params.key_usages = vec![])),
        (
            "E0213",
            Box::new(|params| {
                params.name_constraints = Some(rcgen::NameConstraints {
                    permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("x".into())],
                    excluded_subtrees: vec![],
                });
            }),
        ),
        (
            "E0213",
            Box::new(|params| {
                let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                unknown.set_criticality(true);
                params.custom_extensions = vec![unknown];
            }),
        ),
        (
            "E0213",
            Box::new(|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        ("E0215", Box::new(|params| params.subject_alt_names = vec![uri("spiffe://other.org")])),
        ("E0215", Box::new(|params| params.subject_alt_names = vec![uri("https://example.org")])),
        ("E0216", Box::new(|params| params.not_after = day(-1))),
        ("E0216", Box::new(|params| params.not_before = day(1))),
    ];
    for (number, (code, change)) in cases.iter().enumerate() {
        let files = Files::of(&[&root.child(change)], &root);
        let problem = Authority::open(files.config(), now).unwrap_err();
        assert_eq!(problem.code, *code, "case {number}: {problem}");
        assert!(problem.why.is_some() && problem.fix.is_some());
    }

    let stranger = Ca::root();
    assert_eq!(refused(&Files::of(&[&good], &stranger)), "E0214");
    assert_eq!(refused(&Files::of(&[&good, &root.child(|_| ())], &root)), "E0214");
    let key = rcgen::KeyPair::generate().unwrap();
    let namesake =
        Ca { der: root.params.self_signed(&key).unwrap().der().to_vec(), key, params: root.params.clone() };
    assert_eq!(refused(&Files::of(&[&good], &namesake)), "E0214", "the name is right, the signature is not");
    let forged = Ca { der: good.der.clone(), key: root.child(|_| ()).key, params: good.params.clone() };
    assert_eq!(refused(&Files::of(&[&forged], &root)), "E0212");
    let edwards = root.child_of_key(rcgen::KeyPair::generate_for(&PKCS_ED25519).unwrap(), |_| ());
    assert_eq!(refused(&Files::of(&[&edwards], &root)), "E0211");
    let narrow = root.child(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert_eq!(refused(&Files::of(&[&narrow.child(|_| ()), &narrow], &root)), "E0213");

    let files = Files::of(&[&good], &root);
    for (path, text, code) in [
        (&files.paths.certificate, "", "E0218"),
        (&files.paths.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "E0218"),
        (&files.paths.certificate, "-----BEGIN CERTIFICATE-----\n!!", "E0218"),
        (&files.paths.roots, "nothing", "E0218"),
        (&files.paths.key, "", "E0218"),
        (&files.paths.key, "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "E0211"),
        (
            &files.paths.key,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "E0211",
        ),
        (&files.paths.key, "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", "E0211"),
    ] {
        let before = fs::read(path).unwrap();
        fs::write(path, text).unwrap();
        assert_eq!(refused(&files), code, "{text:?}");
        fs::write(path, before).unwrap();
    }
    fs::remove_file(&files.paths.roots).unwrap();
    assert_eq!(refused(&files), "E0210");
}

#[tokio::test]
async fn changed_files_are_taken_once_they_agree_and_a_bad_set_keeps_the_old_one() {
    let root = Ca::root();
    let (old, new) = (root.child(|_| ()), root.child(|_| ()));
    let files = Files::of(&[&old], &root);
    let authority = Authority::open(files.config(), SystemTime::now()).unwrap();
    let mut trust = authority.trust();
    let keeping = tokio::spawn(authority.clone().maintain());
    // Until it watches.
    tokio::time::sleep(Duration::from_millis(100)).await;

    replace(&files.paths.certificate, &new.pem());
    wait_for(|| authority.trouble().is_some_and(|problem| problem.code == "E0212")).await;
    assert_eq!(issue(&authority, "/x").chain[1], old.der);
    replace(&files.paths.key, &new.key.serialize_pem());
    tokio::time::timeout(Duration::from_secs(10), trust.changed()).await.unwrap().unwrap();
    assert_eq!(trust.borrow().signers, [SignerId::of(&new.der)]);
    wait_for(|| authority.trouble().is_none()).await;
    assert_eq!(issue(&authority, "/x").chain[1], new.der);
    keeping.abort();
}

async fn wait_for(condition: impl Fn() -> bool) {
    let all = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn refused(files: &Files) -> &'static str {
    Authority::open(files.config(), SystemTime::now()).unwrap_err().code
}

fn issue(authority: &Authority, path: &str) -> crate::spiffe::X509Svid {
    let key = KeyPair::generate(authority.config().key_type).unwrap();
    authority.issue(&request(path, SystemTime::now()), &key).unwrap().svid
}

fn key_types() -> impl Iterator<Item = KeyType> {
    [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048]
        .into_iter()
        .filter(|key_type| key_type.is_made_here())
}

fn request(path: &str, now: SystemTime) -> SvidRequest {
    let id = format!("spiffe://example.org{path}").parse().unwrap();
    SvidRequest { id, dns_names: vec![], ttl: None, now }
}

fn embedded(dir: &TempDir, key_type: KeyType) -> AuthorityConfig {
    AuthorityConfig {
        trust_domain: "example.org".parse().unwrap(),
        svid_ttl: HOUR,
        key_type,
        source: AuthoritySource::Embedded { state_dir: dir.path().to_owned(), ca_ttl: YEAR },
    }
}

fn private_dir() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}

fn key_id(certificate: &x509_parser::certificate::X509Certificate<'_>, of_issuer: bool) -> Vec<u8> {
    use x509_parser::extensions::ParsedExtension as Parsed;
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            Parsed::SubjectKeyIdentifier(id) if !of_issuer => Some(id.0.to_vec()),
            Parsed::AuthorityKeyIdentifier(id) if of_issuer => {
                id.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            _ => None,
        })
        .unwrap()
}

fn seconds(timestamp: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap())
}

fn whole(at: SystemTime) -> SystemTime {
    certificate::whole_seconds(at)
}
