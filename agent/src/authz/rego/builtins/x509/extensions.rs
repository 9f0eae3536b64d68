//! A certificate's extensions.
//!
//! Source: RFC 5280 §4.2.

use std::net::IpAddr;

use regorus::Value;
use x509_parser::{
    asn1_rs::{FromDer, Oid},
    certificate::X509Certificate,
    extensions::{DistributionPointName, GeneralName, NameConstraints, ParsedExtension, X509Extension},
};

use super::{
    super::args::{Answer, Failure},
    Members, base64,
    name::list,
    numbers, object, url,
};

/// Purposes of keys; each stands for its index.
const PURPOSES: [&str; 14] = [
    "2.5.29.37.0",
    "1.3.6.1.5.5.7.3.1",
    "1.3.6.1.5.5.7.3.2",
    "1.3.6.1.5.5.7.3.3",
    "1.3.6.1.5.5.7.3.4",
    "1.3.6.1.5.5.7.3.5",
    "1.3.6.1.5.5.7.3.6",
    "1.3.6.1.5.5.7.3.7",
    "1.3.6.1.5.5.7.3.8",
    "1.3.6.1.5.5.7.3.9",
    "1.3.6.1.4.1.311.10.3.3",
    "2.16.840.1.113730.4.1",
    "1.3.6.1.4.1.311.2.1.22",
    "1.3.6.1.4.1.311.61.1.1",
];

/// Members whose value is a list, and null where a certificate has none.
const LISTS: [&str; 26] = [
    "CRLDistributionPoints",
    "DNSNames",
    "EmailAddresses",
    "ExcludedDNSDomains",
    "ExcludedEmailAddresses",
    "ExcludedIPRanges",
    "ExcludedURIDomains",
    "ExtKeyUsage",
    "Extensions",
    "ExtraExtensions",
    "IPAddresses",
    "IssuingCertificateURL",
    "OCSPServer",
    "PermittedDNSDomains",
    "PermittedEmailAddresses",
    "PermittedIPRanges",
    "PermittedURIDomains",
    "Policies",
    "PolicyIdentifiers",
    "PolicyMappings",
    "URIStrings",
    "URIs",
    "UnhandledCriticalExtensions",
    "UnknownExtKeyUsage",
    "AuthorityKeyId",
    "SubjectKeyId",
];

/// What the extensions of one certificate say.
#[derive(Debug)]
struct Said {
    lists: Vec<(&'static str, Vec<Value>)>,
    single: Members,
}

pub(super) fn described(certificate: &X509Certificate<'_>) -> Result<Members, Failure> {
    let mut said = Said { lists: Vec::new(), single: defaults() };
    for extension in certificate.extensions() {
        said.extension(extension)?;
    }
    let mut members = LISTS.map(|name| (name, Value::Null)).to_vec();
    members.extend(said.lists.into_iter().map(|(name, values)| (name, list(values))));
    members.extend(said.single);
    Ok(members)
}

/// Of a certificate without extensions.
fn defaults() -> Members {
    let (zero, no) = (Value::from(0_u64), Value::Bool(false));
    let numbers =
        ["InhibitAnyPolicy", "InhibitPolicyMapping", "KeyUsage", "MaxPathLen", "RequireExplicitPolicy"];
    let flags = [
        "BasicConstraintsValid",
        "InhibitAnyPolicyZero",
        "InhibitPolicyMappingZero",
        "IsCA",
        "MaxPathLenZero",
        "PermittedDNSDomainsCritical",
        "RequireExplicitPolicyZero",
    ];
    let numbers = numbers.map(|name| (name, zero.clone()));
    numbers.into_iter().chain(flags.map(|name| (name, no.clone()))).collect()
}

impl Said {
    fn push(&mut self, member: &'static str, value: Value) {
        match self.lists.iter_mut().find(|(name, _)| *name == member) {
            Some((_, values)) => values.push(value),
            None => self.lists.push((member, vec![value])),
        }
    }

