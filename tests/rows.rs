// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables under everything at once: rows created and counted in on all CPUs, read, aged out and
//! flooded. Every packet is in exactly one place, at any moment, to the packet.
//!
//! Frames go through the loaded BPF object with BPF_PROG_TEST_RUN, so these tests need root
//! (CAP_BPF, CAP_NET_ADMIN); without it they fail and say so. `TMON_PACKETS=n` sets how many.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its report
#![cfg(feature = "live")]
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use model::{
    flow::{Books, Count, Flow, Hook, Inner, InnerProto, Key, Kind, Pair, Tunnel},
    rows::Rows,
    snapshot::Snapshot,
};
use nix::{sched::CpuSet, unistd::Pid};
use testkit::{cpu::stay_on, frames};
use tmon::kernel::bpf::{Config, Packet, Program};

use frames::pkt;

fn load(config: Config) -> Program {
    Program::load(&config).unwrap_or_else(|e| {
        panic!(
            "cannot load the BPF object; this test needs root (CAP_BPF and CAP_NET_ADMIN): {e:#}"
        )
    })
}

/// The number of packets that the long tests send from each CPU.
fn packets(default: u64) -> u64 {
    std::env::var("TMON_PACKETS")
        .ok()
        .map_or(default, |n| n.parse().expect("TMON_PACKETS is a number"))
}

/// A frame whose innermost addresses can be changed cheaply: nothing verifies checksums.
#[derive(Clone)]
struct Template {
    bytes: Vec<u8>,
    inner: usize,
}

impl Template {
    /// VXLAN, IPv4 in IPv4, in this network.
    fn vxlan(hosts: &str, vni: u32) -> Template {
        let bytes = pkt()
            .eth()
            .ip(hosts)
            .udp(54321, 4789)
            .vxlan(vni)
            .eth()
            .ip("10.0.0.1 > 10.0.0.2")
            .udp(5, 6)
            .data(20)
            .bytes();
        Template { bytes, inner: 14 + 20 + 8 + 8 + 14 + 12 }
    }

    /// The same, carrying IPv6: a row of the table for everything else.
    fn vxlan6(hosts: &str, vni: u32) -> Template {
        let bytes = pkt()
            .eth()
            .ip(hosts)
            .udp(54321, 4789)
            .vxlan(vni)
            .eth()
            .ip("fd00::1 > fd00::2")
            .udp(5, 6)
            .data(20)
            .bytes();
        Template { bytes, inner: 14 + 20 + 8 + 8 + 14 + 8 + 12 }
    }

    /// The last four bytes of the innermost source address.
    fn from(&mut self, address: u32) -> &[u8] {
        self.bytes[self.inner..self.inner + 4].copy_from_slice(&address.to_be_bytes());
        &self.bytes
    }

    fn count(&self, packets: u64) -> Count {
        Count { packets, bytes: packets * self.bytes.len() as u64 }
    }
}

/// The CPUs that the threads of a test are spread over.
fn cpus() -> Vec<usize> {
    let set = nix::sched::sched_getaffinity(Pid::from_raw(0)).expect("ask for the CPUs");
    let mut own: Vec<usize> =
        (0..CpuSet::count()).filter(|n| set.is_set(*n).unwrap_or(false)).take(2).collect();
    own.resize(2, own[0]); // with one CPU, the two threads take turns
    own
}

/// Numbers that are the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) * u64::from(n)) >> 32) as u32
    }
}

fn read(program: &Program, at: u64) -> Snapshot {
    let mut rows = Rows::default();
    program.rows(0, &mut rows).expect("read the tables");
    Snapshot {
        origin: Default::default(),
        since: SystemTime::UNIX_EPOCH,
        taken: SystemTime::UNIX_EPOCH,
        at: Duration::from_secs(at),
        interfaces: vec![],
        rows,
        drops: None,
        beside: Default::default(),
    }
}

fn counted(books: &Books) -> Count {
    books.counted.into_iter().sum()
}

