// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture as escape sequences for terminals with real pixels: kitty's, iTerm2's, sixel. Pure.
//!
//! The crates for this would bring some forty others, a general quantiser and raw pixels on the
//! wire; a chord has few colours, so PNG and a palette of the most frequent ones suffice.
use std::{fmt::Write, io};

use base64::{Engine, engine::general_purpose::STANDARD};
use foldhash::{HashMap, HashMapExt};
use tiny_skia::{Pixmap, PremultipliedColorU8};

use model::colour::Rgb;

/// The protocol by which a terminal receives pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// <https://sw.kovidgoyal.net/kitty/graphics-protocol/>: kitty, Ghostty.
    Kitty,
    /// <https://iterm2.com/documentation-images.html>: iTerm2, WezTerm, mintty.
    Iterm,
    /// DEC's, as in <https://vt100.net/docs/vt3xx-gp/chapter14.html>: foot, xterm, mlterm and others.
    Sixel,
}

/// The number of our image, for protocols that number images.
const ID: u32 = 0x746d_6f6e; // "tmon"
/// The maximum base64 length in one escape sequence of kitty's protocol.
const CHUNK: usize = 4096;
/// The maximum number of colours of a sixel picture: every terminal has registers for this many.
const REGISTERS: usize = 256;

impl Protocol {
    /// The sequence that shows the picture from the cursor's cell on, over this many columns and
    /// rows. The picture is opaque: it replaces what was drawn there before.
    ///
    /// # Errors
    /// The picture is too large for a PNG.
    pub fn show(self, picture: &Pixmap, columns: u16, rows: u16) -> io::Result<String> {
        let png = || picture.encode_png().map_err(io::Error::other);
        Ok(match self {
            Protocol::Kitty => kitty(&STANDARD.encode(png()?), columns, rows),
            Protocol::Iterm => {
                let png = png()?;
                let size = png.len();
                let data = STANDARD.encode(png);
                format!(
                    "\x1b]1337;File=inline=1;size={size};width={columns};height={rows};preserveAspectRatio=0;doNotMoveCursor=1:{data}\x07"
                )
            }
            Protocol::Sixel => sixel(picture),
        })
    }

    /// The sequence that removes the picture, if drawing text over it is not enough.
    pub fn remove(self) -> Option<String> {
        (self == Protocol::Kitty).then(|| format!("\x1b_Ga=d,d=I,i={ID},q=2\x1b\\"))
    }

    /// Whether text that is drawn later stays above the picture.
    pub fn is_below_text(self) -> bool {
        self == Protocol::Kitty
    }
}

/// Transmits and places it at once, below text; the same numbers replace the previous picture.
fn kitty(data: &str, columns: u16, rows: u16) -> String {
    let mut out = String::with_capacity(data.len() + data.len() / 256 + 64);
    let chunks = data.len().div_ceil(CHUNK).max(1);
    for k in 0..chunks {
        let part = &data[k * CHUNK..data.len().min((k + 1) * CHUNK)];
        let more = u8::from(k + 1 < chunks);
        // writing into a string does not fail
        _ = match k {
            0 => write!(
                out,
                "\x1b_Ga=T,f=100,t=d,i={ID},p=1,c={columns},r={rows},z=-1,C=1,q=2,m={more};{part}\x1b\\"
            ),
            _ => write!(out, "\x1b_Gm={more},q=2;{part}\x1b\\"),
        };
    }
    out
}

fn sixel(picture: &Pixmap) -> String {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (palette, indexed) = quantise(picture.pixels());
    // P2=1: pixels that are not drawn stay; here every pixel is drawn. Raster attributes: square
    // pixels, size.
    let mut out = format!("\x1bP0;1;0q\"1;1;{width};{height}");
    for (i, c) in palette.iter().enumerate() {
        let share = |v: u8| (u32::from(v) * 100 + 127) / 255;
        _ = write!(out, "#{i};2;{};{};{}", share(c.0), share(c.1), share(c.2));
    }
    let mut line = Vec::with_capacity(width);
    for band in indexed.chunks(width * 6) {
        let mut present = [false; REGISTERS];
        band.iter().for_each(|&c| present[usize::from(c)] = true);
        for colour in (0..palette.len()).filter(|&c| present[c]) {
            line.clear();
            line.extend((0..width).map(|x| {
                let bit =
                    |y: usize| u8::from(band.get(y * width + x) == Some(&(colour as u8))) << y;
                b'?' + (0..6).fold(0, |sum, y| sum | bit(y))
            }));
            _ = write!(out, "#{colour}");
            line.truncate(line.iter().rposition(|b| *b != b'?').map_or(0, |i| i + 1));
            for run in line.chunk_by(|a, b| a == b) {
                match run.len() {
                    n @ 0..4 => out.extend(std::iter::repeat_n(char::from(run[0]), n)),
                    n => _ = write!(out, "!{n}{}", char::from(run[0])),
                }
            }
            out.push('$');
        }
        out.push('-');
    }
    out.push_str("\x1b\\");
    out
}

