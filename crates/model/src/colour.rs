// SPDX-License-Identifier: MIT OR Apache-2.0
//! Colours: mixing, perceptual distance, the nearest colour of a terminal's palette, and one
//! lasting colour per end. Pure.
use std::{
    collections::HashMap,
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicU8, Ordering},
    },
};

/// An sRGB colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl Rgb {
    /// The colour of a number written as `0xRRGGBB`.
    pub const fn hex(n: u32) -> Self {
        Rgb((n >> 16) as u8, (n >> 8) as u8, n as u8)
    }

    /// `self` at `t` = 0, `other` at `t` = 1, as alpha blending mixes them.
    #[must_use]
    pub fn mix(self, other: Rgb, t: f64) -> Rgb {
        let t = t.clamp(0.0, 1.0);
        let m = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * t).round() as u8;
        Rgb(m(self.0, other.0), m(self.1, other.1), m(self.2, other.2))
    }

    /// Lightness and the two opponent axes of Oklab (<https://bottosson.github.io/posts/oklab/>).
    pub fn oklab(self) -> [f64; 3] {
        static LINEAR: LazyLock<[f64; 256]> = LazyLock::new(|| {
            std::array::from_fn(|c| {
                let c = c as f64 / 255.0;
                if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
            })
        });
        let linear = |c: u8| LINEAR[usize::from(c)];
        let (r, g, b) = (linear(self.0), linear(self.1), linear(self.2));
        let l = (0.412_221_470_8 * r + 0.536_332_536_3 * g + 0.051_445_992_9 * b).cbrt();
        let m = (0.211_903_498_2 * r + 0.680_699_545_1 * g + 0.107_396_956_6 * b).cbrt();
        let s = (0.088_302_461_9 * r + 0.281_718_837_6 * g + 0.629_978_700_5 * b).cbrt();
        [
            0.210_454_255_3 * l + 0.793_617_785_0 * m - 0.004_072_046_8 * s,
            1.977_998_495_1 * l - 2.428_592_205_0 * m + 0.450_593_709_9 * s,
            0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766_0 * s,
        ]
    }

    /// How different two colours look: the distance in Oklab; black to white is 1.
    pub fn distance(self, other: Rgb) -> f64 {
        let (a, b) = (self.oklab(), other.oklab());
        a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
    }

    /// How light it looks, 0 to 1.
    pub fn lightness(self) -> f64 {
        self.oklab()[0].clamp(0.0, 1.0)
    }

    /// The nearest of xterm's fixed 240 colours: 16 ..= 255, the cube and the greys. A difference
    /// in hue counts more than one in lightness, and a colour with a hue never becomes a grey.
    pub fn nearest_256(self) -> u8 {
        // The search is expensive and a blended picture has thousands of colours, but few are new
        // from frame to frame: results are cached forever, one for each colour of six bits per
        // channel.
        static KNOWN: [AtomicU8; 1 << 18] = [const { AtomicU8::new(0) }; 1 << 18];
        let Rgb(r, g, b) = self;
        let place = usize::from(r >> 2) << 12 | usize::from(g >> 2) << 6 | usize::from(b >> 2);
        match KNOWN[place].load(Ordering::Relaxed) {
            0 => {
                let six = |v: u8| (u16::from(v >> 2) * 255 / 63) as u8;
                let near = nearest(Rgb(six(r), six(g), six(b)), 16..=255, 0.45);
                KNOWN[place].store(near, Ordering::Relaxed);
                near
            }
            near => near,
        }
    }

    /// The nearest of the 16 ANSI colours, by xterm's values for them.
    pub fn nearest_16(self) -> u8 {
        nearest(self, 0..=15, 1.0)
    }
}

/// The index of the xterm palette colour that looks nearest, with this weight for lightness.
fn nearest(colour: Rgb, among: std::ops::RangeInclusive<u8>, lightness: f64) -> u8 {
    static LAB: LazyLock<[[f64; 3]; 256]> =
        LazyLock::new(|| std::array::from_fn(|i| xterm(i as u8).oklab()));
    let [l, a, b] = colour.oklab();
    let chroma = a.hypot(b);
    let far = |i: u8| {
        let [l2, a2, b2] = LAB[usize::from(i)];
        let (dl, da, db) = ((l - l2) * lightness, a - a2, b - b2);
        let grey = if chroma > 0.03 && lightness < 1.0 && a2 * a2 + b2 * b2 < chroma * chroma / 4.0
        {
            1.0
        } else {
            0.0
        };
        dl * dl + da * da + db * db + grey
    };
    among.map(|i| (far(i), i)).min_by(|x, y| x.0.total_cmp(&y.0)).map_or(0, |x| x.1)
}

