//! Executables are hashed only while an entry asks for it; who is connected already is not left out when one begins
//! to.

use std::{path::Path, process::Command, time::Duration};

use vouch_tests::{
    Agent, Need, Settings, entry, grpc, require,
    sds::{Stream, secrets},
    settings::entry_of_user,
};

const WEB: &str = "spiffe://example.org/web";
const HASHED: &str = "spiffe://example.org/hashed";
const FETCH_SVID: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
const HEADER: (&str, &str) = ("workload.spiffe.io", "true");
const LIMIT: Duration = Duration::from_secs(10);

fn hash_of(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().expect("sha256sum runs");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split(' ').next().expect("a hash").to_owned()
}

#[tokio::test]
async fn an_entry_that_names_a_hash_reaches_who_is_connected_already() {
    require!(Need::Agent, Need::Root);
    let own = hash_of(&std::env::current_exe().expect("we are a program"));
    for hooks in ["auto", "off"] {
        let settings = Settings::new([entry_of_user(WEB, 0)]).set("kernel.hooks", hooks);
        let agent = Agent::start(settings.set("sds.partial", true));
        let mut everything = Stream::open(&agent.socket(), &[]).await.expect("a stream");
        let mut named = Stream::open(&agent.socket(), &[WEB, HASHED]).await.expect("a stream");
        for stream in [&mut everything, &mut named] {
            stream.next().await.expect("an answer");
            stream.ack().await.expect("the stream is open");
        }
        let channel = grpc::channel(&agent.socket());
        let mut watcher = grpc::server_streaming(&channel, FETCH_SVID, &[HEADER]).await.expect("a stream");
        watcher.message().await.expect("no error").expect("an identity");

        let hash = format!("unix:sha256:{own}");
        agent.write_entries(&[entry_of_user(WEB, 0), entry(HASHED, &[&hash])]);

        for stream in [&mut everything, &mut named] {
            let gained = secrets(&stream.next().await.expect("the gained identity is pushed"));
            assert!(gained.iter().any(|secret| secret.name == HASHED), "{hooks}: {gained:?}");
        }
        let update = tokio::time::timeout(LIMIT, watcher.message()).await.expect("an update in time");
        let update = update.expect("no error").expect("the stream goes on");
        assert!(String::from_utf8_lossy(&update).contains(HASHED), "{hooks}");
    }
}

#[tokio::test]
async fn a_caller_that_came_before_the_entry_is_served_by_its_hash_later() {
    require!(Need::Agent, Need::Root);
    let own = hash_of(&std::env::current_exe().expect("we are a program"));
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 77)]));
    let channel = grpc::channel(&agent.socket());
    let fetched = async || {
        let mut stream = grpc::server_streaming(&channel, FETCH_SVID, &[HEADER]).await?;
        stream.message().await.map(drop)
    };
    fetched().await.expect_err("there is no identity yet");
    agent.write_entries(&[entry(HASHED, &[&format!("unix:sha256:{own}")])]);
    let served = async {
        while fetched().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, served).await.expect("the same connection is served in time");
}
