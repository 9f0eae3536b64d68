/// Programs. The functions in the object have the same names.
pub mod program {
    pub const CONNECT_UNIX: &str = "connect_unix";
    pub const GETSOCKNAME_UNIX: &str = "getsockname_unix";
    pub const CONNECT_TCP4: &str = "connect_tcp4";
    pub const CONNECT_TCP6: &str = "connect_tcp6";
    pub const ESTABLISH_TCP: &str = "establish_tcp";
    pub const EXEC: &str = "process_exec";
    pub const FORK: &str = "process_fork";
    pub const EXIT: &str = "process_exit";
    pub const CGROUP_MOVE: &str = "cgroup_move";
    pub const LIST_TASKS: &str = "list_tasks";
}

/// Maps.
pub mod map {
    /// Socket storage of clients, written by the connect hooks: `ConnectRecord`.
    pub const CONNECTORS: &str = "CONNECTORS";
    /// Socket storage of accepted sockets, written by the hooks that hand over: `ConnectRecord`.
    pub const PEERS: &str = "PEERS";
    /// TCP connections on their way from the client's end to the server's: `ConnectRecord`.
    pub const FLOWS: &str = "FLOWS";
    /// Ring buffer of `Event`.
    pub const EVENTS: &str = "EVENTS";
    /// Inode of a pid → `Origin`, for every process.
    pub const ORIGINS: &str = "ORIGINS";
    /// `ConnectorKey` → until when connects are slowed down, in ns since boot. Written by the agent.
    pub const DELAYED: &str = "DELAYED";
    /// Per-CPU `u64`, indexed by [`super::counter`].
    pub const COUNTERS: &str = "COUNTERS";
}

/// Globals that the agent fills before it loads the object; read-only and frozen afterwards.
pub mod global {
    pub const OFFSETS: &str = "OFFSETS";
    pub const FEATURES: &str = "FEATURES";
}

/// Indices into the map `COUNTERS`.
pub mod counter {
    /// Events made, those lost included. Per CPU it is the sequence number of the last event.
    pub const EVENTS: u32 = 0;
    /// Events for which the ring had no room.
    pub const EVENTS_LOST: u32 = 1;
    /// Connects recorded.
    pub const CONNECTS: u32 = 2;
    /// Connects for which the kernel refused socket storage: they have no record.
    pub const CONNECTS_WITHOUT_STORAGE: u32 = 3;
    /// Connects on a socket that was connected already: the first record stays.
    pub const CONNECTS_REPEATED: u32 = 4;
    /// Records handed to an accepted socket.
    pub const HANDOVERS: u32 = 5;
    /// Accepted sockets whose client has no record. Also counts `getsockname` on sockets of other programs
    /// whose peer connected before the hooks were attached.
    pub const HANDOVERS_WITHOUT_RECORD: u32 = 6;
    /// Accepted sockets for which the kernel refused socket storage.
    pub const HANDOVERS_WITHOUT_STORAGE: u32 = 7;
    /// Processes for whose origin there was no room: their executables are not believed.
    pub const ORIGINS_LOST: u32 = 8;
    /// Connects of TCP recorded.
    pub const TCP_CONNECTS: u32 = 9;
    /// Connects of TCP for which the kernel refused socket storage: they have no record.
    pub const TCP_CONNECTS_WITHOUT_STORAGE: u32 = 10;
    /// Records handed to an accepted socket of TCP.
    pub const TCP_HANDOVERS: u32 = 11;
    /// Accepted sockets of TCP whose client has no record: those of other machines, above all.
    pub const TCP_HANDOVERS_WITHOUT_RECORD: u32 = 12;
    /// Accepted sockets of TCP for which the kernel refused socket storage.
    pub const TCP_HANDOVERS_WITHOUT_STORAGE: u32 = 13;
    /// Records that were too old, or pushed out while they were handed over: the socket has none.
    pub const TCP_HANDOVERS_STALE: u32 = 14;
    /// Of [`EVENTS_LOST`], how many the agent has told of: its own note, for the agent after it.
    pub const EVENTS_LOST_TOLD: u32 = 15;
    /// Connects that took longer: of whom the agent has named, and of whom it cannot name, for want of a record.
    pub const CONNECTS_DELAYED: u32 = 16;
    /// How many counters there are.
    pub const COUNT: u32 = 17;
}
