//! One connection of a client.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

use super::{
    frame::{self, Frame, Shape},
    hpack::{Decoder, Encoder},
    stream::{End, Stream},
};

/// Every window until somebody says otherwise, RFC 9113 §6.9.2.
const DEFAULT_WINDOW: u32 = 65_535;
/// What the server may send on the connection; Envoy grants as much.
const CONNECTION_WINDOW: u32 = 16 << 20;
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW: u16 = 4;
/// With the longest padding it is as much as a frame may have.
const MOST_DATA: usize = frame::MAX_PAYLOAD - 256;
/// In some more frames than that a long message goes out, however small they are to be: a server may take thousands of tiny
/// ones for an attack, and `h2` does.
const FRAMES: usize = 128;

/// What is said and heard on one connection. Feed it with what was read, and write what it has to say.
#[derive(Debug)]
pub struct Client {
    pub streams: BTreeMap<u32, Stream>,
    /// The error of a GOAWAY.
    pub goodbye: Option<u32>,
    pub pongs: usize,
    shape: Shape,
    input: Vec<u8>,
    output: Vec<u8>,
    encoder: Encoder,
    decoder: Decoder,
    /// A header block that is not whole: stream, flags, block.
    block: Option<(u32, u8, Vec<u8>)>,
    next: u32,
    /// What the server lets us send, in all and on a new stream.
    room: i64,
    initial_room: i64,
    /// What we let the server send.
    granted: i64,
    window: u32,
    /// Changes of the window that the server has not acknowledged.
    announced: VecDeque<i64>,
    /// How many changes were announced so far.
    announcements: usize,
}

impl Client {
    /// A client whose streams begin with `window`; its preface is the first that it has to say.
    pub fn new(shape: Shape, window: u32) -> Self {
        let mut client = Self {
            streams: BTreeMap::new(),
            goodbye: None,
            pongs: 0,
            shape,
            input: Vec::new(),
            output: frame::PREFACE.to_vec(),
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            block: None,
            next: 1,
            room: DEFAULT_WINDOW.into(),
            initial_room: DEFAULT_WINDOW.into(),
            granted: DEFAULT_WINDOW.into(),
            window: DEFAULT_WINDOW,
            announced: VecDeque::new(),
            announcements: 0,
        };
        client.announce(window);
        client.grant(0, CONNECTION_WINDOW - DEFAULT_WINDOW);
        client
    }

