// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole path: two network namespaces, a veth, VXLAN over it, and real sockets.
use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use model::flow::{Hook, Kind};
use tmon::kernel::{
    netlink::{Netlink, NewLink, NewTunnel},
    netns::{self, Netns},
};

use crate::{
    bench::{Bench, Target},
    report::{Line, Report, Stat},
};

/// How long each measurement takes.
const SPAN: Duration = Duration::from_millis(300);
const ROUNDS: usize = 10;

/// A namespace with one end of the veth (`eth0`) and of the overlay (`vx0`).
pub(crate) struct End {
    pub(crate) netns: Netns,
    inner: Ipv4Addr,
}

impl Drop for End {
    fn drop(&mut self) {
        if let Err(e) = netns::delete(self.netns.name()) {
            eprintln!("{e:#}");
        }
    }
}

/// Two ends, joined.
pub(crate) fn ends() -> Result<[End; 2]> {
    let end = |n: u8| -> Result<End> {
        Ok(End {
            netns: Netns::create(&format!("tmon-cost-{}-{n}", process::id()))?,
            inner: Ipv4Addr::new(10, 78, 0, n),
        })
    };
    let ends = [end(1)?, end(2)?];
    Netlink::open_in(&ends[0].netns)?.create(
        "eth0",
        None,
        &NewLink::Veth { peer: "eth0", netns: Some(&ends[1].netns) },
    )?;
    for (end, n) in ends.iter().zip([1u8, 2]) {
        let mut netlink = Netlink::open_in(&end.netns)?;
        let outer = |n| IpAddr::from([10, 77, 0, n]);
        netlink.set_up("lo")?;
        netlink.set_up("eth0")?;
        netlink.add_address("eth0", outer(n), 24)?;
        let underlay = netlink.link("eth0")?.context("the veth")?.index;
        let tunnel = NewTunnel {
            kind: Kind::Vxlan,
            id: Some(77),
            port: Some(4789),
            local: Some(outer(n)),
            remote: Some(outer(3 - n)),
            underlay: Some(underlay),
            learning: false,
        };
        netlink.create("vx0", Some(1450), &NewLink::Tunnel(tunnel))?;
        netlink.set_up("vx0")?;
        netlink.add_address("vx0", end.inner.into(), 24)?;
    }
    Ok(ends)
}