fn total<'a>(flows: impl IntoIterator<Item = &'a Flow>) -> Count {
    flows.into_iter().map(|f| f.counters.total()).sum()
}

/// What each pair of hosts exchanged in each tunnel, whatever was inside.
fn by_tunnel(flows: &[Flow]) -> BTreeMap<(Option<Pair>, Tunnel), Count> {
    let mut sums = BTreeMap::new();
    for f in flows {
        *sums.entry((f.key.outer, f.key.outermost)).or_insert(Count::default()) +=
            f.counters.total();
    }
    sums
}

/// The inner address whose last four bytes are these.
fn inner_of(key: &Key) -> Option<u32> {
    let low = |a: IpAddr| match a {
        IpAddr::V4(a) => a.to_bits(),
        IpAddr::V6(a) => a.to_bits() as u32,
    };
    // The templates' outer source is the lower one, so the inner source is first.
    key.inner.pair().map(|p| low(p.first))
}

/// Two CPUs create far more rows than there is room for, in both tables and on both hooks, while
/// one reader ages out idle rows and reads all the time.
#[test]
fn every_packet_is_in_one_place_while_rows_are_made_read_and_aged_out() {
    let program = load(Config { rows: 256, ..Config::default() });
    let each = packets(400_000);
    let hosts = ["172.16.1.1 > 172.16.1.2", "172.16.1.1 > 172.16.1.3", "172.16.1.2 > 172.16.1.3"];
    let running = AtomicUsize::new(2);
    let (sent, aged, readings) = std::thread::scope(|scope| {
        let senders: Vec<_> = cpus()
            .into_iter()
            .enumerate()
            .map(|(n, cpu)| {
                let (program, running) = (&program, &running);
                scope.spawn(move || {
                    stay_on(cpu);
                    let mut dice = Dice(0x9e37_79b9 + n as u64);
                    let mut frames: Vec<_> = hosts
                        .iter()
                        .flat_map(|h| [Template::vxlan(h, 7), Template::vxlan6(h, 8)])
                        .map(|t| (t, 0u64))
                        .collect();
                    let mut sent = 0;
                    while sent < each {
                        let burst = 1 + u64::from(dice.below(4));
                        let hook = [Hook::Rx, Hook::Tx][dice.below(2) as usize];
                        // Most packets belong to a few busy rows, the rest to very many.
                        let address =
                            if dice.below(4) > 0 { dice.below(40) } else { dice.below(1 << 20) };
                        let which = dice.below(6) as usize;
                        let (template, count) = &mut frames[which];
                        program
                            .repeat(hook, template.from(address), burst as i32)
                            .expect("run a frame");
                        *count += burst;
                        sent += burst;
                    }
                    running.fetch_sub(1, Ordering::Release);
                    frames.into_iter().map(|(t, n)| t.count(n)).collect::<Vec<_>>()
                })
            })
            .collect();

        let (mut aged, mut readings) = (0, 0);
        let mut older = read(&program, 0);
        let mut intervals = total(&older.rows.merged());
        let mut tunnels = BTreeMap::new();
        loop {
            let over = running.load(Ordering::Acquire) == 0;
            let before = counted(&program.books().expect("books"));
            aged += program.age(Duration::ZERO).expect("age");
            readings += 1;
            let newer = read(&program, readings);
            let after = counted(&program.books().expect("books"));
            let flows = newer.rows.merged();
            let sum = total(&flows).packets;
            // A packet is in its row before it is in the books: at most one per CPU is in between.
            assert!(
                (before.packets..=after.packets + 2).contains(&sum),
                "reading {readings}: {sum} packets in rows, {} to {} in the books",
                before.packets,
                after.packets
            );
            let now = by_tunnel(&flows);
            for (tunnel, then) in &tunnels {
                let n = now.get(tunnel).copied().unwrap_or_default();
                let Count { packets, bytes } = *then;
                assert!(
                    n.packets >= packets && n.bytes >= bytes,
                    "reading {readings}: {tunnel:?} went back from {then:?} to {n:?}"
                );
            }
            tunnels = now;
            let interval = newer.since(&older);
            let happened = total(&interval.rows.merged());
            intervals += happened;
            assert_eq!(
                intervals,
                total(&flows),
                "reading {readings}: the intervals do not add up to the totals"
            );
            older = newer;
            if over {
                break;
            }
        }
        let sent: Vec<Vec<Count>> =
            senders.into_iter().map(|s| s.join().expect("a sender")).collect();
        (sent, aged, readings)
    });

    let flows = read(&program, 0).rows.merged();
    println!("{} packets, {readings} readings, {aged} rows aged out", total(&flows).packets);
    assert_eq!(program.books().expect("books").seen(), program.books().expect("books").counted);
    assert_eq!(total(&flows), counted(&program.books().expect("books")));
    let mut want = BTreeMap::new();
    for (i, host) in hosts.iter().enumerate() {
        let (first, second) = frames::ends(host);
        for (j, vni) in [7, 8].into_iter().enumerate() {
            let tunnel = Tunnel { kind: Kind::Vxlan, id: Some(vni) };
            want.insert(
                (Some(Pair { first, second }), tunnel),
                sent[0][2 * i + j] + sent[1][2 * i + j],
            );
        }
    }
    assert_eq!(by_tunnel(&flows), want);
    assert!(
        aged > 256 && readings > 3,
        "this was no test of ageing: {aged} rows in {readings} readings"
    );
}

