// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dashboard: one thread, one loop. Draw if something changed, wait for input until the next
//! reading is due, read, update the app.
pub mod app;
pub mod calendar;
pub mod called;
pub mod chord;
pub mod cursor;
pub mod edit;
pub mod files;
pub mod findings;
pub mod findings_list;
pub mod graphics;
pub mod health;
pub mod help;
pub mod hits;
pub mod input;
pub mod keys;
pub mod lens_pane;
pub mod look;
pub mod matrix_view;
pub mod parts;
pub mod pixels;
pub mod save;
pub mod screen;
pub mod session;
pub mod sheets;
pub mod side;
pub mod spark;
pub mod stage;
pub mod start;
pub mod status;
pub mod table_view;
pub mod theme;
pub mod timeline;
pub mod tty;
pub mod update;
pub mod words;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use crossterm::event::{Event, KeyEventKind, MouseButton, MouseEvent, MouseEventKind};
use ratatui::{buffer::Buffer, layout::Rect};

use app::App;
use feed::{Due, Reading, Source};
use files::{Files, OwnFiles};
use graphics::{Choice, Graphics};
use hits::{Hit, Hits};
use input::Input;
use look::Look;
use model::{charset::Charset, filter::Filter, raster::Blocks};
use session::Session;
use stage::{Manner, Stage};
use start::Start;
use theme::{Depth, Scheme, Theme};
use update::Msg;
use words::{Effect, Notice};

/// How the dashboard starts and looks.
#[derive(Clone, Debug)]
pub struct TuiOptions {
    /// What it shows at first.
    pub start: Start,
    /// How often the source is read; for a capture, how long an interval is shown while it plays.
    pub interval: Duration,
    /// The colours.
    pub scheme: Scheme,
    /// How many colours the terminal has.
    pub depth: Depth,
    /// How the chord is drawn.
    pub manner: Manner,
    /// Real pixels, or characters.
    pub graphics: Choice,
    /// Whether the mouse is ours, rather than the terminal's for selecting text.
    pub mouse: bool,
    /// The program and its version, as written into saved files.
    pub tool: String,
    /// Creates the files that are saved.
    pub files: Arc<dyn Files>,
}

impl Default for TuiOptions {
    fn default() -> Self {
        let charset = Charset::of_terminal(|name| std::env::var(name).ok());
        TuiOptions {
            start: Start::default(),
            interval: Duration::from_secs(1),
            scheme: Scheme::default(),
            depth: Depth::from_env(),
            manner: Manner { blocks: Blocks::of(charset), charset, ..Manner::default() },
            graphics: Choice::default(),
            mouse: true,
            tool: String::new(),
            files: Arc::new(OwnFiles::default()),
        }
    }
}

/// The minimum time to show a picture while a capture plays.
const PACE: Duration = Duration::from_millis(50);

/// How often packets are drained during a packet capture.
const CATCHING: Duration = Duration::from_millis(100);

/// The longest time until a signal, or a change of the source, is noticed.
const PATIENCE: Duration = Duration::from_millis(250);

/// Shows what a source delivers until the user quits or a signal ends it; `first` is a reading that
/// has already been taken. An error of the source is shown on the screen, and the reading is
/// retried at the next interval. A source that has been read to its end can be played.
///
/// # Errors
/// The filter is invalid, standard output is not a terminal, or the terminal is gone.
pub fn run(opts: TuiOptions, first: Option<Reading>, source: &mut dyn Source) -> Result<()> {
    let recorded = source.is_recorded();
    let mut app = App::new(Start { recorded, ..opts.start.clone() })?;
    if let Some(reading) = first {
        update::update(&mut app, Msg::Reading(Box::new(reading), Duration::ZERO), Duration::ZERO);
        opts.start.at.into_iter().for_each(|time| app.look_at(time));
    }
    Dashboard::open(&opts, app)?.run(opts.interval, source)
}

