//! Envoy's Secret Discovery Service: what one stream asked for, and the messages that answer it.
//!
//! Nothing here touches a socket: `front` moves the bytes through the seam in `transport`.

mod names;
mod node;
mod render;
mod request;
mod stream;
mod subscription;
pub mod transport;

pub use names::{Names, NamesConfig};
pub use node::NodeFacts;
pub use render::Message;
pub use request::{Limits, ReadError, Request, RequestReader};
pub use stream::{Ended, Metrics, Sds, fetch, serve};
pub use subscription::{Denied, Subscription};
