//! The physical limit beside which servers are put: a plain process that writes as many bytes to as many Unix sockets,
//! framed alike, and reads an ACK of the same size back from each. One thread, epoll, nothing else.

use std::{
    io::{self, IoSlice, Read as _},
    os::{
        fd::AsFd as _,
        unix::net::{UnixListener, UnixStream},
    },
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    sys::uio::writev,
};

use super::told::next_order;
use crate::{
    connection::STREAM,
    http2::{self, HEADER_LEN, MAX_PAYLOAD},
};

const BATCH: usize = 1_024;
const SCRATCH: usize = 64 << 10;

/// Accepts, then does what it is told until its input ends.
pub(crate) fn serve(told: &crate::Served) -> Result<()> {
    crate::machine::raise_descriptors()?;
    let listener = UnixListener::bind(&told.socket)?;
    println!("listening");
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut sockets = Vec::new();
    for index in 0..told.streams {
        let (socket, _) = listener.accept()?;
        socket.set_nonblocking(true)?;
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, index.into()))?;
        sockets.push(socket);
    }
    println!("connected");
    let mut orders = io::stdin().lock();
    while let Some(order) = next_order(&mut orders)? {
        let message = order.shape.message(order.round);
        ensure!(message.len() <= MAX_PAYLOAD, "the message does not fit one frame");
        let header = http2::frame_header(http2::DATA, 0, STREAM, message.len());
        let parts = [IoSlice::new(&header), IoSlice::new(&message)];
        for socket in &sockets {
            let written = writev(socket.as_fd(), &parts)?;
            ensure!(written == header.len() + message.len(), "a socket is full");
        }
        read_acks(&epoll, &sockets, framed(order.ack_bytes))?;
        println!("acknowledged");
    }
    Ok(())
}

/// Bytes of a gRPC message on the wire.
fn framed(bytes: usize) -> usize {
    bytes + bytes.div_ceil(MAX_PAYLOAD) * HEADER_LEN
}

fn read_acks(epoll: &Epoll, sockets: &[UnixStream], ack_bytes: usize) -> Result<()> {
    let mut missing = sockets.len() * ack_bytes;
    let mut events = [EpollEvent::empty(); BATCH];
    let mut scratch = [0; SCRATCH];
    while missing > 0 {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            let read = (&sockets[event.data() as usize]).read(&mut scratch)?;
            ensure!(read > 0, "the load has gone");
            missing = missing.checked_sub(read).context("more came back than was agreed")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_ack_takes_several_frames() {
        assert_eq!((framed(116), framed(MAX_PAYLOAD), framed(61_236)), (125, MAX_PAYLOAD + 9, 61_272));
    }
}