/// Both hooks on two CPUs, all in one row.
#[test]
fn two_cpus_on_one_row_lose_nothing() {
    let each = packets(2_000_000);
    for template in [
        Template::vxlan("172.16.1.1 > 172.16.1.2", 7),
        Template::vxlan6("172.16.1.1 > 172.16.1.2", 7),
    ] {
        let program = load(Config { rows: 64, ..Config::default() });
        std::thread::scope(|scope| {
            for (cpu, hook) in cpus().into_iter().zip([Hook::Rx, Hook::Tx]) {
                let (program, bytes) = (&program, &template.bytes);
                scope.spawn(move || {
                    stay_on(cpu);
                    // Each CPU on its own hook, then on the other one's.
                    for hook in [hook, if hook == Hook::Rx { Hook::Tx } else { Hook::Rx }] {
                        program.repeat(hook, bytes, each as i32).expect("run a frame");
                    }
                });
            }
        });
        let flows = read(&program, 0).rows.merged();
        assert_eq!(flows.len(), 1, "{flows:#?}");
        assert_eq!(flows[0].counters.rx(), template.count(2 * each));
        assert_eq!(flows[0].counters.tx(), template.count(2 * each));
    }
}

/// When CPUs alternate in a row, each gets a slot of its own. To readers it is one row, which lives
/// or ages as one; and if there is no room for more slots, all count in the shared one.
#[test]
fn a_row_shared_by_cpus_is_one_row() {
    let both = cpus();
    for (mut template, rows) in [Template::vxlan, Template::vxlan6]
        .map(|new| new("172.16.1.1 > 172.16.1.2", 7))
        .into_iter()
        .flat_map(|t| [(t.clone(), 64), (t, 8)])
    {
        let program = load(Config { rows, ..Config::default() });
        let slots = || program.rows(0, &mut Rows::default()).expect("read the tables").used;
        let full = rows == 8;
        template.from(1);
        program.repeat(Hook::Rx, &template.bytes, 1).expect("run a frame");
        for address in 2..if full { 200 } else { 2 } {
            program.repeat(Hook::Rx, template.from(address), 1).expect("run a frame");
        }
        let others = slots() - 1;
        template.from(1);
        // Until both have really run at the same time, however busy the machine is.
        let (each, mut rounds) = (packets(100_000), 0);
        while rounds < if full { 10 } else { 1000 } && slots() == others + 1 {
            rounds += 1;
            let barrier = Barrier::new(both.len());
            std::thread::scope(|scope| {
                for cpu in &both {
                    let (program, bytes, barrier) = (&program, &template.bytes, &barrier);
                    scope.spawn(move || {
                        stay_on(*cpu);
                        barrier.wait();
                        program.repeat(Hook::Rx, bytes, each as i32).expect("run a frame");
                    });
                }
            });
            if both[0] == both[1] {
                break; // no turns to be taken
            }
        }
        let each = rounds * each;
        let row = |program: &Program| {
            let flows = read(program, 0).rows.merged();
            let mine: Vec<_> = flows
                .iter()
                .filter(|f| inner_of(&f.key) == Some(1))
                .map(|f| f.counters.total())
                .collect();
            (mine, total(&flows))
        };
        assert_eq!(row(&program).0, [template.count(1 + 2 * each)], "one row, and nothing lost");
        if full {
            assert_eq!(slots(), others + 1);
            continue;
        }
        assert_eq!(slots() > 1, both[0] != both[1], "{} slots", slots());
        let idle = Duration::from_secs(1); // longer than a busy machine keeps us from sending
        let begin = std::time::Instant::now();
        let mut busy = 0;
        stay_on(both[0]);
        while begin.elapsed() < idle + idle / 4 {
            program.repeat(Hook::Rx, &template.bytes, 1).expect("run a frame");
            busy += 1;
        }
        assert_eq!(program.age(idle).expect("age"), 0, "one CPU's part is idle, the row is not");
        let all = template.count(1 + 2 * each + busy);
        assert_eq!(row(&program).0, [all]);
        std::thread::sleep(idle + idle / 4);
        let parts = slots();
        assert_eq!(program.age(idle).expect("age") as u64, parts, "all of it goes");
        assert_eq!(row(&program), (vec![], all), "and is in the aged row");
    }
}

