//! An intermediate from files: a certificate chain, its key and the roots, read again when they change.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use ring::digest;
use x509_parser::{parse_x509_certificate, public_key::PublicKey};
use zeroize::Zeroizing;

use super::{
    Error, chain,
    pkcs8::{self, EcKey},
    signer::{Curve, Signer},
    signing::Signing,
};
use crate::{problem::Problem, spiffe::TrustDomain};

/// Largest file that is read.
const MAX_FILE: u64 = 1 << 20;
/// Most certificates in one file.
const MAX_CERTIFICATES: usize = 256;

/// Where an intermediate comes from. All PEM.
#[derive(Debug, Clone)]
pub struct IntermediateFiles {
    /// The signing certificate, then whoever signed it, and so on; the root may be left out.
    pub certificate: PathBuf,
    /// PKCS#8 or SEC1, on P-256 or P-384, not encrypted.
    pub key: PathBuf,
    /// What becomes the bundle.
    pub roots: PathBuf,
}

/// The files as they were last accepted.
#[derive(Debug)]
pub(super) struct Intermediate {
    files: IntermediateFiles,
    trust_domain: TrustDomain,
    accepted: [u8; 32],
    pub(super) signing: Arc<Signing>,
    /// DER, in the order of the file.
    pub(super) roots: Vec<Vec<u8>>,
}

