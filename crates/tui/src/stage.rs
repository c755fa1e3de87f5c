// SPDX-License-Identifier: MIT OR Apache-2.0
//! The chord from frame to frame: its previous state, its target, and the progress between them;
//! and the text around it.
use std::time::Duration;

use ratatui::{buffer::Buffer, layout::Rect, widgets::Widget};
use unicode_width::UnicodeWidthStr;

use model::{
    charset::Charset,
    chord::{Layout, Scene, ease, padding, tween},
    colour::Rgb,
    matrix::{End, Matrix, Pick},
    raster::{Blocks, Canvas},
    shapes::ShapeOf,
    text::shared_prefix,
};

use crate::{
    app::App,
    chord::{self, ChordView},
    graphics::{Image, Pixels},
    look::Look,
    sheets::Sheets,
    words::Unit,
};

/// The duration of an animation, if the terminal is fast.
const CHANGE: Duration = Duration::from_millis(400);
/// The time between two frames of an animation.
const FRAME: Duration = Duration::from_millis(40);
/// The part of an interval that may be spent on drawing an animation.
const SHARE: f64 = 0.008;
/// The free angle after an arc, if there is room.
const PADDING: f64 = 0.05;

/// The animated chord.
#[derive(Debug)]
pub struct Stage {
    /// The current state, or the target of the animation.
    scene: Scene<End>,
    of: Option<(Matrix, Unit)>,
    change: Option<Change>,
    view: ChordView,
    canvas: Canvas,
    drawn: Option<Drawn>,
    /// The labels, and the picture and area that they were made for.
    labels: (Option<(u64, Rect)>, Vec<chord::ArcLabel>),
    /// The text around it.
    pub(crate) sheets: Sheets,
    version: u64,
    area: Rect,
    /// The cost of one frame, as measured by the caller.
    cost: Duration,
}

#[derive(Debug)]
struct Change {
    from: Scene<End>,
    begun: Duration,
    length: Duration,
}

/// What a view was prepared for: as long as it is unchanged, there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Drawn {
    area: Rect,
    picked: Option<Pick>,
    version: u64,
}

/// How the chord is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The characters of the chord.
    pub blocks: Blocks,
    /// The characters of everything else.
    pub charset: Charset,
    /// Width of a cell as a share of its height.
    pub aspect: f64,
    /// Real pixels instead of characters.
    pub pixels: Option<Pixels>,
    /// Whether changes are animated.
    pub animate: bool,
    /// How often there is new data.
    pub interval: Duration,
}

impl Default for Manner {
    fn default() -> Self {
        Manner {
            blocks: Blocks::default(),
            charset: Charset::default(),
            aspect: 0.5,
            pixels: None,
            animate: true,
            interval: Duration::from_secs(1),
        }
    }
}

/// The layout of a matrix's numbers in a unit.
pub fn layout(app: &App) -> Layout {
    let m = &app.picture.matrix;
    let n = m.len();
    Layout::new(n, |i, j| app.measure(m.get(i, j)) as f64, padding(n, PADDING))
}

impl Default for Stage {
    fn default() -> Self {
        Stage {
            scene: Scene { ends: vec![], layout: Layout::default() },
            of: None,
            change: None,
            view: ChordView::default(),
            canvas: Canvas::default(),
            drawn: None,
            labels: (None, vec![]),
            sheets: Sheets::default(),
            version: 0,
            area: Rect::default(),
            cost: Duration::ZERO,
        }
    }
}

impl Stage {
    /// Takes the app's picture: at once, or as an animation that begins now.
    pub fn show(&mut self, app: &App, now: Duration, manner: Manner) {
        let same = self
            .of
            .as_ref()
            .is_some_and(|(m, u)| u.measure() == app.unit.measure() && *m == app.picture.matrix);
        if same {
            return;
        }
        let next = Scene { ends: app.picture.matrix.ends.clone(), layout: layout(app) };
        let first = self.of.is_none() || self.scene.layout.is_empty();
        let length = self.affordable(manner.interval).filter(|_| manner.animate && !first);
        self.change = length.map(|length| Change { from: self.current(now), begun: now, length });
        self.scene = next;
        self.of = Some((app.picture.matrix.clone(), app.unit));
        self.drawn = None;
    }