/// `#rrggbb`
impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

/// The colour that xterm shows for a palette index.
pub fn xterm(index: u8) -> Rgb {
    const ANSI: [u32; 16] = [
        0x000000, 0xcd0000, 0x00cd00, 0xcdcd00, 0x0000ee, 0xcd00cd, 0x00cdcd, 0xe5e5e5, 0x7f7f7f,
        0xff0000, 0x00ff00, 0xffff00, 0x5c5cff, 0xff00ff, 0x00ffff, 0xffffff,
    ];
    match index {
        0..16 => Rgb::hex(ANSI[usize::from(index)]),
        16..232 => {
            let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let n = index - 16;
            Rgb(level(n / 36), level(n / 6 % 6), level(n % 6))
        }
        232.. => {
            let grey = 8 + 10 * (index - 232);
            Rgb(grey, grey, grey)
        }
    }
}

/// Colours for ends: the first `base` are far apart, the others are used when those run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    /// All colours, without duplicates.
    pub colours: &'static [Rgb],
    /// How many of them are base colours.
    pub base: usize,
}

const fn hexes<const N: usize>(n: [u32; N]) -> [Rgb; N] {
    let mut out = [Rgb(0, 0, 0); N];
    let mut i = 0;
    while i < N {
        out[i] = Rgb::hex(n[i]);
        i += 1;
    }
    out
}

const DARK: [Rgb; 24] = hexes([
    0x4f78e0, 0xe08e45, 0x66c266, 0xd9566c, 0xa88ae8, 0x3fb4b0, 0xdcc65c, 0xe07fc0, 0xa56d45,
    0x8ad0f2, 0xa09a2a, 0xd4bccb, // base
    0x3f5fae, 0xf4b98a, 0x3f8f4f, 0xf29aa4, 0x7358b8, 0x8fe0cf, 0xe6e2b0, 0xa9508c, 0xd8a27a,
    0x4b8fb8, 0xcbe08a, 0x8a8f9c,
]);
const LIGHT: [Rgb; 24] = hexes([
    0x2f55b8, 0xdd6a10, 0x2a9a3a, 0xc22f4a, 0x7d55cc, 0x0a8a88, 0xb39a00, 0xc2489c, 0x7d4a22,
    0x2f93c4, 0x6f7000, 0x6e5f78, // base
    0x7f9be6, 0x9c4a00, 0x7cc284, 0xe87f90, 0x4a2f8c, 0x5cb8ae, 0xd8c24a, 0x8a1f68, 0xc08a5c,
    0x115f88, 0xa3b04a, 0x8c9098,
]);
/// Okabe and Ito's eight (<https://jfly.uni-koeln.de/color/>), black replaced, and Tol's muted ones between them.
const SAFE: [Rgb; 16] = hexes([
    0xe69f00, 0x56b4e9, 0x009e73, 0xf0e442, 0x0072b2, 0xd55e00, 0xcc79a7, 0xf6f6f6, // base
    0xb0466e, 0x9adcff, 0x999933, 0xddcc77, 0x6e6eb8, 0xb45cc8, 0x6ec8b4, 0x8c8c8c,
]);
const ANSI: [Rgb; 7] =
    hexes([0x5c5cff, 0xff0000, 0x00ff00, 0xff00ff, 0xffff00, 0x00ffff, 0xffffff]);
const GREYS: [Rgb; 3] = hexes([0x5a5a5a, 0x909090, 0xc8c8c8]);

impl Palette {
    /// For dark backgrounds.
    pub const DARK: Palette = Palette { colours: &DARK, base: 12 };
    /// For light backgrounds.
    pub const LIGHT: Palette = Palette { colours: &LIGHT, base: 12 };
    /// Distinguishable without red-green or blue-yellow vision.
    pub const SAFE: Palette = Palette { colours: &SAFE, base: 8 };
    /// The bright ANSI colours.
    pub const ANSI: Palette = Palette { colours: &ANSI, base: 7 };
    /// Shades, for terminals without colour.
    pub const GREYS: Palette = Palette { colours: &GREYS, base: 3 };
}

