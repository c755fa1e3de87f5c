// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captures parsed by several threads: the result is that of one thread, to the last row and its
//! place, even if tables are full and fragments are far from their first ones.
use std::{fs, path::PathBuf, sync::Arc};

use feed::{Replay, config::Config, judge};
use model::{
    beside::Beside,
    flow::{Books, Flow},
    interface::{Fill, Interface},
};
use tempfile::TempDir;
use testkit::{
    frames::pkt,
    mutations::{Random, mutate},
    table::{Begin, cases},
};

const THREADS: [usize; 4] = [1, 2, 3, 7];

/// A classic capture of Ethernet frames, a microsecond apart.
fn capture(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut file: Vec<u8> = [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 1u32]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    for (i, frame) in (0u32..).zip(frames) {
        let length = frame.len() as u32;
        let head = [1_700_000_000 + i / 1_000_000, i % 1_000_000, length, length];
        file.extend(head.into_iter().flat_map(u32::to_le_bytes));
        file.extend(frame);
    }
    file
}

/// For each interface the books, the occupancy, and its rows in their order; and what is beside
/// them.
type Seen = (Vec<(String, Books, Fill)>, Vec<Flow>, Vec<String>, Arc<Beside>);

fn replay(files: &[PathBuf], config: &Config, threads: usize, batch: Option<usize>) -> Seen {
    let mut replay = Replay::open(files, config, judge::host).unwrap_or_else(|e| panic!("{e:#}"));
    replay.set_threads(threads);
    if let Some(frames) = batch {
        replay.set_batch(frames);
    }
    while replay.advance(1000).expect("frames are judged") {}
    let total = replay.read().expect("a reading");
    let of = |i: &Interface| (i.name.clone(), i.books, i.fill);
    (
        total.interfaces.iter().map(of).collect(),
        total.rows.iter().collect(),
        replay.notes(),
        total.beside,
    )
}

fn alike(files: &[PathBuf], config: &Config, batch: Option<usize>) -> Seen {
    let config = Config { seed: Some([0x9e37_79b9_7f4a_7c15; 12]), ..config.clone() };
    let [one, others @ ..] = THREADS.map(|n| (n, replay(files, &config, n, batch)));
    for (n, seen) in others {
        assert!(seen.0 == one.1.0, "{n} threads: {:#?}\none: {:#?}", seen.0, one.1.0);
        assert!(seen.1 == one.1.1, "{n} threads have other rows, or in another order");
        assert_eq!(seen.2, one.1.2, "{n} threads");
        assert_eq!(seen.3, one.1.3, "{n} threads");
    }
    one.1
}

fn files(contents: &[Vec<u8>]) -> (TempDir, Vec<PathBuf>) {
    let dir = TempDir::new().expect("a scratch folder");
    let path = |i| dir.path().join(format!("{i}.pcap"));
    let paths: Vec<PathBuf> = (0..contents.len()).map(path).collect();
    for (path, bytes) in paths.iter().zip(contents) {
        fs::write(path, bytes).expect("write a capture");
    }
    (dir, paths)
}

/// SYNs, answers and resets of connections between few addresses.
fn connection(random: &mut Random) -> Vec<u8> {
    let [a, b] = [random.below(30), random.below(30)];
    let outer = pkt().eth().ip("172.16.1.100 > 172.16.1.101").udp(1, 4789).vxlan(7).eth();
    let flags = [0x02u8, 0x12, 0x14, 0x18][random.below(4)];
    let number = random.below(2) as u8;
    let fields = [0, 1, 0, 1, 0, 0, 0, number, 0, 0, 0, number + 1, 0x50, flags];
    outer.ip(&format!("10.0.0.{a} > 10.0.0.{b}")).tcp().set(0, &fields).bytes()
}