impl Intermediate {
    /// # Errors
    /// E0210 a file cannot be read, E0211 a key of another kind, E0212 key and certificate do not belong together,
    /// E0213 to E0216 the certificate or its chain is not fit (see [`chain::check`]).
    pub(super) fn load(
        files: IntermediateFiles,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, Problem> {
        let text = Text::read(&files)?;
        let (signing, roots) = text.check(&files, trust_domain, now)?;
        let signing = Arc::new(signing);
        Ok(Self { accepted: text.digest(), files, trust_domain: trust_domain.clone(), signing, roots })
    }

    /// Takes the files again when their content changed. Returns whether it did.
    ///
    /// # Errors
    /// As [`Self::load`]; what was accepted before stays in force.
    pub(super) fn reload(&mut self, now: SystemTime) -> Result<bool, Problem> {
        let text = Text::read(&self.files)?;
        let digest = text.digest();
        if digest == self.accepted {
            return Ok(false);
        }
        let (signing, roots) = text.check(&self.files, &self.trust_domain, now)?;
        self.accepted = digest;
        self.signing = Arc::new(signing);
        self.roots = roots;
        Ok(true)
    }
}

/// What the three files hold, unparsed.
struct Text {
    certificate: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    roots: Zeroizing<Vec<u8>>,
}

impl Text {
    fn read(files: &IntermediateFiles) -> Result<Self, Problem> {
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            roots: read(&files.roots)?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [&self.certificate, &self.key, &self.roots] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    fn check(
        &self,
        files: &IntermediateFiles,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<(Signing, Vec<Vec<u8>>), Problem> {
        let roots = certificates(&files.roots, &self.roots)?;
        let mut intermediates = certificates(&files.certificate, &self.certificate)?;
        let signing_certificate = intermediates[0].clone();
        // A verifier has the roots already.
        intermediates.retain(|der| !roots.contains(der));
        let chain =
            if intermediates.is_empty() { vec![signing_certificate.clone()] } else { intermediates.clone() };
        if chain[0] != signing_certificate {
            return Err(malformed(&files.certificate, "a root stands before the certificate that it signed"));
        }
        let validity = chain::check(&chain, &roots, trust_domain, now)?;
        let key = signer(&files.key, &self.key, &signing_certificate)?;
        let signing = Signing::new(&signing_certificate, key, intermediates, validity)
            .map_err(|error| unfit(&files.certificate, &error))?;
        Ok((signing, roots))
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let unreadable = |why: String| {
        Problem::new("E0210", format!("issuer file {} cannot be read", path.display()))
            .why(why)
            .fix("check the path under [issuer] and that the agent's user may read it")
    };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let len = file.metadata().map_err(|error| unreadable(error.to_string()))?.len();
    if len > MAX_FILE {
        return Err(unreadable(format!("it has more than {MAX_FILE} bytes")));
    }
    // With room for all of it from the start, so that growing leaves no unwiped copy of a key.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(len).unwrap_or(0) + 1));
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    Ok(bytes)
}

/// Every certificate of a PEM file, in DER; at least one.
fn certificates(path: &Path, text: &[u8]) -> Result<Vec<Vec<u8>>, Problem> {
    let blocks = pem::parse_many(text).map_err(|error| malformed(path, &error.to_string()))?;
    let ders: Vec<_> = blocks
        .into_iter()
        .filter(|block| block.tag() == "CERTIFICATE")
        .map(pem::Pem::into_contents)
        .take(MAX_CERTIFICATES + 1)
        .collect();
    if ders.is_empty() {
        return Err(malformed(path, "it holds no CERTIFICATE block"));
    }
    if ders.len() > MAX_CERTIFICATES {
        return Err(malformed(path, &format!("it holds more than {MAX_CERTIFICATES} certificates")));
    }
    match ders.iter().position(|der| chain::facts(der).is_none()) {
        Some(at) => Err(malformed(path, &format!("its certificate number {} is damaged", at + 1))),
        None => Ok(ders),
    }
}

/// The key of a PEM file, if it is the one of `certificate`.
fn signer(path: &Path, text: &[u8], certificate: &[u8]) -> Result<Signer, Problem> {
    let (curve, public) = ec_public_key(certificate)?;
    let secret = ec_key(path, text)?;
    if secret.curve.is_some_and(|named| named != curve) {
        return Err(mismatch(path, "they are on different curves"));
    }
    let scalar = secret.padded(curve).ok_or_else(|| mismatch(path, "they are on different curves"))?;
    Signer::from_parts(curve, &scalar, &public)
        .map_err(|_| mismatch(path, "the public key in the certificate is not the one of this private key"))
}

fn ec_public_key(certificate: &[u8]) -> Result<(Curve, Vec<u8>), Problem> {
    let wrong = || unsuitable("the certificate's key is not an EC key on P-256 or P-384");
    let (_, certificate) = parse_x509_certificate(certificate).map_err(|_| wrong())?;
    let Ok(PublicKey::EC(point)) = certificate.public_key().parsed() else {
        return Err(wrong());
    };
    let point = point.data().to_vec();
    let curve = [Curve::P256, Curve::P384].into_iter().find(|curve| curve.point_len() == point.len());
    Ok((curve.ok_or_else(wrong)?, point))
}

fn ec_key(path: &Path, text: &[u8]) -> Result<EcKey, Problem> {
    let blocks = pem::parse_many(text).map_err(|error| malformed(path, &error.to_string()))?;
    for block in blocks {
        let tag = block.tag().to_owned();
        let der = Zeroizing::new(block.into_contents());
        let key = match tag.as_str() {
            "PRIVATE KEY" => pkcs8::from_pkcs8(&der),
            "EC PRIVATE KEY" => pkcs8::from_sec1(&der),
            "RSA PRIVATE KEY" => {
                return Err(unsuitable("it is an RSA key, which this build does not sign with"));
            }
            "ENCRYPTED PRIVATE KEY" => {
                return Err(unsuitable("it is encrypted, and the agent has nobody to ask"));
            }
            _ => continue,
        };
        return key.map_err(|why| unsuitable(&format!("{}: {why}", path.display())));
    }
    Err(malformed(path, "it holds no PRIVATE KEY or EC PRIVATE KEY block"))
}

fn malformed(path: &Path, why: &str) -> Problem {
    Problem::new("E0218", format!("issuer file {} is malformed", path.display()))
        .why(why.to_owned())
        .fix("write PEM: -----BEGIN CERTIFICATE----- or -----BEGIN PRIVATE KEY-----")
}

fn unsuitable(why: &str) -> Problem {
    Problem::new("E0211", "the intermediate's key is of a kind that cannot sign here")
        .why(why.to_owned())
        .fix("use an unencrypted key on P-256 or P-384: openssl ecparam -name prime256v1 -genkey -noout")
}

fn mismatch(path: &Path, why: &str) -> Problem {
    Problem::new("E0212", format!("key {} does not belong to the certificate", path.display()))
        .why(why.to_owned())
        .fix("when both are replaced, write both: the agent takes them as soon as they agree")
}

fn unfit(path: &Path, error: &Error) -> Problem {
    Problem::new("E0219", format!("certificate {} cannot be used as an issuer", path.display()))
        .why(error.to_string())
        .fix(
            "have it issued with a plain subject: common name and organization as UTF-8 or printable strings",
        )
}