/// Remembers which end has which colour. The colour is derived from the end's text (so it is mostly
/// the same in every run), no two present ends share one while there are enough, and an end keeps
/// its colour as long as it is present.
#[derive(Clone, Debug)]
pub struct EndColours {
    palette: Palette,
    slots: HashMap<String, usize>,
    present: Vec<String>,
}

impl EndColours {
    /// Limit on the absent ends remembered.
    const MEMORY: usize = 4096;

    /// No end has a colour yet.
    pub fn new(palette: Palette) -> Self {
        EndColours { palette, slots: HashMap::new(), present: Vec::new() }
    }

    /// The colours of the ends present now, in their order.
    pub fn assign<S: AsRef<str>>(&mut self, ends: &[S]) -> Vec<Rgb> {
        let mut used = vec![0u32; self.palette.colours.len()];
        // ends that stayed keep their colour, those that come back get theirs if it is free, then
        // come the new ones, in a stable order
        let mut order: Vec<(u8, &str)> = ends
            .iter()
            .map(|e| {
                let e = e.as_ref();
                let stayed = self.present.binary_search_by(|p| p.as_str().cmp(e)).is_ok();
                (if stayed { 0 } else { 1 + u8::from(!self.slots.contains_key(e)) }, e)
            })
            .collect();
        order.sort_unstable();
        order.dedup();
        for &(class, end) in &order {
            let kept = self.slots.get(end).copied().filter(|&s| class == 0 || used[s] == 0);
            let slot = kept.unwrap_or_else(|| self.choose(end, &used));
            used[slot] += 1;
            if class == 2 || kept.is_none() {
                self.slots.insert(end.to_owned(), slot);
            }
        }
        self.present = order.iter().map(|o| o.1.to_owned()).collect();
        self.present.sort_unstable();
        if self.slots.len() > Self::MEMORY + self.present.len() {
            let present = &self.present;
            self.slots.retain(|end, _| present.binary_search(end).is_ok());
        }
        ends.iter()
            .map(|e| self.palette.colours[self.slots.get(e.as_ref()).copied().unwrap_or(0)])
            .collect()
    }

    /// The slot derived from the text; if taken, the free one that differs most from those in use.
    fn choose(&self, end: &str, used: &[u32]) -> usize {
        let Palette { colours, base } = self.palette;
        let hash = fnv1a(end.as_bytes());
        let asked = hash as usize % base;
        if used[asked] == 0 {
            return asked;
        }
        let free = |range: std::ops::Range<usize>| {
            range.filter(|&s| used[s] == 0).max_by(|&a, &b| {
                self.clearance(a, used).total_cmp(&self.clearance(b, used)).then(b.cmp(&a))
            })
        };
        free(0..base).or_else(|| free(base..colours.len())).unwrap_or_else(|| {
            let least = used.iter().min().copied().unwrap_or(0);
            let shared: Vec<usize> = (0..used.len()).filter(|&s| used[s] == least).collect();
            shared[hash as usize % shared.len()]
        })
    }

    fn clearance(&self, slot: usize, used: &[u32]) -> f64 {
        let colour = self.palette.colours[slot];
        let others = self.palette.colours.iter().zip(used).filter(|x| *x.1 > 0);
        others.map(|(o, _)| o.distance(colour)).fold(f64::INFINITY, f64::min)
    }
}