    fn current(&self, now: Duration) -> Scene<End> {
        match &self.change {
            Some(c) => tween(
                &c.from,
                &self.scene,
                ease(now.saturating_sub(c.begun).as_secs_f64() / c.length.as_secs_f64()),
            ),
            None => self.scene.clone(),
        }
    }

    /// How long an animation may take, so that drawing all of it costs no more than its share of
    /// the interval; `None` if that is too short to see anything move.
    fn affordable(&self, interval: Duration) -> Option<Duration> {
        let frames =
            (interval.as_secs_f64() * SHARE / self.cost.as_secs_f64().max(1e-6)).min(100.0) as u32;
        (frames >= 3).then(|| CHANGE.min(FRAME * frames))
    }

    /// When the next frame of an animation is due; `None` if nothing moves.
    pub fn next_frame(&self, now: Duration) -> Option<Duration> {
        self.change.as_ref().map(|_| now + FRAME)
    }

    /// Reports what drawing the last frame cost, terminal included.
    pub fn spent(&mut self, cost: Duration) {
        // the recent maximum, slowly decaying
        self.cost = cost.max(self.cost.mul_f64(0.9));
    }

    /// Draws the chord in its current state: with characters, or, for a terminal with pixels, only
    /// what is around the picture.
    pub fn draw(
        &mut self,
        app: &App,
        look: &Look,
        now: Duration,
        manner: Manner,
        area: Rect,
        buf: &mut Buffer,
    ) {
        if let Some(c) = &self.change {
            self.drawn = None;
            if now.saturating_sub(c.begun) >= c.length {
                self.change = None;
            }
        }
        self.area = area;
        let drawn = Drawn { area, picked: app.picked(), version: app.version };
        if self.drawn.as_ref() != Some(&drawn) {
            let scene = self.current(now);
            let selected = drawn.picked.and_then(|p| part(&scene.ends, p));
            let aspect =
                manner.pixels.map_or(manner.aspect, |p| f64::from(p.cell.0) / f64::from(p.cell.1));
            let place = |end: End| scene.ends.iter().position(|e| *e == end);
            let wrong: Vec<_> =
                app.wrong().filter_map(|(a, b)| Some((place(a)?, place(b)?))).collect();
            let how = chord::ChordStyle {
                theme: &look.theme,
                blocks: manner.blocks,
                aspect,
                selected,
                pixels: manner.pixels,
                wrong: &wrong,
            };
            if self.labels.0 != Some((app.version, area)) {
                self.labels = (Some((app.version, area)), ends(app, look, area));
            }
            self.view = ChordView::prepare(
                &scene.layout,
                &self.labels.1,
                &how,
                area.as_size(),
                &mut self.canvas,
            );
            self.drawn = Some(drawn);
            self.version += 1;
        }
        self.view.render(area, buf);
    }

    /// The picture, if there is one.
    pub fn image(&self) -> Option<Image<'_>> {
        let (area, picture) = self.view.image()?;
        Some(Image {
            version: self.version,
            area: Rect { x: self.area.x + area.x, y: self.area.y + area.y, ..area },
            picture,
        })
    }

    /// The end or pair under a cell of the screen.
    pub fn pick_at(&self, x: u16, y: u16) -> Option<Pick> {
        if !self.area.contains((x, y).into()) {
            return None;
        }
        let end = |i: usize| self.scene.ends.get(i).copied();
        match self.view.part_at(x - self.area.x, y - self.area.y)? {
            ShapeOf::Arc(i) => Some(Pick::End(end(i)?)),
            ShapeOf::Ribbon(i, j) => Some(Pick::Pair(end(i)?, end(j)?)),
        }
    }
}

