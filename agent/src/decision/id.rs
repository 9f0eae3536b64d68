//! What a decision is called: short enough to be read out, and in the order of time.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Milliseconds since 1970, 48 bits of them, moved on where two decisions share one: `0197b2c4-6e11`. No two of one
/// agent are equal while its clock does not go back across a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId(u64);

const BITS: u32 = 48;
const HEAD: usize = 8;
const TAIL: usize = 4;

impl DecisionId {
    /// The first one of `now` that comes after `last`.
    pub(super) fn after(last: Option<Self>, now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        let by_clock = u64::try_from(since).unwrap_or(u64::MAX) & ((1 << BITS) - 1);
        Self(last.map_or(by_clock, |last| by_clock.max(last.0 + 1)))
    }
}

impl DecisionId {
    /// `message`, as others know it, and then how to ask about it.
    pub fn behind(self, message: &str) -> String {
        format!("{message} (decision {self})")
    }

    /// The decision at the end of a message that [`Self::behind`] made.
    pub fn at_the_end_of(message: &str) -> Option<Self> {
        message.strip_suffix(')')?.rsplit_once(" (decision ")?.1.parse().ok()
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0HEAD$x}-{:0TAIL$x}", self.0 >> 16, self.0 & 0xffff)
    }
}

impl FromStr for DecisionId {
    type Err = ();

    /// As it is printed, in either case.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (head, tail) = text.split_once('-').ok_or(())?;
        let is_hex = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex(head, HEAD) || !is_hex(tail, TAIL) {
            return Err(());
        }
        u64::from_str_radix(&format!("{head}{tail}"), 16).map(Self).map_err(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_time_and_differ_within_a_millisecond() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let first = DecisionId::after(None, at(0x0197_b2c4_6e11));
        assert_eq!(first.to_string(), "0197b2c4-6e11");
        let second = DecisionId::after(Some(first), at(0x0197_b2c4_6e11));
        let third = DecisionId::after(Some(second), at(7));
        assert!(first < second && second < third, "a clock that goes back does not matter");
        assert_eq!(third.to_string(), "0197b2c4-6e13");
    }

    #[test]
    fn a_message_carries_an_id_at_its_end() {
        let id = DecisionId::after(None, UNIX_EPOCH + Duration::from_millis(0x0197_b2c4_6e11));
        let message = id.behind("no identity issued");
        assert_eq!(message, "no identity issued (decision 0197b2c4-6e11)");
        assert_eq!(DecisionId::at_the_end_of(&message), Some(id));
        for other in
            ["no identity issued", "(decision 0197b2c4-6e11)", "x (decision )", "x (decision 0197b2c4-6e11"]
        {
            assert_eq!(DecisionId::at_the_end_of(other), None, "{other}");
        }
    }

    #[test]
    fn an_id_reads_as_it_is_printed_and_nothing_else_does() {
        let id = DecisionId::after(None, UNIX_EPOCH + Duration::from_millis(0x0197_b2c4_6e11));
        assert_eq!("0197b2c4-6e11".parse(), Ok(id));
        assert_eq!("0197B2C4-6E11".parse(), Ok(id));
        for other in [
            "",
            "-",
            "0197b2c46e11",
            "0197b2c4-6e1",
            "0197b2c4-6e111",
            "0197b2cx-6e11",
            "+197b2c4-6e11",
            "12",
        ] {
            assert_eq!(other.parse::<DecisionId>(), Err(()), "{other}");
        }
    }
}
