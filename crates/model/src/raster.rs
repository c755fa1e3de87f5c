// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shapes as pixels, and pixels as terminal cells of two colours. Pure.
//!
//! [`Canvas::draw`] fills the shapes anti-aliased and alpha-blended (tiny-skia) into a picture of a
//! few pixels per cell; [`Canvas::cells`] finds, for each cell, the two colours and the mask of
//! pixels that approximate the picture best. The picture itself remains available
//! ([`Canvas::pixels`]) for terminals with real pixels.
use crate::{
    charset::Charset,
    colour::Rgb,
    shapes::{PathStep, Shape, Shapes},
};
use std::f64::consts::FRAC_PI_2;
use tiny_skia::{FillRule, Paint, PathBuilder, Pixmap, Transform};

/// How many pixels a cell is divided into, and so which block characters are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Blocks {
    /// ASCII letters and signs of similar shape, 2 x 4.
    Ascii,
    /// 1 x 2: `▀ ▄`, in every font.
    Half,
    /// 2 x 2: `▘▝▖▗▌▐▀▄▚▞▛▜▙▟`, in nearly every font.
    #[default]
    Quadrant,
    /// 2 x 3: Unicode 13.
    Sextant,
    /// 2 x 4: Unicode 16.
    Octant,
}

impl Blocks {
    /// All of them with their names in flags.
    pub const ALL: [(Blocks, &str); 5] = [
        (Blocks::Ascii, "ascii"),
        (Blocks::Half, "half"),
        (Blocks::Quadrant, "quadrant"),
        (Blocks::Sextant, "sextant"),
        (Blocks::Octant, "octant"),
    ];

    /// Pixels per cell: columns and rows.
    pub const fn grid(self) -> (usize, usize) {
        match self {
            Blocks::Half => (1, 2),
            Blocks::Quadrant => (2, 2),
            Blocks::Sextant => (2, 3),
            Blocks::Ascii | Blocks::Octant => (2, 4),
        }
    }

    /// The finest blocks that a charset and nearly every font have.
    pub const fn of(charset: Charset) -> Blocks {
        match charset {
            Charset::Ascii => Blocks::Ascii,
            Charset::Console => Blocks::Half,
            Charset::Unicode => Blocks::Quadrant,
        }
    }
}

/// What a cell shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cell {
    /// Nothing was drawn here.
    #[default]
    Clear,
    /// One colour all over.
    Full(Rgb),
    /// Two colours.
    Split {
        /// Which pixels have `fg`: bit 0 is the top left one, then right, then down. Neither empty
        /// nor full.
        mask: u8,
        /// The colour of those.
        fg: Rgb,
        /// The colour of the others.
        bg: Rgb,
    },
}

/// Where the circle lies in a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// Size of the picture in pixels.
    pub size: (usize, usize),
    /// The centre, in pixels from the top left corner.
    pub centre: (f64, f64),
    /// The radius in pixels, horizontally and vertically: they differ where pixels are not square.
    pub radius: (f64, f64),
    /// Whether to smooth edges. Without smoothing every pixel has a colour of the palette, for
    /// terminals with few colours.
    pub smooth: bool,
}

/// A picture, with memory that is reused for the next one.
#[derive(Debug, Default)]
pub struct Canvas {
    pixmap: Option<Pixmap>,
    path: Option<PathBuilder>,
}

impl Canvas {
    /// An empty picture.
    pub fn new() -> Self {
        Self::default()
    }

    /// Draws shapes on a transparent ground. `paint` gives a shape's colour and opacity (0 to 1);
    /// its presence is taken into account here. A size that does not fit into memory draws nothing.
    pub fn draw(
        &mut self,
        shapes: &Shapes,
        frame: &Placement,
        paint: impl Fn(&Shape) -> Option<(Rgb, f64)>,
    ) {
        let (width, height) =
            (u32::try_from(frame.size.0).unwrap_or(0), u32::try_from(frame.size.1).unwrap_or(0));
        match &mut self.pixmap {
            Some(p) if (p.width(), p.height()) == (width, height) => {
                p.fill(tiny_skia::Color::TRANSPARENT)
            }
            p => *p = Pixmap::new(width, height),
        }
        let Some(pixmap) = &mut self.pixmap else { return };
        let mut fill = Paint { anti_alias: frame.smooth, ..Paint::default() };
        for shape in &shapes.shapes {
            let Some((Rgb(r, g, b), cover)) = paint(shape) else { continue };
            let alpha =
                (cover.clamp(0.0, 1.0) * shape.presence.clamp(0.0, 1.0) * 255.0).round() as u8;
            if alpha == 0 {
                continue;
            }
            fill.set_color_rgba8(r, g, b, alpha);
            let builder = outline(&shape.path, frame, self.path.take().unwrap_or_default());
            if let Some(path) = builder.finish() {
                pixmap.fill_path(&path, &fill, FillRule::Winding, Transform::identity(), None);
                self.path = Some(path.clear());
            }
        }
    }

