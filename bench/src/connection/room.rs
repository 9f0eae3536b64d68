//! How much the peer lets us send.
//!
//! Source: RFC 9113 §6.9.

use crate::http2::DEFAULT_WINDOW;

/// What is left of both windows. A stream's may be negative after a change of settings.
#[derive(Debug)]
pub(super) struct Room {
    connection: i64,
    stream: i64,
    /// What a stream starts with.
    initial: i64,
}

impl Room {
    pub(super) fn now(&self) -> usize {
        usize::try_from(self.connection.min(self.stream)).unwrap_or(0)
    }

    pub(super) fn take(&mut self, length: usize) {
        self.connection -= length as i64;
        self.stream -= length as i64;
    }

    pub(super) fn open(&mut self, stream: u32, by: u32) {
        let window = if stream == 0 { &mut self.connection } else { &mut self.stream };
        *window += i64::from(by);
    }

    /// Source: RFC 9113 §6.9.2.
    pub(super) fn set_initial(&mut self, window: u32) {
        self.stream += i64::from(window) - self.initial;
        self.initial = i64::from(window);
    }
}

impl Default for Room {
    fn default() -> Self {
        let window = i64::from(DEFAULT_WINDOW);
        Self { connection: window, stream: window, initial: window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_as_much_room_as_the_narrower_window_has() {
        let mut room = Room::default();
        room.set_initial(100);
        room.take(30);
        assert_eq!(room.now(), 70);
        room.open(1, 1 << 20);
        assert_eq!(room.now(), 65_505);
        room.open(0, 1 << 20);
        assert_eq!(room.now(), (1 << 20) + 70);
    }

    #[test]
    fn a_smaller_first_window_can_leave_less_than_none() {
        let mut room = Room::default();
        room.take(1_000);
        room.set_initial(400);
        assert_eq!(room.now(), 0);
        room.open(1, 601);
        assert_eq!(room.now(), 1);
    }
}
