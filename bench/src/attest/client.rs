//! The process that is attested. It does what its standard input says, a line at a time, and answers each line with
//! one of its own: numbers of nanoseconds, or what went wrong.

use std::{
    io::BufRead as _,
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use prost::Message as _;
use vouch_proto::workload::{X509svidRequest, X509svidResponse};

use super::api::Api;
use crate::{
    blocking::Blocking,
    sds::{self, AckShape, Answer, Requests},
};

const FETCH_X509_SVID: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
/// SPIFFE Workload Endpoint §6: without it, every call is refused.
const SECURITY_HEADER: (&str, &str) = ("workload.spiffe.io", "true");

/// What the process becomes before it listens to its orders.
#[derive(Debug, Args)]
pub(crate) struct Client {
    /// Take this user, group and these supplementary groups, without running another program
    #[arg(long, value_name = "UID:GID:GROUP,…")]
    become_user: Option<String>,
    /// Move into a user namespace of our own, where nobody has an id
    #[arg(long)]
    own_user_namespace: bool,
    /// Put this file in the place of that one, in a mount namespace of our own, and run it
    #[arg(long, value_names = ["FILE", "PLACE"], num_args = 2)]
    run_in_place_of: Option<Vec<PathBuf>>,
}

/// Serves its orders until the input ends.
pub(crate) fn run(client: &Client) -> Result<()> {
    if let Some(user) = &client.become_user {
        become_user(user)?;
    }
    if client.own_user_namespace {
        unshare(CloneFlags::CLONE_NEWUSER)?;
    }
    if let Some([file, place]) = client.run_in_place_of.as_deref() {
        return Err(run_in_place_of(file, place)?);
    }
    let mut open = Open::default();
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        match open.follow(&line?) {
            Ok(took) => {
                let numbers: Vec<_> = took.iter().map(|took| took.as_nanos().to_string()).collect();
                println!("ok {}", numbers.join(" "));
            }
            Err(error) => println!("error {error:#}"),
        }
    }
    Ok(())
}

/// Connections that outlast the order that made them.
#[derive(Debug, Default)]
struct Open {
    silent: Option<UnixStream>,
    asked: Option<Blocking>,
}

impl Open {
    /// `connections API N SOCKET`: so many connections one after the other, each until its first secret.
    /// `open API SOCKET`: one connection that was served once; `streams API N`: so many further calls over it.
    /// `hold SOCKET`: connects and says nothing.
    fn follow(&mut self, order: &str) -> Result<Vec<Duration>> {
        let mut words = order.splitn(4, ' ');
        let mut word = || words.next().context("an order of too few words");
        match word()? {
            "connections" => {
                let (api, count, socket) = (word()?.parse()?, word()?.parse()?, Path::new(word()?));
                (0..count).map(|_| connection(api, socket)).collect()
            }
            "open" => {
                let (api, socket) = (word()?.parse()?, Path::new(word()?));
                let mut connection = Blocking::connect(socket)?;
                check(api, &first_answer(&mut connection, api, &request(api))?)?;
                connection.cancel()?;
                self.asked = Some(connection);
                Ok(Vec::new())
            }
            "streams" => {
                let (api, count) = (word()?.parse()?, word()?.parse()?);
                let connection = self.asked.as_mut().context("no connection is open")?;
                (0..count).map(|_| stream(connection, api)).collect()
            }
            "hold" => {
                self.silent = Some(UnixStream::connect(word()?)?);
                Ok(Vec::new())
            }
            verb => bail!("{verb:?} is no order"),
        }
    }
}

fn connection(api: Api, socket: &Path) -> Result<Duration> {
    let request = request(api);
    let start = Instant::now();
    let mut connection = Blocking::connect(socket)?;
    let answer = first_answer(&mut connection, api, &request)?;
    let took = start.elapsed();
    check(api, &answer)?;
    Ok(took)
}

fn stream(connection: &mut Blocking, api: Api) -> Result<Duration> {
    let request = request(api);
    let start = Instant::now();
    let answer = first_answer(connection, api, &request)?;
    let took = start.elapsed();
    check(api, &answer)?;
    connection.cancel()?;
    Ok(took)
}

fn request(api: Api) -> Vec<u8> {
    match api {
        Api::Workload => sds::grpc(&X509svidRequest {}),
        Api::Sds => Requests::new(AckShape::Small).first("default").to_vec(),
    }
}

/// Leaves the call open: both APIs keep their streams for what comes later.
fn first_answer(connection: &mut Blocking, api: Api, request: &[u8]) -> Result<Vec<u8>> {
    match api {
        Api::Workload => connection.ask(FETCH_X509_SVID, &[SECURITY_HEADER], request, true)?,
        Api::Sds => connection.ask(sds::STREAM_SECRETS, &[], request, false)?,
    }
    connection.first_message()
}

/// One certificate with its key, and nothing else.
fn check(api: Api, answer: &[u8]) -> Result<()> {
    match api {
        Api::Workload => {
            let response = X509svidResponse::decode(answer)?;
            let [svid] = response.svids.as_slice() else { bail!("{} SVIDs", response.svids.len()) };
            ensure!(!svid.x509_svid.is_empty() && !svid.x509_svid_key.is_empty(), "an SVID without key");
        }
        Api::Sds => _ = sds::content(Answer::read(answer)?.resource, "default")?,
    }
    Ok(())
}

fn become_user(user: &str) -> Result<()> {
    let mut parts = user.split(':');
    let mut number = || -> Result<u32> { Ok(parts.next().context("a user of too few parts")?.parse()?) };
    let (uid, gid) = (Uid::from_raw(number()?), Gid::from_raw(number()?));
    let groups = parts.next().unwrap_or_default().split(',').filter(|group| !group.is_empty());
    let groups: Vec<_> = groups.map(|group| group.parse().map(Gid::from_raw)).collect::<Result<_, _>>()?;
    setgroups(&groups)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    Ok(())
}

/// Gives why it came back.
fn run_in_place_of(file: &Path, place: &Path) -> Result<anyhow::Error> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some(file), place, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(Command::new(place).arg("attest-client").exec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_nobody_knows_is_refused() {
        for order in ["", "dance", "connections sds", "connections sds x /s", "open tls /s", "streams sds 1"]
        {
            assert!(Open::default().follow(order).is_err(), "{order:?}");
        }
    }

    #[test]
    fn an_answer_without_a_key_is_no_identity() {
        assert!(check(Api::Workload, &X509svidResponse::default().encode_to_vec()).is_err());
        assert!(check(Api::Sds, b"").is_err());
    }
}