    /// The picture: width, height, and premultiplied RGBA bytes, row by row.
    pub fn pixels(&self) -> (usize, usize, &[u8]) {
        self.pixmap
            .as_ref()
            .map_or((0, 0, &[]), |p| (p.width() as usize, p.height() as usize, p.data()))
    }

    /// The picture on an opaque ground; `None` if nothing could be drawn.
    pub fn over(&self, ground: Rgb) -> Option<Pixmap> {
        let picture = self.pixmap.as_ref()?;
        let mut out = Pixmap::new(picture.width(), picture.height())?;
        out.fill(tiny_skia::Color::from_rgba8(ground.0, ground.1, ground.2, 255));
        out.draw_pixmap(
            0,
            0,
            picture.as_ref(),
            &tiny_skia::PixmapPaint::default(),
            Transform::identity(),
            None,
        );
        Some(out)
    }

    /// The picture over a ground colour as cells, row by row, [`Blocks::grid`] pixels each; pixels
    /// that do not fill a whole cell are left out.
    pub fn cells(&self, blocks: Blocks, ground: Rgb) -> Vec<Cell> {
        let (width, height, data) = self.pixels();
        let (w, h) = blocks.grid();
        let (columns, rows) = (width / w, height / h);
        let mut cells = Vec::with_capacity(columns * rows);
        let mut block = [[0i32; 3]; 8];
        for row in 0..rows {
            for column in 0..columns {
                let mut covered = false;
                for y in 0..h {
                    for x in 0..w {
                        let at = ((row * h + y) * width + column * w + x) * 4;
                        let p = &data[at..at + 4];
                        covered |= p[3] != 0;
                        let rest = 255 - i32::from(p[3]);
                        let over = |c: u8, ground: u8| {
                            i32::from(c) + (i32::from(ground) * rest + 127) / 255
                        };
                        block[y * w + x] =
                            [over(p[0], ground.0), over(p[1], ground.1), over(p[2], ground.2)];
                    }
                }
                cells.push(if covered { fit(&block[..w * h]) } else { Cell::Clear });
            }
        }
        cells
    }
}

/// Colours closer than this in every channel are treated as equal.
const SAME: i32 = 6;

/// The split of up to 8 pixels into two colours with the least squared error. For up to 6 pixels,
/// every split is tried; for 8, those around the two most different pixels, which is seldom worse.
fn fit(block: &[[i32; 3]]) -> Cell {
    let n = block.len();
    let mut sum = [0i32; 3];
    let (mut low, mut high) = ([i32::MAX; 3], [i32::MIN; 3]);
    for p in block {
        for c in 0..3 {
            sum[c] += p[c];
            low[c] = low[c].min(p[c]);
            high[c] = high[c].max(p[c]);
        }
    }
    let mean = |sum: [i32; 3], n: i32| {
        let m = |s: i32| ((s + n / 2) / n).clamp(0, 255) as u8;
        Rgb(m(sum[0]), m(sum[1]), m(sum[2]))
    };
    if (0..3).all(|c| high[c] - low[c] <= SAME) {
        return Cell::Full(mean(sum, n as i32));
    }
    if n > 6 {
        let mask = two_means(block);
        let (mut a, mut count) = ([0i32; 3], 0);
        for (_, p) in block.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1) {
            count += 1;
            (0..3).for_each(|c| a[c] += p[c]);
        }
        let b = [sum[0] - a[0], sum[1] - a[1], sum[2] - a[2]];
        return Cell::Split { mask, fg: mean(a, count), bg: mean(b, n as i32 - count) };
    }
    // The squared error is least where |sum of A|²/|A| + |sum of B|²/|B| is greatest. In Gray code
    // order each split differs from the one before by one pixel; the last pixel is always in B.
    let square = |s: [i32; 3]| s.iter().map(|&v| v as f32 * v as f32).sum::<f32>();
    let (mut a, mut count, mut mask) = ([0i32; 3], 0i32, 0u8);
    let (mut best, mut score) = ((1u8, block[0], 1i32), f32::MIN);
    for step in 1u32..1 << (n - 1) {
        let bit = step.trailing_zeros() as usize;
        mask ^= 1 << bit;
        let sign = if mask >> bit & 1 == 1 { 1 } else { -1 };
        count += sign;
        for c in 0..3 {
            a[c] += sign * block[bit][c];
        }
        let b = [sum[0] - a[0], sum[1] - a[1], sum[2] - a[2]];
        let s = square(a) / count as f32 + square(b) / (n as i32 - count) as f32;
        if s > score {
            (score, best) = (s, (mask, a, count));
        }
    }
    let (mask, a, count) = best;
    let b = [sum[0] - a[0], sum[1] - a[1], sum[2] - a[2]];
    Cell::Split { mask, fg: mean(a, count), bg: mean(b, n as i32 - count) }
}

