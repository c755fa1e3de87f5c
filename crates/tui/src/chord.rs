// SPDX-License-Identifier: MIT OR Apache-2.0
//! The chord diagram on the screen.
//!
//! [`ChordView::prepare`] does the work for one size: circle, labels, pixels, cells. Rendering the
//! prepared view only copies it. The view also answers which part lies under a cell and which cell
//! shows a part, so that mouse and cursor match what is drawn.
use super::{
    graphics::Pixels,
    theme::{Depth, Theme},
};
use model::{
    chord::Layout,
    colour::Rgb,
    labels::{self, Label, Ring},
    raster::{Blocks, Canvas, Cell, Placement},
    shapes::{Proportions, Shape, ShapeOf, Shapes},
    text::{apart, shorten},
};
use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect, Size},
    style::{Color, Modifier, Style},
    symbols::pixel,
    widgets::Widget,
};
use tiny_skia::Pixmap;
use unicode_width::UnicodeWidthStr;

/// An end of the diagram as the caller knows it, in the order of the layout's groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArcLabel {
    /// The text beside its arc.
    pub label: String,
    /// Its colour.
    pub colour: Rgb,
    /// Whether the user marked it.
    pub marked: bool,
}

/// How to draw.
#[derive(Clone, Copy, Debug)]
pub struct ChordStyle<'a> {
    /// Colours.
    pub theme: &'a Theme,
    /// The characters to draw with.
    pub blocks: Blocks,
    /// Width of a cell as a share of its height, about 0.5.
    pub aspect: f64,
    /// The selection: it stands out, everything else is dimmed.
    pub selected: Option<ShapeOf>,
    /// Real pixels instead of characters.
    pub pixels: Option<Pixels>,
    /// Pairs of ends with a problem between them: their ribbons carry a mark.
    pub wrong: &'a [(usize, usize)],
}

impl<'a> ChordStyle<'a> {
    /// Quadrants, cells twice as high as wide, no selection.
    pub fn new(theme: &'a Theme) -> Self {
        ChordStyle {
            theme,
            blocks: Blocks::default(),
            aspect: 0.5,
            selected: None,
            pixels: None,
            wrong: &[],
        }
    }
}

/// A text in the view.
#[derive(Clone, Debug, PartialEq)]
struct Text {
    x: u16,
    y: u16,
    text: String,
    style: Style,
    end: Option<usize>,
}

/// A chord diagram, prepared for one size.
#[derive(Clone, Debug, Default)]
pub struct ChordView {
    size: Size,
    cells: Vec<(char, Style)>,
    texts: Vec<Text>,
    shapes: Shapes,
    ring: Option<Ring>,
    picture: Option<(Rect, Pixmap)>,
}

/// The remaining opacity of a dimmed shape.
const DIMMED: f64 = 0.3;
/// The most ribbons drawn: narrower ones would be thinner than a pixel and only smear.
const RIBBONS: usize = 300;
/// A cell below a picture.
const COVERED: char = '\u{a0}';
/// The mark on a ribbon with a problem.
const WRONG: char = '!';
/// Before the label of a marked end.
const MARK: &str = "◆ ";

impl ChordView {
    /// Draws a layout for an area of this size. Groups without an end in `ends` (those that leave,
    /// during a transition, unless the caller still names them) are drawn without a label in the
    /// theme's colour of `other`.
    pub fn prepare(
        layout: &Layout,
        ends: &[ArcLabel],
        look: &ChordStyle,
        size: Size,
        canvas: &mut Canvas,
    ) -> Self {
        let mut view = ChordView { size, ..ChordView::default() };
        if size.width == 0 || size.height == 0 {
            return view;
        }
        let plan = Plan::new(layout, ends, look, size);
        let measure = plan.measure();
        let mut shapes = Shapes::new(layout, measure);
        let chosen = |part| look.selected.is_some_and(|s| stands_out(part, s));
        shapes.limit(RIBBONS, chosen);
        if let Some(selected) = look.selected {
            shapes.raise(|part| stands_out(part, selected));
        }
        match look.pixels {
            Some(pixels) => view.picture(&shapes, ends, look, pixels, &plan.ring, canvas),
            None => view.paint(&shapes, ends, look, &plan.ring, canvas),
        }
        view.label(&shapes, ends, look, &plan);
        view.shapes = shapes;
        view.ring = Some(plan.ring);
        if look.pixels.is_none() {
            view.mark(look);
        }
        view
    }

    /// Marks the ribbons of pairs of ends with a problem.
    fn mark(&mut self, look: &ChordStyle) {
        for (a, b) in look.wrong {
            let Some((x, y)) = self.cell_of(ShapeOf::ribbon(*a, *b)) else { continue };
            let text = WRONG.to_string();
            self.texts.push(Text { x, y, text, style: look.theme.failure(), end: None });
        }
    }

