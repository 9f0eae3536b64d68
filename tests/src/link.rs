//! A client of frames on a pipe: two tasks that move bytes, and a test that speaks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, split},
    sync::{Notify, watch},
    task::{JoinHandle, yield_now},
};

use crate::wire::Client;

const READ: usize = 16 << 10;

/// A connection; it ends when this is dropped.
#[derive(Debug)]
pub struct Link {
    client: Arc<Mutex<Client>>,
    /// Told when the client may have something to say.
    speaks: Arc<Notify>,
    hears: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Link {
    /// Puts `client` at one end of a pipe. What it says goes out in pieces of the sizes in `cuts`, round and round,
    /// and others may run between two pieces; without cuts it goes out as it comes.
    pub fn new(io: DuplexStream, client: Client, cuts: Vec<usize>) -> Self {
        let client = Arc::new(Mutex::new(client));
        let speaks = Arc::new(Notify::new());
        let (hears, listening) = watch::channel(true);
        let (reader, writer) = split(io);
        let tasks = [
            tokio::spawn(read(reader, Arc::clone(&client), Arc::clone(&speaks), listening)),
            tokio::spawn(write(writer, Arc::clone(&client), Arc::clone(&speaks), cuts)),
        ];
        speaks.notify_one();
        Self { client, speaks, hears, tasks }
    }

    /// Has `act` do something with the client; what it says then is sent.
    ///
    /// # Panics
    /// When the server did what it may not.
    pub fn with<T>(&self, act: impl FnOnce(&mut Client) -> T) -> T {
        assert!(!self.client.is_poisoned(), "the server did what it may not: see above");
        let done = act(&mut lock(&self.client));
        self.speaks.notify_one();
        done
    }

    /// Whether anything is read from the pipe.
    pub fn hears(&self, whether: bool) {
        self.hears.send_replace(whether);
    }

    /// Closes the connection without a word.
    pub fn hang_up(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        lock(&self.client).on_close();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.hang_up();
    }
}

async fn read(
    mut io: ReadHalf<DuplexStream>,
    client: Arc<Mutex<Client>>,
    speaks: Arc<Notify>,
    mut listening: watch::Receiver<bool>,
) {
    let mut bytes = Vec::with_capacity(READ.min(1024));
    loop {
        if listening.wait_for(|hears| *hears).await.is_err() {
            return;
        }
        bytes.clear();
        if io.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            lock(&client).on_close();
            return;
        }
        lock(&client).on_bytes(&bytes);
        speaks.notify_one();
    }
}

async fn write(
    mut io: WriteHalf<DuplexStream>,
    client: Arc<Mutex<Client>>,
    speaks: Arc<Notify>,
    cuts: Vec<usize>,
) {
    let mut cuts = cuts.into_iter().cycle();
    loop {
        speaks.notified().await;
        loop {
            let bytes = lock(&client).output();
            let mut rest = &bytes[..];
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts.next().unwrap_or(rest.len()).clamp(1, rest.len()));
                if io.write_all(piece).await.is_err() {
                    return;
                }
                rest = after;
                if !rest.is_empty() {
                    yield_now().await;
                }
            }
        }
    }
}

fn lock(client: &Mutex<Client>) -> MutexGuard<'_, Client> {
    client.lock().unwrap_or_else(PoisonError::into_inner)
}
