//! Two Envoys under two uids speak mutual TLS with identities from an agent of their own, and one request goes
//! through. `cargo xtask demo [--keep]` runs it.

use std::process::ExitCode;

use anyhow::Context;
use vouch_tests::{Agent, Envoy, Need, Settings, Upstream, envoy::Pair, http, settings::entry_of_user, user};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let keep = std::env::args().any(|argument| argument == "--keep");
    let missing: Vec<_> =
        [Need::Agent, Need::Root, Need::Envoy].into_iter().filter_map(Need::missing).collect();
    if !missing.is_empty() {
        eprintln!("the demo cannot run here: {}", missing.join("; "));
        return Ok(ExitCode::FAILURE);
    }
    let agent = Agent::start(Settings::new([
        entry_of_user("spiffe://example.org/backend", user::BACKEND),
        entry_of_user("spiffe://example.org/frontend", user::FRONTEND),
    ]));
    let application = Upstream::start();
    println!("agent        ready, socket {}", agent.socket().display());
    let pair = Pair::start(&agent.socket(), application.port());
    let answer = http::get(pair.entrance, "/").context("asking the frontend")?;
    println!("request      http://{} -> {} {}", pair.entrance, answer.status, answer.body.trim());
    show("frontend", user::FRONTEND, &pair.frontend);
    show("backend", user::BACKEND, &pair.backend);
    println!("handshakes   {} with mutual TLS at the backend", pair.backend.stat("ssl.handshake"));
    if keep {
        println!();
        println!("Look further while it runs:");
        println!("  curl http://{}/", pair.entrance);
        for (name, envoy) in [("frontend", &pair.frontend), ("backend", &pair.backend)] {
            if let Some(admin) = envoy.admin() {
                println!("  curl http://{admin}/certs                      # {name}");
            }
        }
        let vouch = vouch_tests::agent::binary();
        println!("  {} status --admin-socket {}", vouch.display(), agent.admin_socket().display());
        println!("  {} svid rotate --all --admin-socket {}", vouch.display(), agent.admin_socket().display());
        println!("Ctrl-C ends it.");
        tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(name: &str, uid: u32, envoy: &Envoy) {
    for (id, serial) in envoy.identities() {
        println!("{name:<12} uid {uid} presents {id} (serial {serial})");
    }
}