    /// The part under a cell of the area: an arc, a ribbon, or the arc that a label names.
    pub fn part_at(&self, column: u16, row: u16) -> Option<ShapeOf> {
        let named = self.texts.iter().find(|t| {
            t.y == row && t.x <= column && usize::from(column) < usize::from(t.x) + t.text.width()
        });
        if let Some(end) = named.and_then(|t| t.end) {
            return Some(ShapeOf::Arc(end));
        }
        let ring = self.ring?;
        let at = |dx: f64, dy: f64| {
            let x = (f64::from(column) + dx - ring.centre.0) / ring.radius.0;
            let y = (f64::from(row) + dy - ring.centre.1) / ring.radius.1;
            self.shapes.at(x, y)
        };
        // of everything visible in the cell, what is drawn last: narrow before broad
        let points = [(0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)];
        points
            .into_iter()
            .filter_map(|(dx, dy)| at(dx, dy))
            .max_by_key(|&part| self.shapes.shapes.iter().position(|s| s.part == part))
    }

    /// A cell that shows a part, as near as possible to its middle.
    pub fn cell_of(&self, part: ShapeOf) -> Option<(u16, u16)> {
        let ring = self.ring?;
        let at = |centre: f64, offset: f64, size: u16| {
            ((centre + offset).max(0.0) as u16).min(size.saturating_sub(1))
        };
        let cell = |share: f64| {
            let [x, y] = self.shapes.along(part, share)?;
            Some((
                at(ring.centre.0, x * ring.radius.0, self.size.width),
                at(ring.centre.1, y * ring.radius.1, self.size.height),
            ))
        };
        let shares = [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9, 0.0, 1.0];
        shares
            .into_iter()
            .filter_map(cell)
            .find(|&(x, y)| self.part_at(x, y) == Some(part))
            .or_else(|| cell(0.5))
    }

    fn paint(
        &mut self,
        shapes: &Shapes,
        ends: &[ArcLabel],
        look: &ChordStyle,
        ring: &Ring,
        canvas: &mut Canvas,
    ) {
        let theme = look.theme;
        let (w, h) = look.blocks.grid();
        let (w, h) = (w as f64, h as f64);
        let frame = Placement {
            size: (
                usize::from(self.size.width) * w as usize,
                usize::from(self.size.height) * h as usize,
            ),
            centre: (ring.centre.0 * w, ring.centre.1 * h),
            radius: (ring.radius.0 * w, ring.radius.1 * h),
            smooth: theme.depth != Depth::Ansi16,
        };
        canvas.draw(shapes, &frame, |shape| Some(paint(shape, ends, look)));
        self.cells = canvas
            .cells(look.blocks, theme.ground)
            .into_iter()
            .map(|cell| glyph(cell, look, |c| theme.colour(c)))
            .collect();
    }

    /// The same in real pixels: a picture over the cells that the circle covers, which stay empty.
    fn picture(
        &mut self,
        shapes: &Shapes,
        ends: &[ArcLabel],
        look: &ChordStyle,
        pixels: Pixels,
        ring: &Ring,
        canvas: &mut Canvas,
    ) {
        let low = |centre: f64, radius: f64| (centre - radius).floor().max(0.0) as u16;
        let high = |centre: f64, radius: f64, most: u16| {
            ((centre + radius).ceil().max(0.0) as u16).min(most)
        };
        let (x, y) = (low(ring.centre.0, ring.radius.0), low(ring.centre.1, ring.radius.1));
        let (right, bottom) = (
            high(ring.centre.0, ring.radius.0, self.size.width),
            high(ring.centre.1, ring.radius.1, self.size.height),
        );
        let area = Rect::new(x, y, right.saturating_sub(x), bottom.saturating_sub(y));
        let (w, h) = pixels.scale(area);
        let scaled = |(a, b): (f64, f64)| (a * f64::from(w), b * f64::from(h));
        let frame = Placement {
            size: (
                usize::from(area.width) * usize::from(w),
                usize::from(area.height) * usize::from(h),
            ),
            centre: scaled((ring.centre.0 - f64::from(x), ring.centre.1 - f64::from(y))),
            radius: scaled(ring.radius),
            smooth: true,
        };
        canvas.draw(shapes, &frame, |shape| Some(paint(shape, ends, look)));
        self.picture = canvas.over(look.theme.ground).map(|p| (area, p));
        let inside = |column: u16, row: u16| {
            let (dx, dy) =
                (f64::from(column) + 0.5 - ring.centre.0, f64::from(row) + 0.5 - ring.centre.1);
            (dx / ring.radius.0).hypot(dy / ring.radius.1) < 1.0
        };
        // cells under the picture are not free for leader lines: use a space that does not count as
        // blank
        let cells = (0..self.size.height)
            .flat_map(|row| (0..self.size.width).map(move |column| (column, row)));
        self.cells = cells
            .map(|(column, row)| (if inside(column, row) { COVERED } else { ' ' }, Style::new()))
            .collect();
    }