/// Attaches a program to both hooks of both veths, until the result is dropped.
fn attach(bench: &Bench, target: Option<Target>, ends: &[End; 2]) -> Result<Vec<OwnedFd>> {
    let mut links = Vec::new();
    for end in ends {
        let index = Netlink::open_in(&end.netns)?.link("eth0")?.context("the veth")?.index;
        for (hook, point) in
            [(Hook::Rx, libbpf_sys::BPF_TCX_INGRESS), (Hook::Tx, libbpf_sys::BPF_TCX_EGRESS)]
        {
            let Some(target) = target else { continue };
            let program = bench.entry(target, hook).as_raw_fd();
            let fd = end.netns.within(|| {
                // SAFETY: no options.
                unsafe {
                    libbpf_sys::bpf_link_create(program, index as i32, point, std::ptr::null())
                }
            })?;
            if fd < 0 {
                return Err(io::Error::from_raw_os_error(-fd))
                    .context("attach to tcx (Linux 6.6 or newer)");
            }
            // SAFETY: a descriptor that nobody else owns.
            links.push(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Ok(links)
}

/// UDP packets of 64 bytes received per second.
fn udp(ends: &[End; 2]) -> Result<f64> {
    let to = ends[1].netns.within(|| UdpSocket::bind((ends[1].inner, 9000)))??;
    let from = ends[0].netns.within(|| UdpSocket::bind((ends[0].inner, 0)))??;
    from.connect((ends[1].inner, 9000))?;
    to.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (over, got) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|s| {
        s.spawn(|| {
            let mut buffer = [0; 128];
            while !over.load(Relaxed) {
                if to.recv(&mut buffer).is_ok() {
                    got.fetch_add(1, Relaxed);
                }
            }
        });
        let send = || -> Result<f64> {
            let payload = [0; 64];
            let (mut begun, mut before) = (Instant::now(), 0);
            let mut warm = true;
            loop {
                for _ in 0..64 {
                    let _ = from.send(&payload); // a full queue is not what is measured
                }
                let spent = begun.elapsed();
                if warm && spent > SPAN / 10 {
                    (begun, before, warm) = (Instant::now(), got.load(Relaxed), false);
                } else if spent > SPAN {
                    return Ok((got.load(Relaxed) - before) as f64 / spent.as_secs_f64());
                }
            }
        };
        let rate = send();
        over.store(true, Relaxed);
        rate
    })
}

/// TCP payload bits received per second.
fn tcp(ends: &[End; 2]) -> Result<f64> {
    let listener = ends[1].netns.within(|| TcpListener::bind((ends[1].inner, 0)))??;
    let address = listener.local_addr()?;
    let mut from =
        ends[0].netns.within(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)))??;
    let (mut to, _) = listener.accept()?;
    let got = AtomicU64::new(0);
    thread::scope(|s| {
        s.spawn(|| {
            let mut buffer = vec![0; 1 << 18];
            while let Ok(n @ 1..) = to.read(&mut buffer) {
                got.fetch_add(n as u64, Relaxed);
            }
        });
        let payload = vec![0; 1 << 17];
        let (mut begun, mut before) = (Instant::now(), 0);
        let mut warm = true;
        loop {
            from.write_all(&payload)?;
            let spent = begun.elapsed();
            if warm && spent > SPAN / 3 {
                (begun, before, warm) = (Instant::now(), got.load(Relaxed), false);
            } else if spent > SPAN {
                let bits = (got.load(Relaxed) - before) as f64 * 8.0;
                from.shutdown(std::net::Shutdown::Both)?;
                return Ok(bits / spent.as_secs_f64());
            }
        }
    })
}

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let ends = ends()?;
    let bench = Bench::new(65_536)?;
    report.heading(
        "The whole path, veth and VXLAN, both ends, both hooks: ratio to an empty program",
    );
    for (what, unit, scale, run) in [
        ("UDP, 64 bytes", "kpps", 1e3, udp as fn(&[End; 2]) -> Result<f64>),
        ("TCP bulk", "Gbit/s", 1e9, tcp),
    ] {
        run(&ends)?; // neighbours, routes, caches
        let mut rates: [Vec<f64>; 4] = Default::default();
        let targets = [None, Some(Target::Empty), Some(Target::Ancestor), Some(Target::Ours)];
        for round in 0..ROUNDS {
            for i in 0..4 {
                let i = (i + round) % 4; // no target is always first
                let _attached = attach(&bench, targets[i], &ends)?;
                rates[i].push(run(&ends)? / scale);
            }
        }
        let seen = bench.ours.books()?;
        ensure!(seen.counted.iter().all(|c| !c.is_zero()), "nothing was counted: {seen:?}");
        let [nothing, empty, ancestor, ours] = rates;
        let ratio = |a: &[f64]| Stat::of(a.iter().zip(&empty).map(|(a, e)| a / e));
        // The difference between no program and an empty program is the noise, between 5 and 15 %.
        let noise = ratio(&nothing);
        let limit = 1.0 - (noise.high - noise.low).clamp(0.05, 0.15);
        ensure!(noise.median.is_finite(), "nothing arrived");
        for (who, rates) in [
            ("nothing attached", &nothing),
            ("empty", &empty),
            ("ancestor", &ancestor),
            ("tmon", &ours),
        ] {
            let line = Line {
                ratio: Some(ratio(rates)),
                ..Line::cost(format!("{what}, {who}"), unit, Stat::of(rates.iter().copied()))
            };
            report.add(if who == "tmon" { line.at_least(limit) } else { line });
        }
    }
    Ok(())
}