/// Splits the pixels by which of two colours is nearer: first the two most different ones, then the
/// means of the resulting groups. Neither side is empty.
fn two_means(block: &[[i32; 3]]) -> u8 {
    let far =
        |a: &[i32; 3], b: &[i32; 3]| (0..3).map(|c| (a[c] - b[c]) * (a[c] - b[c])).sum::<i32>();
    let (mut one, mut two, mut most) = (block[0], block[0], -1);
    for (i, a) in block.iter().enumerate() {
        for b in &block[..i] {
            if far(a, b) > most {
                (one, two, most) = (*a, *b, far(a, b));
            }
        }
    }
    let mut mask = 0u8;
    for _ in 0..3 {
        let next = block
            .iter()
            .enumerate()
            .fold(0u8, |m, (i, p)| m | u8::from(far(p, &one) < far(p, &two)) << i);
        let count = next.count_ones() as i32;
        if next == mask || count == 0 || count == block.len() as i32 {
            break;
        }
        mask = next;
        let (mut a, mut b) = ([0i32; 3], [0i32; 3]);
        for (i, p) in block.iter().enumerate() {
            let side = if mask >> i & 1 == 1 { &mut a } else { &mut b };
            (0..3).for_each(|c| side[c] += p[c]);
        }
        one = a.map(|v| v / count);
        two = b.map(|v| v / (block.len() as i32 - count));
    }
    mask
}

