//! A workload with two identities, whose Envoy asks whatever the reader found.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use vouch::{
    attestation::Selector,
    registration::{EntryId, RegistrationEntry},
    sds::{Names, NamesConfig, Request, Subscription},
    spiffe::{Bundle, PrivateKey, SpiffeId, TrustDomain, X509Svid},
    svid::{Holder, Identities, IssuedBundle, IssuedSvid},
};

/// Made once: keys and certificates are not looked into, so they are none.
static WORKLOAD: LazyLock<(Identities, Names)> = LazyLock::new(|| {
    let trust_domain: TrustDomain = "example.org".parse().expect("a trust domain");
    let names = Names::new(NamesConfig::default(), &trust_domain);
    let bundle = Bundle { trust_domain, x509_authorities: vec![vec![1; 200]] };
    let bundle = Arc::new(IssuedBundle { bundle, generation: 1, encodings: Default::default() });
    let svids = [svid("spiffe://example.org/web", 2), svid("spiffe://example.org/db", 3)];
    let svids = Arc::new(svids.into_iter().collect());
    (Identities { svids, pending: 0, bundle, holder: Holder::Current }, names)
});

fn svid(id: &str, generation: u64) -> Arc<IssuedSvid> {
    let id: SpiffeId = id.parse().expect("a SPIFFE ID");
    let selectors = vec![Selector::new("unix", "uid:1")];
    let entry = Arc::new(RegistrationEntry::new(EntryId::new(id.as_str()), id.clone(), selectors));
    let now = SystemTime::now();
    let (key, not_after) = (PrivateKey::from_pkcs8(vec![1; 100]), now + Duration::from_secs(60));
    let svid = X509Svid { id, chain: vec![vec![1; 300]], key, not_before: now, not_after };
    Arc::new(IssuedSvid { entry, svid, generation, encodings: Default::default() })
}

/// Asks `requests` of one subscription, up to the first that is denied.
///
/// # Panics
/// When an answer goes out for a request about an older one, or without a nonce to speak of it.
pub(super) fn ask(requests: Vec<Request>) {
    let (identities, names) = &*WORKLOAD;
    let mut subscription = Subscription::default();
    let mut last_nonce = None;
    for request in requests {
        let is_stale = last_nonce.as_ref().is_some_and(|nonce| *nonce != *request.nonce);
        let Ok(answer) = subscription.on_request(request, identities, names) else { return };
        let Some(answer) = answer else { continue };
        assert!(!is_stale, "a request about an older response got an answer");
        assert!(!answer.nonce.is_empty(), "an answer without a nonce");
        last_nonce = Some(answer.nonce.to_string());
    }
}