    /// A number, and whether it is a zero that was said.
    fn bound(&mut self, members: [&'static str; 2], bound: Option<u32>) {
        if let Some(bound) = bound {
            self.single.push((members[0], Value::from(bound)));
            self.single.push((members[1], Value::Bool(bound == 0)));
        }
    }

    fn extension(&mut self, extension: &X509Extension<'_>) -> Result<(), Failure> {
        let described = vec![
            ("Id", numbers(&extension.oid)?),
            ("Critical", Value::Bool(extension.critical)),
            ("Value", base64(extension.value)),
        ];
        self.push("Extensions", object(described));
        match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => {
                self.single.push(("KeyUsage", Value::from(u64::from(usage.flags))));
            }
            ParsedExtension::BasicConstraints(basic) => {
                let length = basic.path_len_constraint.map_or_else(|| Value::from(-1_i64), Value::from);
                self.single.extend([
                    ("BasicConstraintsValid", Value::Bool(true)),
                    ("IsCA", Value::Bool(basic.ca)),
                    ("MaxPathLen", length),
                    ("MaxPathLenZero", Value::Bool(basic.path_len_constraint == Some(0))),
                ]);
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                names.general_names.iter().try_for_each(|name| self.alternative(name))?;
            }
            ParsedExtension::ExtendedKeyUsage(_) => self.purposes(extension.value)?,
            ParsedExtension::SubjectKeyIdentifier(id) => self.single.push(("SubjectKeyId", base64(id.0))),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                let id = id.key_identifier.as_ref().map_or(Value::Null, |id| base64(id.0));
                self.single.push(("AuthorityKeyId", id));
            }
            ParsedExtension::AuthorityInfoAccess(access) => {
                for description in &access.accessdescs {
                    self.access(&description.access_method, &description.access_location);
                }
            }
            ParsedExtension::CRLDistributionPoints(points) => {
                let names = points.points.iter().filter_map(|point| match &point.distribution_point {
                    Some(DistributionPointName::FullName(names)) => Some(names),
                    _ => None,
                });
                for name in names.flatten() {
                    if let GeneralName::URI(uri) = name {
                        self.push("CRLDistributionPoints", (*uri).into());
                    }
                }
            }
            ParsedExtension::CertificatePolicies(policies) => {
                for policy in policies {
                    self.push("Policies", policy.policy_id.to_id_string().into());
                    self.push("PolicyIdentifiers", numbers(&policy.policy_id)?);
                }
            }
            ParsedExtension::NameConstraints(constraints) => {
                self.constraints(constraints, extension.critical)?;
            }
            ParsedExtension::PolicyConstraints(constraints) => {
                let (require, inhibit) =
                    (constraints.require_explicit_policy, constraints.inhibit_policy_mapping);
                self.bound(["RequireExplicitPolicy", "RequireExplicitPolicyZero"], require);
                self.bound(["InhibitPolicyMapping", "InhibitPolicyMappingZero"], inhibit);
            }
            ParsedExtension::InhibitAnyPolicy(inhibit) => {
                self.bound(["InhibitAnyPolicy", "InhibitAnyPolicyZero"], Some(inhibit.skip_certs));
            }
            _ if extension.critical => self.push("UnhandledCriticalExtensions", numbers(&extension.oid)?),
            _ => {}
        }
        Ok(())
    }

    fn alternative(&mut self, name: &GeneralName<'_>) -> Result<(), Failure> {
        match name {
            GeneralName::DNSName(name) => self.push("DNSNames", (*name).into()),
            GeneralName::RFC822Name(name) => self.push("EmailAddresses", (*name).into()),
            GeneralName::IPAddress(bytes) => self.push("IPAddresses", address(bytes)?.to_string().into()),
            GeneralName::URI(uri) => {
                self.push("URIStrings", (*uri).into());
                self.push("URIs", url::described(uri)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn purposes(&mut self, der: &[u8]) -> Result<(), Failure> {
        let (_, purposes) = Vec::<Oid<'_>>::from_der(der).map_err(|_| Failure::Error)?;
        for purpose in purposes {
            match PURPOSES.iter().position(|known| *known == purpose.to_id_string()) {
                Some(number) => self.push("ExtKeyUsage", Value::from(number)),
                None => self.push("UnknownExtKeyUsage", numbers(&purpose)?),
            }
        }
        Ok(())
    }

    fn access(&mut self, method: &Oid<'_>, location: &GeneralName<'_>) {
        let GeneralName::URI(uri) = location else { return };
        match method.to_id_string().as_str() {
            "1.3.6.1.5.5.7.48.1" => self.push("OCSPServer", (*uri).into()),
            "1.3.6.1.5.5.7.48.2" => self.push("IssuingCertificateURL", (*uri).into()),
            _ => {}
        }
    }

    fn constraints(&mut self, constraints: &NameConstraints<'_>, critical: bool) -> Result<(), Failure> {
        const PERMITTED: [&str; 4] =
            ["PermittedDNSDomains", "PermittedEmailAddresses", "PermittedIPRanges", "PermittedURIDomains"];
        const EXCLUDED: [&str; 4] =
            ["ExcludedDNSDomains", "ExcludedEmailAddresses", "ExcludedIPRanges", "ExcludedURIDomains"];
        self.single.push(("PermittedDNSDomainsCritical", Value::Bool(critical)));
        for (subtrees, members) in
            [(&constraints.permitted_subtrees, PERMITTED), (&constraints.excluded_subtrees, EXCLUDED)]
        {
            for subtree in subtrees.iter().flatten() {
                match &subtree.base {
                    GeneralName::DNSName(name) => self.push(members[0], (*name).into()),
                    GeneralName::RFC822Name(name) => self.push(members[1], (*name).into()),
                    GeneralName::IPAddress(bytes) => self.push(members[2], range(bytes)?),
                    GeneralName::URI(domain) => self.push(members[3], (*domain).into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn address(bytes: &[u8]) -> Result<IpAddr, Failure> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address =
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).map_err(|_| Failure::Error)?;
    Ok(address.to_canonical())
}

/// An address and a mask of the same length.
fn range(bytes: &[u8]) -> Answer {
    let (first, mask) = bytes.split_at(bytes.len() / 2);
    Ok(object(vec![("IP", address(first)?.to_string().into()), ("Mask", base64(mask))]))
}
