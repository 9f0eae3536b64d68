//! One call: the question as it comes, and the answer as gRPC has it.
//!
//! A call may fail before there is an answer: what Envoy sends is longer than a question may be, is none, or takes too long. To
//! Envoy an error of the call is what its failure_mode_allow is about, so these are judged, too.

use std::{future::poll_fn, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use prost::Message as _;
use tokio::time::timeout;
use tonic::Status;

use super::{
    super::{asker::Asker, check::Judge},
    budget::{Budget, Budgets, Held},
};
use vouch_proto::envoy::service::auth::v3::CheckResponse;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Of the older API, of which no call is understood.
const OLDER: &str = "/envoy.service.auth.v2.Authorization/";
/// How long a call may take whose caller does not say how long it waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may wait for its client to have room for it.
const LEAVES: Duration = Duration::from_secs(10);
/// Before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Why there is no question.
#[derive(Debug)]
enum NoQuestion {
    /// To be judged as any error is.
    Unreadable(Status),
    /// Nobody waits for an answer.
    Gone,
}

impl From<h2::Error> for NoQuestion {
    fn from(_: h2::Error) -> Self {
        Self::Gone
    }
}

impl From<Status> for NoQuestion {
    fn from(status: Status) -> Self {
        Self::Unreadable(status)
    }
}

/// Answers it, unless its client goes away before.
pub(super) async fn answer(
    judge: &Judge,
    asker: &Asker,
    budgets: &Budgets,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let path = request.uri().path();
    if path.starts_with(OLDER) {
        let why = Status::unimplemented("the v2 API is not served: set transport_api_version: V3");
        return end(respond, judge.unreadable(asker, &why), &budgets.answers).await;
    }
    if path != CHECK {
        return refuse(respond, &Status::unimplemented("Authorization/Check is all that is answered here"));
    }
    let patience = patience(request.headers());
    let asked = async {
        let mut held = budgets.questions.nothing();
        let message = message(request.into_body(), judge.settings.request, &mut held).await?;
        Ok(judge.check(asker, &message).await)
    };
    let late = |_| Err(Status::deadline_exceeded("the answer took too long").into());
    let answer = match timeout(patience, asked).await.unwrap_or_else(late) {
        Ok(answer) => answer,
        Err(NoQuestion::Unreadable(why)) => judge.unreadable(asker, &why),
        Err(NoQuestion::Gone) => return,
    };
    end(respond, answer, &budgets.answers).await;
}

/// A little less than the caller waits, so that it hears an answer of ours.
fn patience(headers: &HeaderMap) -> Duration {
    let told = headers.get("grpc-timeout").and_then(|told| told.to_str().ok());
    let told = told.and_then(|told| {
        let (digits, unit) = told.split_at_checked(told.len().checked_sub(1)?)?;
        let count = u32::try_from(digits.parse::<u64>().ok()?).unwrap_or(u32::MAX);
        let unit = match unit {
            "H" => Duration::from_secs(3600),
            "M" => Duration::from_secs(60),
            "S" => Duration::from_secs(1),
            "m" => Duration::from_millis(1),
            "u" => Duration::from_micros(1),
            "n" => Duration::from_nanos(1),
            _ => return None,
        };
        Some(unit.saturating_mul(count) / 10 * 9)
    });
    told.unwrap_or(PATIENCE).min(PATIENCE)
}

/// The one message of a body.
async fn message(body: RecvStream, most: usize, held: &mut Held) -> Result<Bytes, NoQuestion> {
    let bytes = whole(body, |part, all| {
        held.more(part)?;
        check(all, most)
    });
    let mut bytes = bytes.await?;
    let is_whole = length(&bytes).is_some_and(|length| PREFIX + length == bytes.len());
    if !is_whole {
        return Err(Status::internal("there is not exactly one whole message").into());
    }
    Ok(bytes.split_off(PREFIX))
}

/// All bytes of a body, of which `admit` sees the length of each part and all that has come with it.
async fn whole(
    mut body: RecvStream,
    mut admit: impl FnMut(usize, &[u8]) -> Result<(), Status>,
) -> Result<Bytes, NoQuestion> {
    let first = part(&mut body).await?.unwrap_or_default();
    admit(first.len(), &first)?;
    // Nearly always there is one part and no other.
    let Some(mut next) = part(&mut body).await? else { return Ok(first) };
    let mut all = BytesMut::from(first);
    loop {
        all.extend_from_slice(&next);
        admit(next.len(), &all)?;
        let Some(part) = part(&mut body).await? else { return Ok(all.freeze()) };
        next = part;
    }
}

/// Room is given back as bytes are taken.
async fn part(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let Some(part) = poll_fn(|cx| body.poll_data(cx)).await else { return Ok(None) };
    let part = part?;
    body.flow_control().release_capacity(part.len())?;
    Ok(Some(part))
}

/// Of what has come of a question.
fn check(bytes: &[u8], most: usize) -> Result<(), Status> {
    if bytes.first().is_some_and(|compressed| *compressed != 0) {
        return Err(Status::unimplemented("the question is compressed, which is not supported"));
    }
    let expected = length(bytes).unwrap_or_default().max(bytes.len().saturating_sub(PREFIX));
    if expected > most {
        let text = format!("the question has {expected} bytes, and {most} are allowed ([authz] request)");
        return Err(Status::out_of_range(text));
    }
    Ok(())
}

/// Of the message, by its prefix.
fn length(bytes: &[u8]) -> Option<usize> {
    let [_, length @ ..] = bytes.first_chunk::<PREFIX>()?;
    usize::try_from(u32::from_be_bytes(*length)).ok()
}

async fn end(respond: SendResponse<Bytes>, answer: Result<CheckResponse, Status>, waiting: &Budget) {
    match answer {
        Ok(answer) => say(respond, encoded(&answer), waiting).await,
        Err(status) => refuse(respond, &status),
    }
}

/// Fails only when the client is gone, and then there is nobody to tell. One that has no room for its answer within
/// [`LEAVES`], or as one of too many, goes without.
async fn say(mut respond: SendResponse<Bytes>, mut answer: Bytes, waiting: &Budget) {
    let mut held = waiting.nothing();
    let Ok(mut stream) = respond.send_response(head(HeaderMap::new()), false) else { return };
    stream.reserve_capacity(answer.len());
    if stream.capacity() < answer.len() && held.more(answer.len()).is_err() {
        return stream.send_reset(Reason::ENHANCE_YOUR_CALM);
    }
    match timeout(LEAVES, send(&mut stream, &mut answer)).await {
        Ok(Some(())) => {
            let ok = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
            let _ = stream.send_trailers(HeaderMap::from_iter([ok]));
        }
        Ok(None) => {}
        Err(_elapsed) => stream.send_reset(Reason::CANCEL),
    }
}

/// Sends all of it, as the client has room; `None` when the client is gone.
async fn send(stream: &mut SendStream<Bytes>, bytes: &mut Bytes) -> Option<()> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        // A stream is told of room once: what it was told before still holds.
        while stream.capacity() == 0 {
            poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
        }
        let part = bytes.split_to(stream.capacity().min(bytes.len()));
        stream.send_data(part, false).ok()?;
    }
    Some(())
}

