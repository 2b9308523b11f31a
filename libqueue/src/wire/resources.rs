//! Resources: what a command needs, and what a host is and has left. Nothing of who asks, or over which connection.

use prost::Message;

/// What a host says of its load.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Load {
    /// 1-minute load average.
    #[prost(double, tag = "1")]
    pub load1: f64,
    /// 5-minute load average.
    #[prost(double, tag = "2")]
    pub load5: f64,
    /// 15-minute load average.
    #[prost(double, tag = "3")]
    pub load15: f64,
    /// Cores that may be used; 0: nothing can be run there at the moment.
    #[prost(uint32, tag = "4")]
    pub cores: u32,
    /// Memory in bytes.
    #[prost(uint64, tag = "5")]
    pub mem_total: u64,
    /// Memory available in bytes.
    #[prost(uint64, tag = "6")]
    pub mem_available: u64,
    /// Sessions that run.
    #[prost(uint32, tag = "7")]
    pub sessions: u32,
    /// Tasks that run or want to, averaged over about five seconds.
    #[prost(double, tag = "8")]
    pub running: f64,
    /// Cores in use since the last report (0.0 to `cores`).
    #[prost(double, tag = "9")]
    pub busy: f64,
    /// Pressure: per cent of the last 10 s in which some task waited for a core (PSI `some avg10`); 0 where the
    /// kernel has no PSI.
    #[prost(double, tag = "10")]
    pub psi_cpu: f64,
    /// The same for memory.
    #[prost(double, tag = "11")]
    pub psi_mem: f64,
    /// The same for input and output.
    #[prost(double, tag = "12")]
    pub psi_io: f64,
    /// Sessions started in the last seconds, each fading away (see the engine's `place`).
    #[prost(double, tag = "13")]
    pub starts: f64,
    /// Cores that running sessions and jobs asked for.
    #[prost(uint32, tag = "14")]
    pub cores_reserved: u32,
    /// Memory that they asked for, in bytes.
    #[prost(uint64, tag = "15")]
    pub mem_reserved: u64,
    /// GPUs that they asked for.
    #[prost(uint32, tag = "16")]
    pub gpus_reserved: u32,
    /// Free bytes where commands put their temporary files.
    #[prost(uint64, tag = "17")]
    pub disk_free: u64,
    /// Disk space that they asked for, in bytes.
    #[prost(uint64, tag = "18")]
    pub disk_reserved: u64,
    /// Nothing new is started there.
    #[prost(bool, tag = "19")]
    pub draining: bool,
    /// Which [`Facts`] it goes with.
    #[prost(uint64, tag = "20")]
    pub facts: u64,
    /// Batch jobs that run there.
    #[prost(uint32, tag = "21")]
    pub jobs: u32,
    /// Rises with each report of a boot: an older one that comes late does not count.
    #[prost(uint64, tag = "22")]
    pub seq: u64,
}

/// What a command needs of a host. Zero or empty: not said.
#[derive(Clone, PartialEq, Message)]
pub struct Need {
    /// Cores, reserved while it runs.
    #[prost(uint32, tag = "1")]
    pub cores: u32,
    /// Memory in bytes, reserved while it runs.
    #[prost(uint64, tag = "2")]
    pub mem: u64,
    /// GPUs, reserved while it runs.
    #[prost(uint32, tag = "3")]
    pub gpus: u32,
    /// Disk space in bytes, reserved while it runs.
    #[prost(uint64, tag = "4")]
    pub disk: u64,
    /// What must hold for the host, in the language of `libqueue::expr`.
    #[prost(string, tag = "5")]
    pub expr: String,
    /// The rsh form on a named host: an administrator's way into a host that is drained or full.
    #[prost(bool, tag = "6")]
    pub by_name: bool,
    /// It only looks at other sessions ([`Look`](super::Look)): nothing is counted.
    #[prost(bool, tag = "7")]
    pub look: bool,
}

/// The note that a daemon has queue-exec keep with a session that it granted.
#[derive(Clone, PartialEq, Message)]
pub struct SessionNote {
    /// What was asked for.
    #[prost(message, optional, tag = "1")]
    pub need: Option<Need>,
    /// Number of the grant.
    #[prost(uint64, tag = "2")]
    pub grant: u64,
    /// Which run of the daemon granted it.
    #[prost(bytes = "vec", tag = "3")]
    pub boot: Vec<u8>,
    /// Length of the lease in milliseconds, of an attempt of a batch job that has one.
    #[prost(uint64, tag = "4")]
    pub lease_ms: u64,
}

/// What a host is, as long as its daemon's configuration stays the same.
#[derive(Clone, PartialEq, Message)]
pub struct Facts {
    /// Names this set of facts; another one when any of them changes. Never 0.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Cores that may be used: the smaller of the machine's and the own cgroup's.
    #[prost(uint32, tag = "2")]
    pub cores: u32,
    /// Memory in bytes: the smaller of the machine's and the own cgroup's.
    #[prost(uint64, tag = "3")]
    pub mem: u64,
    /// Size in bytes of the disk for temporary files.
    #[prost(uint64, tag = "4")]
    pub disk: u64,
    /// GPUs.
    #[prost(message, repeated, tag = "5")]
    pub gpus: Vec<Gpu>,
    /// Architecture, as `uname -m`.
    #[prost(string, tag = "6")]
    pub arch: String,
    /// Kernel release, as `uname -r`.
    #[prost(string, tag = "7")]
    pub kernel: String,
    /// Distribution and its version, as `ID` and `VERSION_ID` of os-release: `debian-13`.
    #[prost(string, tag = "8")]
    pub os: String,
    /// Labels and sized resources of `queued.toml`, as written there: `raid` = `200G`, `room` = `b12`.
    #[prost(btree_map = "string, string", tag = "9")]
    pub resources: std::collections::BTreeMap<String, String>,
    /// Power factor of `queued.toml`: how fast a core is, compared with others (1.0).
    #[prost(double, tag = "10")]
    pub power: f64,
    /// At most so many sessions at once; 0: no limit.
    #[prost(uint32, tag = "11")]
    pub max_sessions: u32,
    /// Version of its software.
    #[prost(string, tag = "12")]
    pub version_text: String,
    /// Not willing: takes no work of others (`willing = false` in `queued.toml`).
    #[prost(bool, tag = "13")]
    pub unwilling: bool,
}

/// One GPU.
#[derive(Clone, PartialEq, Message)]
pub struct Gpu {
    /// Model, for people.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Memory in bytes; 0: not known.
    #[prost(uint64, tag = "2")]
    pub mem: u64,
}
