//! The documents of the SPIFFE standards, parsed once and trusted afterwards.

mod bundle;
mod id;
mod svid;

pub use bundle::Bundle;
pub(crate) use id::check_segment;
pub use id::{IdError, MAX_ID_LEN, SpiffeId, TrustDomain};
pub(crate) use svid::pem_of;
pub use svid::{PrivateKey, X509Svid};