/// `--rows` rows have room, and a good many more, whatever the addresses are.
#[test]
fn a_table_holds_its_stated_rows() {
    const ROWS: u32 = 16_384;
    // With this seed, and one in a hundred like it, a hash of multiplications alone would put 92 of
    // these addresses into one group of eight.
    let mut bad = [0; 12];
    bad[..3].copy_from_slice(&[
        0xfd7a_ca80_fada_96e0,
        0x14a9_8a48_b463_1e5a,
        0x2018_8447_fe30_366e,
    ]);
    bad[10..].copy_from_slice(&[0x5725_a176_375d_713e; 2]);
    for (seed, step) in [(Some(bad), 1u32), (None, 1), (None, 256), (None, 0x0001_0001)] {
        let program = load(Config { rows: ROWS, seed, ..Config::default() });
        let mut template = Template::vxlan("172.16.1.1 > 172.16.1.2", 7);
        let mut sent = 0u32;
        let mut send = |n: u32| {
            for _ in 0..n {
                program
                    .repeat(Hook::Rx, template.from(sent.wrapping_mul(step)), 1)
                    .expect("run a frame");
                sent += 1;
            }
            let mut rows = Rows::default();
            let fill = program.rows(0, &mut rows).expect("read the tables");
            (fill, rows.merged().iter().any(|f| f.key.other))
        };
        let (fill, other) = send(ROWS);
        assert!(!other && fill.used == u64::from(ROWS), "step {step}: {fill:?}");
        let (fill, _) = std::iter::repeat_with(|| send(128))
            .find(|(_, other)| *other)
            .expect("a table is full some day");
        println!("step {step}: the first `other` at {fill:?}");
        assert!(fill.used * 5 > fill.size * 3, "step {step}: {fill:?}");
    }
}

