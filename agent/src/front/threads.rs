//! Threads that do nothing but serve: each has its own connections, and shares nothing with the others while it serves them.

use std::{future::Future, io, os::unix::net::UnixListener, sync::Arc, thread};

use tokio::{runtime, sync::oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Front, Shard,
    queue::{Listener, Queue},
};

/// No more threads than that, however many CPUs there are: one moves some 100,000 updates a second.
const MOST_THREADS: usize = 4;

/// Serves `listeners` until `stop`, on as many threads as there are CPUs, within reason. Each future ends
/// with its thread: after `stop`, or because it is broken.
///
/// # Errors
/// When a thread, its event loop or a listener on it cannot be had.
pub async fn serve(
    front: &Arc<Front>,
    listeners: &[UnixListener],
    stop: &CancellationToken,
) -> io::Result<Vec<impl Future<Output = ()> + Send + 'static + use<>>> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let queues = listeners
        .iter()
        .map(|listener| Queue::of(listener, front.limits.flooded_queue, &front.metrics.floods))
        .collect::<io::Result<Vec<_>>>()?;
    let mut ends = Vec::with_capacity(threads);
    for number in 0..threads {
        let listeners = listeners.iter().map(UnixListener::try_clone).collect::<io::Result<Vec<_>>>()?;
        let listeners = listeners.into_iter().zip(queues.clone()).collect();
        let (shard, stop) = (Shard::new(Arc::clone(front)), stop.clone());
        let (started, ready) = oneshot::channel();
        let (ended, end) = oneshot::channel::<()>();
        thread::Builder::new().name(format!("front-{number}")).spawn(move || {
            let _ended = ended;
            run(shard, listeners, stop, started);
        })?;
        ready.await.map_err(|_| io::Error::other("the thread ended at once"))??;
        ends.push(async move { end.await.unwrap_or_default() });
    }
    Ok(ends)
}

fn run(
    shard: Arc<Shard>,
    listeners: Vec<(UnixListener, Arc<Queue>)>,
    stop: CancellationToken,
    started: oneshot::Sender<io::Result<()>>,
) {
    let begin = || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let listeners = listeners.into_iter().map(|(listener, queue)| Listener::new(listener, queue));
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        drop(inside);
        Ok((runtime, listeners))
    };
    let (runtime, listeners) = match begin() {
        Ok(begun) => begun,
        Err(error) => return drop(started.send(Err(error))),
    };
    drop(started.send(Ok(())));
    runtime.block_on(shard.run(listeners, stop));
    // Work that hangs, such as the reading of a file, does not keep the agent from ending.
    runtime.shutdown_background();
}