fn outline(path: &[PathStep], frame: &Placement, mut out: PathBuilder) -> PathBuilder {
    let at = |p: [f64; 2]| {
        (
            (frame.centre.0 + p[0] * frame.radius.0) as f32,
            (frame.centre.1 + p[1] * frame.radius.1) as f32,
        )
    };
    for step in path {
        match *step {
            PathStep::Move(p) => {
                let (x, y) = at(p);
                out.move_to(x, y);
            }
            PathStep::Line(p) => {
                let (x, y) = at(p);
                out.line_to(x, y);
            }
            PathStep::Bow(p) => {
                let ((cx, cy), (x, y)) = (at([0.0, 0.0]), at(p));
                out.quad_to(cx, cy, x, y);
            }
            PathStep::Arc { radius, from, to } => {
                // cubic curves of up to a quarter turn
                let pieces = ((to - from).abs() / FRAC_PI_2).ceil().clamp(1.0, 8.0);
                let turn = (to - from) / pieces;
                let reach = 4.0 / 3.0 * (turn / 4.0).tan() * radius;
                for k in 0..pieces as u32 {
                    let (a, b) = (from + turn * f64::from(k), from + turn * f64::from(k + 1));
                    let (p, q) = (crate::shapes::point(a, radius), crate::shapes::point(b, radius));
                    let (x1, y1) = at([p[0] + a.cos() * reach, p[1] + a.sin() * reach]);
                    let (x2, y2) = at([q[0] - b.cos() * reach, q[1] - b.sin() * reach]);
                    let (x, y) = at(q);
                    out.cubic_to(x1, y1, x2, y2, x, y);
                }
            }
            PathStep::Close => out.close(),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chord::Layout,
        shapes::{Proportions, ShapeOf},
    };

    const RED: [i32; 3] = [255, 0, 0];
    const BLUE: [i32; 3] = [0, 0, 255];
    const BLACK: Rgb = Rgb(0, 0, 0);

    fn error(block: &[[i32; 3]], cell: Cell) -> i64 {
        let of = |p: &[i32; 3], c: Rgb| {
            [c.0, c.1, c.2]
                .iter()
                .zip(p)
                .map(|(&a, &b)| i64::from(i32::from(a) - b).pow(2))
                .sum::<i64>()
        };
        let colour = |i: usize| match cell {
            Cell::Clear => BLACK,
            Cell::Full(c) => c,
            Cell::Split { mask, fg, bg } => {
                if mask >> i & 1 == 1 {
                    fg
                } else {
                    bg
                }
            }
        };
        block.iter().enumerate().map(|(i, p)| of(p, colour(i))).sum()
    }

    #[test]
    fn two_colours_are_recovered_exactly() {
        for n in [2usize, 4, 6, 8] {
            for pattern in 0u32..1 << n {
                let block: Vec<[i32; 3]> =
                    (0..n).map(|i| if pattern >> i & 1 == 1 { RED } else { BLUE }).collect();
                let cell = fit(&block);
                assert_eq!(error(&block, cell), 0, "{n} {pattern:b} {cell:?}");
                if let Cell::Split { mask, .. } = cell {
                    assert!(mask != 0 && u32::from(mask) != (1 << n) - 1);
                }
            }
        }
    }

    #[test]
    fn no_other_split_is_better() {
        let mut seed = 7u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as i32
        };
        for _ in 0..200 {
            for n in [4usize, 6, 8] {
                let block: Vec<[i32; 3]> = (0..n).map(|_| [next(), next(), next()]).collect();
                let got = error(&block, fit(&block));
                for mask in 1u8..((1u16 << n) - 1) as u8 {
                    let mean = |bit: u8| {
                        let part: Vec<&[i32; 3]> = block
                            .iter()
                            .enumerate()
                            .filter(|(i, _)| mask >> i & 1 == bit)
                            .map(|x| x.1)
                            .collect();
                        let m = |c: usize| {
                            (part.iter().map(|p| p[c]).sum::<i32>() as f64 / part.len() as f64)
                                .round() as u8
                        };
                        Rgb(m(0), m(1), m(2))
                    };
                    let other = error(&block, Cell::Split { mask, fg: mean(1), bg: mean(0) });
                    let slack = if n == 8 { other / 2 } else { 0 } + 8; // and the rounding of the means
                    assert!(got <= other + slack, "{block:?} {mask:b}: {got} > {other}");
                }
            }
        }
    }

    #[test]
    fn nearly_equal_colours_become_one() {
        assert_eq!(fit(&[[100, 100, 100], [104, 100, 98]]), Cell::Full(Rgb(102, 100, 99)));
    }

    fn disc(columns: usize, rows: usize, blocks: Blocks, cover: f64) -> (Canvas, Vec<Cell>) {
        let shapes = Shapes::new(
            &Layout::new(1, |_, _| 1.0, 0.0),
            Proportions { inner: 0.5, foot: 0.5, least: 0.0 },
        );
        let (w, h) = blocks.grid();
        let size = (columns * w, rows * h);
        let frame = Placement {
            size,
            centre: (size.0 as f64 / 2.0, size.1 as f64 / 2.0),
            radius: (size.0 as f64 / 2.0, size.1 as f64 / 2.0),
            smooth: true,
        };
        let mut canvas = Canvas::new();
        canvas.draw(&shapes, &frame, |s| {
            matches!(s.part, ShapeOf::Arc(_)).then_some((Rgb(200, 100, 50), cover))
        });
        let cells = canvas.cells(blocks, BLACK);
        (canvas, cells)
    }

    #[test]
    fn a_ring_is_round_full_and_hollow() {
        for blocks in [Blocks::Half, Blocks::Quadrant, Blocks::Sextant, Blocks::Octant] {
            let (canvas, cells) = disc(40, 20, blocks, 1.0);
            assert_eq!(cells.len(), 800);
            let at = |x: usize, y: usize| cells[y * 40 + x];
            assert_eq!(at(20, 2), Cell::Full(Rgb(200, 100, 50)), "in the ring");
            assert_eq!(at(5, 10), Cell::Full(Rgb(200, 100, 50)), "in the ring");
            assert_eq!(at(20, 10), Cell::Clear, "in the hole");
            assert_eq!(at(0, 0), Cell::Clear, "in the corner");
            // its area is that of an annulus
            let (w, h, data) = canvas.pixels();
            let area: f64 =
                data.chunks(4).map(|p| f64::from(p[3]) / 255.0).sum::<f64>() / (w * h) as f64;
            assert!((area - std::f64::consts::PI / 4.0 * 0.75).abs() < 0.01, "{area}");
        }
    }

    #[test]
    fn half_opacity_mixes_with_the_ground() {
        let (_, cells) = disc(40, 20, Blocks::Half, 0.5);
        let Cell::Full(Rgb(r, g, b)) = cells[2 * 40 + 20] else { panic!() };
        assert!(r.abs_diff(100) <= 1 && g.abs_diff(50) <= 1 && b.abs_diff(25) <= 1);
    }

    #[test]
    fn any_size_can_be_drawn() {
        for (columns, rows) in [(0, 0), (0, 5), (1, 1), (2, 2), (300, 1)] {
            let (_, cells) = disc(columns, rows, Blocks::Octant, 1.0);
            assert_eq!(cells.len(), columns * rows);
        }
        let mut canvas = Canvas::new();
        let frame = Placement {
            size: (usize::MAX, usize::MAX),
            centre: (0.0, 0.0),
            radius: (1.0, 1.0),
            smooth: true,
        };
        canvas.draw(&Shapes::default(), &frame, |_| None);
        assert!(canvas.cells(Blocks::Half, BLACK).is_empty());
    }
}