/// Ten times as many inner pairs as the table is sized for, beside ongoing conversations.
#[test]
fn a_flood_hides_no_host_and_no_network() {
    let program = load(Config { rows: 1024, ..Config::default() });
    let mut busy: Vec<_> =
        (0..8).map(|i| Template::vxlan("172.16.1.1 > 172.16.1.2", 10 + i)).collect();
    let mut flood = Template::vxlan("172.16.1.1 > 172.16.1.9", 66);
    let run = |t: &mut Template, address| {
        assert_eq!(program.repeat(Hook::Rx, t.from(address), 1).expect("run").0, -1)
    };
    for t in &mut busy {
        run(t, 1);
    }
    for i in 0..10_240 {
        run(&mut flood, 0x0a00_0000 + i);
        run(&mut busy[i as usize % 8], 1);
    }
    let flows = read(&program, 0).rows.merged();
    let named: Vec<_> = flows.iter().filter(|f| !f.key.other).collect();
    for (i, t) in busy.iter().enumerate() {
        let row =
            named.iter().find(|f| f.key.outermost.id == Some(10 + i as u32)).expect("a busy row");
        assert_eq!(row.counters.total(), t.count(1 + 10_240 / 8), "network {}", 10 + i);
    }
    let of_flood: Vec<_> = flows.iter().filter(|f| f.key.outermost.id == Some(66)).collect();
    assert_eq!(total(of_flood.iter().copied()), flood.count(10_240), "the flood, to the packet");
    let other = of_flood.iter().find(|f| f.key.other).expect("the flood's `other` row");
    assert_eq!(other.key.inner, Inner::Proto(InnerProto(InnerProto::REASON | 9)));
    assert_eq!(
        other.counters.total().packets,
        10_240 - (of_flood.len() as u64 - 1),
        "one packet for each row of its own"
    );
    assert!(of_flood.len() > 1024, "{} rows of a table made for 1024", of_flood.len());
}

/// More tunnels than there is room for, even as `other` rows: the rest is in one row of the
/// interface, by hook and direction, and the sum is what was sent.
#[test]
fn counts_without_room_are_in_the_overflow_row() {
    let program = load(Config { rows: 64, ..Config::default() });
    let mut sent = [[Count::default(); 2]; 2];
    for vni in 0..5000 {
        let (hook, way) = ([Hook::Rx, Hook::Tx][vni as usize % 2], vni as usize / 2 % 2);
        let hosts = ["172.16.1.1 > 172.16.1.2", "172.16.1.2 > 172.16.1.1"][way];
        let t =
            if vni % 3 == 0 { Template::vxlan6(hosts, vni) } else { Template::vxlan(hosts, vni) };
        program.repeat(hook, &t.bytes, 1).expect("run");
        sent[hook as usize][way] += t.count(1);
    }
    let flows = read(&program, 0).rows.merged();
    let (overflow, named): (Vec<&Flow>, Vec<&Flow>) =
        flows.iter().partition(|f| f.key.outer.is_none());
    assert_eq!(overflow.len(), 1, "{overflow:#?}");
    assert_eq!(
        (overflow[0].key.inner, overflow[0].key.other),
        (Inner::Proto(InnerProto(InnerProto::REASON | 10)), true)
    );
    // The contents of the others, which hold one packet each, are not in it.
    let mut rest = sent;
    for f in &named {
        assert_eq!(f.counters.total().packets, 1, "{f:#?}");
        for (rest, n) in rest.iter_mut().flatten().zip(f.counters.cells.iter().flatten()) {
            *rest = Count { packets: rest.packets - n.packets, bytes: rest.bytes - n.bytes };
        }
    }
    assert_eq!(overflow[0].counters.cells, rest);
    assert!(
        overflow[0].counters.total().packets > 2500,
        "this was no flood: {} other rows",
        named.len()
    );
    assert_eq!(counted(&program.books().expect("books")), sent.into_iter().flatten().sum());

    // Fragments are kept separately there as well.
    let frame = pkt()
        .eth()
        .ip("172.16.1.2 > 172.16.1.1")
        .udp(54321, 4789)
        .vxlan(5001)
        .eth()
        .ip("10.0.0.1 > 10.0.0.2")
        .udp(5, 6)
        .data(400);
    let mut pieces = Count::default();
    for part in frame.fragments(0, 200, 9) {
        let bytes = part.bytes();
        program.repeat(Hook::Tx, &bytes, 1).expect("run");
        pieces += Count { packets: 1, bytes: bytes.len() as u64 };
    }
    let flows = read(&program, 0).rows.merged();
    let overflow = flows.iter().find(|f| f.key.outer.is_none()).expect("the overflow row");
    assert_eq!(
        overflow.counters.in_fragments().cells,
        [[Count::default(); 2], [Count::default(), pieces]]
    );
}

