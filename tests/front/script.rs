//! What a client does, drawn at random.

use proptest::{collection::vec, prelude::*};
use vouch_tests::wire::Shape;

pub(crate) const CONNECTIONS: usize = 2;
pub(crate) const PATHS: [&str; 3] = ["a", "b", "c"];

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// Everybody waits after each step until nothing moves any more, and nobody is slow. Otherwise steps overtake one
    /// another.
    pub(crate) calm: bool,
    pub(crate) lines: [Line; CONNECTIONS],
    pub(crate) steps: Vec<Step>,
}

/// How a client of the front speaks and listens on one connection.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) shape: Shape,
    /// Bytes that the pipe holds.
    pub(crate) room: usize,
    /// Sizes of the pieces in which bytes are written.
    pub(crate) cuts: Vec<usize>,
    /// The window of each stream.
    pub(crate) window: u32,
}

/// `stream` counts the streams that were opened so far, round and round.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Open {
        on: usize,
        names: Vec<Name>,
        speaker: Speaker,
    },
    /// Asks once and says no more.
    Fetch {
        on: usize,
        names: Vec<Name>,
        speaker: Speaker,
    },
    /// Other names, as an answer to the last answer.
    Ask {
        stream: usize,
        names: Vec<Name>,
    },
    /// The last acknowledgement once more.
    Again {
        stream: usize,
    },
    Nack {
        stream: usize,
    },
    /// An answer to what was never sent.
    Stale {
        stream: usize,
        names: Vec<Name>,
    },
    WrongType {
        stream: usize,
    },
    Garbage {
        stream: usize,
        what: Garbage,
    },
    HalfClose {
        stream: usize,
    },
    Reset {
        stream: usize,
    },
    HangUp {
        on: usize,
    },
    Rotate,
    RotateOne {
        path: usize,
    },
    ChangeAuthority,
    /// Which of [`PATHS`] have an entry from now on.
    Entries([bool; PATHS.len()]),
    Stall {
        stream: usize,
    },
    /// It does not read while so many versions come.
    Oversleep {
        stream: usize,
        versions: usize,
    },
    Resume {
        stream: usize,
    },
    Deafen {
        on: usize,
    },
    Listen {
        on: usize,
    },
    Window {
        on: usize,
        window: u32,
    },
    Ping {
        on: usize,
    },
    /// Whoever can move does; who is slow stays so.
    Pause,
    /// Nothing moves any more, and nobody is slow.
    Settle,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Name {
    Default,
    Roots,
    All,
    TrustDomain,
    Path(usize),
    Nobodys,
}

/// What an Envoy says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Speaker {
    Nobody,
    Small,
    /// As an Envoy does by default: in every request, and at length.
    Long,
    /// Without the SPIFFE validator.
    Old,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Garbage {
    NotProtobuf,
    /// More than a request may have.
    TooLong,
    TooManyNames,
    /// A message that says that it goes on, and the end.
    CutShort,
}

impl Step {
    /// Whether others may still be under way when it begins, and it when others do. What ends a call, or takes a
    /// name away, does not overtake: who wins would decide how the call ends.
    pub(crate) fn may_overtake(&self) -> bool {
        use Step::{ChangeAuthority, Entries, Garbage, HalfClose, HangUp, Reset, Settle, WrongType};
        !matches!(
            self,
            ChangeAuthority
                | Entries(_)
                | Garbage { .. }
                | HalfClose { .. }
                | HangUp { .. }
                | Reset { .. }
                | Settle
                | WrongType { .. }
        )
    }

    /// Whether what follows comes in one piece: of several, anyone may see only the last.
    pub(crate) fn is_one_change(&self) -> bool {
        !matches!(self, Self::ChangeAuthority | Self::Entries(_))
    }

    /// Whether it makes a reader slow.
    pub(crate) fn slows(&self) -> bool {
        matches!(
            self,
            Self::Stall { .. }
                | Self::Oversleep { .. }
                | Self::Deafen { .. }
                | Self::Window { window: 0, .. }
        )
    }
}

pub(crate) fn script() -> impl Strategy<Value = Script> {
    let lines = [line(), line()];
    (any::<bool>(), lines, vec(step(), 1..40)).prop_map(|(calm, lines, steps)| Script { calm, lines, steps })
}

