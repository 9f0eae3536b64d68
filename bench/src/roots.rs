//! An intermediate that signs SVIDs, from files, beneath a root of ours; and further roots beside that, which change the
//! trust bundle.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

/// The file of roots, and what changes in it.
#[derive(Debug)]
pub(crate) struct Roots {
    file: PathBuf,
    /// Signed the intermediate, so it stays.
    root: String,
    trust_domain: String,
    /// Comes to stand beside it.
    next: String,
}

impl Roots {
    /// Writes certificate, key and roots below `directory`.
    pub(crate) fn write(directory: &Path, trust_domain: &str) -> Result<Self> {
        let root = authority("bench root", trust_domain)?;
        let key = KeyPair::generate()?;
        let certificate = parameters("bench intermediate", trust_domain)?.signed_by(&key, &root)?;
        fs::write(directory.join("intermediate.pem"), certificate.pem())?;
        fs::write(directory.join("intermediate.key"), key.serialize_pem())?;
        let mut roots = Self {
            file: directory.join("roots.pem"),
            root: root.pem(),
            trust_domain: trust_domain.to_owned(),
            next: another(trust_domain)?,
        };
        roots.change()?;
        Ok(roots)
    }

    /// The lines of a configuration that name these files.
    pub(crate) fn configuration(directory: &Path) -> String {
        let directory = directory.display();
        format!(
            "issuer.kind = \"intermediate\"\n\
             issuer.certificate = \"{directory}/intermediate.pem\"\n\
             issuer.key = \"{directory}/intermediate.key\"\n\
             issuer.roots = \"{directory}/roots.pem\"\n"
        )
    }

    /// Puts another root beside the one that is in use.
    pub(crate) fn change(&mut self) -> Result<()> {
        let draft = self.file.with_extension("new");
        fs::write(&draft, [&*self.root, &*self.next].concat())?;
        fs::rename(draft, &self.file)?;
        self.next = another(&self.trust_domain)?;
        Ok(())
    }
}

fn another(trust_domain: &str) -> Result<String> {
    Ok(authority("bench other root", trust_domain)?.pem())
}

fn authority(name: &str, trust_domain: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    CertifiedIssuer::self_signed(parameters(name, trust_domain)?, KeyPair::generate()?)
}

fn parameters(name: &str, trust_domain: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(parameters)
}
