//! A real browser without a screen, driven by its DevTools protocol.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::Command,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Child, agent::temporary_dir, need};

/// For the first answer, and for any other.
const LIMIT: Duration = Duration::from_secs(60);
/// What a page does that nobody asked for.
const COMPLAINTS: [&str; 4] =
    ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Page.javascriptDialogOpening"];

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// In CSS pixels.
    pub width: u32,
    pub height: u32,
    /// `light` or `dark`.
    pub scheme: &'static str,
}

/// A browser with one page; it ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    // Fields are dropped in this order: the process ends before its folder goes.
    process: Child,
    commands: File,
    answers: Receiver<Value>,
    /// The pipe that they come through, by which their reader is told to end.
    answers_end: File,
    last_id: u64,
    session: Option<String>,
    /// Since the page was opened.
    events: Vec<Value>,
    _folder: TempDir,
}

impl Browser {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started, or does not answer.
    pub fn start() -> Self {
        let root = need::binary("VOUCH_BROWSER");
        let folder = temporary_dir();
        let path = |name: &str| folder.path().join(name);
        for pipe in ["commands", "answers"] {
            mkfifo(&path(pipe), Mode::S_IRUSR | Mode::S_IWUSR).expect("a temporary folder takes a pipe");
        }
        // Opened for both directions, neither waits for the browser.
        let open =
            |name| File::options().read(true).write(true).open(path(name)).expect("our own pipe opens");
        let (commands, answers) = (open("commands"), open("answers"));
        let fonts = format!(
            "<fontconfig><dir>{}</dir><cachedir>{}</cachedir></fontconfig>",
            root.join("usr/share/fonts").display(),
            path("fonts").display()
        );
        fs::write(path("fonts.conf"), fonts).expect("a temporary folder takes a file");
        let libraries = root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
        let mut command = Command::new("sh");
        // The protocol is spoken over descriptors 3 and 4.
        command.args(["-c", r#"exec "$0" "$@" 3<"$IN" 4>"$OUT""#]);
        command.arg(root.join("usr/lib/chromium/chromium-headless-shell"));
        // Its sandbox refuses to be root's, and the pages are our own.
        command.args(["--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
        command.arg(format!("--user-data-dir={}", path("profile").display()));
        command.env("IN", path("commands")).env("OUT", path("answers"));
        command.env("HOME", folder.path()).env("FONTCONFIG_FILE", path("fonts.conf"));
        command.env("LD_LIBRARY_PATH", format!("{0}:{0}/pulseaudio", libraries.display()));
        let process = Child::spawn("the browser", command, None, &path("log"));
        let mut browser = Self {
            process,
            commands,
            answers_end: answers.try_clone().expect("a pipe has a second handle"),
            answers: read(answers),
            last_id: 0,
            session: None,
            events: Vec::new(),
            _folder: folder,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Opens `file` and waits until it is loaded.
    ///
    /// # Panics
    /// When that does not happen in a minute.
    pub fn open(&mut self, file: &Path, view: View) {
        let View { width, height, scheme } = view;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", &features);
        self.events.clear();
        self.call("Page.navigate", &json!({ "url": format!("file://{}", file.display()) }));
        let start = Instant::now();
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            assert!(start.elapsed() < LIMIT, "{} was not loaded", file.display());
            let event = self.next();
            self.events.push(event);
        }
    }

    /// What the page says when it is asked `expression`.
    ///
    /// # Panics
    /// When it throws instead.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let question = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", &question);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Everything that the page wrote to its console, threw or asked since it was opened.
    pub fn complaints(&self) -> Vec<String> {
        let complaint = |event: &&Value| COMPLAINTS.iter().any(|name| event["method"] == *name);
        self.events.iter().filter(complaint).map(ToString::to_string).collect()
    }

    /// The address of everything that was loaded since then, the page itself included.
    pub fn requests(&self) -> Vec<String> {
        let sent = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.filter_map(|event| Some(event["params"]["request"]["url"].as_str()?.to_owned())).collect()
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).expect("the browser takes a command");
        loop {
            let mut answer = self.next();
            if answer["id"] == self.last_id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.events.push(answer);
        }
    }

    fn next(&mut self) -> Value {
        let answer = self.answers.recv_timeout(LIMIT);
        answer.unwrap_or_else(|_| panic!("the browser does not answer; it wrote: {}", self.process.log()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked, it takes its own children with it.
        let close = b"{\"id\":0,\"method\":\"Browser.close\"}\0";
        let start = Instant::now();
        if self.commands.write_all(close).is_ok() {
            while self.process.exited().is_none() && start.elapsed() < Duration::from_secs(5) {
                thread::sleep(Duration::from_millis(20));
            }
        }
        self.answers_end.write_all(b"end\0").ok();
    }
}

/// Messages as they come, each of which ends with a zero byte. The thread ends at the first that is none.
fn read(answers: File) -> Receiver<Value> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for message in BufReader::new(answers).split(0) {
            let Ok(Ok(message)) = message.map(|bytes| serde_json::from_slice(&bytes)) else { return };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}