fn line() -> impl Strategy<Value = Line> {
    let room = prop_oneof![1 => Just(1), 1 => 2_usize..20, 2 => 20_usize..5_000, 2 => Just(64 << 10)];
    let cuts = prop_oneof![vec(prop_oneof![1_usize..12, 100_usize..9_000], 1..6), Just(vec![])];
    let window = prop_oneof![1 => Just(65_535), 1 => Just(16 << 20), 3 => 30_u32..3_000];
    (shape(), room, cuts, window).prop_map(|(shape, room, cuts, window)| Line { shape, room, cuts, window })
}

fn shape() -> impl Strategy<Value = Shape> {
    let data = prop_oneof![2 => Just(0), 1 => 1_usize..40, 1 => 40_usize..16_000];
    let padding = prop_oneof![2 => Just(None), 1 => any::<u8>().prop_map(Some)];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (data, padding, 0_usize..5, flags).prop_map(
        |(data, padding, continuations, (priority, unknown, empty_data))| {
            // Padding beside every byte would be many megabytes.
            let padding = padding.filter(|_| data == 0 || data > 20);
            Shape { data, padding, continuations, priority, unknown, empty_data }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let (on, stream) = (0..CONNECTIONS, 0_usize..8);
    prop_oneof![
        6 => (on.clone(), names(), speaker()).prop_map(|(on, names, speaker)| Step::Open { on, names, speaker }),
        2 => (on.clone(), names(), speaker()).prop_map(|(on, names, speaker)| Step::Fetch { on, names, speaker }),
        4 => (stream.clone(), names()).prop_map(|(stream, names)| Step::Ask { stream, names }),
        1 => stream.clone().prop_map(|stream| Step::Again { stream }),
        1 => stream.clone().prop_map(|stream| Step::Nack { stream }),
        1 => (stream.clone(), names()).prop_map(|(stream, names)| Step::Stale { stream, names }),
        1 => stream.clone().prop_map(|stream| Step::WrongType { stream }),
        1 => (stream.clone(), garbage()).prop_map(|(stream, what)| Step::Garbage { stream, what }),
        1 => stream.clone().prop_map(|stream| Step::HalfClose { stream }),
        1 => stream.clone().prop_map(|stream| Step::Reset { stream }),
        1 => on.clone().prop_map(|on| Step::HangUp { on }),
        6 => Just(Step::Rotate),
        3 => (0..PATHS.len()).prop_map(|path| Step::RotateOne { path }),
        1 => Just(Step::ChangeAuthority),
        1 => any::<[bool; PATHS.len()]>().prop_map(Step::Entries),
        2 => stream.clone().prop_map(|stream| Step::Stall { stream }),
        3 => (stream.clone(), 1_usize..4)
            .prop_map(|(stream, versions)| Step::Oversleep { stream, versions }),
        2 => stream.prop_map(|stream| Step::Resume { stream }),
        1 => on.clone().prop_map(|on| Step::Deafen { on }),
        1 => on.clone().prop_map(|on| Step::Listen { on }),
        1 => (on.clone(), prop_oneof![Just(0), Just(65_535), 30_u32..3_000])
            .prop_map(|(on, window)| Step::Window { on, window }),
        1 => on.prop_map(|on| Step::Ping { on }),
        3 => Just(Step::Pause),
        3 => Just(Step::Settle),
    ]
}

fn names() -> impl Strategy<Value = Vec<Name>> {
    let name = prop_oneof![
        5 => Just(Name::Default),
        3 => Just(Name::Roots),
        1 => Just(Name::All),
        1 => Just(Name::TrustDomain),
        4 => (0..PATHS.len()).prop_map(Name::Path),
        1 => Just(Name::Nobodys),
    ];
    prop_oneof![5 => name.clone().prop_map(|name| vec![name]), 2 => vec(name, 0..4)]
}

fn speaker() -> impl Strategy<Value = Speaker> {
    prop_oneof![3 => Just(Speaker::Nobody), 2 => Just(Speaker::Small), 1 => Just(Speaker::Long), 1 => Just(Speaker::Old)]
}

fn garbage() -> impl Strategy<Value = Garbage> {
    prop_oneof![
        Just(Garbage::NotProtobuf),
        Just(Garbage::TooLong),
        Just(Garbage::TooManyNames),
        Just(Garbage::CutShort)
    ]
}
