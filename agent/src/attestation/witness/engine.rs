//! A container engine that speaks Docker's API on a Unix socket.

use std::{collections::BTreeMap, path::PathBuf, pin::pin};

use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use super::{
    Selector, Silence,
    socket::{self, Reach},
};

/// Largest answer that is read, in bytes.
pub(super) const MAX_ANSWER: usize = 1 << 20;
/// Largest head of an answer.
const MAX_HEAD: usize = 16 << 10;
/// Most selectors of one container.
const MAX_SELECTORS: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Engine {
    pub(super) socket: PathBuf,
    /// Whose socket it must be.
    pub(super) owner: u32,
}

/// What an engine knows of a container, as far as selectors need it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    id: String,
    /// Digest of the configuration of the image that it was made from.
    #[serde(default)]
    image: String,
    config: ContainerConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct ContainerConfig {
    /// The name by which the image was asked for.
    image: String,
    labels: Option<BTreeMap<String, String>>,
    env: Option<Vec<String>>,
}

impl Engine {
    /// Asks about the container `id`, which is hexadecimal. Dropping the future closes the connection.
    ///
    /// # Errors
    /// When the engine is not there, not its owner's, or does not answer as engines do.
    pub(super) async fn inspect(&self, id: &str) -> Result<Inspected, Silence> {
        let silent = |why: String| Silence::new(format!("{}: {why}", self.socket.display()));
        let stream = socket::connect(&self.socket, self.owner, Reach::Closed).await?;
        let broken = |error: hyper::Error| silent(format!("no answer that can be read: {}", words(&error)));
        let mut client = http1::Builder::new();
        client.max_buf_size(MAX_HEAD);
        let (mut requests, connection) = client.handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::get(format!("/containers/{id}/json"))
            .header(HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .expect("the path is hexadecimal between slashes");
        let answer = async {
            let response = requests.send_request(request).await.map_err(broken)?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Err(silent(format!("it knows no container {id}"))),
                other => return Err(silent(format!("it answers {}", other.as_u16()))),
            }
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            body.map(|body| body.to_bytes()).map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => broken(*error),
                Err(_) => silent(format!("its answer is longer than {MAX_ANSWER} bytes")),
            })
        };
        let (mut answer, mut connection) = (pin!(answer), pin!(connection));
        // The connection moves only as long as somebody waits for the answer.
        let body = tokio::select! {
            answer = &mut answer => answer,
            _ = &mut connection => answer.await,
        }?;
        let inspected: Inspected = serde_json::from_slice(&body)
            .map_err(|error| silent(format!("its answer is no description of a container: {error}")))?;
        if inspected.id != id {
            return Err(silent(format!("asked about container {id}, it speaks of another one")));
        }
        Ok(inspected)
    }
}

impl Inspected {
    /// As SPIRE's docker attestor writes them, but none for a label whose name holds a colon: where name and value meet
    /// could not be told.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn selectors(&self, kind: &'static str, env: bool) -> Result<Vec<Selector>, Silence> {
        let labels = self.config.labels.iter().flatten().filter(|(name, _)| !name.contains(':'));
        let labels = labels.map(|(name, value)| format!("label:{name}:{value}"));
        let env = self.config.env.iter().flatten().filter(|_| env).map(|setting| format!("env:{setting}"));
        let image =
            Some(&self.config.image).filter(|name| !name.is_empty()).map(|name| format!("image_id:{name}"));
        let digest = Some(&self.image)
            .filter(|digest| !digest.is_empty())
            .map(|id| format!("image_config_digest:{id}"));
        let values: Vec<String> =
            labels.chain(env).chain(image).chain(digest).take(MAX_SELECTORS + 1).collect();
        if values.len() > MAX_SELECTORS {
            return Err(Silence::new(format!("container {} has more than {MAX_SELECTORS} facts", self.id)));
        }
        Ok(values.into_iter().map(|value| Selector::new(kind, value)).collect())
    }
}

/// The error and what is behind it, in one line.
fn words(error: &hyper::Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default()).replace('\n', " ")
}

#[cfg(test)]
mod tests;
