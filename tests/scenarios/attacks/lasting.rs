//! Streams that are open while their process changes. The process hands its socket to this program, which speaks gRPC on
//! it: so each stream's end can be read, and so it is shown what a descriptor in other hands is worth.

use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::Value;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming, transport::Channel};
use vouch_tests::{
    Cgroup, Need, entry, grpc, require,
    sds::{Stream, secrets},
    settings::entry_of_user,
    trick, user,
};

use super::{
    actor::{Actor, Heard, ask, steps},
    programs::{EVIL, GROUP, Programs, ROOT, VICTIM, text},
    stage::{LIMIT, Stage},
};

const FETCH_SVID: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
const HEADER: (&str, &str) = ("workload.spiffe.io", "true");
const BUNDLE: &str = "ROOTCA";
/// A group without a name.
const GID: u32 = 61_234;

/// A process that is connected, and its connection in our hands.
struct Connected {
    stage: Stage,
    actor: Actor,
    channel: Channel,
    /// The process goes on once there is this file.
    go: String,
}

impl Connected {
    /// As `uid`, by the program `evil`, which does `before`, connects, and later `then`.
    fn new(
        uid: u32,
        entries: impl FnOnce(&Programs) -> Vec<Value>,
        before: &[String],
        then: &[String],
    ) -> Self {
        Self::on(Stage::new(&["good", "evil"], entries), uid, before, then)
    }

    fn on(stage: Stage, uid: u32, before: &[String], then: &[String]) -> Self {
        let (door, go) = (stage.mark(), stage.mark());
        let listener = UnixListener::bind(&door).unwrap();
        std::fs::set_permissions(&door, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let connect = steps(["connect", &stage.socket(), "hand", &door, "await", &go]);
        let words = [&[stage.program("evil")], before, &connect, then].concat();
        let actor = stage.start(uid, &words);
        let socket = UnixStream::from(trick::take_handed(&listener).unwrap());
        Self { stage, actor, channel: grpc::channel_on(socket), go }
    }

    async fn watch(&self) -> Watched {
        let stream = grpc::server_streaming(&self.channel, FETCH_SVID, &[HEADER]).await.unwrap();
        Watched { stream }
    }

    async fn ask(&self, name: &str) -> Stream {
        let mut stream = Stream::open_as(&self.channel, &[name], None).await.unwrap();
        assert_eq!(secrets(&stream.next().await.unwrap())[0].name, name);
        stream.ack().await.unwrap();
        stream
    }

    fn go_on(&self) {
        std::fs::write(&self.go, "").unwrap();
    }
}

/// A stream of X.509-SVIDs.
struct Watched {
    stream: Streaming<bytes::Bytes>,
}

impl Watched {
    async fn next(&mut self) -> Result<String, Status> {
        let message = timeout(LIMIT, self.stream.message()).await.expect("an update in time")?;
        Ok(String::from_utf8_lossy(&message.expect("it does not end well")).into_owned())
    }

    async fn hears_of(&mut self, id: &str) {
        let heard = self.next().await.unwrap();
        assert!(heard.contains(id), "{heard:?} has no {id}");
    }

    /// Whatever comes before its end is of `id`.
    async fn ends(&mut self, code: Code, id: &str) {
        loop {
            match self.next().await {
                Ok(heard) => assert!(heard.contains(id), "{heard:?} has no {id}"),
                Err(status) => return assert_eq!(status.code(), code, "{status:?}"),
            }
        }
    }
}

async fn ends(stream: &mut Stream, code: Code) {
    let status = stream.next().await.expect_err("the stream ends");
    assert_eq!(status.code(), code, "{status:?}");
}

#[tokio::test]
async fn an_exec_ends_the_streams_of_what_the_program_before_it_was() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let stage = Stage::good_and_evil();
    let then = steps(["exec", &stage.program("good"), "hold"]);
    let connected = Connected::on(stage, user::STRANGER, &[], &then);
    let mut watched = connected.watch().await;
    watched.hears_of(EVIL).await;
    let (mut named, mut bundle) = (connected.ask(EVIL).await, connected.ask(BUNDLE).await);
    connected.go_on();
    watched.ends(Code::PermissionDenied, EVIL).await;
    ends(&mut named, Code::InvalidArgument).await;
    // Who comes again has an identity.
    ends(&mut bundle, Code::Unavailable).await;
    assert!(connected.stage.metric("vouch_processes_changed_total{change=\"exec\"}") >= 1);
    if let Ok(stream) = grpc::server_streaming(&connected.channel, FETCH_SVID, &[HEADER]).await {
        Watched { stream }.next().await.expect_err("nothing more is served on this connection");
    }
}

