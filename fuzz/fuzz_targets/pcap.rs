// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arbitrary bytes as a capture: no panic, no endless loop, no frame that is not in the file, and
//! no message that would be unsafe for a terminal.
#![no_main]
use std::io::Cursor;

use feed::pcap::{Body, Reader};
use libfuzzer_sys::fuzz_target;
use model::units::sanitize;

fuzz_target!(|data: &[u8]| {
    // A compressed file is what it unpacks to.
    let packed = data.starts_with(&[0x1f, 0x8b]) || data.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let length = if packed { u64::MAX } else { data.len() as u64 };
    let mut reader = match Reader::new(Cursor::new(data.to_vec())) {
        Ok(reader) => reader,
        Err(e) => return said(&e.to_string()),
    };
    let (mut frames, mut captured, mut position) = (0u64, 0u64, 0);
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => {
                frames += 1;
                captured += frame.data.len() as u64;
                let body = match frame.body() {
                    Body::Ethernet(b) | Body::Ip(b) | Body::Typed { payload: b, .. } => b,
                    Body::NonIp | Body::Unread | Body::Truncated => &[],
                };
                assert!(
                    body.len() <= frame.data.len()
                        && frame.link_header_len() <= frame.data.len().max(frame.orig_len as usize)
                );
            }
            Ok(None) => break,
            Err(e) => {
                said(&e.to_string());
                break;
            }
        }
        // A frame needs a header in the file, and its own bytes.
        assert!(
            frames <= length / 8 && captured <= length,
            "{frames} frames, {captured} bytes from {length}"
        );
        assert!(reader.position() >= position && reader.position() <= length);
        position = reader.position();
    }
    assert!(reader.contradictions() <= frames);
});

/// Its text reaches the terminal.
fn said(text: &str) {
    assert!(sanitize(text) == text && text.lines().count() <= 1, "{text:?}");
}