/// The most frequent colours, and every pixel as the nearest of them. Colours that differ by less
/// than an eighth of a just noticeable difference are merged from the start.
fn quantise(pixels: &[PremultipliedColorU8]) -> (Vec<Rgb>, Vec<u8>) {
    let coarse = |p: &PremultipliedColorU8| (p.red() >> 3, p.green() >> 3, p.blue() >> 3);
    let mut counts: HashMap<(u8, u8, u8), (u32, [u32; 3])> = HashMap::new();
    for p in pixels {
        let (n, sum) = counts.entry(coarse(p)).or_default();
        *n += 1;
        for (s, v) in sum.iter_mut().zip([p.red(), p.green(), p.blue()]) {
            *s += u32::from(v);
        }
    }
    let mut common: Vec<_> = counts.into_iter().collect();
    common.sort_unstable_by_key(|(key, (n, _))| (std::cmp::Reverse(*n), *key));
    let mean = |n: u32, sum: [u32; 3]| {
        let [r, g, b] = sum.map(|s| ((s + n / 2) / n) as u8);
        Rgb(r, g, b)
    };
    let palette: Vec<Rgb> =
        common.iter().take(REGISTERS).map(|(_, (n, sum))| mean(*n, *sum)).collect();
    let far = |a: Rgb, b: Rgb| {
        let d = |a: u8, b: u8| (i32::from(a) - i32::from(b)).pow(2);
        d(a.0, b.0) + d(a.1, b.1) + d(a.2, b.2)
    };
    let place: HashMap<(u8, u8, u8), u8> = common
        .iter()
        .enumerate()
        .map(|(i, (key, (n, sum)))| {
            let here = mean(*n, *sum);
            let nearest = || (0..palette.len()).min_by_key(|&k| far(palette[k], here)).unwrap_or(0);
            (*key, if i < palette.len() { i } else { nearest() } as u8)
        })
        .collect();
    let indexed = pixels.iter().map(|p| place.get(&coarse(p)).copied().unwrap_or(0)).collect();
    (palette, indexed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{
        chord::{Layout, padding},
        raster::{Canvas, Placement},
        shapes::{Proportions, Shapes},
    };

    /// A chord as the dashboard draws it, on an opaque ground.
    fn picture(width: u32, height: u32) -> Pixmap {
        let layout = Layout::new(9, |i, j| ((i * 7 + j * 3) % 11) as f64, padding(9, 0.05));
        let shapes = Shapes::new(&layout, Proportions::default());
        let (w, h) = (f64::from(width), f64::from(height));
        let frame = Placement {
            size: (width as usize, height as usize),
            centre: (w / 2.0, h / 2.0),
            radius: (w / 2.0, h / 2.0),
            smooth: true,
        };
        let mut canvas = Canvas::new();
        let colours = model::colour::Palette::DARK.colours;
        canvas.draw(&shapes, &frame, |s| Some((colours[s.colour], 0.7)));
        canvas.over(Rgb::hex(0x121218)).unwrap()
    }

    /// The maximum and the mean difference of two pictures per channel.
    fn difference(a: &Pixmap, b: &Pixmap) -> (u8, f64) {
        assert_eq!((a.width(), a.height()), (b.width(), b.height()));
        let all: Vec<u8> = a.data().iter().zip(b.data()).map(|(a, b)| a.abs_diff(*b)).collect();
        (
            all.iter().copied().max().unwrap(),
            all.iter().map(|d| f64::from(*d)).sum::<f64>() / all.len() as f64,
        )
    }

    /// The escape sequences of kitty's protocol, as the keys and the data of each.
    fn commands(text: &str) -> Vec<(String, String)> {
        let parts: Vec<&str> = text.split("\x1b\\").collect();
        assert_eq!(parts.last(), Some(&""), "every sequence ends");
        let command = |p: &&str| {
            p.strip_prefix("\x1b_G")
                .unwrap()
                .split_once(';')
                .map(|(k, d)| (k.to_owned(), d.to_owned()))
                .unwrap()
        };
        parts[..parts.len() - 1].iter().map(command).collect()
    }

    #[test]
    fn kitty_gets_the_picture_in_chunks() {
        let picture = picture(300, 280);
        let commands = commands(&Protocol::Kitty.show(&picture, 30, 14).unwrap());
        assert!(
            commands.len() > 2 && commands.iter().all(|c| c.1.len() <= CHUNK && c.1.len() % 4 == 0)
        );
        assert!(
            commands[0].0.contains("a=T,f=100,") && commands[0].0.contains(",c=30,r=14,"),
            "{}",
            commands[0].0
        );
        let last = commands.len() - 1;
        assert!(commands.iter().enumerate().all(|(i, c)| c.0.contains(if i < last {
            "m=1"
        } else {
            "m=0"
        })));
        let data: String = commands.into_iter().map(|c| c.1).collect();
        let shown = Pixmap::decode_png(&STANDARD.decode(data).unwrap()).unwrap();
        assert_eq!(shown.data(), picture.data());
        assert!(
            Protocol::Kitty
                .remove()
                .is_some_and(|r| r.starts_with("\x1b_Ga=d,d=I,") && r.ends_with("\x1b\\"))
        );
    }

    #[test]
    fn iterm_gets_the_picture_and_its_size() {
        let picture = picture(120, 90);
        let text = Protocol::Iterm.show(&picture, 12, 5).unwrap();
        let (head, data) = text
            .strip_prefix("\x1b]1337;File=")
            .unwrap()
            .strip_suffix('\x07')
            .unwrap()
            .split_once(':')
            .unwrap();
        let png = STANDARD.decode(data).unwrap();
        assert!(head.contains(&format!("size={};width=12;height=5;", png.len())), "{head}");
        assert_eq!(Pixmap::decode_png(&png).unwrap().data(), picture.data());
    }

    /// Reads a sixel picture as a terminal does.
    fn read_sixel(text: &str) -> Pixmap {
        let body =
            text.strip_prefix("\x1bP0;1;0q").unwrap().strip_suffix("\x1b\\").unwrap().as_bytes();
        let mut i = 0;
        let numbers = |i: &mut usize| -> Vec<u32> {
            let start = *i;
            while body.get(*i).is_some_and(|b| b.is_ascii_digit() || *b == b';') {
                *i += 1;
            }
            std::str::from_utf8(&body[start..*i])
                .unwrap()
                .split(';')
                .map(|n| n.parse().unwrap())
                .collect()
        };
        assert_eq!(body[0], b'"');
        i += 1;
        let raster = numbers(&mut i);
        assert_eq!(raster[..2], [1, 1], "square pixels");
        let mut out = Pixmap::new(raster[2], raster[3]).unwrap();
        let mut palette = HashMap::new();
        let (mut x, mut y, mut colour) = (0, 0, 0);
        while i < body.len() {
            let byte = body[i];
            i += 1;
            let run = match byte {
                b'#' => {
                    let n = numbers(&mut i);
                    if let [register, 2, r, g, b] = n[..] {
                        let v = |share: u32| ((share * 255 + 50) / 100) as u8;
                        palette.insert(
                            register,
                            PremultipliedColorU8::from_rgba(v(r), v(g), v(b), 255).unwrap(),
                        );
                    }
                    colour = n[0];
                    continue;
                }
                b'$' => {
                    x = 0;
                    continue;
                }
                b'-' => {
                    (x, y) = (0, y + 6);
                    continue;
                }
                b'!' => numbers(&mut i)[0],
                _ => {
                    i -= 1;
                    1
                }
            };
            let bits = body[i] - b'?';
            i += 1;
            for _ in 0..run {
                for bit in (0..6).filter(|b| bits >> b & 1 == 1) {
                    let at = (y + bit) * out.width() + x;
                    out.pixels_mut()[at as usize] = palette[&colour];
                }
                x += 1;
            }
        }
        out
    }

    #[test]
    fn sixels_are_the_picture_in_few_colours() {
        for (width, height) in [(200, 180), (201, 97), (1, 1), (7, 6)] {
            let picture = picture(width, height);
            let text = Protocol::Sixel.show(&picture, 1, 1).unwrap();
            let shown = read_sixel(&text);
            assert!(shown.pixels().iter().all(|p| p.alpha() == 255), "every pixel is drawn");
            let (worst, mean) = difference(&picture, &shown);
            assert!(worst <= 60 && mean < 2.0, "{width}x{height}: worst {worst}, mean {mean}");
            if let Some(dir) = std::env::var_os("TMON_PICTURES") {
                std::fs::write(
                    std::path::Path::new(&dir).join(format!("sixel-{width}x{height}.six")),
                    &text,
                )
                .unwrap();
                shown
                    .save_png(
                        std::path::Path::new(&dir).join(format!("sixel-{width}x{height}.png")),
                    )
                    .unwrap();
            }
        }
    }
}