#[tokio::test]
async fn a_user_id_that_is_given_up_is_noticed() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let entries = |_: &Programs<'_>| vec![entry_of_user(ROOT, 0), entry_of_user(EVIL, user::STRANGER)];
    let then = steps(["become", &user::STRANGER.to_string(), "hold"]);
    let connected = Connected::new(0, entries, &[], &then);
    let mut watched = connected.watch().await;
    watched.hears_of(ROOT).await;
    let mut named = connected.ask(ROOT).await;
    connected.go_on();
    watched.ends(Code::PermissionDenied, ROOT).await;
    ends(&mut named, Code::InvalidArgument).await;
    assert!(connected.stage.metric("vouch_processes_changed_total{change=\"credentials\"}") >= 1);
}

#[tokio::test]
async fn a_group_that_is_given_up_is_noticed() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let selector = format!("unix:supplementary_gid:{GID}");
    let entries = |_: &Programs<'_>| vec![entry(GROUP, &[&selector])];
    let before = steps(["regroup", &GID.to_string()]);
    let connected = Connected::new(0, entries, &before, &steps(["regroup", "61235", "hold"]));
    let mut watched = connected.watch().await;
    watched.hears_of(GROUP).await;
    connected.go_on();
    watched.ends(Code::PermissionDenied, GROUP).await;
}

/// More groups than the kernel's record of a process holds.
#[tokio::test]
async fn a_group_that_is_given_up_is_noticed_among_many() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let many = |last: u32| {
        let groups: Vec<String> = (GID..GID + 19).chain([last]).map(|gid| gid.to_string()).collect();
        steps(["regroup", &groups.join(",")])
    };
    let (kept, other) = (GID + 100, GID + 200);
    let selector = format!("unix:supplementary_gid:{kept}");
    let entries = |_: &Programs<'_>| vec![entry(GROUP, &[&selector])];
    let connected = Connected::new(0, entries, &many(kept), &[many(other), steps(["hold"])].concat());
    let mut watched = connected.watch().await;
    watched.hears_of(GROUP).await;
    connected.go_on();
    watched.ends(Code::PermissionDenied, GROUP).await;
}

/// Before the agent looks at everybody by itself.
#[tokio::test]
async fn a_call_right_after_a_change_is_judged_by_the_change() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    for _ in 0..3 {
        let entries = |_: &Programs<'_>| vec![entry_of_user(ROOT, 0)];
        let then = steps(["become", &user::STRANGER.to_string(), "hold"]);
        let mut connected = Connected::new(0, entries, &[], &then);
        connected.watch().await.hears_of(ROOT).await;
        connected.go_on();
        connected.actor.wait("become");
        match grpc::server_streaming(&connected.channel, FETCH_SVID, &[HEADER]).await {
            Ok(stream) => _ = Watched { stream }.next().await.expect_err("it has lost its identity"),
            Err(status) => assert_eq!(status.code(), Code::PermissionDenied),
        }
    }
}

/// Several times, since the agent may by chance look at everybody in between.
#[tokio::test]
async fn a_push_right_after_a_change_is_judged_by_the_change() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    for _ in 0..4 {
        let entries = |_: &Programs<'_>| vec![entry_of_user(ROOT, 0)];
        let then = steps(["become", &user::STRANGER.to_string(), "hold"]);
        let mut connected = Connected::new(0, entries, &[], &then);
        let mut watched = connected.watch().await;
        watched.hears_of(ROOT).await;
        connected.go_on();
        connected.actor.wait("become");
        connected.stage.agent.cli(None, &["svid", "rotate", "--all"]);
        let status = watched.next().await.expect_err("nothing is pushed any more");
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    }
}

