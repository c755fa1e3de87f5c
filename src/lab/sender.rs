// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packets that belong to some faults, sent for as long as these are active.
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, sendto, socket,
    },
};

use super::{
    fault::{Fault, HOST, lab, noted},
    plan::Plan,
    traffic::echo_socket,
};
use crate::kernel::netns::Netns;

/// How often to check whether the fault is still active.
const CHECK: Duration = Duration::from_millis(200);
/// The client whose address the storm asks for, which does not exist.
const ASKED: u8 = 249;

/// Whether a fault sends anything itself.
pub fn sends(fault: Fault) -> bool {
    matches!(fault, Fault::Duplicate | Fault::UnknownVtep | Fault::ArpStorm)
}

/// Sends the packets of a fault until it is cleared, the lab is gone, or `stop` becomes true.
/// Returns the number of packets.
///
/// # Errors
/// The fault is not active, or a client cannot send.
pub fn send(prefix: &str, fault: Fault, stop: &AtomicBool) -> Result<u64> {
    let plan = lab(prefix)?;
    let (mut voices, pace) = voices(&plan, fault)?;
    let (mut due, mut check) = (Instant::now(), Instant::now());
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= check {
            // A lab that cannot be examined any more has been removed.
            if !noted(&plan).is_ok_and(|faults| faults.contains(&fault)) {
                break;
            }
            check = now + CHECK;
        }
        // Delays are made up for, but not the time that the machine was suspended.
        due = due.max(now.checked_sub(CHECK).unwrap_or(now));
        while due <= now {
            let turn = sent as usize % voices.len();
            voices[turn].speak(sent)?;
            sent += 1;
            due += pace;
        }
        let wake = due.min(check).max(now + Duration::from_millis(5));
        thread::sleep(wake.saturating_duration_since(Instant::now()));
    }
    Ok(sent)
}

/// The senders, in turn, and the time between them.
fn voices(plan: &Plan, fault: Fault) -> Result<(Vec<Voice>, Duration)> {
    let asks = plan.client(0, 0);
    Ok(match fault {
        Fault::Duplicate => {
            let to = plan.client(0, HOST);
            let voices = [0, 2].map(|host| Voice::echo(plan, host, asks, to));
            (voices.into_iter().collect::<Result<_>>()?, Duration::from_millis(1000))
        }
        Fault::UnknownVtep => {
            let voice = Voice::echo(plan, HOST, plan.client(0, HOST), Fault::nobody(plan))?;
            (vec![voice], Duration::from_millis(200))
        }
        Fault::ArpStorm => {
            (vec![Voice::arp(plan, asks, plan.client(0, ASKED))?], Duration::from_micros(1250))
        }
        other => bail!("`{other}` sends nothing itself"),
    })
}

/// A sender.
enum Voice {
    /// ICMP echo requests.
    Echo(UdpSocket, SocketAddr),
    /// The same frame every time.
    Frame(OwnedFd, LinkAddr, Vec<u8>),
}

impl Voice {
    fn echo(plan: &Plan, host: u8, from: IpAddr, to: IpAddr) -> Result<Voice> {
        let socket = Netns::open(&plan.host(host))?.within(|| echo_socket(from))?;
        let socket = socket.with_context(|| format!("open an echo socket at {from}"))?;
        Ok(Voice::Echo(socket, SocketAddr::new(to, 0)))
    }

    /// An ARP request of host0's client in the first network.
    fn arp(plan: &Plan, from: IpAddr, to: IpAddr) -> Result<Voice> {
        let opened = Netns::open(&plan.host(0))?.within(|| {
            let own = getifaddrs()?
                .filter(|i| i.interface_name == "client0")
                .find_map(|i| i.address?.as_link_addr().copied());
            let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
            let none = None::<SockProtocol>;
            Ok::<_, nix::Error>((own, socket(AddressFamily::Packet, kind.0, kind.1, none)?))
        })?;
        let (own, socket) = opened.context("open a packet socket at client0 of host0")?;
        let own = own.context("host0 has no client0: recreate the lab")?;
        let mac = own.addr().unwrap_or_default();
        let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else {
            bail!("ARP is only for IPv4: {from} to {to}");
        };
        Ok(Voice::Frame(socket, own, who_has(mac, from, to)))
    }

    /// Sends its next packet. Waits if the queue is full, so that every counted packet was sent.
    fn speak(&mut self, number: u64) -> Result<()> {
        loop {
            let done = match self {
                Voice::Echo(socket, to) => {
                    // Answers do not matter, and must not fill the socket.
                    while socket.recv_from(&mut [0; 256]).is_ok() {}
                    socket.send_to(&echo(number as u16), *to).map(drop)
                }
                Voice::Frame(socket, at, frame) => {
                    let sent = sendto(socket.as_raw_fd(), frame, at, MsgFlags::empty());
                    sent.map(drop).map_err(io::Error::from)
                }
            };
            match done {
                Ok(()) => return Ok(()),
                Err(e) if is_passing(&e) => thread::sleep(Duration::from_millis(1)),
                Err(e) => return Err(e).context("send (is the lab still there?)"),
            }
        }
    }
}

/// Whether an error may be temporary: a full queue, or an error about an earlier packet.
fn is_passing(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR | libc::EHOSTUNREACH | libc::ECONNREFUSED)
    )
}

/// An echo request: the kernel fills in checksum and id.
fn echo(number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let mut bytes = vec![8, 0, 0, 0, 0, 0, high, low];
    bytes.resize(8 + 56, 0);
    bytes
}

/// "Who has `to`? Tell `from`" (RFC 826), as a broadcast.
fn who_has(mac: [u8; 6], from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(from.octets());
    frame.extend([0; 6]);
    frame.extend(to.octets());
    frame.resize(60, 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arp_request_is_valid() {
        let frame = who_has([2, 0, 0, 0, 0, 1], [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        assert_eq!(frame.len(), 60);
        assert_eq!(frame[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!((&frame[28..32], &frame[38..42]), (&[10, 0, 0, 1][..], &[10, 0, 0, 2][..]));
    }
}