/// Frames of the table, changed at random; a fifth of them are fragments of a few packets.
fn any(random: &mut Random, n: usize) -> Vec<Vec<u8>> {
    let table: Vec<_> = cases().into_iter().filter(|c| c.begin == Begin::Ethernet).collect();
    (0..n)
        .map(|_| {
            if random.below(4) == 0 {
                return connection(random);
            }
            let mut frame = table[random.below(table.len())].frame.bytes();
            if random.below(2) == 0 {
                mutate(&mut frame, random);
            }
            if frame.len() > 22 && frame[12..14] == [8, 0] && random.below(5) == 0 {
                frame[19] = random.below(4) as u8;
                let piece = [0x2000u16, 0x2010, 0x0020, 0][random.below(4)];
                frame[20..22].copy_from_slice(&piece.to_be_bytes());
            }
            frame
        })
        .collect()
}

#[test]
fn any_frames_in_tables_of_any_size() {
    let mut random = Random(0x0074_6872_6561_6473);
    for (rows, batch) in [(16, 7), (64, 50), (1024, 300), (65_536, 1)] {
        let (_dir, paths) = files(&[capture(any(&mut random, 6000))]);
        for plain in [false, true] {
            let seen = alike(&paths, &Config { rows, plain, ..Config::default() }, Some(batch));
            let books = seen.0[0].1;
            assert!(books.fragments[0].packets > 0, "no fragment found its row");
            assert_eq!(books.seen().iter().map(|c| c.packets).sum::<u64>(), 6000);
            assert!(rows > 64 || seen.1.iter().any(|f| f.key.other), "no table became full");
            assert!(
                seen.3.handshakes().values().any(|n| n.timed > 0),
                "no connection was answered"
            );
        }
    }
}

#[test]
fn fragments_far_from_their_first_ones() {
    let frame = |n: u32, piece: u16| {
        let inside = pkt().eth().ip("10.0.0.1 > 10.0.0.2").udp(1000, 2000).data(40);
        let outer = pkt().eth().ip("172.16.1.100 > 172.16.1.101").udp(1, 4789).vxlan(n % 50);
        let mut bytes = outer.then(inside).bytes();
        bytes[18..20].copy_from_slice(&(n as u16).to_be_bytes());
        bytes[20..22].copy_from_slice(&piece.to_be_bytes());
        bytes
    };
    // More at once than are remembered, then the rest of each, the newest first.
    let firsts = (0..10_000).map(|n| frame(n, 0x2000));
    let rest = (0..10_000).rev().map(|n| frame(n, 0x0010));
    let (_dir, paths) = files(&[capture(firsts.chain(rest))]);
    let seen = alike(&paths, &Config { rows: 1024, ..Config::default() }, Some(100));
    assert_eq!(seen.0[0].1.fragments[0].packets, 10_000 + 8192);
}

#[test]
fn several_files_and_large_ones() {
    let mut random = Random(7);
    let flows = |seed: u64, n: usize| {
        let mut random = Random(seed);
        capture((0..n).map(|_| {
            let n = random.below(40_000);
            let ends = format!("10.0.{}.{} > 10.1.0.1", n / 200, n % 200 + 1);
            let inside = pkt().eth().ip(&ends).udp(1000, 2000).data(40);
            pkt().eth().ip("172.16.1.100 > 172.16.1.101").udp(1, 4789).vxlan(7).then(inside).bytes()
        }))
    };
    let contents = [flows(1, 30_000), flows(2, 20_000), capture(any(&mut random, 3000))];
    let (_dir, paths) = files(&contents);
    for rows in [1024, 65_536] {
        let config = Config { rows, ..Config::default() };
        alike(&paths[..1], &config, None);
        let seen = alike(&paths, &config, None);
        assert_eq!(seen.0.len(), 3, "one interface per file");
    }
}

#[test]
fn ageing_rows_and_truncated_files() {
    let mut random = Random(8);
    let mut bytes = capture(any(&mut random, 3000));
    bytes.truncate(bytes.len() - 5);
    let (_dir, paths) = files(&[bytes]);
    let age = std::time::Duration::from_millis(600);
    alike(&paths, &Config { rows: 1024, age, ..Config::default() }, Some(50));
    let seen = alike(&paths, &Config { rows: 1024, ..Config::default() }, Some(50));
    assert_eq!(seen.0[0].1.seen().iter().map(|c| c.packets).sum::<u64>(), 2999);
}