    /// Begins a call of `path`.
    pub fn open(&mut self, path: &str) -> u32 {
        let id = self.next;
        self.next += 2;
        let block = self.encoder.encode(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]);
        self.shape.put_headers(&mut self.output, id, &block);
        // The server was told of this window before it hears of the stream.
        let granted = self.window.into();
        let (room, born) = (self.initial_room, self.announcements);
        let stream = Stream::new(room, granted, born, self.shape.empty_data);
        self.streams.insert(id, stream);
        id
    }

    /// Sends `bytes` on stream `id` as its window allows.
    pub fn send(&mut self, id: u32, bytes: &[u8]) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.ends && !stream.has_ended) {
            stream.waiting.extend(bytes);
        }
        self.flush();
    }

    /// There is no more to say on stream `id`.
    pub fn half_close(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.ends = true;
        }
        self.flush();
    }

    pub fn reset(&mut self, id: u32, code: u32) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.end.is_none()) else { return };
        stream.end = Some(End::Left);
        stream.waiting.clear();
        stream.has_ended = true;
        frame::put(&mut self.output, frame::RST_STREAM, 0, id, &code.to_be_bytes());
    }

    /// Gives nothing back of what is read on stream `id`.
    pub fn stall(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.stalled = true;
        }
    }

    /// Gives back all that was read.
    pub fn resume(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.stalled = false;
        let owed = mem::take(&mut stream.owed);
        self.grant(id, owed);
    }

    pub fn ping(&mut self) {
        frame::put(&mut self.output, frame::PING, 0, 0, b"how long");
    }

    /// Changes the window of every stream, open ones too, RFC 9113 §6.9.2.
    pub fn announce(&mut self, window: u32) {
        let growth = i64::from(window) - i64::from(mem::replace(&mut self.window, window));
        // More holds from now on, less from when the server has read it.
        if growth > 0 {
            self.streams.values_mut().for_each(|stream| stream.granted += growth);
        }
        self.announced.push_back(growth);
        self.announcements += 1;
        let mut settings = Vec::new();
        for (name, value) in [(ENABLE_PUSH, 0), (INITIAL_WINDOW, window)] {
            settings.extend(name.to_be_bytes());
            settings.extend(value.to_be_bytes());
        }
        frame::put(&mut self.output, frame::SETTINGS, 0, 0, &settings);
    }

    /// What is to be written now.
    pub fn output(&mut self) -> Vec<u8> {
        mem::take(&mut self.output)
    }

    /// The server's next bytes, in any cut.
    ///
    /// # Panics
    /// When the server does what it may not.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
        while let Some(frame) = Frame::take(&mut self.input) {
            self.on_frame(&frame);
        }
        self.flush();
    }

    /// The server has closed the connection.
    pub fn on_close(&mut self) {
        for stream in self.streams.values_mut() {
            stream.end.get_or_insert(End::Closed);
        }
    }

    fn on_frame(&mut self, frame: &Frame) {
        let id = frame.stream;
        assert!(self.block.is_none() || frame.kind == frame::CONTINUATION, "a header block is torn apart");
        match frame.kind {
            frame::DATA => self.on_data(frame),
            frame::HEADERS => self.on_block(id, frame.flags, frame.content().to_vec()),
            frame::CONTINUATION => {
                let (of, flags, mut block) = self.block.take().expect("a block to go on with");
                assert_eq!(of, id);
                block.extend(&frame.payload);
                self.on_block(id, flags | frame.flags & frame::END_HEADERS, block);
            }
            frame::RST_STREAM => self.stream(id).on_reset(frame.number()),
            frame::SETTINGS if frame.has(frame::ACK) => self.on_acknowledged(),
            frame::SETTINGS => self.on_settings(frame),
            frame::PING if frame.has(frame::ACK) => {
                assert_eq!(frame.payload, b"how long", "a pong says what the ping did");
                self.pongs += 1;
            }
            frame::PING => frame::put(&mut self.output, frame::PING, frame::ACK, 0, &frame.payload),
            frame::GOAWAY => {
                let (_, code) = frame.payload.split_first_chunk::<4>().expect("the last stream");
                self.goodbye = code.first_chunk().map(|&code| u32::from_be_bytes(code));
            }
            frame::WINDOW_UPDATE if id == 0 => self.room += i64::from(frame.number()),
            frame::WINDOW_UPDATE => self.stream(id).room += i64::from(frame.number()),
            other => panic!("a server has no reason to send a frame of kind {other}"),
        }
    }

    fn on_data(&mut self, frame: &Frame) {
        let length = u32::try_from(frame.payload.len()).expect("a frame's length");
        self.granted -= i64::from(length);
        assert!(self.granted >= 0, "more than the connection's window");
        let stream = self.stream(frame.stream);
        stream.granted -= i64::from(length);
        assert!(length == 0 || stream.granted >= 0, "more than the stream's window");
        stream.on_data(frame.content());
        assert!(!frame.has(frame::END_STREAM), "a gRPC answer ends with trailers");
        stream.owed += length;
        if !stream.stalled && stream.end.is_none() {
            let owed = mem::take(&mut stream.owed);
            self.grant(frame.stream, owed);
        }
        self.grant(0, length);
    }

    fn on_block(&mut self, id: u32, flags: u8, block: Vec<u8>) {
        if flags & frame::END_HEADERS == 0 {
            self.block = Some((id, flags, block));
            return;
        }
        let fields = self.decoder.decode(&block);
        self.stream(id).on_fields(fields, flags & frame::END_STREAM != 0);
    }

    fn on_settings(&mut self, frame: &Frame) {
        for (_, window) in frame.settings().filter(|(name, _)| *name == INITIAL_WINDOW) {
            let growth = i64::from(window) - mem::replace(&mut self.initial_room, window.into());
            self.streams.values_mut().for_each(|stream| stream.room += growth);
        }
        frame::put(&mut self.output, frame::SETTINGS, frame::ACK, 0, &[]);
    }

    fn on_acknowledged(&mut self) {
        let growth = self.announced.pop_front().expect("an announcement to acknowledge");
        let acknowledged = self.announcements - self.announced.len();
        for stream in self.streams.values_mut().filter(|stream| growth < 0 && stream.born < acknowledged) {
            stream.granted += growth;
        }
    }

    fn grant(&mut self, id: u32, more: u32) {
        if more == 0 {
            return;
        }
        if id == 0 {
            self.granted += i64::from(more);
        } else {
            self.stream(id).granted += i64::from(more);
        }
        frame::put(&mut self.output, frame::WINDOW_UPDATE, 0, id, &more.to_be_bytes());
    }

    fn stream(&mut self, id: u32) -> &mut Stream {
        self.streams.get_mut(&id).unwrap_or_else(|| panic!("a frame of stream {id}, which nobody opened"))
    }

    /// One frame of each stream in turn, until none has anything to send or room for it.
    fn flush(&mut self) {
        let Self { streams, shape, output, room, .. } = self;
        loop {
            let mut sent = false;
            for (&id, stream) in &mut *streams {
                sent |= flush_one(id, stream, shape, output, room);
            }
            if !sent {
                return;
            }
        }
    }
}

/// Whether a frame went out.
fn flush_one(id: u32, stream: &mut Stream, shape: &Shape, output: &mut Vec<u8>, room: &mut i64) -> bool {
    if stream.has_ended || (stream.waiting.is_empty() && !stream.ends) {
        return false;
    }
    if mem::take(&mut stream.empty_due) {
        frame::put(output, frame::DATA, 0, id, &[]);
        return true;
    }
    let cut = if shape.data == 0 { MOST_DATA } else { shape.data.max(stream.waiting.len() / FRAMES) };
    let overhead = shape.cost(0) as i64;
    let free = usize::try_from(stream.room.min(*room) - overhead).unwrap_or(0);
    let length = stream.waiting.len().min(cut).min(MOST_DATA).min(free);
    let last = length == stream.waiting.len();
    if length == 0 && !(last && stream.room.min(*room) >= overhead) {
        return false;
    }
    let bytes: Vec<_> = stream.waiting.drain(..length).collect();
    shape.put_data(output, id, &bytes, last && stream.ends);
    let cost = shape.cost(length) as i64;
    stream.room -= cost;
    *room -= cost;
    stream.has_ended = last && stream.ends;
    true
}
