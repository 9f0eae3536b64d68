//! Is this certificate fit to sign SVIDs, and does its chain end in one of the roots?

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    parse_x509_certificate,
};

use super::certificate::{Validity, date};
use crate::{
    problem::Problem,
    spiffe::{SpiffeId, TrustDomain},
};

/// What a certificate says of itself.
#[derive(Debug)]
pub(super) struct Facts {
    /// The public key's bits: for an EC key, the point.
    pub(super) public_key: Vec<u8>,
    pub(super) validity: Validity,
}

/// `None` when `der` is not exactly one certificate.
pub(super) fn facts(der: &[u8]) -> Option<Facts> {
    let certificate = parse(der)?;
    Some(Facts {
        public_key: certificate.public_key().subject_public_key.data.to_vec(),
        validity: validity(&certificate)?,
    })
}

/// Checks `chain` (DER, signing certificate first, roots left out unless it is one itself) against `roots`, and
/// returns when all of the path is valid.
///
/// # Errors
/// E0213 not fit to sign, E0214 no path to a root, E0215 another trust domain, E0216 not valid at `now`.
///
/// Source: X509-SVID §4, §5; RFC 5280 §6.
pub(super) fn check(
    chain: &[Vec<u8>],
    roots: &[Vec<u8>],
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<Validity, Problem> {
    let parsed: Vec<_> =
        chain.iter().map(|der| parse(der).ok_or_else(unreadable)).collect::<Result<_, _>>()?;
    let anchors: Vec<_> =
        roots.iter().map(|der| parse(der).ok_or_else(unreadable)).collect::<Result<_, _>>()?;
    for (below, certificate) in parsed.iter().enumerate() {
        require_signer(certificate, below, below == 0)?;
        require_trust_domain(certificate, trust_domain)?;
    }
    for pair in parsed.windows(2) {
        if !signed_by(&pair[0], &pair[1]) {
            return Err(no_path(format!("{} is not signed by {}", pair[0].subject(), pair[1].subject()))
                .fix(
                    "write the chain in order: signing certificate, then whoever signed it, up to the root",
                ));
        }
    }
    let last = parsed.last().ok_or_else(unreadable)?;
    let anchor = anchors
        .iter()
        .find(|root| root.as_raw() == last.as_raw() || signed_by(last, root))
        .ok_or_else(|| no_path(format!("no root has signed {}", last.subject())).fix(
            "put the certificate that signed it into the roots file, or the missing intermediates into the chain",
        ))?;
    if anchor.as_raw() != last.as_raw() {
        require_signer(anchor, parsed.len(), false)?;
        require_trust_domain(anchor, trust_domain)?;
    }
    valid_path(parsed.iter().chain([anchor]), now)
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(certificate)
}

fn signed_by(certificate: &X509Certificate<'_>, signer: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == signer.subject().as_raw()
        && certificate.verify_signature(Some(signer.public_key())).is_ok()
}

/// `below` CA certificates stand between it and a leaf; `strict` demands what the standard asks of an SVID's signer.
fn require_signer(certificate: &X509Certificate<'_>, below: usize, strict: bool) -> Result<(), Problem> {
    let unfit = |why: &str| {
        Err(Problem::new("E0213", format!("certificate {} may not sign SVIDs", certificate.subject()))
            .why(why.to_owned())
            .fix("use a CA certificate: cA true, keyCertSign, room in pathLen, no name constraints"))
    };
    let Ok(Some(constraints)) = certificate.basic_constraints() else {
        return unfit("it has no readable basic constraints, so it is not a CA certificate");
    };
    if !constraints.value.ca {
        return unfit("its basic constraints say cA false");
    }
    if constraints.value.path_len_constraint.is_some_and(|len| (len as usize) < below) {
        return unfit("its path length allows fewer CA certificates below it");
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if usage.value.key_cert_sign() => {}
        Ok(None) if !strict => {}
        _ => return unfit("its key usage does not hold keyCertSign"),
    }
    match certificate.extended_key_usage() {
        Ok(None) => {}
        Ok(Some(usage)) if usage.value.any || (usage.value.server_auth && usage.value.client_auth) => {}
        _ => return unfit("its extended key usage does not cover both server and client"),
    }
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::NameConstraints(_) => {
                return unfit("it has name constraints, which are not evaluated");
            }
            ParsedExtension::UnsupportedExtension { .. }
            | ParsedExtension::ParseError { .. }
            | ParsedExtension::Unparsed
                if extension.critical =>
            {
                return unfit(&format!(
                    "it has the critical extension {}, which is not known",
                    extension.oid
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn require_trust_domain(
    certificate: &X509Certificate<'_>,
    trust_domain: &TrustDomain,
) -> Result<(), Problem> {
    let names = certificate.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        let GeneralName::URI(uri) = name else { continue };
        if !uri.parse::<SpiffeId>().is_ok_and(|id| id.is_in(trust_domain)) {
            return Err(Problem::new(
                "E0215",
                format!("certificate {} is of another trust domain", certificate.subject()),
            )
            .why(format!("its URI is {uri}, and the agent's trust domain is {trust_domain}"))
            .fix(format!(
                "have it issued for spiffe://{trust_domain}, or without a URI, or change trust_domain"
            )));
        }
    }
    Ok(())
}

fn valid_path<'a>(
    path: impl Iterator<Item = &'a X509Certificate<'a>>,
    now: SystemTime,
) -> Result<Validity, Problem> {
    let mut all: Option<Validity> = None;
    for certificate in path {
        let own = validity(certificate).ok_or_else(unreadable)?;
        if now < own.not_before || now >= own.not_after {
            let [from, to] = [own.not_before, own.not_after].map(date);
            return Err(Problem::new(
                "E0216",
                format!("certificate {} is not valid now", certificate.subject()),
            )
            .why(format!("it is valid from {from} to {to}"))
            .fix("have it renewed, or check this machine's clock"));
        }
        let so_far = all.unwrap_or(own);
        all = Some(Validity {
            not_before: so_far.not_before.max(own.not_before),
            not_after: so_far.not_after.min(own.not_after),
        });
    }
    all.ok_or_else(unreadable)
}

/// Dates before the epoch count as the epoch; `None` when a date is beyond what time can hold.
fn validity(certificate: &X509Certificate<'_>) -> Option<Validity> {
    let at = |seconds: i64| UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    Some(Validity {
        not_before: at(certificate.validity().not_before.timestamp())?,
        not_after: at(certificate.validity().not_after.timestamp())?,
    })
}

fn unreadable() -> Problem {
    Problem::new("E0218", "an issuer certificate is malformed")
        .why("its bytes are no X.509 certificate")
        .fix("check the file with: openssl x509 -noout -text -in FILE")
}

fn no_path(why: String) -> Problem {
    Problem::new("E0214", "the signing certificate does not lead to a root").why(why)
}