struct Dashboard {
    session: Session,
    app: App,
    look: Look,
    hits: Hits,
    stage: Stage,
    scheme: Scheme,
    depth: Depth,
    graphics: Option<Graphics>,
    /// Keys that were pressed before the loop started reading them.
    early: Vec<Event>,
    manner: Manner,
    tool: String,
    files: Arc<dyn Files>,
    begun: Instant,
}

impl Dashboard {
    fn open(opts: &TuiOptions, app: App) -> Result<Self> {
        let mut session = Session::open(opts.mouse)?;
        let characters =
            matches!(opts.depth, Depth::Mono | Depth::Ansi16) || opts.scheme == Scheme::Mono;
        let choice =
            if characters && opts.graphics == Choice::Auto { Choice::Off } else { opts.graphics };
        let (graphics, early) = Graphics::open(choice, &mut session);
        Ok(Dashboard {
            session,
            early,
            app,
            look: Look::new(Theme::new(opts.scheme, opts.depth)),
            hits: Hits::default(),
            stage: Stage::default(),
            manner: Manner {
                interval: opts.interval,
                pixels: graphics.as_ref().map(|g| g.pixels),
                ..opts.manner
            },
            scheme: opts.scheme,
            depth: opts.depth,
            graphics,
            tool: opts.tool.clone(),
            files: Arc::clone(&opts.files),
            begun: Instant::now(),
        })
    }