/// FNV-1a, which is the same everywhere and forever.
fn fnv1a(bytes: &[u8]) -> u64 {
    let h = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    h ^ (h >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_palette_colour_is_found() {
        assert_eq!(Rgb::hex(0xff0000).nearest_256(), 196);
        assert_eq!(Rgb::hex(0x808080).nearest_256(), 244);
        assert_eq!(Rgb::hex(0x000000).nearest_256(), 16);
        assert_eq!(Rgb::hex(0xfe0101).nearest_16(), 9);
        assert_eq!(Rgb::hex(0x101010).nearest_16(), 0);
        for i in 16..=255 {
            assert_eq!(
                xterm(xterm(i).nearest_256()),
                xterm(i),
                "a palette colour maps to itself: {i}"
            );
        }
        for i in 0..16 {
            assert_eq!(xterm(i).nearest_16(), i);
        }
    }

    #[test]
    fn base_colours_look_different() {
        for (name, p, least) in [
            ("dark", Palette::DARK, 0.09),
            ("light", Palette::LIGHT, 0.09),
            ("safe", Palette::SAFE, 0.12),
            ("ansi", Palette::ANSI, 0.17),
        ] {
            for (i, a) in p.colours[..p.base].iter().enumerate() {
                for b in &p.colours[..i] {
                    assert!(a.distance(*b) > least, "{name}: {a} {b} {}", a.distance(*b));
                }
            }
            for (i, a) in p.colours.iter().enumerate() {
                assert!(p.colours[..i].iter().all(|b| a.distance(*b) > 0.045), "{name}: {a}");
            }
        }
    }

    /// Machado, Oliveira and Fernandes 2009, severity 1: what people without one type of cone see.
    #[test]
    fn safe_colours_look_different_to_everybody() {
        const SEEN: [[[f64; 3]; 3]; 3] = [
            [
                [0.152286, 1.052583, -0.204868],
                [0.114503, 0.786281, 0.099216],
                [-0.003882, -0.048116, 1.051998],
            ],
            [
                [0.367322, 0.860646, -0.227968],
                [0.280085, 0.672501, 0.047413],
                [-0.011820, 0.042940, 0.968881],
            ],
            [
                [1.255528, -0.076749, -0.178779],
                [-0.078411, 0.930809, 0.147602],
                [0.004733, 0.691367, 0.303900],
            ],
        ];
        let see = |m: &[[f64; 3]; 3], c: Rgb| {
            let lin = [c.0, c.1, c.2].map(|c| (f64::from(c) / 255.0).powf(2.2));
            let row = |r: [f64; 3]| {
                ((r[0] * lin[0] + r[1] * lin[1] + r[2] * lin[2]).clamp(0.0, 1.0).powf(1.0 / 2.2)
                    * 255.0)
                    .round() as u8
            };
            Rgb(row(m[0]), row(m[1]), row(m[2]))
        };
        let p = Palette::SAFE;
        for m in &SEEN {
            for (i, a) in p.colours[..p.base].iter().enumerate() {
                for b in &p.colours[..i] {
                    assert!(
                        see(m, *a).distance(see(m, *b)) > 0.055,
                        "{a} {b} {}",
                        see(m, *a).distance(see(m, *b))
                    );
                }
            }
        }
    }

    fn hosts(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("172.16.1.{}", 100 + i)).collect()
    }

    #[test]
    fn present_ends_have_their_own_colours() {
        for n in 1..=24 {
            let mut c = EndColours::new(Palette::DARK).assign(&hosts(n));
            c.sort_unstable();
            c.dedup();
            assert_eq!(c.len(), n);
        }
        let many = EndColours::new(Palette::DARK).assign(&hosts(300));
        assert!(
            Palette::DARK.colours.iter().all(|p| many.iter().filter(|c| *c == p).count() <= 13),
            "shared evenly"
        );
    }

    #[test]
    fn an_end_keeps_its_colour() {
        let mut colours = EndColours::new(Palette::DARK);
        let all = hosts(12);
        let first = colours.assign(&all[..6]);
        let more = colours.assign(&all);
        assert_eq!(first, more[..6], "newcomers take nobody's colour");
        let shuffled: Vec<_> = all.iter().rev().collect();
        let mut again = colours.assign(&shuffled);
        again.reverse();
        assert_eq!(again, more, "regardless of order");
        colours.assign(&["192.168.0.1", "192.168.0.2"]);
        assert_eq!(colours.assign(&all), more, "even after another view");
        assert_eq!(
            EndColours::new(Palette::DARK).assign(&all),
            EndColours::new(Palette::DARK).assign(&all)
        );
        assert_eq!(colours.assign(&["a", "a"]).len(), 2);
        assert!(colours.assign::<&str>(&[]).is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut colours = EndColours::new(Palette::LIGHT);
        for i in 0..10_000 {
            colours.assign(&[i.to_string()]);
        }
        assert!(colours.slots.len() <= EndColours::MEMORY + 1);
    }
}