    /// The picture, and the cells of the view that it covers.
    pub fn image(&self) -> Option<(Rect, &Pixmap)> {
        self.picture.as_ref().map(|(area, picture)| (*area, picture))
    }

    fn label(&mut self, shapes: &Shapes, ends: &[ArcLabel], look: &ChordStyle, plan: &Plan) {
        let theme = look.theme;
        let style = |i: usize| {
            let style = theme.text(theme.readable(ends[i].colour));
            let style = if ends[i].marked { style.add_modifier(Modifier::BOLD) } else { style };
            match look.selected {
                Some(s)
                    if s == ShapeOf::Arc(i)
                        || (matches!(s, ShapeOf::Ribbon(..)) && s.touches(i)) =>
                {
                    style.add_modifier(Modifier::BOLD)
                }
                Some(s) if !near(i, s, shapes) => theme.text(dim(ends[i].colour, theme)),
                _ => style,
            }
        };
        let mut free: Vec<bool> = self.cells.iter().map(|c| c.0 == ' ').collect();
        let width = usize::from(self.size.width);
        let mut leaders = vec![];
        for (&i, text, spot) in plan.spots() {
            for (x, y, line) in spot.leader(text.width()) {
                leaders.push((x, y, line, i));
            }
            free.iter_mut()
                .skip(spot.y * width + spot.x)
                .take(text.width())
                .for_each(|f| *f = false);
            self.texts.push(Text {
                x: spot.x as u16,
                y: spot.y as u16,
                text: text.clone(),
                style: style(i),
                end: Some(i),
            });
        }
        for (x, y, line, end) in leaders {
            if free.get(y * width + x).is_some_and(|f| *f) {
                free[y * width + x] = false;
                let style = theme.text(theme.ground.mix(ends[end].colour, 0.6));
                self.texts.push(Text {
                    x: x as u16,
                    y: y as u16,
                    text: line.to_string(),
                    style,
                    end: Some(end),
                });
            }
        }
        for row in &plan.legend {
            let style = row.end.map_or(theme.faint(), style);
            self.texts.push(Text {
                x: row.x,
                y: row.y,
                text: row.text.clone(),
                style,
                end: row.end,
            });
        }
    }
}

impl Widget for &ChordView {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(buf.area);
        if area.is_empty() || self.size.width == 0 {
            return;
        }
        let width = usize::from(self.size.width);
        for (y, row) in self.cells.chunks(width).enumerate().take(usize::from(area.height)) {
            for (x, &(symbol, style)) in row.iter().enumerate().take(usize::from(area.width)) {
                if let Some(cell) =
                    buf.cell_mut(Position::new(area.x + x as u16, area.y + y as u16))
                {
                    cell.set_char(if symbol == COVERED { ' ' } else { symbol }).set_style(style);
                }
            }
        }
        for t in &self.texts {
            if t.x < area.width && t.y < area.height {
                buf.set_stringn(
                    area.x + t.x,
                    area.y + t.y,
                    &t.text,
                    usize::from(area.width - t.x),
                    t.style,
                );
            }
        }
    }
}

/// Whether an end belongs to the selection: it is selected, or a partner in a ribbon of the
/// selected arc.
fn near(end: usize, selected: ShapeOf, shapes: &Shapes) -> bool {
    match selected {
        ShapeOf::Ribbon(..) => selected.touches(end),
        ShapeOf::Arc(i) => {
            i == end || shapes.shapes.iter().any(|s| s.part == ShapeOf::ribbon(i, end))
        }
    }
}

/// Whether a shape keeps its full colour while something is selected.
fn stands_out(part: ShapeOf, selected: ShapeOf) -> bool {
    match (part, selected) {
        (ShapeOf::Arc(i), _) => selected.touches(i),
        (ShapeOf::Ribbon(..), ShapeOf::Arc(i)) => part.touches(i),
        (ShapeOf::Ribbon(..), ShapeOf::Ribbon(..)) => part == selected,
    }
}

fn dim(colour: Rgb, theme: &Theme) -> Rgb {
    match theme.depth {
        Depth::Ansi16 => model::colour::xterm(8),
        _ => theme.ground.mix(colour, 0.5),
    }
}

fn paint(shape: &Shape, ends: &[ArcLabel], look: &ChordStyle) -> (Rgb, f64) {
    let theme = look.theme;
    let colour = ends.get(shape.colour).map_or(theme.other, |e| e.colour);
    let ribbon = matches!(shape.part, ShapeOf::Ribbon(..));
    let (rgb, cover) = match (ribbon, theme.depth) {
        (true, _) => theme.ribbon(colour),
        (false, Depth::Mono) => (theme.ink, 1.0),
        (false, _) => (colour, 1.0),
    };
    match look.selected {
        None => (rgb, cover),
        Some(s) if stands_out(shape.part, s) => match theme.depth {
            Depth::Mono if ribbon => (Rgb::hex(0xc8c8c8), 1.0),
            _ => (rgb, if ribbon { cover.max(0.85) } else { cover }),
        },
        Some(_) => match theme.depth {
            Depth::Ansi16 => (model::colour::xterm(8), 1.0),
            Depth::Mono if ribbon => (Rgb::hex(0x505050), 1.0),
            Depth::Mono => (Rgb::hex(0x808080), 1.0),
            _ => (rgb, cover * DIMMED),
        },
    }
}

