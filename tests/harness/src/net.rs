//! Addresses and links between the hosts: a bridge in a namespace of its own, one veth per host.
//!
//! A pair of hosts is cut by telling each of them, in its neighbour table, a hardware address for the other one
//! that nobody has: packets vanish without an error, as on a dead line, and no packet filter is needed. A delay
//! works the same way; there the address belongs to the wire (see `wire.rs`), which holds packets back.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::enter::{self, Plan, Space};
use crate::process::Process;

/// The address of host `k`.
pub(crate) fn address(number: u8, k: usize) -> String {
    format!("10.78.{number}.{k}")
}

/// The hardware address of host `k`.
pub(crate) fn mac(number: u8, k: usize) -> [u8; 6] {
    [0x02, 0x71, number, 0, 0, k as u8]
}

/// The hardware address under which host `from` knows `to` while their link is cut or delayed.
pub(crate) fn wire_mac(number: u8, from: usize, to: usize) -> [u8; 6] {
    [0x02, 0x71, number, 1, from as u8, to as u8]
}

fn show(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// Starts the process that keeps the namespace of the bridge, and makes the bridge.
pub(crate) fn make_switch(ephemeral: bool) -> Result<Process> {
    let mut command = Command::new("sleep");
    command
        .arg("infinity")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut plan = Plan::new(Space::NewNet);
    plan.session = true;
    plan.mortal = ephemeral;
    enter::prepare(&mut command, plan);
    let mut child = enter::spawn_from_lasting_thread(command).context("making a network namespace")?;
    let switch = Process::of(child.id() as i32)?;
    std::thread::spawn(move || child.wait());
    let made = ip(
        Some(switch),
        "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         link set br0 addrgenmode none\nlink set br0 up\nlink set lo up\n",
    );
    if let Err(e) = made {
        switch.end()?;
        return Err(e.context("making a bridge"));
    }
    Ok(switch)
}

/// Gives a host that just booted its link and address.
pub(crate) fn plug(switch: Process, host: Process, number: u8, k: usize) -> Result<()> {
    // Both ends are made where they belong, so their names cannot meet others.
    let (s, h) = (switch.pid, host.pid);
    ip(
        None,
        &format!("link add h{k} netns {s} type veth peer name eth0 netns {h}\n"),
    )?;
    ip(
        Some(switch),
        &format!("link set h{k} addrgenmode none\nlink set h{k} master br0\nlink set h{k} up\n"),
    )?;
    ip(
        Some(host),
        &format!(
            "link set lo up\nlink set eth0 addrgenmode none\nlink set eth0 address {}\n\
             addr add {}/24 brd + dev eth0\nlink set eth0 up\n",
            show(mac(number, k)),
            address(number, k)
        ),
    )
}

/// Takes the link of a dead host away; the kernel would do it too, but later.
pub(crate) fn unplug(switch: Process, k: usize) {
    // It may be gone already.
    let _ = ip(Some(switch), &format!("link del h{k}\n"));
}

/// Connects host `k` to the bridge, or not.
pub(crate) fn attach(switch: Process, k: usize, attached: bool) -> Result<()> {
    ip(
        Some(switch),
        &format!(
            "link set h{k} {}\n",
            if attached { "master br0" } else { "nomaster" }
        ),
    )
}

/// What host `from` sends to `to` goes nowhere, or to the wire if there is one.
pub(crate) fn divert(from_host: Process, number: u8, from: usize, to: usize) -> Result<()> {
    let (ip_to, mac_to) = (address(number, to), show(wire_mac(number, from, to)));
    ip(
        Some(from_host),
        &format!("neigh replace {ip_to} lladdr {mac_to} dev eth0 nud permanent\n"),
    )
}

/// Undoes `divert`.
pub(crate) fn restore(from_host: Process, number: u8, to: usize) -> Result<()> {
    let (ip_to, mac_to) = (address(number, to), show(mac(number, to)));
    ip(
        Some(from_host),
        &format!("neigh replace {ip_to} lladdr {mac_to} dev eth0 nud reachable\n"),
    )
}

/// Makes the port that wires listen at, if it is not there.
pub(crate) fn make_wire_port(switch: Process) -> Result<()> {
    if ip(Some(switch), "link show wire1\n").is_ok() {
        return Ok(());
    }
    ip(
        Some(switch),
        "link add wire0 type veth peer name wire1\nlink set wire0 addrgenmode none\n\
         link set wire1 addrgenmode none\nlink set wire0 master br0\nlink set wire0 up\nlink set wire1 up\n",
    )
}

/// Runs lines of `ip` commands, in the network of a process or in the machine's.
fn ip(space: Option<Process>, lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(process) = space {
        enter::prepare(&mut command, Plan::new(Space::JoinNet(process.open()?)));
    }
    let mut child = command.spawn().context("starting ip (iproute2)")?;
    child
        .stdin
        .take()
        .context("no stdin")?
        .write_all(lines.as_bytes())?;
    let done = child.wait_with_output()?;
    if !done.status.success() {
        bail!("ip: {} in: {lines}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
