//! Engines that speak for whom they may not, and cgroups that are called what an engine would call them.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use vouch_tests::{Need, cgroup, entry, eventually, require, settings::entry_of_user, user};

use super::{
    actor::{Actor, Heard, ask, steps},
    programs::{EVIL, GROUP, VICTIM, text},
    stage::{LIMIT, Stage, When},
};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A fake engine of `uid` that calls every container `app=web`.
fn engine(stage: &Stage, uid: u32, socket: &str) -> Actor {
    let mut engine = stage.start(uid, &steps([&*stage.program("evil"), "engine", socket, "web", "hold"]));
    engine.wait("engine");
    engine
}

/// The command that goes to the cgroup `folder` first, and then becomes `uid`.
fn inside(folder: &Path, uid: u32) -> Vec<String> {
    let id = uid.to_string();
    let procs = text(&folder.join("cgroup.procs"));
    [
        steps(["sh", "-c", "echo $$ > \"$0\" && exec \"$@\"", &procs]),
        steps(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"]),
    ]
    .concat()
}

/// Folders of the cgroup tree, made from the top; those that were not there go away again.
struct Tree(Vec<PathBuf>);

impl Tree {
    fn make(folder: &Path) -> Self {
        let missing: Vec<_> = folder.ancestors().take_while(|one| !one.exists()).map(PathBuf::from).collect();
        fs::create_dir_all(folder).unwrap();
        Self(missing)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        for folder in &self.0 {
            fs::write(folder.join("cgroup.kill"), "1").ok();
            if !std::thread::panicking() {
                eventually("the cgroup is empty", LIMIT, || fs::remove_dir(folder).ok());
            }
            fs::remove_dir(folder).ok();
        }
    }
}

/// Root's engine would say the label of anybody whose cgroup has such a name; whoever made the cgroup is asked first.
#[test]
fn a_name_in_a_delegated_cgroup_earns_no_label() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Cgroup2);
    let dir = vouch_tests::agent::temporary_dir();
    let socket = text(&dir.path().join("docker.sock"));
    let mut stage = Stage::with(
        &["evil"],
        |_| vec![entry(VICTIM, &["docker:label:app:web"]), entry_of_user(EVIL, user::STRANGER)],
        |settings| settings.set("attest.docker.socket", socket.clone()),
    );
    let _engine = engine(&stage, 0, &socket);
    let given = stage.cgroup.dir().join("given");
    let container = given.join(format!("docker-{ID}.scope"));
    let _tree = Tree::make(&container);
    let connect = steps([&*stage.program("evil"), "connect", &stage.socket()]);
    let words = [inside(&container, user::STRANGER), connect].concat();
    for (owner, heard) in [(0, &[EVIL, VICTIM][..]), (user::STRANGER, &[EVIL])] {
        chown(&given, Some(owner), None).unwrap();
        assert_eq!(stage.attack_by(When::AfterAccept, 0, &words, &ask()), Heard::only(heard), "{owner}");
    }
}

/// A user's engine says what its user likes: heard only where the operator wants it, and only about the user's own
/// processes, whoever else stands in the user's cgroup.
#[test]
fn an_engine_of_a_user_speaks_for_nobody_else() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Cgroup2, Need::UserNamespaces);
    let slice = format!("user.slice/user-{0}.slice/user@{0}.service", user::STRANGER);
    let delegated = cgroup::root().unwrap().join(slice);
    let container = delegated.join(format!("libpod-{ID}.scope"));
    let _tree = Tree::make(&container);
    for folder in [&delegated, &container] {
        chown(folder, Some(user::STRANGER), None).unwrap();
    }
    for (rootless, of_the_user) in [(true, &[EVIL, VICTIM][..]), (false, &[EVIL])] {
        let dir = vouch_tests::agent::temporary_dir();
        let template = text(&dir.path().join("%d.sock"));
        let mut stage = Stage::with(
            &["evil"],
            |_| {
                vec![
                    entry(VICTIM, &["docker:label:app:web"]),
                    entry_of_user(EVIL, user::STRANGER),
                    entry_of_user(GROUP, user::BACKEND),
                ]
            },
            |settings| {
                let settings = settings.set("attest.docker.rootless", rootless);
                settings.set("attest.docker.podman_socket_template", template.clone())
            },
        );
        chown(dir.path(), Some(user::STRANGER), None).unwrap();
        let _engine = engine(&stage, user::STRANGER, &template.replace("%d", &user::STRANGER.to_string()));
        let connect = steps([&*stage.program("evil"), "connect", &stage.socket()]);
        let in_namespace = steps(["unshare", "--user", "--map-root-user"]);
        for (uid, namespace, heard) in [
            (user::STRANGER, false, of_the_user),
            (user::STRANGER, true, of_the_user),
            (user::BACKEND, false, &[GROUP]),
            (user::BACKEND, true, &[GROUP]),
        ] {
            let between = if namespace { in_namespace.clone() } else { Vec::new() };
            let words = [inside(&container, uid), between, connect.clone()].concat();
            let got = stage.attack_by(When::AfterAccept, 0, &words, &ask());
            assert_eq!(got, Heard::only(heard), "rootless = {rootless}, uid {uid}, namespace {namespace}");
        }
    }
}

/// The engine takes connections and never says a word. Who has nothing to do with it is served as ever.
#[test]
fn an_engine_that_hangs_holds_up_nobody_else() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Cgroup2);
    const WAITING: usize = 40;
    let dir = vouch_tests::agent::temporary_dir();
    let socket = dir.path().join("docker.sock");
    let engine = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
    let stage = Stage::with(
        &["evil"],
        |_| vec![entry(VICTIM, &["docker:label:app:web"]), entry_of_user(EVIL, user::STRANGER)],
        |settings| settings.set("attest.docker.socket", text(&socket)),
    );
    let container = stage.cgroup.dir().join(format!("docker-{ID}.scope"));
    let _tree = Tree::make(&container);
    let connect = [steps([&*stage.program("evil"), "connect", &stage.socket()]), ask()].concat();
    let waiting: Vec<Actor> = (0..WAITING)
        .map(|number| {
            // Each another user, so that no limit of one caller is what protects the others.
            let uid = user::STRANGER + 1 + u32::try_from(number).unwrap();
            let mut actor = stage.start(0, &[inside(&container, uid), connect.clone()].concat());
            actor.wait("call");
            actor
        })
        .collect();
    eventually("the engine is asked", LIMIT, || {
        engine.set_nonblocking(true).and_then(|()| engine.accept()).ok()
    });
    let started = Instant::now();
    assert_eq!(stage.honest("evil", user::STRANGER), Heard::only(&[EVIL]));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop(waiting);
}
