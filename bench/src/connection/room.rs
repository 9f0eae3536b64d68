//! How much the peer lets us send.
//!
//! Source: RFC 9113 §6.9.

use crate::http2::DEFAULT_WINDOW;

/// What is left of the connection's window, and what a stream starts with.
#[derive(Debug)]
pub(super) struct Room {
    connection: i64,
    initial: i64,
}

/// What is left of one stream's window. It may be negative after a change of settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamRoom(i64);

impl Room {
    pub(super) fn stream(&self) -> StreamRoom {
        StreamRoom(self.initial)
    }

    /// What may be sent now on a stream that has `stream` left.
    pub(super) fn now(&self, stream: StreamRoom) -> usize {
        usize::try_from(self.connection.min(stream.0)).unwrap_or(0)
    }

    pub(super) fn take(&mut self, stream: &mut StreamRoom, length: usize) {
        self.connection -= length as i64;
        stream.0 -= length as i64;
    }

    pub(super) fn open(&mut self, by: u32) {
        self.connection += i64::from(by);
    }

    /// Source: RFC 9113 §6.9.2.
    pub(super) fn set_initial<'a>(&mut self, window: u32, streams: impl Iterator<Item = &'a mut StreamRoom>) {
        let more = i64::from(window) - self.initial;
        self.initial = i64::from(window);
        streams.for_each(|stream| stream.0 += more);
    }
}

impl StreamRoom {
    pub(super) fn open(&mut self, by: u32) {
        self.0 += i64::from(by);
    }
}

impl Default for Room {
    fn default() -> Self {
        let window = i64::from(DEFAULT_WINDOW);
        Self { connection: window, initial: window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_as_much_room_as_the_narrower_window_has() {
        let mut room = Room::default();
        let mut stream = room.stream();
        room.set_initial(100, [&mut stream].into_iter());
        room.take(&mut stream, 30);
        assert_eq!(room.now(stream), 70);
        stream.open(1 << 20);
        assert_eq!(room.now(stream), 65_505);
        room.open(1 << 20);
        assert_eq!(room.now(stream), (1 << 20) + 70);
    }

    #[test]
    fn streams_share_the_connections_window() {
        let mut room = Room::default();
        let (mut first, second) = (room.stream(), room.stream());
        room.take(&mut first, 65_000);
        assert_eq!((room.now(first), room.now(second)), (535, 535));
        room.open(100_000);
        assert_eq!((room.now(first), room.now(second)), (535, 65_535));
    }

    #[test]
    fn a_smaller_first_window_can_leave_less_than_none() {
        let mut room = Room::default();
        let mut stream = room.stream();
        room.take(&mut stream, 1_000);
        room.set_initial(400, [&mut stream].into_iter());
        assert_eq!(room.now(stream), 0);
        stream.open(601);
        assert_eq!(room.now(stream), 1);
    }
}