    /// The time since the dashboard started, on a monotonic clock.
    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn run(mut self, interval: Duration, source: &mut dyn Source) -> Result<()> {
        let interval = interval.max(Duration::from_millis(20));
        let mut due = Duration::ZERO;
        let mut followed = Duration::ZERO;
        let mut dirty = true;
        let mut frame = None; // when the next frame of an animation is due
        let size = self.session.size();
        self.update(Msg::Resize(size.width, size.height), source)?;
        for event in std::mem::take(&mut self.early) {
            for msg in self.messages(event) {
                if self.update(msg, source)? {
                    return Ok(());
                }
            }
        }
        loop {
            if self.session.ended() {
                return Ok(());
            }
            if self.now() >= due && source.due() == Due::Later && !source.is_recorded() {
                due = self.now() + PATIENCE;
            } else if self.now() >= due {
                let msg = match source.due() {
                    Due::Later | Due::Never => Msg::Step,
                    Due::Always => match source.read() {
                        Ok(reading) => Msg::Reading(Box::new(reading), self.now()),
                        Err(e) => Msg::Failed(format!("{e:#}"), self.now()),
                    },
                };
                dirty |= self.app.playing || !matches!(msg, Msg::Step);
                if self.update(msg, source)? {
                    return Ok(());
                }
                source.look_into(&self.app.looked_into());
                if self.app.lens.is_some() {
                    self.see(source)?;
                    dirty = true;
                }
                // missed ticks are not made up for: the next interval is longer
                let now = self.now();
                let interval = match self.app.playing {
                    true => self.app.speed.pace(interval).0.max(PACE),
                    false => interval,
                };
                due = now.max(due) + interval
                    - Duration::from_nanos(
                        (now.saturating_sub(due).as_nanos() % interval.as_nanos().max(1)) as u64,
                    );
            }
            if self.now().saturating_sub(followed) >= PATIENCE {
                followed = self.now();
                let progress = source.progress();
                if progress != self.app.progress {
                    dirty = true;
                    self.update(Msg::Progress(progress), source)?;
                }
                for text in source.follow() {
                    dirty = true;
                    self.update(Msg::Say(Notice { at: followed, text, bad: true }), source)?;
                }
            }
            if let Some(found) = self.app.names.ask(self.app.addresses()) {
                dirty = true;
                self.update(Msg::Named(found), source)?;
            }
            // a terminal that is not reading gets its next frame once it has taken the last one
            let behind = self.session.is_behind();
            if !behind && (dirty || frame.is_some_and(|f| self.now() >= f)) {
                self.draw()?;
                dirty = false;
                frame = self.stage.next_frame(self.now());
            }
            if self.app.catching.is_some() {
                dirty = true;
                if self.take(false, source)? {
                    return Ok(());
                }
            }
            let next = frame.filter(|_| !behind).map_or(due, |f| f.min(due));
            let patience = if self.app.catching.is_some() { CATCHING } else { PATIENCE };
            let wait = next.saturating_sub(self.now()).min(patience);
            // process everything that has arrived in the meantime, then draw one frame
            for input in self.session.wait(wait) {
                let Input::Event(event) = input else { continue };
                if self.session.ended() {
                    return Ok(());
                }
                for msg in self.messages(event) {
                    dirty = true;
                    if self.update(msg, source)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Translates an event of the terminal into messages.
    fn messages(&mut self, event: Event) -> Vec<Msg> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => vec![Msg::Key(key)],
            Event::Paste(text) => vec![Msg::Paste(text)],
            Event::Resize(columns, lines) => {
                self.forget();
                vec![Msg::Resize(columns, lines)]
            }
            Event::Mouse(m) => self.mouse(m),
            _ => vec![],
        }
    }

    fn hit(&self, x: u16, y: u16) -> Option<Hit> {
        self.hits
            .at(x, y)
            .or_else(|| self.hits.chord.and_then(|_| self.stage.pick_at(x, y)).map(Hit::Pick))
    }

    fn mouse(&mut self, m: MouseEvent) -> Vec<Msg> {
        let (x, y) = (m.column, m.row);
        match m.kind {
            MouseEventKind::Down(MouseButton::Left) => {
                self.hit(x, y).map(Msg::Click).into_iter().collect()
            }
            MouseEventKind::Down(MouseButton::Right) => {
                vec![Msg::Click(Hit::Key(keys::Action::Back))]
            }
            MouseEventKind::Drag(MouseButton::Left) => self
                .hit(x, y)
                .filter(|h| matches!(h, Hit::Time(_)))
                .map(Msg::Click)
                .into_iter()
                .collect(),
            MouseEventKind::ScrollUp => {
                self.hits.wheel_at(x, y).map(|w| Msg::Click(Hit::Key(w.0))).into_iter().collect()
            }
            MouseEventKind::ScrollDown => {
                self.hits.wheel_at(x, y).map(|w| Msg::Click(Hit::Key(w.1))).into_iter().collect()
            }
            MouseEventKind::Moved => {
                let over = self.hit(x, y).and_then(Hit::pick);
                if over == self.app.hover { vec![] } else { vec![Msg::Hover(over)] }
            }
            _ => vec![],
        }
    }

    /// Updates the app; returns true if it should quit.
    fn update(&mut self, msg: Msg, source: &mut dyn Source) -> Result<bool> {
        let now = self.now();
        match update::update(&mut self.app, msg, now) {
            None => {}
            Some(Effect::Quit) => return Ok(true),
            Some(Effect::Suspend) => {
                self.session.suspend()?;
                self.forget();
            }
            Some(Effect::Theme) => {
                self.scheme = self.scheme.next();
                self.look = Look::new(Theme::new(self.scheme, self.depth));
                self.stage = Stage::default();
            }
            Some(Effect::Redraw) => {
                self.session.clear()?;
                self.forget();
            }
            Some(Effect::Save(form)) => {
                self.look.learn(&self.app.picture.matrix.ends);
                let (text, bad) =
                    match save::save(&self.app, &self.look, form, &self.tool, &*self.files) {
                        Ok(name) => (format!("saved {name}"), false),
                        Err(e) => (format!("not saved: {e:#}"), true),
                    };
                let notice = Notice { at: now, text, bad };
                update::update(&mut self.app, Msg::Say(notice), now);
            }
            Some(Effect::Look(rows)) => {
                let looked = source.closer().and_then(|closer| closer.look(rows.as_ref()));
                match looked {
                    Ok(()) => return self.see(source).map(|()| false),
                    Err(e) => self.complain(&e),
                }
            }
            Some(Effect::Catch(None)) => return self.take(true, source),
            Some(Effect::Catch(Some(rows))) => match self.catch(&rows, source) {
                Ok(()) => return self.take(false, source),
                Err(e) => self.complain(&e.context("no capture")),
            },
        }
        Ok(false)
    }

    /// Starts a packet capture in the current directory.
    fn catch(&mut self, rows: &Filter, source: &mut dyn Source) -> Result<()> {
        let closer = source.closer()?;
        let file = self.files.begin().context("make a file in the current directory")?;
        let stem = save::capture_stem(rows, SystemTime::now());
        let caught = closer.catch(rows, file, &|| save::keep(&*self.files, &stem, "pcapng"));
        if caught.is_err() {
            self.files.discard();
        }
        caught.map(drop)
    }

    /// Writes captured packets, and reports progress.
    fn take(&mut self, over: bool, source: &mut dyn Source) -> Result<bool> {
        match source.closer().ok().and_then(|closer| closer.caught(over)) {
            Some(news) => self.update(Msg::Caught(news), source),
            None => Ok(false),
        }
    }

    /// Updates the contents of packets, if a lens is active.
    fn see(&mut self, source: &mut dyn Source) -> Result<()> {
        match source.closer().and_then(|closer| closer.seen()) {
            Ok(seen) => self.update(Msg::Seen(seen), source).map(drop),
            Err(e) => {
                self.complain(&e);
                Ok(())
            }
        }
    }

    fn complain(&mut self, e: &anyhow::Error) {
        let now = self.now();
        let notice = Notice { at: now, text: format!("{e:#}"), bad: true };
        update::update(&mut self.app, Msg::Say(notice), now);
    }

    /// The contents of the screen are no longer known.
    fn forget(&mut self) {
        if let Some(graphics) = &mut self.graphics {
            graphics.forget();
        }
    }

    fn draw(&mut self) -> Result<()> {
        let now = self.now();
        let (app, look, hits, stage, manner) =
            (&self.app, &mut self.look, &mut self.hits, &mut self.stage, self.manner);
        let graphics = self.graphics.as_ref();
        let mut hidden = Vec::new();
        self.session.draw(|frame| {
            let area = frame.area();
            *hits = compose(app, look, stage, manner, now, area, frame.buffer_mut());
            hidden = graphics.map_or_else(Vec::new, |g| {
                g.hidden(stage.image().filter(|_| hits.chord.is_some()), frame.buffer_mut())
            });
        })?;
        if let Some(graphics) = &mut self.graphics {
            let image = self.stage.image().filter(|_| self.hits.chord.is_some());
            if graphics.show(image, &hidden, &mut self.session)? {
                // there are pixels under it that the text buffer does not know of
                self.session.clear()?;
                return self.draw();
            }
        }
        let cost = self.now().saturating_sub(now);
        self.stage.spent(cost);
        Ok(())
    }
}

/// Draws one whole frame, and returns the targets for the mouse.
pub fn compose(
    app: &App,
    look: &mut Look,
    stage: &mut Stage,
    manner: Manner,
    now: Duration,
    area: Rect,
    buf: &mut Buffer,
) -> Hits {
    look.learn(&app.picture.matrix.ends);
    stage.sheets.write(app, look, area);
    let hits = screen::draw(app, look, &stage.sheets, now, area, buf);
    if let Some(area) = hits.chord {
        stage.show(app, now, manner);
        stage.draw(app, look, now, manner, area, buf);
    }
    if manner.charset != Charset::Unicode {
        for cell in buf.content.iter_mut().filter(|c| !c.symbol().is_ascii()) {
            let symbol = cell.symbol().chars().next().unwrap_or(' ');
            cell.set_char(manner.charset.symbol(symbol));
        }
    }
    hits
}