/// A cell as a character and its style.
fn glyph(cell: Cell, look: &ChordStyle, colour: impl Fn(Rgb) -> Color) -> (char, Style) {
    let theme = look.theme;
    let symbol = |mask: u8| match look.blocks {
        Blocks::Ascii => ascii(mask),
        Blocks::Half => [' ', '▀', '▄', '█'][usize::from(mask & 3)],
        Blocks::Quadrant => pixel::QUADRANTS[usize::from(mask & 15)],
        Blocks::Sextant => pixel::SEXTANTS[usize::from(mask & 63)],
        Blocks::Octant => pixel::OCTANTS[usize::from(mask)],
    };
    let (w, h) = look.blocks.grid();
    let all = ((1u16 << (w * h)) - 1) as u8;
    if theme.depth == Depth::Mono {
        let levels = match look.blocks {
            Blocks::Ascii => [' ', '.', ':', '+', '#'],
            _ => [' ', '░', '▒', '▓', '█'],
        };
        return (shade(cell, symbol, levels, all), Style::new());
    }
    let ground = colour(theme.ground);
    if look.blocks == Blocks::Ascii
        && let Some(c) = solid(cell, all, |c| colour(c) == ground)
    {
        // the colour makes the picture; the sign, which it hides, is for copied text
        let far = |c: Rgb| (c.lightness() - theme.ground.lightness()).abs();
        let share = (far(c) / far(theme.ink).max(0.01)).clamp(0.3, 1.0);
        let sign = [' ', '.', ':', '+', '#'][(share * 4.0).round() as usize];
        return (sign, Style::new().fg(colour(c)).bg(colour(c)));
    }
    let (mask, fg, bg) = match cell {
        Cell::Clear => return (' ', Style::new()),
        Cell::Full(c) => (all, colour(c), colour(c)),
        Cell::Split { mask, fg, bg } => (mask, colour(fg), colour(bg)),
    };
    // the ground is always behind: the terminal's own background cannot be a foreground colour
    match (fg == bg, fg == ground) {
        (true, true) => (' ', Style::new()),
        (true, false) => (symbol(all), Style::new().fg(fg).bg(bg)),
        (false, true) => (symbol(all & !mask), Style::new().fg(bg).bg(fg)),
        (false, false) => (symbol(mask), Style::new().fg(fg).bg(bg)),
    }
}

/// The single colour of a cell that shows no ground, if necessary the more frequent of the two:
/// letters on a coloured ground do not look like an edge.
fn solid(cell: Cell, all: u8, is_ground: impl Fn(Rgb) -> bool) -> Option<Rgb> {
    match cell {
        Cell::Full(c) if !is_ground(c) => Some(c),
        Cell::Split { mask, fg, bg } if !is_ground(fg) && !is_ground(bg) => {
            Some(if 2 * mask.count_ones() >= all.count_ones() { fg } else { bg })
        }
        _ => None,
    }
}

/// The ASCII character whose ink matches a cell best: 2 x 4 pixels, bit 0 is the top left one.
fn ascii(mask: u8) -> char {
    const GLYPHS: [(u8, char); 23] = [
        (0b0000_0000, ' '),
        (0b1111_1111, '#'),
        (0b0000_0011, '"'),
        (0b0000_1111, '"'),
        (0b0000_0101, '`'),
        (0b0000_1010, '\''),
        (0b0000_1100, '-'),
        (0b0011_1100, '-'),
        (0b0011_0000, '-'),
        (0b1100_0000, '_'),
        (0b1111_0000, 'o'),
        (0b0101_0000, '.'),
        (0b1010_0000, '.'),
        (0b0101_0101, '['),
        (0b1010_1010, ']'),
        (0b0101_1010, '/'),
        (0b1010_0101, '\\'),
        (0b1111_0101, 'b'),
        (0b1111_1010, 'd'),
        (0b0101_1111, 'P'),
        (0b1010_1111, 'Y'),
        (0b1101_0101, 'L'),
        (0b1110_1010, 'J'),
    ];
    let differ = |glyph: &&(u8, char)| (mask ^ glyph.0).count_ones();
    GLYPHS.iter().min_by_key(differ).map_or(' ', |glyph| glyph.1)
}

