//! What our own code did not make: other people's authorities, files and verifiers.

use std::{fs, process::Command};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose, SanType};
use tempfile::TempDir;

use super::{super::*, HOUR, private_dir};

/// An authority made without our own code.
pub(super) struct Ca {
    pub(super) der: Vec<u8>,
    pub(super) key: rcgen::KeyPair,
    pub(super) params: CertificateParams,
}

impl Ca {
    pub(super) fn root() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = ca_params("root");
        Self { der: params.self_signed(&key).unwrap().der().to_vec(), key, params }
    }

    pub(super) fn child(&self, change: impl Fn(&mut CertificateParams)) -> Self {
        self.child_of_key(rcgen::KeyPair::generate().unwrap(), change)
    }

    pub(super) fn child_of_key(&self, key: rcgen::KeyPair, change: impl Fn(&mut CertificateParams)) -> Self {
        let mut params = ca_params("intermediate");
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        Self { der: params.signed_by(&key, &issuer).unwrap().der().to_vec(), key, params }
    }

    pub(super) fn pem(&self) -> String {
        pem::encode(&pem::Pem::new("CERTIFICATE", self.der.clone()))
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("{name} {}", rand_mark()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.subject_alt_names = vec![uri("spiffe://example.org")];
    params
}

/// Different names, so that verifiers find their way by name as well.
fn rand_mark() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(super) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(super) struct Files {
    _dir: TempDir,
    pub(super) paths: IntermediateFiles,
}

impl Files {
    /// The key is that of the first of `chain`.
    pub(super) fn of(chain: &[&Ca], root: &Ca) -> Self {
        let dir = private_dir();
        let path = |name| dir.path().join(name);
        let paths = IntermediateFiles {
            certificate: path("int.pem"),
            key: path("int.key"),
            roots: path("roots.pem"),
        };
        fs::write(&paths.certificate, chain.iter().map(|ca| ca.pem()).collect::<String>()).unwrap();
        fs::write(&paths.key, chain[0].key.serialize_pem()).unwrap();
        fs::write(&paths.roots, root.pem()).unwrap();
        Self { _dir: dir, paths }
    }

    pub(super) fn config(&self) -> AuthorityConfig {
        AuthorityConfig {
            trust_domain: "example.org".parse().unwrap(),
            svid_ttl: HOUR,
            key_type: KeyType::EcP256,
            source: AuthoritySource::Intermediate(self.paths.clone()),
        }
    }
}

/// What `openssl verify` says of the chain as a TLS client and as a server.
pub(super) fn openssl_verify(svid: &crate::spiffe::X509Svid, bundle: &Bundle) -> Result<(), String> {
    let dir = private_dir();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (ca, leaf, untrusted) = (path("ca.pem"), path("leaf.pem"), path("untrusted.pem"));
    fs::write(&ca, bundle.pem()).unwrap();
    fs::write(&leaf, svid.chain_pem()).unwrap();
    fs::write(&untrusted, svid.chain_pem()).unwrap();
    for purpose in ["sslclient", "sslserver"] {
        let output = Command::new("openssl")
            .args([
                "verify",
                "-x509_strict",
                "-purpose",
                purpose,
                "-CAfile",
                &ca,
                "-untrusted",
                &untrusted,
                &leaf,
            ])
            .output()
            .expect("this test needs the openssl program");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    Ok(())
}

pub(super) fn openssl(args: &[&str], input: &[u8]) -> String {
    use std::{io::Write, process::Stdio};
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this test needs the openssl program");
    // A command that reads no input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {args:?}");
    String::from_utf8(output.stdout).unwrap()
}
