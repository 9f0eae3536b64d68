//! Envoy's Secret Discovery Service: what one stream asked for, and the messages that answer it.
//!
//! Nothing here touches a socket: `front` moves the bytes through the seam in `transport`.

mod call;
mod names;
mod node;
mod render;
mod request;
mod subscription;
pub mod transport;

pub use call::{Call, End, Ended, Metrics, Sds};
pub use names::{Names, NamesConfig};
pub use node::NodeFacts;
pub use render::Message;
pub use request::{Limits, ReadError, Request, RequestReader};
pub use subscription::{Denied, Subscription};
