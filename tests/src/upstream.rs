//! A tiny HTTP server: says `ok` to everything, or what it was asked, and counts.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";
/// How soon a connection without requests notices that the server is gone.
const LOOK_UP: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    hits: AtomicU64,
    stopped: AtomicBool,
    echoes: bool,
}

impl Upstream {
    /// Listens on a free port of loopback.
    ///
    /// # Panics
    /// When there is none.
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// # Panics
    /// When `port` is taken.
    pub fn start_on(port: u16) -> Self {
        Self::serving(port, Shared::default())
    }

    /// Answers with the head of the request: its first line, and its headers as they came.
    ///
    /// # Panics
    /// When there is no free port of loopback.
    pub fn start_echo() -> Self {
        Self::serving(0, Shared { echoes: true, ..Shared::default() })
    }

    fn serving(port: u16, shared: Shared) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a port of loopback");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(shared);
        let accepting = Arc::clone(&shared);
        let listener = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, shared, listener: Some(listener) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many requests it has answered.
    pub fn hits(&self) -> u64 {
        self.shared.hits.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the listener so that it sees that it is stopped.
        TcpStream::connect(self.address).ok();
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> Option<()> {
    stream.set_read_timeout(Some(LOOK_UP)).ok()?;
    stream.set_nodelay(true).ok()?;
    let mut stream = BufReader::new(stream);
    let (mut line, mut head) = (String::new(), String::new());
    while !shared.stopped.load(Ordering::Relaxed) {
        match stream.read_line(&mut line) {
            Ok(0) => return None,
            // The empty line behind the head of a request; none here has a body.
            Ok(_) if line.trim_end().is_empty() => {
                shared.hits.fetch_add(1, Ordering::Relaxed);
                if shared.echoes {
                    let length = head.len();
                    let echo = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{head}");
                    stream.get_mut().write_all(echo.as_bytes()).ok()?;
                } else {
                    stream.get_mut().write_all(RESPONSE).ok()?;
                }
                line.clear();
                head.clear();
            }
            Ok(_) => head.push_str(&std::mem::take(&mut line)),
            // What was read of a line so far stays in `line`.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => return None,
        }
    }
    None
}