/// A cell without colours, by how much ink it has, or by where the ink is.
fn shade(cell: Cell, symbol: impl Fn(u8) -> char, levels: [char; 5], all: u8) -> char {
    let ink = |c: Rgb| f64::from(c.0) / 255.0;
    let level = |ink: f64| levels[((ink * 4.0).round() as usize).min(4)];
    match cell {
        Cell::Clear => ' ',
        Cell::Full(c) => level(ink(c)),
        Cell::Split { mask, fg, bg } => {
            let (mask, high, low) = if ink(fg) >= ink(bg) {
                (mask, ink(fg), ink(bg))
            } else {
                (all & !mask, ink(bg), ink(fg))
            };
            let part = f64::from(mask.count_ones()) / f64::from(all.count_ones());
            if low < 0.2 && high > 0.6 {
                symbol(mask)
            } else {
                level(high * part + low * (1.0 - part))
            }
        }
    }
}

/// A line of the legend.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    x: u16,
    y: u16,
    text: String,
    end: Option<usize>,
}

/// Where circle, labels and legend go.
#[derive(Clone, Debug)]
struct Plan {
    ring: Ring,
    /// The ends that have a label, its text, and its place.
    labelled: Vec<usize>,
    texts: Vec<String>,
    spots: Vec<labels::Spot>,
    legend: Vec<Line>,
}

impl Plan {
    fn new(layout: &Layout, ends: &[ArcLabel], look: &ChordStyle, size: Size) -> Plan {
        let (columns, rows) = (usize::from(size.width), usize::from(size.height));
        let angles = layout.angles();
        let angle = |i: usize| angles.get(i).copied().flatten();
        let mut shown: Vec<usize> = (0..ends.len()).filter(|&i| angle(i).is_some()).collect();
        // the largest first: they keep their labels if not all can
        shown.sort_by(|&a, &b| {
            layout.groups[b].value.total_cmp(&layout.groups[a].value).then(a.cmp(&b))
        });

        let texts = |limit: usize| -> Vec<String> {
            let labels: Vec<String> = shown.iter().map(|i| ends[*i].label.clone()).collect();
            let marks = shown.iter().map(|i| if ends[*i].marked { MARK } else { "" });
            marks
                .zip(apart(&labels, limit))
                .map(|(mark, label)| shorten(&format!("{mark}{label}"), limit))
                .collect()
        };
        let margin = if rows >= 14 {
            1.5
        } else if rows >= 6 {
            1.0
        } else {
            0.0
        };
        let tall = rows as f64 / 2.0 - margin;
        let ring = |left: usize, right: usize, tall: f64| {
            let wide = (columns.saturating_sub(left + right) as f64 / 2.0).max(0.0);
            let radius = tall.min(wide * look.aspect).max(0.1);
            Ring {
                size: (columns, rows),
                centre: (
                    left as f64 + columns.saturating_sub(left + right) as f64 / 2.0,
                    rows as f64 / 2.0,
                ),
                radius: (radius / look.aspect, radius),
            }
        };

        let beside = texts((columns / 4).max(16));
        let widest = beside.iter().map(|t| t.width()).max().unwrap_or(0);
        let around = ring(widest + 2, widest + 2, tall);
        let listed = texts((columns / 3).max(16));
        let list = listed.iter().map(|t| t.width()).max().map_or(0, |w| w + 2);
        let list = if list + 10 < columns { list } else { 0 };
        let air = if list > 0 && rows >= 10 { (2, 3, 1.0) } else { (0, 1, 0.0) };
        let alone = ring(air.0, list + if list > 0 { air.1 } else { 0 }, rows as f64 / 2.0 - air.2);

        let place = |ring: &Ring, texts: &[String]| {
            let wanted: Vec<Label> = shown
                .iter()
                .zip(texts)
                .filter_map(|(&i, t)| Some(Label { angle: angle(i)?, width: t.width() }))
                .collect();
            labels::place(ring, &wanted)
        };
        // labels beside their arcs, unless they would shrink the circle too much or move too far
        // away
        if around.radius.1 >= alone.radius.1 * 0.7
            && let Some((spots, moved)) = place(&around, &beside)
            && moved <= 3
        {
            return Plan { ring: around, labelled: shown, texts: beside, spots, legend: vec![] };
        }
        // otherwise a list at the side, with tags on the circle
        let total: f64 = layout.groups.iter().map(|g| g.value).sum();
        let fits = if list == 0 {
            0
        } else if shown.len() > rows {
            rows - 1
        } else {
            shown.len()
        };
        let x = columns.saturating_sub(list) as u16;
        let top = (rows - shown.len().min(rows)) / 2;
        let mut legend = vec![];
        for (k, (&i, text)) in shown.iter().zip(&listed).take(fits).enumerate() {
            legend.push(Line {
                x,
                y: (top + k) as u16,
                text: format!("{} {text}", tag(k)),
                end: Some(i),
            });
        }
        if list > 0 && fits < shown.len() {
            let rest: f64 = shown[fits..].iter().map(|&i| layout.groups[i].value).sum();
            let share = if total > 0.0 { rest / total * 100.0 } else { 0.0 };
            let text = shorten(&format!("+{} more, {share:.0}%", shown.len() - fits), list);
            legend.push(Line { x, y: (rows - 1) as u16, text, end: None });
        }
        let ring = Ring { size: (columns - list, rows), ..alone };
        let mut tags: Vec<usize> = shown.iter().take(fits).copied().collect();
        let spots = loop {
            let wanted: Vec<Label> =
                tags.iter().filter_map(|&i| Some(Label { angle: angle(i)?, width: 1 })).collect();
            match labels::place(&ring, &wanted) {
                Some((spots, moved)) if moved <= 1 => break spots,
                _ if tags.is_empty() => break vec![],
                _ => tags.truncate(tags.len() * 3 / 4),
            }
        };
        let texts = (0..tags.len()).map(|k| tag(k).to_string()).collect();
        Plan { ring, labelled: tags, texts, spots, legend }
    }

