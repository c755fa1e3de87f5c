// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arbitrary bytes as a frame, and as a stream of frames: no panic, bounded memory, texts that are
//! safe for a terminal, and whatever was read can be written and read again.
#![no_main]
use std::io::Cursor;

use feed::frame::{Frame, FrameReader, MAGIC, MOST_ROWS};
use libfuzzer_sys::fuzz_target;
use model::units::sanitize;

fuzz_target!(|data: &[u8]| {
    if let Ok(frame) = Frame::decode(data) {
        judged(&frame);
        let again = Frame::decode(&frame.encode()).expect("what was read can be written");
        assert_eq!(frame.interval.rows.len(), again.interval.rows.len());
    }
    for stream in [data.to_vec(), [&MAGIC[..], data].concat()] {
        let Ok(mut reader) = FrameReader::new(Cursor::new(stream)) else { continue };
        while let Ok(Some(frame)) = reader.next_frame() {
            judged(&frame);
        }
    }
});

fn judged(frame: &Frame) {
    assert!(frame.interval.rows.len() <= MOST_ROWS);
    let names = frame.interval.interfaces.iter().map(|i| i.name.as_str());
    for text in names.chain([&*frame.interval.origin.host, &frame.tool]) {
        assert!(sanitize(text) == text && text.chars().count() <= 255, "{text:?}");
    }
}