/// Idle rows go, busy ones stay, and no total changes.
#[test]
fn idle_rows_go_and_busy_ones_stay() {
    let program = load(Config { rows: 1024, ..Config::default() });
    let (mut v4, mut v6) = (
        Template::vxlan("172.16.1.1 > 172.16.1.2", 7),
        Template::vxlan6("172.16.1.1 > 172.16.1.2", 7),
    );
    for i in 0..500 {
        for t in [&mut v4, &mut v6] {
            program.repeat(Hook::Tx, t.from(i), 1).expect("run");
        }
    }
    assert_eq!(program.age(Duration::from_secs(3600)).expect("age"), 0, "nothing is an hour old");
    // The clock of the slots is the kernel's: wait until they are older than the busy ones.
    let idle = Duration::from_secs(1); // longer than a busy machine keeps us from sending
    let begin = std::time::Instant::now();
    let mut busy = 0;
    while begin.elapsed() < idle + idle / 4 {
        program.repeat(Hook::Tx, v4.from(3), 1).expect("run");
        busy += 1;
    }
    program.repeat(Hook::Tx, v4.from(3), 1).expect("run");
    assert_eq!(program.age(idle).expect("age"), 999);
    let flows = read(&program, 0).rows.merged();
    let named: Vec<_> = flows.iter().filter(|f| !f.key.other).collect();
    assert_eq!(named.iter().map(|f| inner_of(&f.key)).collect::<Vec<_>>(), [Some(3)]);
    assert_eq!(named[0].counters.tx(), v4.count(busy + 2));
    let aged: Vec<_> = flows.iter().filter(|f| f.key.is_aged()).collect();
    assert_eq!(aged.len(), 1, "both families' rows belong to one tunnel");
    assert_eq!(aged[0].counters.tx(), v4.count(499) + v6.count(500));
    assert_eq!(aged[0].counters.fwd(), aged[0].counters.tx(), "the direction is kept");
}

/// At each kill, other rows are moving to their aged rows, or these are being created.
#[test]
#[allow(unsafe_code)] // fork
fn an_ager_that_is_killed_loses_nothing() {
    let program = load(Config { rows: 4096, ..Config::default() });
    let mut dice = Dice(7);
    let (mut longest, mut unfinished) = (Duration::from_millis(1), 0);
    for kill in 0..150u32 {
        for i in 0..1500 {
            // Some tunnels are new each time, and with them the rows that receive their counts.
            let vni = if i % 8 == 0 { 100 * kill + i % 64 } else { 7 };
            let hosts = "172.16.1.1 > 172.16.1.2";
            let mut t =
                if i % 2 == 0 { Template::vxlan(hosts, vni) } else { Template::vxlan6(hosts, vni) };
            program.repeat(Hook::Tx, t.from(i), 1 + (i % 3) as i32).expect("run");
        }
        std::thread::sleep(Duration::from_millis(20)); // a jiffy or two: now the rows are idle
        let (ready, begun) = nix::unistd::pipe().expect("a pipe");
        // SAFETY: the child only ages rows and ends; none of its memory comes back here.
        let child = match unsafe { nix::unistd::fork() }.expect("fork") {
            nix::unistd::ForkResult::Parent { child } => child,
            nix::unistd::ForkResult::Child => {
                let _ = nix::unistd::write(&begun, b"x");
                let done = program.age(Duration::ZERO).is_ok();
                // SAFETY: ends this process without the parent's exit handlers.
                unsafe { libc::_exit(if done { 0 } else { 1 }) }
            }
        };
        nix::unistd::read(&ready, &mut [0]).expect("the child to begin");
        let begin = std::time::Instant::now();
        // The first ones show how long it takes.
        let after = longest.mul_f64(f64::from(dice.below(1000)) / 1000.0);
        while kill >= 5 && begin.elapsed() < after {
            std::hint::spin_loop();
        }
        if kill >= 5 {
            nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).expect("kill");
        }
        match nix::sys::wait::waitpid(child, None).expect("wait") {
            nix::sys::wait::WaitStatus::Exited(_, code) => {
                assert_eq!(code, 0, "it finished ageing")
            }
            _ => unfinished += 1,
        }
        if kill < 5 {
            longest = longest.max(begin.elapsed());
        }
        // For the present reader, and for the next one that ages rows.
        let want = counted(&program.books().expect("books"));
        assert_eq!(total(&read(&program, 0).rows.merged()), want, "kill {kill}");
        if kill % 4 == 0 {
            program.age(Duration::ZERO).expect("age");
            assert_eq!(total(&read(&program, 0).rows.merged()), want, "kill {kill}, aged on");
        }
    }
    println!("{unfinished} of 150 killed before the end; {longest:?} at most");
    assert!(unfinished > 20, "this was no test of kills");
}

