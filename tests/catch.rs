// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon capture` on interfaces, compared with another tool's capture of the same packets. Needs
//! root.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    time::SystemTime,
};

use feed::{Source, names::Names};
use ground::{Ground, VNI, inject, own_bpffs, send, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::{frames::pkt, ground};
use tmon::kernel::{
    attach::Want,
    bpf::Config,
    closer::LiveCloser,
    live::Live,
    probe::{Prober, Wish},
};

/// A `tmon capture` that is listening.
struct Capturing {
    child: Child,
    said: BufReader<ChildStderr>,
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

impl Capturing {
    fn begin(args: &[&str]) -> Capturing {
        Capturing::by(&mut Command::new(env!("CARGO_BIN_EXE_tmon")), args)
    }

    /// The same by a command that runs it.
    fn by(command: &mut Command, args: &[&str]) -> Capturing {
        let mut child = command
            .arg("capture")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut all = String::new();
        while !all.contains("listening on") {
            assert!(said.read_line(&mut all).unwrap() > 0, "it ended: {all}");
        }
        Capturing { child, said }
    }

    /// Its remaining output.
    fn rest(mut self) -> (ExitStatus, String) {
        let mut text = String::new();
        self.said.read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap(), text)
    }

    fn end(self) -> String {
        signal(&self.child, Signal::SIGINT);
        let (status, text) = self.rest();
        assert!(status.success(), "{text}");
        text
    }
}

/// The complete blocks of a pcapng file: the type and the contents.
fn blocks(file: &Path) -> Vec<(u32, Vec<u8>)> {
    let (bytes, mut at, mut all) = (fs::read(file).unwrap(), 0, Vec::new());
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    while at + 12 <= bytes.len() {
        let length = word(at + 4) as usize;
        if at + length > bytes.len() {
            break;
        }
        assert_eq!(word(at + length - 4) as usize, length, "whole blocks");
        all.push((word(at), bytes[at + 8..at + length - 4].to_vec()));
        at += length;
    }
    all
}

/// The frames of a pcapng file.
fn frames(file: &Path) -> Vec<Vec<u8>> {
    let packets = blocks(file).into_iter().filter(|(kind, _)| *kind == 6);
    packets
        .map(|(_, body)| {
            let length = u32::from_le_bytes(body[12..16].try_into().unwrap()) as usize;
            body[20..20 + length].to_vec()
        })
        .collect()
}

fn tshark(g: &Ground, args: &str) -> String {
    g.a.run("tshark", args)
}

#[test]
fn the_frames_match_another_tools_capture() {
    let g = Ground::new();
    let netns = g.a.name();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (all, ours, judged) = (path("all.pcapng"), path("ours.pcapng"), path("judged.pcapng"));
    let [a, b] = g.sockets(7000);
    send(&a, &b, 3); // a row that is there

    let mut other = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{netns}"))
        .args(["tshark", "-Q", "-i", "eth0", "-w"])
        .arg(&all)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("tshark captures", || {
        send(&a, &b, 1);
        fs::metadata(&all).is_ok_and(|m| m.len() > 1000)
    });
    let filter = format!("vni:{VNI} inner:{}", ground::inner(2));
    let args = ["eth0", "--netns", netns, &filter, "-w", ours.to_str().unwrap()];
    let capture = Capturing::begin(&args);
    let before = frames(&all).len();
    send(&a, &b, 200);
    send(&b, &a, 100);
    let [c, d] = g.sockets(7001);
    send(&c, &d, 50);
    let text = capture.end();
    assert!(
        text.contains("350 packets matched = 350 written + 0 ring-full + 0 over-limit"),
        "{text}"
    );
    until("tshark has all of them", || frames(&all).len() >= before + 350);
    signal(&other, Signal::SIGINT);
    other.wait().unwrap();
    let (all, judged) = (all.to_str().unwrap(), judged.as_path());
    let expression = format!("vxlan.vni=={VNI}&&ip.addr=={}", ground::inner(2));
    tshark(&g, &format!("-r {all} -Y {expression} -w {}", judged.display()));
    let mine = frames(&ours);
    let judged = frames(judged);
    assert_eq!(mine.len(), 350);
    assert!(judged.ends_with(&mine), "the same frames, the same bytes, in the same order");
    assert_eq!(fs::metadata(&ours).unwrap().permissions().mode() & 0o777, 0o600);

    // How readers interpret it: direction, and a comment on the row's first packet.
    let ours = ours.to_str().unwrap();
    let said = tshark(
        &g,
        &format!(
            "-r {ours} -T fields -e frame.interface_name -e frame.packet_flags_direction -e frame.comment"
        ),
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 350);
    assert!(
        lines[0].starts_with("eth0\t") && lines[0].contains(&format!("vxlan {VNI}, ")),
        "{}",
        lines[0]
    );
    let of = |direction: &str| {
        lines.iter().filter(|l| l.split('\t').nth(1).unwrap().ends_with(direction)).count()
    };
    assert_eq!((of("1"), of("2")), (100, 250), "in and out: {}", lines[0]);
    // Interface statistics are the last block.
    assert_eq!(blocks(Path::new(ours)).last().unwrap().0, 5);
}

#[test]
fn in_a_time_namespace_packets_have_the_time_of_the_wall_clock() {
    let g = Ground::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("times.pcapng");
    let [a, b] = g.sockets(7000);
    let mut command = Command::new("unshare");
    // Ahead, a lease would never end; behind, it would have ended long ago.
    command.args(["--time", "--monotonic=-5", "--boottime=90000", env!("CARGO_BIN_EXE_tmon")]);
    let args = ["eth0", "--netns", g.a.name(), "", "--count", "20", "-w", file.to_str().unwrap()];
    let seconds = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let from = seconds();
    let capture = Capturing::by(&mut command, &args);
    until("packets are written", || {
        send(&a, &b, 20);
        fs::metadata(&file).is_ok_and(|m| m.len() > 2000)
    });
    let (status, text) = capture.rest();
    assert!(status.success(), "{text}");
    let until = seconds();
    let packets = blocks(&file).into_iter().filter(|(kind, _)| *kind == 6);
    let times: Vec<u64> = packets
        .map(|(_, body)| {
            let word =
                |at: usize| u64::from(u32::from_le_bytes(body[at..at + 4].try_into().unwrap()));
            (word(4) << 32 | word(8)) / 1_000_000_000
        })
        .collect();
    assert_eq!(times.len(), 20, "{text}");
    assert!(times.iter().all(|t| (from..=until).contains(t)), "{from} to {until}: {times:?}");
}

#[test]
fn it_ends_by_count_by_time_or_when_its_reader_goes() {
    let g = Ground::new();
    let netns = g.a.name();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("few.pcapng");
    let [a, b] = g.sockets(7000);
    let args = ["eth0", "--netns", netns, "", "--count", "5", "-w", file.to_str().unwrap()];
    let capture = Capturing::begin(&args);
    send(&a, &b, 8);
    let (status, text) = capture.rest();
    assert!(status.success() && text.contains("= 5 written"), "{text}");
    assert_eq!(frames(&file).len(), 5);

    let again =
        Command::new(env!("CARGO_BIN_EXE_tmon")).arg("capture").args(args).output().unwrap();
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && text.contains("already exists"), "{text}");

    let mut capture = Capturing::begin(&["eth0", "--netns", netns, "", "-w", "-"]);
    let mut out = capture.child.stdout.take().unwrap();
    let mut head = [0; 28];
    until("the beginning comes without waiting for the end", || {
        send(&a, &b, 1);
        out.read_exact(&mut head).is_ok()
    });
    drop(out);
    until("it ends", || {
        let _ = a.send(b"x");
        let _ = b.recv(&mut [0; 8]);
        capture.child.try_wait().unwrap().is_some()
    });
    let (status, text) = capture.rest();
    assert!(status.success() && text.contains("has closed it"), "{text}");

    let values: Vec<String> = (1..=33).map(|n| n.to_string()).collect();
    let long = format!("vni:{}", values.join(","));
    let nothing = dir.path().join("nothing.pcapng");
    let out = Command::new(env!("CARGO_BIN_EXE_tmon"))
        .args(["capture", "eth0", "--netns", netns, &long, "-w", nothing.to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!((out.status.code(), nothing.exists()), (Some(1), false), "{text}");

    // A stalled reader does not delay it, and packets that it has not read do not count as written.
    use nix::fcntl::{FcntlArg, fcntl};
    let mut capture = Capturing::begin(&["eth0", "--netns", netns, "", "-w", "-"]);
    fcntl(capture.child.stdout.as_ref().unwrap(), FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    send(&a, &b, 100);
    std::thread::sleep(std::time::Duration::from_millis(300)); // the pipe is full, or nearly
    signal(&capture.child, Signal::SIGTERM);
    until("it ends", || capture.child.try_wait().unwrap().is_some());
    let mut kept = Vec::new();
    capture.child.stdout.take().unwrap().read_to_end(&mut kept).unwrap();
    let (_, text) = capture.rest();
    let number = |before: &str| -> u64 {
        let head = text.split(before).next().unwrap();
        head.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let whole = dir.path().join("whole.pcapng");
    std::fs::write(&whole, &kept).unwrap();
    assert!(text.contains("did not read all of it"), "{text}");
    assert_eq!(number(" written"), frames(&whole).len() as u64, "{text}");
    assert_eq!(number(" packets"), number(" written") + number(" that could"), "{text}");

    let none = dir.path().join("none.pcapng");
    let args = ["eth0", "--netns", netns, "vni:1", "--for", "200ms", "-w", none.to_str().unwrap()];
    let (status, text) = Capturing::begin(&args).rest();
    assert!(status.success() && text.contains("0 packets matched = 0 written"), "{text}");
}

#[test]
fn packets_are_filtered_by_contents_and_decapsulated() {
    let g = Ground::new();
    let netns = g.a.name();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcapng");
    let [[a, b], [c, d]] = [g.sockets(7000), g.sockets(7001)];
    let filter = format!("vni:{VNI} port:7001 l4:udp !flags:syn");
    let args = ["eth0", "--netns", netns, &filter, "--decap", "1", "--snaplen", "40", "-w"];
    let capture = Capturing::begin(&[&args[..], &[file.to_str().unwrap()]].concat());
    send(&a, &b, 30);
    send(&c, &d, 20);
    send(&d, &c, 10);
    let text = capture.end();
    let words =
        "60 packets of matching rows = 30 written + 0 ring-full + 0 over-limit + 30 not matched";
    assert!(text.contains(words), "{text}");
    let fields = "-T fields -e frame.protocols -e udp.port -e frame.cap_len -e frame.comment";
    let said = tshark(&g, &format!("-r {} {fields}", file.display()));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 30, "{said}");
    for line in &lines {
        assert!(
            line.starts_with("eth:ethertype:ip:udp") && line.contains("7001,7001\t40"),
            "{line}"
        );
        assert!(!line.contains("vxlan:"), "{line}");
    }
    assert!(lines[0].ends_with(&format!("; without vxlan {VNI}")), "{}", lines[0]);
}

#[test]
fn packets_at_a_devices_own_port_are_examined() {
    let g = Ground::new();
    let netns = g.a.name();
    let (from, to) = (ground::outer(1), ground::outer(2));
    for (n, local, remote) in [(&g.a, &from, &to), (&g.b, &to, &from)] {
        let link =
            format!("link add vy type vxlan id 88 dstport 5555 local {local} remote {remote}");
        n.ip(&link);
        n.ip("link set vy up");
    }
    g.a.ip("addr add 10.88.0.1/24 dev vy");
    g.b.ip("addr add 10.88.0.2/24 dev vy");
    let answers = || g.a.try_run("ping", &["-c", "1", "-W", "5", "10.88.0.2"]).is_ok();
    until("the other end answers", answers);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcapng");
    let args = ["eth0", "--netns", netns, "vni:88 l4:icmp", "--decap", "1", "-w"];
    let capture = Capturing::begin(&[&args[..], &[file.to_str().unwrap()]].concat());
    (0..5).for_each(|_| assert!(answers()));
    let text = capture.end();
    let said = tshark(&g, &format!("-r {} -T fields -e frame.protocols", file.display()));
    assert_eq!(said.lines().count(), 10, "{text}{said}");
    assert!(said.lines().all(|line| line.starts_with("eth:ethertype:ip:icmp")), "{said}");
}

#[test]
fn a_loopback_packet_is_examined_once() {
    let g = Ground::new();
    let netns = g.a.name();
    g.a.ip("link set lo up");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcapng");
    let capture =
        Capturing::begin(&["lo", "--netns", netns, "vni:9", "-w", file.to_str().unwrap()]);
    let (raw, index) = (g.a.raw(), g.a.link("lo").index);
    let inside = pkt().eth().ip("10.9.0.1 > 10.9.0.2").udp(1, 2).data(40);
    let frame = pkt().eth().ip("127.0.0.1 > 127.0.0.1").udp(50_000, 4789).vxlan(9).then(inside);
    (0..20).for_each(|_| _ = inject(&raw, index, &frame.bytes()));
    let text = capture.end();
    assert!(text.contains("20 packets matched = 20 written"), "{text}");
    assert_eq!(frames(&file).len(), 20);
}

#[test]
fn what_the_kernel_drops_is_captured_with_the_reason() {
    let g = Ground::new();
    own_bpffs();
    let netns = g.b.name();
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = g.sockets(7000);
    send(&a, &b, 3); // the neighbours are known
    let tmon = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tmon"));
        command.args(args).arg("eth0").args(["--netns", netns]).output().unwrap()
    };
    g.b.run("nft", "add table ip t");
    g.b.run("nft", "add chain ip t in { type filter hook input priority 0; }");
    for (run, inside, attached) in [(0, true, false), (1, false, false), (2, true, true)] {
        if attached {
            assert!(tmon(&["attach", "--rows", "1024"]).status.success());
        }
        // Every third packet, before or after it is taken out of its tunnel.
        let port = if inside { 7000 } else { 4789 };
        g.b.run("nft", "flush chain ip t in");
        g.b.run(
            "nft",
            &format!("add rule ip t in udp dport {port} numgen inc mod 3 == 2 counter drop"),
        );
        let file = dir.path().join(format!("{run}.pcapng"));
        let filter = format!("vni:{VNI} inner:{} port:7000", ground::inner(2));
        let args = ["eth0", "--netns", netns, "--dropped", &filter, "-w", file.to_str().unwrap()];
        let capture = Capturing::begin(&args);
        for _ in 0..90 {
            a.send(b"0123456789").unwrap();
        }
        let counted = || -> u64 {
            let text = g.b.run("nft", "list ruleset");
            let mut words = text.split_whitespace().skip_while(|w| *w != "packets");
            words.nth(1).unwrap().parse().unwrap()
        };
        until("all have come", || counted() >= 30);
        let dropped = counted();
        let text = capture.end();
        let words = format!("{dropped} packets of matching rows = {dropped} written + 0 ring-full");
        assert!(dropped == 30 && text.contains(&words), "{dropped}: {text}");
        let fields = "-T fields -e vxlan.vni -e udp.dstport -e data.len -e frame.comment";
        let said = tshark(&g, &format!("-r {} {fields}", file.display()));
        assert_eq!(said.lines().count(), 30, "{said}");
        let begin = format!("{VNI}\t4789,7000\t10\tdropped: NETFILTER_DROP: vxlan {VNI}, ");
        for line in said.lines() {
            assert!(line.starts_with(&begin), "{line}, not {begin}");
            assert_eq!(line.contains("as the receiver left them"), inside, "{line}");
        }
        while b.set_nonblocking(true).is_ok() && b.recv(&mut [0; 16]).is_ok() {}
        b.set_nonblocking(false).unwrap();
        if attached {
            assert!(tmon(&["detach"]).status.success());
        }
    }
    // Without an expression it is whatever is in a tunnel; and more than the limit is counted.
    let file = dir.path().join("limit.pcapng");
    let capture = Capturing::begin(&[
        "eth0",
        "--netns",
        netns,
        "--dropped",
        "--limit",
        "5",
        "-w",
        file.to_str().unwrap(),
    ]);
    for _ in 0..90 {
        a.send(b"0123456789").unwrap();
    }
    let text = capture.end();
    let kept = frames(&file).len();
    assert!(
        text.contains(&format!("30 packets matched = {kept} written + 0 ring-full + ")),
        "{text}"
    );
    assert!((5..30).contains(&kept), "{text}");
    let refused = Command::new(env!("CARGO_BIN_EXE_tmon"))
        .args(["capture", "--dropped", "iface:eth0", "-w", "x.pcapng"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.status.code() == Some(2) && text.contains("cannot select dropped packets"),
        "{text}"
    );
}

#[test]
fn a_capture_that_is_killed_leaves_the_rows_of_attached_programs_as_they_were() {
    let g = Ground::new();
    own_bpffs();
    let netns = g.a.name();
    let [a, b] = g.sockets(7000);
    let tmon = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    tmon(&["attach", "eth0", "--netns", netns, "--rows", "1024"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcapng");
    let live =
        Live::open(&["eth0".to_owned()], Some(netns), &Config::default(), Want::Best).unwrap();
    assert!(live.is_attached());
    let probed = || live.probed_interface(0).unwrap().program.unwrap().probed();
    send(&a, &b, 10);
    let args = ["eth0", "--netns", netns, "", "-w", file.to_str().unwrap()];
    let mut capture = Capturing::begin(&args);
    send(&a, &b, 10);
    assert!(probed() > 0);
    capture.child.kill().unwrap();
    capture.child.wait().unwrap();
    until("its lease is over", || {
        send(&a, &b, 1);
        send(&b, &a, 1);
        probed() == 0
    });
    // And the next capture begins as the first did.
    let second = dir.path().join("b.pcapng");
    let args = ["eth0", "--netns", netns, "", "-w", second.to_str().unwrap()];
    let capture = Capturing::begin(&args);
    send(&a, &b, 10);
    let text = capture.end();
    assert!(text.contains("= 10 written"), "{text}");
    assert_eq!(probed(), 0);
    tmon(&["detach", "eth0", "--netns", netns]);
}

#[test]
fn a_dashboard_examines_packets_while_asked_to() {
    let g = Ground::new();
    let [a, b] = g.sockets(7000);
    send(&a, &b, 10);
    let live = g.watch(&Config::default(), Want::Best);
    let mut source = LiveCloser::new(live, Names::default(), "tmon");
    let rows = format!("vni:{VNI}").parse().unwrap();
    assert_eq!(source.closer().unwrap().seen().unwrap(), None, "no lens is active yet");
    source.closer().unwrap().look(Some(&rows)).unwrap();
    send(&a, &b, 10);
    // Another conversation makes a new row.
    let [c, d] = g.sockets(7001);
    send(&d, &c, 5);
    let seen = |source: &mut LiveCloser| source.closer().unwrap().seen().unwrap().unwrap();
    until("all packets are seen", || seen(&mut source).looked_at >= 15);
    assert!(source.follow().is_empty(), "nothing goes wrong");
    let lens = seen(&mut source);
    let sums = lens.sums();
    let of = |port| sums.iter().find(|s| s.port == Some(port)).unwrap().count.packets;
    assert_eq!([of(7000), of(7001)], [10, 5], "{sums:?}");
    let all: u64 = sums.iter().map(|s| s.count.packets).sum();
    assert_eq!((all, lens.lost, lens.filter), (lens.looked_at, 0, rows.to_string()));
    let long = (0..40).map(|n| format!("vni:{n}")).collect::<Vec<_>>().join(" ");
    let e = source.closer().unwrap().look(Some(&long.parse().unwrap())).unwrap_err();
    assert!(e.to_string().contains("compares 40 values"), "{e}");
    assert_eq!(source.closer().unwrap().seen().unwrap(), None, "the previous lens has ended");
    source.closer().unwrap().look(None).unwrap();
    assert!(source.read().is_ok());
}

#[test]
fn a_dashboard_saves_packets_and_accounts_for_all() {
    let g = Ground::new();
    let [a, b] = g.sockets(7000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pcapng");
    let live = g.watch(&Config::default(), Want::Best);
    let mut source = LiveCloser::new(live, Names::default(), "tmon");
    let rows = format!("vni:{VNI}").parse().unwrap();
    let closer = source.closer().unwrap();
    assert_eq!(closer.caught(false), None, "nothing is caught yet");
    let file = || fs::File::create(&path).unwrap();
    let e = closer.catch(&rows, file(), &|| anyhow::bail!("no name")).unwrap_err();
    assert_eq!((e.to_string(), closer.caught(false)), ("no name".to_owned(), None));
    closer.catch(&rows, file(), &|| Ok("a.pcapng".to_owned())).unwrap();
    send(&a, &b, 20);
    until("they are in the file", || closer.caught(false).unwrap().packets >= 20);
    let news = closer.caught(true).unwrap();
    let (packets, line) = (news.packets, news.end.unwrap().unwrap());
    let bytes = fs::metadata(&path).unwrap().len();
    assert_eq!((news.lost, news.bytes), (0, bytes));
    let words =
        format!("{packets} packets matched = {packets} written + 0 ring-full + 0 over-limit");
    assert!(
        line.starts_with(&format!("{packets} packets, "))
            && line.contains(" lost: a.pcapng: ")
            && line.contains(&words),
        "{line}"
    );
    assert_eq!(frames(&path).len() as u64, packets);
    assert_eq!(closer.caught(false), None, "it is over");

    // Quitting meanwhile is reported as well; a full disk leaves complete packets.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    closer.catch(&rows, full, &|| Ok("full.pcapng".to_owned())).unwrap();
    send(&a, &b, 3);
    let line = source.end().unwrap();
    assert!(line.starts_with("write the capture: No space left"), "{line}");
    assert!(line.ends_with("full.pcapng"), "{line}");
    assert_eq!(source.end(), None);
}

/// Connections from one end to the other and back, as long as the caller wants.
fn talk(g: &Ground, mut goes_on: impl FnMut(u32) -> bool) {
    let run = |space: &str, program: &str| {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{space}")).args(["python3", "-c", program]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let to = ground::inner(2);
    let serve = format!(
        "import socket\ns=socket.create_server(('{to}',7000))\nprint(1,flush=True)\n\
         while 1:\n c,_=s.accept()\n while 1:\n  d=c.recv(100)\n  if not d: break\n  c.sendall(d)\n"
    );
    let mut server = run(g.b.name(), &serve);
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let ask = format!(
        "import socket\ns=socket.create_connection(('{to}',7000))\n\
         for i in range(30):\n s.sendall(b'x'*50)\n s.recv(100)\n"
    );
    let mut talks = 0;
    while goes_on(talks) {
        assert!(run(g.a.name(), &ask).wait().unwrap().success());
        talks += 1;
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn retransmissions_match_the_kernels_and_answers_are_timed() {
    let g = Ground::new();
    let mut live = g.watch(&Config::default(), Want::Best);
    let filter = format!("vni:{VNI}").parse().unwrap();
    let mut prober = Prober::new(Wish { filter, rtt: true, ..Wish::default() }).unwrap();
    live.probe(&mut prober).unwrap();
    assert_eq!(live.notices(), Vec::<String>::new());
    let sent_again = || {
        [&g.a, &g.b].map(|space| -> u64 {
            let told = space.run("nstat", "-asz TcpRetransSegs");
            let mut words = told.split_whitespace().skip_while(|word| *word != "TcpRetransSegs");
            words.nth(1).unwrap().parse().unwrap()
        })
    };
    // Some segments are lost on the way in, after the hook that counts them.
    g.b.run("nft", "add table ip t");
    g.b.run("nft", "add chain ip t in { type filter hook input priority 0; }");
    g.b.run("nft", "add rule ip t in tcp dport 7000 numgen inc mod 13 == 11 drop");
    let before = sent_again();
    talk(&g, |talks| talks < 4);
    let again = [0, 1].map(|end| sent_again()[end] - before[end]);
    assert!(again[0] > 4, "{again:?}");
    prober.stop().unwrap();
    let timed = prober.timed().unwrap().unwrap();
    let ways: Vec<_> = timed.rows.values().collect();
    let [[fwd, rev]] = ways.as_slice() else { panic!("{timed:?}") };
    // The other end retransmits as well when an acknowledgement was lost.
    let counted = [fwd, rev].map(|way| way.retransmitted + way.out_of_order);
    assert_eq!(counted, again, "{fwd:?} {rev:?}");
    // All 30 requests of a connection are answered, most of them at the first transmission.
    assert!(fwd.samples > 4 * 20 && rev.samples > 4 * 20, "{} {}", fwd.samples, rev.samples);
    let [least, most] = fwd.extremes().unwrap();
    let [p50, p99] = [50, 99].map(|percent| fwd.percentile(percent).unwrap());
    assert!(least <= p50 && p50 <= p99 && p99 <= most, "{fwd:?}");
    assert!(p50.as_millis() < 200, "no answer is as late as a segment that is sent again: {p50:?}");
    assert_eq!((timed.untimed, timed.untracked), (0, 0));
    // One at a time: a second prober gets an error.
    let mut other = Prober::new(Wish { rtt: true, ..Wish::default() }).unwrap();
    live.probe(&mut other).unwrap(); // the one before has ended
    let mut third = Prober::new(Wish { rtt: true, ..Wish::default() }).unwrap();
    let e = format!("{:#}", live.probe(&mut third).unwrap_err());
    assert!(e.contains("another process is measuring"), "{e}");
    live.end_probe(&mut other);
}

#[test]
fn a_path_that_loses_large_packets_is_found_live_and_in_a_capture() {
    let g = Ground::new();
    // Each packet on its own, so that the last one of several can arrive alone.
    g.a.run("ip", "link set t0 gso_max_segs 1");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hole.pcapng");
    let rows = format!("vni:{VNI}");
    let (watch, netns) = (env!("CARGO_BIN_EXE_tmon"), g.a.name());
    let capture = Capturing::begin(&[
        "eth0",
        &rows,
        "--netns",
        netns,
        "-w",
        file.to_str().unwrap(),
        "--snaplen",
        "4000",
    ]);
    let live = Command::new(watch)
        .args(["watch", "eth0", "--netns", netns, "--for", "8s", "--json", "--rtt", &rows])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut peer = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{}", g.b.name()))
        .args(["python3", "-c"])
        .arg(format!(
            "import socket\ns=socket.create_server(('{}',7000))\nprint(1,flush=True)\n\
             c,_=s.accept()\nwhile c.recv(9000): c.sendall(b'y')\n",
            ground::inner(2)
        ))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(peer.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    g.b.run("nft", "add table ip t");
    g.b.run("nft", "add chain ip t in { type filter hook input priority 0; }");
    g.b.run("nft", "add rule ip t in tcp dport 7000 ip length > 1000 drop");
    // A small request is answered, a large one is not.
    let ask = format!(
        "import socket,time\ns=socket.create_connection(('{}',7000))\n\
         for i in range(30): s.sendall(b'x'*50); s.recv(100); time.sleep(.1)\n\
         s.sendall(b'x'*3000); time.sleep(5)\n",
        ground::inner(2)
    );
    let mut client = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{netns}"))
        .args(["python3", "-c", &ask])
        .spawn()
        .unwrap();
    let out = live.wait_with_output().unwrap();
    client.wait().unwrap();
    peer.kill().unwrap();
    peer.wait().unwrap();
    capture.end();
    let found = |out: Vec<u8>| -> Vec<(String, String, u64, u64)> {
        String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|f| f["kind"] == "mtu" && f["until"].is_null())
            .map(|f| {
                let bytes = |key: &str| f["evidence"][key].as_u64().unwrap();
                let place = &f["where"]["inner_sip"];
                let sizes = (bytes("stuck_bytes_in_all"), bytes("passed_bytes_in_all"));
                (f["severity"].to_string(), place.to_string(), sizes.0, sizes.1)
            })
            .collect()
    };
    assert_eq!(out.status.code(), Some(3), "{out:?}");
    let live = found(out.stdout);
    let read = ["watch", "--json", "--rtt", &rows, "--read", file.to_str().unwrap()];
    let again = found(Command::new(watch).args(read).output().unwrap().stdout);
    assert!(live.len() == 1 && live == again, "{live:?} {again:?}");
    let (severity, place, stuck, passed) = &live[0];
    assert_eq!((&**severity, &**place), ("\"bad\"", &*format!("\"{}\"", ground::inner(1))));
    assert!(*stuck > 960 && *passed < 960 && *passed > 50, "{live:?}");
}

#[test]
fn dump_shows_round_trip_times_of_rows() {
    let g = Ground::new();
    let dump = |format: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tmon"));
        command.args(["dump", "eth0", "--netns", g.a.name(), "--for", "4s", "--rtt"]);
        command.arg(format!("vni:{VNI}")).args(format).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut child = dump(&["--json"]);
    talk(&g, |_| child.try_wait().unwrap().is_none());
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let [row] = json["rtt"].as_array().unwrap().as_slice() else { panic!("{}", json["rtt"]) };
    assert_eq!((&row["interface"], &row["vni"]), (&"eth0".into(), &VNI.into()));
    for way in ["fwd", "rev"] {
        assert!(row[way]["samples"].as_u64() >= Some(20), "{row}");
        assert!(row[way]["min_ns"].as_u64() <= row[way]["p50_ns"].as_u64(), "{row}");
    }
    let mut child = dump(&[]);
    talk(&g, |_| child.try_wait().unwrap().is_none());
    let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(text.contains("SAMPLES") && text.contains("RETRANSMITTED"), "{text}");
}

#[test]
fn dump_shows_the_packet_contents_of_requested_rows() {
    let g = Ground::new();
    let netns = g.a.name();
    let [a, b] = g.sockets(7000);
    send(&a, &b, 3);
    let args = |format: &'static str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tmon"));
        command.args(["dump", "eth0", "--netns", netns, "--for", "3s", "--lens"]);
        command.arg(format!("vni:{VNI}")).arg(format).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let run = |child: Child| {
        let mut child = child;
        while child.try_wait().unwrap().is_none() {
            send(&a, &b, 20);
            send(&b, &a, 10);
        }
        let out = child.wait_with_output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let json: serde_json::Value = serde_json::from_str(&run(args("--json"))).unwrap();
    let row = &json["lens"][0];
    assert_eq!((row["interface"].as_str(), row["vni"].as_u64()), (Some("eth0"), Some(VNI.into())));
    let entries = row["entries"].as_array().unwrap();
    let pkts = |dir: &str| -> u64 {
        let of = entries.iter().filter(|e| e["dir"] == dir);
        of.map(|e| e["pkts"].as_u64().unwrap()).sum()
    };
    assert!(pkts("fwd") > 20 && pkts("rev") > 10, "{row}");
    assert_eq!(json["lens_pkts"], pkts("fwd") + pkts("rev"));
    assert_eq!(json["lens_lost_pkts"], 0);
    for entry in entries {
        assert_eq!((&entry["l4"], &entry["port"]), (&17.into(), &7000.into()), "{entry}");
        assert_eq!(entry["inner_ttl"], 64);
    }
    let text = run(args("--numeric"));
    assert!(text.contains(&format!("lens vni:{VNI}: 1 rows")), "{text}");
    assert!(text.contains("fwd udp       7000   7000"), "{text}");
}
