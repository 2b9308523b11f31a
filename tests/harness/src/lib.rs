//! N hosts on one machine, for tests, benchmarks and `make demo`. Needs root.
//!
//! A host is a set of Linux namespaces (network, UTS, mount, PID, IPC, cgroup) around a PID 1 that sleeps:
//! - network: `10.78.N.K/24` on a bridge that lives in a namespace of its own, no route further: nothing
//!   leaves the bridge, and the machine's own network sees no link, address or route;
//! - `/etc /var /root /home /srv` are overlays over the machine's own directories and are the host's disk
//!   (they survive `kill` and `revive`); `/run /tmp /dev/shm /dev/pts` are private and start empty at each
//!   boot; the rest of the file system is the machine's;
//! - `/etc/hosts` names all hosts `h1`..`hN`; the users are in [`accounts`];
//! - [`Cluster::shared`], also seen as `/srv/shared`, is the same directory on all hosts ("the NFS");
//! - `/proc/loadavg` is a file that [`Host::load`] writes; each boot has its own `boot_id`;
//! - with cgroup v2 on the machine, the host's processes live in one cgroup, which the host sees as the root
//!   of `/sys/fs/cgroup`.
//!
//! State is kept in `/opt/queue-hosts`, or where `QUEUE_HOSTS_DIR` says. That directory must not lie under a
//! path that hosts replace, nor on an overlay file system. Hosts that a program made with [`Cluster::up`] die
//! with that program, even when it is killed; the files and cgroups of such a cluster are removed by the next
//! `up` of anybody. The module knows nothing of how Queue works; [`queue`] knows how it is installed and started.

pub mod accounts;
mod boot;
mod cgroup;
mod cluster;
mod command;
mod enter;
mod host;
mod net;
mod process;
pub mod queue;
mod registry;
mod tmux;
mod wait;
mod wire;

pub use cluster::{Cluster, Options};
pub use command::{HostCommand, Output, Running, Status};
pub use host::Host;
pub use tmux::Tmux;
pub use wait::{LIMIT, wait_for, wait_until};
