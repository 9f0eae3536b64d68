//! Who makes SVIDs for the owner: the authority, with a key made on the spot or one made ahead.

use std::{fmt, sync::Arc, time::Instant};

use tokio::sync::watch;

use crate::authority::{self, Authority, KeyPair, KeyPool, Signed, SvidRequest, Trust};

/// Signs SVIDs. The other side of the seam is a test's.
pub trait Issuer: fmt::Debug + Send + Sync + 'static {
    /// Signs an SVID for a key that nobody else has. Takes some ten microseconds and waits for nothing.
    fn issue(&self, request: &SvidRequest) -> Result<Signed, authority::Error>;
    fn trust(&self) -> watch::Receiver<Arc<Trust>>;

    /// How many SVIDs can be made now: where keys take long to make, as many as there are keys.
    fn ready(&self) -> watch::Receiver<usize> {
        watch::channel(usize::MAX).1
    }

    /// So many SVIDs are in use, and may all be replaced at once.
    fn expect(&self, _svids: usize) {}
}

impl Issuer for Authority {
    fn issue(&self, request: &SvidRequest) -> Result<Signed, authority::Error> {
        let key = KeyPair::generate(self.config().key_type)?;
        Authority::issue(self, request, &key)
    }

    fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        Authority::trust(self)
    }
}

/// The authority, with keys from a pool.
#[derive(Debug)]
pub struct WithKeysAhead {
    pub authority: Authority,
    pub keys: Arc<KeyPool>,
}

impl Issuer for WithKeysAhead {
    fn issue(&self, request: &SvidRequest) -> Result<Signed, authority::Error> {
        // What is refused anyway costs no key: an RSA key takes its time to make.
        self.authority.check(request)?;
        let key = self.keys.take(Instant::now())?;
        self.authority.issue(request, &key)
    }

    fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.authority.trust()
    }

    fn ready(&self) -> watch::Receiver<usize> {
        self.keys.ready()
    }

    fn expect(&self, svids: usize) {
        self.keys.expect(svids);
    }
}