/// Fragments are kept separately from other packets, by tunnel and to the packet: in rows of their
/// own, in the `other` rows of a full table, and after these rows have aged.
#[test]
fn fragments_stay_with_their_tunnel_in_a_flood_and_when_rows_age() {
    let program = load(Config { rows: 64, replay: true, ..Config::default() });
    let hosts = ["172.16.1.1 > 172.16.1.2", "172.16.1.3 > 172.16.1.1", "fd00::1 > fd00::2"];
    let (mut want, mut all) = (BTreeMap::new(), BTreeMap::new());
    for i in 0..600u32 {
        let (host, vni) = (hosts[i as usize % 3], 7 + i % 2);
        let inner = format!("10.0.{}.{} > 10.1.0.1", i / 200, i % 200);
        let frame =
            pkt().eth().ip(host).udp(54321, 4789).vxlan(vni).eth().ip(&inner).udp(5, 6).data(400);
        // Every third packet is whole.
        let parts = if i % 9 < 3 { vec![frame] } else { frame.fragments(0, 200, i + 1) };
        let (first, second) = frames::ends(host);
        let outer = Pair { first: first.min(second), second: first.max(second) };
        let tunnel = (Some(outer), Tunnel { kind: Kind::Vxlan, id: Some(vni) });
        for part in &parts {
            let bytes = part.bytes();
            program.run(Hook::Tx, &Packet::ethernet(&bytes)).expect("run");
            let one = Count { packets: 1, bytes: bytes.len() as u64 };
            *all.entry(tunnel).or_insert(Count::default()) += one;
            *want.entry(tunnel).or_insert(Count::default()) +=
                if parts.len() > 1 { one } else { Count::default() };
        }
    }
    let in_fragments = |flows: &[Flow]| {
        let only: Vec<Flow> =
            flows.iter().map(|f| Flow { counters: f.counters.in_fragments(), ..*f }).collect();
        by_tunnel(&only)
    };
    let flows = read(&program, 0).rows.merged();
    assert!(
        flows.iter().any(|f| f.key.other && !f.counters.in_fragments().total().is_zero()),
        "this was no flood: {}",
        flows.len()
    );
    assert_eq!((by_tunnel(&flows), in_fragments(&flows)), (all.clone(), want.clone()));
    // A jiffy is at most 10 ms.
    std::thread::sleep(Duration::from_millis(25));
    assert!(program.age(Duration::ZERO).expect("age") > 64);
    let flows = read(&program, 0).rows.merged();
    assert!(flows.iter().all(|f| f.key.other), "{flows:#?}");
    assert_eq!((by_tunnel(&flows), in_fragments(&flows)), (all, want.clone()));
    let sum: Count = want.into_values().sum();
    assert_eq!(program.books().expect("books").fragments, [Count::default(), sum]);
}