/// What an answer of a policy may hold is bounded far below the four gigabytes that a prefix can tell.
fn encoded(answer: &CheckResponse) -> Bytes {
    let length = answer.encoded_len();
    let mut message = BytesMut::with_capacity(PREFIX + length);
    message.put_u8(0);
    message.put_u32(u32::try_from(length).expect("answers are bounded"));
    answer.encode(&mut message).expect("there is room for it");
    message.freeze()
}

/// A call that fails has no answer, and its status in its head.
fn refuse(mut respond: SendResponse<Bytes>, status: &Status) {
    let mut fields = HeaderMap::new();
    // A text that no header can carry is left out; the code stays.
    if status.add_header(&mut fields).is_err() {
        fields.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    // As above.
    let _ = respond.send_response(head(fields), true);
}

fn head(mut fields: HeaderMap) -> Response<()> {
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut response = Response::new(());
    *response.headers_mut() = fields;
    response
}

#[cfg(test)]
mod tests {
    use tokio::{io::duplex, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_for_which_its_client_has_no_room_waits_no_longer_than_it_may() {
        let (ours, theirs) = duplex(1 << 16);
        let mut client = h2::client::Builder::new();
        client.initial_window_size(0);
        let ((client, driver), mut server) =
            tokio::try_join!(client.handshake::<_, Bytes>(theirs), h2::server::handshake(ours)).unwrap();
        tokio::spawn(driver);
        let mut client = client.ready().await.unwrap();
        let (answer, _) = client.send_request(Request::new(()), true).unwrap();
        let (_, respond) = server.accept().await.unwrap().unwrap();
        tokio::spawn(async move { while server.accept().await.is_some() {} });
        let began = Instant::now();
        say(respond, Bytes::from_static(b"something"), &Budget::default()).await;
        assert_eq!(began.elapsed().as_secs(), LEAVES.as_secs());
        let mut body = answer.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
    }

    #[test]
    fn a_caller_is_answered_before_it_gives_up() {
        let of = |told: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", told.parse().unwrap());
            patience(&headers)
        };
        assert_eq!(of("500m"), Duration::from_millis(450));
        assert_eq!(of("200000u"), Duration::from_millis(180));
        assert_eq!(of("1n"), Duration::ZERO);
        for odd in ["99999999999999999999H", "1H", "m", "5x", "-1S"] {
            assert_eq!(of(odd), PATIENCE, "{odd}");
        }
        assert_eq!(patience(&HeaderMap::new()), PATIENCE);
    }

    #[test]
    fn a_question_is_measured_as_soon_as_it_says_its_length() {
        let code = |bytes: &[u8]| check(bytes, 10).map_err(|status| status.code());
        assert_eq!(code(b""), Ok(()));
        assert_eq!(code(b"\0\0\0"), Ok(()));
        assert_eq!(code(b"\0\0\0\0\x0a"), Ok(()));
        assert_eq!(code(b"\0\0\0\0\x0b"), Err(tonic::Code::OutOfRange));
        assert_eq!(code(b"\0\0\0\0\x01more than one message"), Err(tonic::Code::OutOfRange));
        assert_eq!(code(b"\x01"), Err(tonic::Code::Unimplemented));
    }

    #[test]
    fn an_answer_has_its_length_before_it() {
        let answer = CheckResponse {
            status: Some(vouch_proto::google::rpc::Status { code: 7, message: String::new() }),
            ..CheckResponse::default()
        };
        assert_eq!(&*encoded(&answer), b"\0\0\0\0\x04\x0a\x02\x08\x07");
        assert_eq!(length(&encoded(&answer)), Some(4));
    }
}