/// The part of the circle for a selection.
pub fn part(ends: &[End], pick: Pick) -> Option<ShapeOf> {
    let place = |e: End| ends.iter().position(|x| *x == e);
    match pick {
        Pick::End(e) => place(e).map(ShapeOf::Arc),
        Pick::Pair(a, b) => Some(ShapeOf::ribbon(place(a)?, place(b)?)),
    }
}

/// The labels of the ends: without their common prefix if that makes the circle larger.
pub fn ends(app: &App, look: &Look, area: Rect) -> Vec<chord::ArcLabel> {
    let m = &app.picture.matrix;
    let mut labels: Vec<String> = m.ends.iter().map(|e| app.called(*e)).collect();
    let widest = labels.iter().map(|l| l.width()).max().unwrap_or(0);
    if usize::from(area.width) < 2 * usize::from(area.height) + 2 * widest + 4 {
        // do not cut names
        let is_address =
            |label: &String, end: &End| matches!(end, End::Addr(a) if *label == a.to_string());
        let addresses: Vec<String> = labels
            .iter()
            .zip(&m.ends)
            .filter(|(l, e)| is_address(l, e))
            .map(|(l, _)| l.clone())
            .collect();
        let cut = shared_prefix(&addresses);
        for (label, end) in labels.iter_mut().zip(&m.ends) {
            if is_address(label, end) {
                label.drain(..cut);
            }
        }
    }
    let colour = |e: &End| -> Rgb { look.colour(*e) };
    m.ends
        .iter()
        .zip(labels)
        .map(|(e, label)| chord::ArcLabel {
            label,
            colour: colour(e),
            marked: app.marks.contains(e),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{start::Start, theme::Theme};
    use model::{flow::Count, picture::Picture};
    use ratatui::layout::Rect;

    fn app(n: u64) -> App {
        let end = |i: u8| End::Addr([10, 0, 0, i].into());
        let mut app = App::new(Start::default()).expect("no filter");
        let mut tally = model::matrix::Tally::default();
        let c = |bytes| Count { packets: 1, bytes };
        tally.pairs.insert((end(1), end(2)), [c(1000), c(n)]);
        app.picture =
            Picture { matrix: Matrix::new(&tally, Default::default(), 9), ..Picture::default() };
        app
    }

    #[test]
    fn an_animation_ends_at_its_target() {
        let area = Rect::new(0, 0, 40, 20);
        let look = Look::new(Theme::default());
        let draw = |stage: &mut Stage, app: &App, at: u64| {
            let now = Duration::from_millis(at);
            let mut buf = Buffer::empty(area);
            stage.show(app, now, Manner::default());
            stage.draw(app, &look, now, Manner::default(), area, &mut buf);
            buf
        };
        let mut stage = Stage::default();
        let first = draw(&mut stage, &app(1000), 0);
        assert_eq!(stage.next_frame(Duration::ZERO), None, "the first picture is there at once");
        let begun = draw(&mut stage, &app(9000), 1000);
        assert_eq!(begun, first, "a change begins where it was");
        assert!(stage.next_frame(Duration::from_millis(1000)).is_some());
        let middle = draw(&mut stage, &app(9000), 1200);
        let end = draw(&mut stage, &app(9000), 1400);
        assert_eq!(stage.next_frame(Duration::from_millis(1400)), None);
        assert!(first != middle && middle != end);
        let mut fresh = Stage::default();
        assert_eq!(end, draw(&mut fresh, &app(9000), 0));
    }

    #[test]
    fn a_slow_terminal_is_not_made_slower() {
        let mut stage = Stage::default();
        let second = Duration::from_secs(1);
        assert_eq!(stage.affordable(second), Some(CHANGE));
        stage.spent(Duration::from_millis(2));
        assert!(stage.affordable(second).is_some_and(|l| l < CHANGE));
        stage.spent(Duration::from_millis(20));
        assert_eq!(stage.affordable(second), None);
    }
}
