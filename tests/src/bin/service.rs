//! One service of a demo: `service LISTEN UID KIND NAME [ROUTE...]`.
//!
//! It takes the address LISTEN as whoever started it, so that the port may be a privileged one, and then becomes UID.
//! KIND is `api`, `hello`, `echo`, `tls-echo` or `web`. A web hands requests on by ROUTE, the first that fits:
//! `PREFIX=ADDRESS`, with `=BACKEND` behind it where a refusal shall say whose it was.

use std::{
    env,
    net::{SocketAddr, TcpListener},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::{prctl, signal::Signal},
    unistd::{Gid, Uid, setgid, setgroups, setuid},
};
use vouch_tests::service::{Route, Service};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [listen, uid, kind, name, routes @ ..] = arguments.as_slice() else {
        bail!("usage: service LISTEN UID KIND NAME [ROUTE...]");
    };
    let service = service(kind, name.clone(), routes)?;
    let listen: SocketAddr = listen.parse().with_context(|| format!("{listen} is no address"))?;
    let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    become_user(uid.parse().with_context(|| format!("{uid} is no uid"))?)?;
    println!("{name} listens on {listen}");
    service.serve(&listener).context("serving")
}

fn service(kind: &str, name: String, routes: &[String]) -> Result<Service> {
    let routes = routes.iter().map(|route| parse_route(route)).collect::<Result<Vec<_>>>()?;
    Ok(match kind {
        "api" => Service::Api(name),
        "hello" => Service::Hello(name),
        "echo" => Service::Echo { name, tls: false },
        "tls-echo" => Service::Echo { name, tls: true },
        "web" => Service::Web { name, routes },
        _ => bail!("{kind} is no kind: api, hello, echo, tls-echo or web"),
    })
}

fn parse_route(text: &str) -> Result<Route> {
    let mut parts = text.split('=');
    let (Some(prefix), Some(to)) = (parts.next(), parts.next()) else {
        bail!("{text} is no route: PREFIX=ADDRESS[=BACKEND]");
    };
    Ok(Route {
        prefix: prefix.to_owned(),
        to: to.parse().with_context(|| format!("{to} is no address"))?,
        says_who_refused: parts.next().map(str::to_owned),
    })
}

/// Gives up every other user and group for good. Whoever started us is still the one we end with, which the kernel
/// forgets when the user changes.
fn become_user(uid: u32) -> Result<()> {
    setgroups(&[]).context("leaving all groups")?;
    setgid(Gid::from_raw(uid)).context("taking a group")?;
    setuid(Uid::from_raw(uid)).context("taking a user")?;
    prctl::set_pdeathsig(Signal::SIGKILL).context("ending with who started us")
}