    fn spots(&self) -> impl Iterator<Item = (&usize, &String, &labels::Spot)> {
        self.labelled.iter().zip(&self.texts).zip(&self.spots).map(|((i, t), s)| (i, t, s))
    }

    /// Arcs are a twelfth of the radius wide, but at least two pixels; the smallest angle is a
    /// pixel of the edge.
    fn measure(&self) -> Proportions {
        let pixel = 1.0 / (self.ring.radius.1 * 2.0).max(1.0);
        let thick = (2.0 * pixel).clamp(0.085, 0.34);
        Proportions { inner: 1.0 - thick, foot: 1.0 - thick, least: pixel * 1.2 }
    }
}

/// The tag on the circle for a line of the legend.
fn tag(k: usize) -> char {
    "123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".chars().nth(k).unwrap_or('·')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::Scheme;
    use model::chord::padding;

    /// Everybody's traffic goes through a hub, about equally in both directions.
    fn hub() -> Vec<Vec<f64>> {
        let hub = [0.0, 880.0, 1116.0, 1080.0, 220.0, 220.0, 1116.0, 860.0, 860.0];
        (0..9)
            .map(|i| {
                (0..9)
                    .map(|j| {
                        if i == 0 {
                            hub[j]
                        } else if j == 0 {
                            hub[i]
                        } else {
                            0.0
                        }
                    })
                    .collect()
            })
            .collect()
    }

    fn layout(matrix: &[Vec<f64>], padding: f64) -> Layout {
        Layout::new(matrix.len(), |i, j| matrix[i][j], padding)
    }

    fn ends(n: usize, theme: &Theme) -> Vec<ArcLabel> {
        let labels: Vec<String> = (0..n).map(|i| format!("172.16.1.{}", 100 + i)).collect();
        let colours = theme.end_colours().assign(&labels);
        labels
            .into_iter()
            .zip(colours)
            .map(|(label, colour)| ArcLabel { label, colour, marked: false })
            .collect()
    }

    fn prepare(matrix: &[Vec<f64>], look: &ChordStyle, width: u16, height: u16) -> ChordView {
        let layout = layout(matrix, padding(matrix.len(), 0.04));
        ChordView::prepare(
            &layout,
            &ends(matrix.len(), look.theme),
            look,
            Size::new(width, height),
            &mut Canvas::new(),
        )
    }

    fn screen(view: &ChordView, width: u16, height: u16) -> Buffer {
        let mut buf = Buffer::empty(Rect::new(0, 0, width, height));
        view.render(buf.area, &mut buf);
        buf
    }

    fn text(buf: &Buffer) -> String {
        let row = |y: u16| (0..buf.area.width).map(|x| buf[(x, y)].symbol()).collect::<String>();
        (0..buf.area.height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn ascii_is_ascii_and_a_circle() {
        for depth in [Depth::Mono, Depth::Ansi16, Depth::Ansi256, Depth::TrueColor] {
            let theme = Theme::new(Scheme::Dark, depth);
            let view = prepare(
                &hub(),
                &ChordStyle { blocks: Blocks::Ascii, ..ChordStyle::new(&theme) },
                60,
                24,
            );
            let cells = || view.cells.iter().enumerate();
            assert!(cells().all(|(_, c)| c.0.is_ascii()), "{depth:?}");
            let drawn = cells().filter(|(_, c)| c.0 != ' ').count();
            assert!(drawn > 300, "{depth:?}: {drawn}");
            // the corners are empty, and every row in the middle begins and ends with the ring
            let row: Vec<char> = view.cells[12 * 60..13 * 60].iter().map(|c| c.0).collect();
            let text: String = row.iter().collect();
            assert!(text.trim().len() > 30 && view.cells[0].0 == ' ', "{depth:?}: {text:?}");
        }
        let shapes =
            [(0u8, ' '), (255, '#'), (0b1111, '"'), (0b1100_0000, '_'), (0b0101_1010, '/')];
        for (mask, sign) in shapes {
            assert_eq!(ascii(mask), sign);
        }
    }

    #[test]
    fn the_chord_stays_in_its_area() {
        let theme = Theme::default();
        let max = u64::MAX as f64;
        for matrix in [
            vec![],
            vec![vec![0.0]],
            vec![vec![5.0]],
            hub(),
            vec![vec![max; 9]; 9],
            vec![vec![1.0; 300]; 300],
        ] {
            for blocks in
                [Blocks::Ascii, Blocks::Half, Blocks::Quadrant, Blocks::Sextant, Blocks::Octant]
            {
                if matrix.len() > 9 && blocks != Blocks::Quadrant {
                    continue;
                }
                for (w, h) in
                    [(0, 0), (1, 1), (2, 2), (1, 40), (90, 1), (40, 12), (80, 24), (200, 60)]
                {
                    let view =
                        prepare(&matrix, &ChordStyle { blocks, ..ChordStyle::new(&theme) }, w, h);
                    let full = Rect::new(0, 0, w + 4, h + 2);
                    let mut buf = Buffer::filled(full, ratatui::buffer::Cell::new("ø"));
                    let area = Rect::new(3, 1, w, h);
                    view.render(area, &mut buf);
                    for y in 0..full.height {
                        for x in 0..full.width {
                            assert_eq!(
                                buf[(x, y)].symbol() == "ø",
                                !area.contains(Position::new(x, y)),
                                "{w}x{h} {x},{y} n={}",
                                matrix.len()
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_view_of_another_size_is_cut() {
        let view = prepare(&hub(), &ChordStyle::new(&Theme::default()), 80, 24);
        let mut buf = Buffer::filled(Rect::new(0, 0, 10, 5), ratatui::buffer::Cell::new("x"));
        view.render(Rect::new(2, 2, 100, 100), &mut buf);
        assert_eq!(text(&buf).lines().take(2).collect::<String>(), "x".repeat(20));
        (&ChordView::default()).render(buf.area, &mut buf);
    }

    #[test]
    fn every_host_is_readable() {
        for scheme in Scheme::ALL {
            let theme = Theme::new(scheme.0, Depth::TrueColor);
            for (w, h) in [(40, 12), (54, 20), (80, 20), (80, 24), (120, 40), (200, 60)] {
                let drawn = text(&screen(&prepare(&hub(), &ChordStyle::new(&theme), w, h), w, h));
                for end in ends(9, &theme) {
                    assert_eq!(
                        drawn.matches(&end.label).count(),
                        1,
                        "{} at {w}x{h}\n{drawn}",
                        end.label
                    );
                }
            }
        }
    }

    #[test]
    fn many_hosts_have_a_list_and_a_rest() {
        let theme = Theme::default();
        let drawn = text(&screen(
            &prepare(&vec![vec![1.0; 60]; 60], &ChordStyle::new(&theme), 100, 24),
            100,
            24,
        ));
        assert!(drawn.contains("1 172.16.1.100") && drawn.contains("+37 more, 62%"), "{drawn}");
    }

    #[test]
    fn hit_testing_matches_the_drawing() {
        let theme = Theme::default();
        let matrix = hub();
        for (w, h) in [(40, 12), (80, 24), (200, 60)] {
            let view = prepare(&matrix, &ChordStyle::new(&theme), w, h);
            for shape in &view.shapes.shapes {
                let selected = prepare(
                    &matrix,
                    &ChordStyle { selected: Some(shape.part), ..ChordStyle::new(&theme) },
                    w,
                    h,
                );
                let (x, y) = selected.cell_of(shape.part).unwrap();
                let found = selected.part_at(x, y).unwrap();
                assert!(found == shape.part || w < 80, "{w}x{h}: {found:?} for {:?}", shape.part);
            }
            let buf = screen(&view, w, h);
            let (mut found, mut labels) = (0, 0);
            for y in 0..h {
                for x in 0..w {
                    match view.part_at(x, y) {
                        Some(_)
                            if view.texts.iter().any(|t| {
                                t.y == y && (t.x..t.x + t.text.width() as u16).contains(&x)
                            }) =>
                        {
                            labels += 1
                        }
                        Some(part) => {
                            found += 1;
                            assert!(buf[(x, y)].symbol() != " ", "{w}x{h} {x},{y} {part:?}");
                        }
                        None => {}
                    }
                }
            }
            assert!(found > usize::from(h) * usize::from(h) / 2 && labels >= 9 * 12);
        }
        assert_eq!(ChordView::default().part_at(3, 3), None);
        assert_eq!(ChordView::default().cell_of(ShapeOf::Arc(0)), None);
    }

    #[test]
    fn the_selection_stands_out_and_the_rest_is_dim() {
        let theme = Theme::default();
        let plain = prepare(&hub(), &ChordStyle::new(&theme), 80, 24);
        let view = prepare(
            &hub(),
            &ChordStyle { selected: Some(ShapeOf::Ribbon(0, 2)), ..ChordStyle::new(&theme) },
            80,
            24,
        );
        let light = |v: &ChordView, part: ShapeOf| {
            let (x, y) = plain.cell_of(part).unwrap();
            match v.cells[usize::from(y) * 80 + usize::from(x)].1.fg {
                Some(Color::Rgb(r, g, b)) => {
                    (Rgb(r, g, b).lightness() - theme.ground.lightness()).abs()
                }
                other => panic!("{other:?}"),
            }
        };
        for part in [ShapeOf::Arc(0), ShapeOf::Arc(2), ShapeOf::Ribbon(0, 2)] {
            assert!(light(&view, part) > light(&plain, part) - 0.02, "{part:?}");
        }
        for part in [ShapeOf::Arc(1), ShapeOf::Arc(5), ShapeOf::Ribbon(0, 1), ShapeOf::Ribbon(0, 8)]
        {
            assert!(light(&view, part) < light(&plain, part) * 0.6, "{part:?}");
        }
    }

    #[test]
    fn marked_ends_are_flagged() {
        let theme = Theme::default();
        let mut ends = ends(9, &theme);
        ends[3].marked = true;
        let layout = layout(&hub(), 0.04);
        let view = ChordView::prepare(
            &layout,
            &ends,
            &ChordStyle::new(&theme),
            Size::new(80, 24),
            &mut Canvas::new(),
        );
        assert!(text(&screen(&view, 80, 24)).contains("◆ 172.16.1.103"));
    }

    #[test]
    fn a_ribbon_with_a_problem_has_a_mark() {
        let theme = Theme::default();
        let wrong = [(2, 0)];
        let view =
            prepare(&hub(), &ChordStyle { wrong: &wrong, ..ChordStyle::new(&theme) }, 80, 24);
        let (x, y) = view.cell_of(ShapeOf::Ribbon(0, 2)).expect("it is drawn");
        let buf = screen(&view, 80, 24);
        assert_eq!(buf[(x, y)].symbol(), "!");
        assert_eq!(buf[(x, y)].style().fg, theme.failure().fg);
        assert_eq!(view.part_at(x, y), Some(ShapeOf::Ribbon(0, 2)), "it can be pointed at");
        let marks = |view| text(&screen(view, 80, 24)).matches('!').count();
        assert_eq!(
            (marks(&view), marks(&prepare(&hub(), &ChordStyle::new(&theme), 80, 24))),
            (1, 0)
        );
    }

    #[test]
    fn few_colours_use_the_terminals_background() {
        let theme = Theme::new(Scheme::Light, Depth::Ansi16);
        let buf = screen(&prepare(&hub(), &ChordStyle::new(&theme), 80, 24), 80, 24);
        let blocks = buf.content.iter().filter(|c| "▘▝▖▗▌▐▀▄▚▞▛▜▙▟█".contains(c.symbol()));
        let mut seen = 0;
        for cell in blocks {
            assert!(cell.fg != Color::Reset && !matches!(cell.fg, Color::Rgb(..)), "{cell:?}");
            seen += 1;
        }
        assert!(seen > 300);
        let mono = Theme::new(Scheme::Dark, Depth::Mono);
        let buf = screen(&prepare(&hub(), &ChordStyle::new(&mono), 80, 24), 80, 24);
        assert!(buf.content.iter().all(|c| c.fg == Color::Reset && c.bg == Color::Reset));
    }

    #[test]
    fn drawings_match_their_snapshots() {
        let theme = Theme::default();
        let mono = Theme::new(Scheme::Mono, Depth::Mono);
        for (name, theme, blocks, w, h) in [
            ("quadrant-40x12", &theme, Blocks::Quadrant, 40, 12),
            ("quadrant-80x24", &theme, Blocks::Quadrant, 80, 24),
            ("half-80x24", &theme, Blocks::Half, 80, 24),
            ("sextant-80x24", &theme, Blocks::Sextant, 80, 24),
            ("mono-80x24", &mono, Blocks::Quadrant, 80, 24),
            ("quadrant-200x60", &theme, Blocks::Quadrant, 200, 60),
        ] {
            insta::assert_snapshot!(
                name,
                text(&screen(
                    &prepare(&hub(), &ChordStyle { blocks, ..ChordStyle::new(theme) }, w, h),
                    w,
                    h
                ))
            );
        }
    }

    #[test]
    fn a_tween_can_be_drawn_at_any_time() {
        use model::chord::{Scene, tween};
        let theme = Theme::default();
        let names = |n: usize| (0..n).collect::<Vec<_>>();
        let from = Scene { ends: names(9), layout: layout(&hub(), 0.04) };
        let to = Scene { ends: vec![3, 0, 77], layout: Layout::new(3, |_, _| 1.0, 0.04) };
        for step in 0..=10 {
            let scene = tween(&from, &to, f64::from(step) / 10.0);
            let view = ChordView::prepare(
                &scene.layout,
                &ends(3, &theme),
                &ChordStyle::new(&theme),
                Size::new(80, 24),
                &mut Canvas::new(),
            );
            assert_eq!(view.cells.len(), 80 * 24);
        }
    }
}