/// Far more dead tunnels than `other` rows: their counts end in the interface's aged row, and the
/// programs still have room for `other` rows of their own.
#[test]
fn the_aged_rows_are_bounded_too() {
    let program = load(Config { rows: 1024, ..Config::default() });
    let mut sent = Count::default();
    let mut send = |vni: u32, hosts: &str| {
        let t = Template::vxlan(hosts, vni);
        program.repeat(Hook::Rx, &t.bytes, 1).expect("run");
        sent += t.count(1);
    };
    for round in 0..4 {
        for vni in 0..500 {
            send(round * 500 + vni, "172.16.1.1 > 172.16.1.2");
            send(round * 500 + vni, "172.16.1.2 > 172.16.1.1");
        }
        // A jiffy is at most 10 ms.
        std::thread::sleep(Duration::from_millis(25));
        assert!(program.age(Duration::ZERO).expect("age") >= 500);
    }
    let flows = read(&program, 0).rows.merged();
    let all = flows.iter().find(|f| f.key == Key::AGED).expect("the interface's aged row");
    assert_eq!(total(&flows), sent);
    assert!(all.counters.total().packets > sent.packets / 2);
    let both = flows
        .iter()
        .map(|f| (f.counters.fwd(), f.counters.rev()))
        .fold((Count::default(), Count::default()), |s, n| (s.0 + n.0, s.1 + n.1));
    assert_eq!(both.0, both.1, "directions are kept apart");
    assert!(flows.len() <= 512 / 2 + 1, "{} rows are left", flows.len());
}

/// Keys that collide under a known seed collide under that seed only.
#[test]
fn crafted_collisions_do_not_collide() {
    const ROWS: u32 = 1024;
    let seed: [u64; 12] =
        std::array::from_fn(|i| 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(i as u64 + 1));
    let groups = 2 * ROWS / 8;
    let nh = |word: u64, seed: u64| {
        let sum = word.wrapping_add(seed);
        u64::from(sum as u32).wrapping_mul(sum >> 32)
    };
    let vni = 7u64;
    // One tunnel, VXLAN, an id; the outer source is lower, seen at ingress: no direction bit.
    let meta = vni | u64::from(Kind::Vxlan.number()) << 32 | 0x02 << 40;
    let words = |a: [u8; 4], b: [u8; 4]| {
        u64::from(u32::from_ne_bytes(a)) | u64::from(u32::from_ne_bytes(b)) << 32
    };
    let outer = words([172, 16, 1, 1], [172, 16, 1, 2]);
    let group = |address: u32| {
        let inner = words(address.to_be_bytes(), [10, 0, 0, 2]);
        let sum =
            nh(meta, seed[0]).wrapping_add(nh(outer, seed[1])).wrapping_add(nh(inner, seed[2]));
        let hash = (sum ^ sum >> 32).wrapping_mul(seed[10] | 1);
        ((hash >> 35) as u32 & (groups - 1), ((hash >> 40) as u32 | 1) & (groups - 1))
    };
    let crafted: Vec<u32> = (0u32..).filter(|a| group(*a) == group(0)).take(120).collect();

    let rows = |seed| {
        let program = load(Config { rows: ROWS, seed, ..Config::default() });
        let mut template = Template::vxlan("172.16.1.1 > 172.16.1.2", vni as u32);
        for address in &crafted {
            program.repeat(Hook::Rx, template.from(*address), 1).expect("run");
        }
        let flows = read(&program, 0).rows.merged();
        assert_eq!(total(&flows), template.count(120), "none is lost either way");
        flows.iter().filter(|f| !f.key.other).count()
    };
    assert_eq!(rows(Some(seed)), 48, "all keys have the same six groups of eight slots");
    assert_eq!(rows(None), 120, "with another seed each has its own row");
}