#[tokio::test]
async fn a_cgroup_that_is_left_is_noticed() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Cgroup2);
    let (home, abroad) = (Cgroup::new(), Cgroup::new());
    let entries = |_: &Programs<'_>| vec![entry(VICTIM, &[&format!("kernel:cgroup:{}", home.path())])];
    let before = steps(["move", &text(home.dir())]);
    let connected = Connected::new(0, entries, &before, &steps(["move", &text(abroad.dir()), "hold"]));
    let mut watched = connected.watch().await;
    watched.hears_of(VICTIM).await;
    let mut named = connected.ask(VICTIM).await;
    connected.go_on();
    watched.ends(Code::PermissionDenied, VICTIM).await;
    ends(&mut named, Code::InvalidArgument).await;
    assert!(connected.stage.metric("vouch_processes_changed_total{change=\"cgroup\"}") >= 1);
}

#[tokio::test]
async fn who_would_earn_more_by_what_it_has_become_is_told_to_connect_again() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Cgroup2);
    let abroad = Cgroup::new();
    let entries = [entry_of_user(ROOT, 0), entry(VICTIM, &[&format!("kernel:cgroup:{}", abroad.path())])];
    let first = entries[..1].to_vec();
    let stage = Stage::new(&["evil"], |_| first);
    let anew = stage.mark();
    let connect = steps(["await", &anew, "socket", "connect", &stage.socket()]);
    let then = [steps(["move", &text(abroad.dir())]), connect, ask(), steps(["hold"])].concat();
    let mut connected = Connected::on(stage, 0, &[], &then);
    let mut watched = connected.watch().await;
    watched.hears_of(ROOT).await;
    let mut named = connected.ask(ROOT).await;
    connected.go_on();
    connected.actor.wait("move");
    // It has lost nothing that counts here, and there is nothing for it elsewhere: the streams go on.
    connected.stage.agent.cli(None, &["svid", "rotate", "--all"]);
    watched.hears_of(ROOT).await;
    assert_eq!(secrets(&named.next().await.unwrap())[0].name, ROOT);
    named.ack().await.unwrap();
    // Now there is.
    connected.stage.agent.write_entries(&entries);
    watched.ends(Code::Unavailable, ROOT).await;
    ends(&mut named, Code::Unavailable).await;
    std::fs::write(&anew, "").unwrap();
    assert_eq!(connected.actor.hear(), Heard::only(&[ROOT, VICTIM]));
}

#[tokio::test]
async fn the_end_of_who_connected_is_the_end_of_a_descriptor_in_other_hands() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let connected =
        Connected::new(user::STRANGER, |programs| vec![programs.evil()], &[], &steps(["touch", "/dev/null"]));
    let mut watched = connected.watch().await;
    watched.hears_of(EVIL).await;
    let (mut named, mut bundle) = (connected.ask(EVIL).await, connected.ask(BUNDLE).await);
    connected.go_on();
    watched.ends(Code::PermissionDenied, EVIL).await;
    ends(&mut named, Code::InvalidArgument).await;
    ends(&mut bundle, Code::InvalidArgument).await;
}

#[tokio::test]
async fn nothing_is_learned_again_while_nothing_changes() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let connected = Connected::new(user::STRANGER, |programs| vec![programs.evil()], &[], &steps(["hold"]));
    let mut watched = connected.watch().await;
    watched.hears_of(EVIL).await;
    let mut named = connected.ask(EVIL).await;
    for _ in 0..3 {
        connected.stage.agent.cli(None, &["svid", "rotate", "--all"]);
        watched.hears_of(EVIL).await;
        named.next().await.unwrap();
        named.ack().await.unwrap();
    }
    assert_eq!(connected.stage.metric("vouch_attestations_total"), 1);
    for change in ["exec", "executable", "credentials", "cgroup", "confinement"] {
        let changed = format!("vouch_processes_changed_total{{change=\"{change}\"}}");
        assert_eq!(connected.stage.metric(&changed), 0, "{change}");
    }
}
