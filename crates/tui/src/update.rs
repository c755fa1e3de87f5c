// SPDX-License-Identifier: MIT OR Apache-2.0
//! How messages change the dashboard: what keys and clicks do, and how readings arrive.
//!
//! [`update`] is the only way to change an [`App`]. Time is an argument.
use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crossterm::event::KeyEvent;

use feed::{CatchNews, Reading, series::At};
use model::{
    filter::Filter,
    flow::{Counters, Tunnel},
    lens::Lens,
    lines::{Column, Line},
    matrix::{End, Pick, Within},
    snapshot::{Interval, Snapshot},
    units,
};

use crate::{
    app::{App, Crumb},
    calendar,
    called::Found,
    cursor,
    edit::{Edit, Editing},
    hits::Hit,
    keys::{self, Action},
    words::{Effect, Form, Notice, Speed, View},
};

/// An event for the app.
#[derive(Debug)]
pub enum Msg {
    /// A key was pressed.
    Key(KeyEvent),
    /// Something on the screen was clicked.
    Click(Hit),
    /// The mouse is over something, or has left it.
    Hover(Option<Pick>),
    /// Text was pasted.
    Paste(String),
    /// The size of the terminal, in columns and lines.
    Resize(u16, u16),
    /// The source was read.
    Reading(Box<Reading>, Duration),
    /// The source could not be read.
    Failed(String, Duration),
    /// The time of one interval has passed while a capture plays.
    Step,
    /// Progress in reading a capture that has more to come.
    Progress(Option<String>),
    /// The program has a notice.
    Say(Notice),
    /// Names were found for addresses on the screen.
    Named(Found),
    /// The contents of packets; `None` if no lens is active.
    Seen(Option<Lens>),
    /// Progress of a packet capture.
    Caught(CatchNews),
}

/// Updates the app for a message; returns what is left for the loop to do.
pub fn update(app: &mut App, msg: Msg, now: Duration) -> Option<Effect> {
    app.version += u64::from(!matches!(msg, Msg::Hover(_)));
    let effect = change(app, msg, now);
    app.prepare();
    effect
}

fn change(app: &mut App, msg: Msg, now: Duration) -> Option<Effect> {
    match msg {
        Msg::Key(key) if app.editing.is_some() => app.edit(|e| e.key(&key)),
        Msg::Key(key) => return keys::action(&key).and_then(|action| app.act(action, now)),
        Msg::Click(hit) => return app.click(hit, now),
        Msg::Hover(pick) => app.hover = pick,
        Msg::Paste(text) => {
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            app.edit(|e| e.insert(&text));
        }
        Msg::Resize(columns, lines) => {
            let before = app.ends_shown();
            app.size = (columns, lines);
            if app.ends_shown() != before {
                app.refresh();
            }
        }
        Msg::Reading(reading, at) => app.receive(*reading, at),
        Msg::Failed(error, at) => {
            app.last_error = Some((at, units::sanitize(&error).into_owned()));
            app.say(Notice { at, text: error.clone(), bad: true });
            app.trouble = Some(units::sanitize(&error).into_owned());
        }
        Msg::Step => {
            if app.playing
                && let Some(n) = app.series.number()
            {
                app.go_to(n + app.speed.pace(Duration::ZERO).1);
                app.playing = app.series.at() != At::Live;
            }
        }
        Msg::Progress(progress) => app.progress = progress,
        Msg::Say(notice) => app.say(notice),
        Msg::Named(found) => app.names.learn(found),
        Msg::Caught(CatchNews { end: Some(end), .. }) => {
            app.catching = None;
            let bad = end.is_err();
            app.say(Notice { at: now, text: end.unwrap_or_else(|e| e), bad });
        }
        Msg::Caught(news) => {
            let since = app.catching.take().map_or(now, |before| before.0);
            app.catching = Some((since, news));
        }
        Msg::Seen(seen) => {
            app.lens = seen.map(|lens| {
                let sums = lens.sums();
                (lens, sums)
            });
            // The table shows round-trip times of the lens.
            if app.view == View::Table {
                app.refresh();
            }
        }
    }
    None
}

impl App {
    fn page(&self) -> isize {
        isize::try_from((usize::from(self.size.1) / 2).max(1)).unwrap_or(1)
    }

    fn move_along_ends(&mut self, by: isize) {
        self.pick = cursor::along_ends(&self.picture.matrix, self.pick, by);
    }

    fn move_row(&mut self, by: isize) {
        let lines = &self.picture.lines.list;
        if lines.is_empty() {
            return;
        }
        let i = match self.row.and_then(|r| self.picture.lines.index(r)) {
            None => 0,
            Some(i) => cursor::clamped(i, by, lines.len()),
        };
        let line = lines[i];
        self.choose_row(&line);
    }

    fn choose_row(&mut self, line: &Line) {
        self.row = Some((line.interface, line.key));
        let (a, b) = self.scope().shown(&line.flow());
        self.pick = Some(Pick::Pair(a, b));
    }

    fn go(&mut self, action: Action) {
        let page = self.page();
        let far = isize::MAX / 2;
        let (down, right) = match action {
            Action::Up => (-1, 0),
            Action::Down => (1, 0),
            Action::Left => (0, -1),
            Action::Right => (0, 1),
            Action::PageUp => (-page, 0),
            Action::PageDown => (page, 0),
            Action::First => (-far, 0),
            _ => (far, 0),
        };
        self.hover = None;
        let lines = self.help || self.view == View::Health;
        match (lines, self.view) {
            (false, View::Findings) => self.found.step(down),
            (true, _) => self.scroll = self.scroll.saturating_add_signed(down).min(500),
            (_, View::Matrix) => {
                self.pick =
                    cursor::along_cells(&self.picture.matrix, self.pick, down, right).or(self.pick);
            }
            (_, View::Table) if right != 0 => {
                self.scroll = self.scroll.saturating_add_signed(right).min(Column::ALL.len())
            }
            (_, View::Table) => self.move_row(down),
            _ if right != 0 => {
                let (m, measure) = (&self.picture.matrix, self.unit.measure());
                self.pick = cursor::along_ribbons(m, measure, self.pick, right);
            }
            _ => self.move_along_ends(down),
        }
    }

    fn show(&mut self, view: View) {
        self.help = false;
        self.hover = None;
        self.scroll = 0;
        self.view = view;
        self.refresh();
        if view == View::Table {
            let scope = self.scope();
            let fits = |l: &&Line| {
                let (a, b) = scope.shown(&l.flow());
                self.pick.is_some_and(|p| p.includes(a, b))
            };
            let row = self.row.filter(|r| self.picture.lines.index(*r).is_some());
            self.row = row.or_else(|| {
                self.picture.lines.list.iter().find(fits).map(|l| (l.interface, l.key))
            });
        }
    }

    fn step_view(&mut self, by: usize) {
        let i = View::ALL.iter().position(|v| *v == self.view).unwrap_or(0);
        self.show(View::ALL[(i + by) % View::ALL.len()]);
    }

    /// One level deeper, into what is marked or else selected.
    fn enter(&mut self, now: Duration) {
        if self.view == View::Health || self.help {
            return;
        }
        if self.view == View::Findings {
            return self.enter_finding(now);
        }
        if self.crumbs.len() >= self.groups_entered() + 2 {
            self.say(Notice {
                at: now,
                text: "these are single rows, with nothing inside to show".to_owned(),
                bad: false,
            });
            return;
        }
        if self.pick.is_none() && self.marks.is_empty() {
            match self.view {
                View::Table => self.move_row(0),
                _ => self.move_along_ends(0),
            }
        }
        let within = match (self.marks.is_empty(), self.pick) {
            (false, _) => Within::Any(self.marks.iter().copied().collect()),
            (true, Some(Pick::End(e))) => Within::Any(vec![e]),
            (true, Some(Pick::Pair(a, b))) => Within::Pair(a, b),
            (true, None) => return,
        };
        let other = match &within {
            Within::Any(ends) => ends.contains(&End::Other),
            Within::Pair(a, b) => *a == End::Other || *b == End::Other,
            Within::All => false,
        };
        if other {
            let text =
                "\"other\" combines all smaller hosts: press + to see more of them, or filter with /"
                    .to_owned();
            self.say(Notice { at: now, text, bad: false });
            return;
        }
        let crumb = Crumb {
            within,
            view: self.view,
            pick: self.pick,
            marks: std::mem::take(&mut self.marks),
            whole: true,
        };
        let groups = crumb.within.groups().next().is_some();
        self.crumbs.push(crumb);
        (self.pick, self.hover, self.row) = (None, None, None);
        let is_last = self.crumbs.len() == self.groups_entered() + 2;
        self.show(if is_last { View::Table } else { self.view });
        // Hosts that do not fit are shown by the groups within the entered ones.
        if groups
            && self.picture.matrix.folded > 0
            && let Some(crumb) = self.crumbs.last_mut()
        {
            crumb.whole = false;
            self.refresh();
        }
    }

    /// Shows the subject of the selected finding: its rows, its hosts, its tunnel, or the books.
    fn enter_finding(&mut self, now: Duration) {
        let Some(finding) = self.found.chosen().map(|group| group.first.clone()) else { return };
        let place = finding.place;
        let end = |a: Option<IpAddr>| a.map(End::Addr);
        let within = |a, b| match (end(a), end(b)) {
            (Some(a), Some(b)) => Some(Within::Pair(a.min(b), a.max(b))),
            (Some(one), None) | (None, Some(one)) => Some(Within::Any(vec![one])),
            (None, None) => None,
        };
        let outer = within(place.outer_from, place.outer_to);
        let inner = within(place.inner_from, place.inner_to);
        if outer.is_none() && inner.is_none() && place.tunnel.is_none() {
            return self.show(View::Health);
        }
        let levels = [outer.or(inner.is_some().then_some(Within::All)), inner];
        self.crumbs.clear();
        for within in levels.into_iter().flatten() {
            let (view, marks) = (View::Findings, BTreeSet::new());
            self.crumbs.push(Crumb { within, view, pick: None, marks, whole: false });
        }
        (self.pick, self.row, self.hover, self.tunnel) = (None, None, None, place.tunnel);
        let view = if self.crumbs.is_empty() { View::Chord } else { View::Table };
        self.show(view);
        // What has ended, or is silent, has rows only in the past.
        if (finding.until.is_some() || self.picture.matrix.is_empty())
            && let Some(then) = self.series.number_at(finding.since)
        {
            self.series.go_to(then);
            self.show(view);
            let text = "this is how it was then; Space returns to now".to_owned();
            self.say(Notice { at: now, text, bad: false });
        }
    }

    /// Returns to a level: the number of crumbs that stay.
    fn leave(&mut self, levels: usize) {
        if levels < self.crumbs.len() {
            let crumb = self.crumbs.remove(levels);
            self.crumbs.truncate(levels);
            (self.pick, self.marks, self.row, self.hover) = (crumb.pick, crumb.marks, None, None);
            self.show(crumb.view);
        }
    }

    fn back(&mut self) {
        if self.help {
            self.help = false;
        } else if !self.view.is_text() && (self.pick.is_some() || self.row.is_some()) {
            (self.pick, self.row, self.hover) = (None, None, None);
        } else {
            self.leave(self.crumbs.len().saturating_sub(1));
        }
    }

    /// The rows of the selection, or a notice why there are none.
    fn meant_or_say(&mut self, now: Duration) -> Option<Filter> {
        self.help = false;
        if self.view == View::Findings {
            self.enter_finding(now);
        }
        let meant = self.meant();
        if let Err(why) = meant {
            self.say(Notice { at: now, text: why.to_owned(), bad: false });
        }
        meant.ok()
    }

    fn mark(&mut self) {
        if self.pick.is_none() {
            self.move_along_ends(0);
        }
        let ends = match self.pick {
            Some(Pick::End(e)) => vec![e],
            Some(Pick::Pair(a, b)) => vec![a, b],
            None => vec![],
        };
        let all = ends.iter().all(|e| self.marks.contains(e));
        for e in ends {
            if all {
                self.marks.remove(&e);
            } else {
                self.marks.insert(e);
            }
        }
    }

    fn choose_tunnel(&mut self, tunnel: Option<Tunnel>) {
        self.tunnel = tunnel;
        self.refresh();
    }

    fn step_tunnel(&mut self, forward: bool) {
        // by kind and id, so that the order is stable while the shares change
        let mut list: Vec<Option<Tunnel>> =
            self.picture.tunnels.iter().map(|t| Some(t.0)).collect();
        if self.tunnel.is_some() && !list.contains(&self.tunnel) {
            list.push(self.tunnel);
        }
        list.push(None);
        list.sort_unstable();
        let n = list.len();
        let i = list.iter().position(|t| *t == self.tunnel).unwrap_or(0);
        self.choose_tunnel(list[if forward { i + 1 } else { i + n - 1 } % n]);
    }

    fn go_to(&mut self, number: u64) {
        self.series.go_to(number);
        self.refresh();
    }

    fn step_time(&mut self, by: i64) {
        let Some(here) = self.series.number() else { return };
        self.playing = false;
        if self.series.at() != At::Live || by < 0 {
            self.go_to(here.saturating_add_signed(by));
        }
    }

    fn pause(&mut self) {
        if !self.series.ends() {
            self.series.hold();
        } else {
            self.playing = !self.playing;
            if self.playing && self.series.at() == At::Live {
                self.series.go_to(0);
            }
        }
        self.refresh();
    }

    fn play_at(&mut self, speed: Speed, now: Duration) {
        let text = if self.series.ends() {
            self.speed = speed;
            format!("playing at {} times its speed", speed.times())
        } else {
            "only captures can be played faster or slower: `tmon top --read FILE`".to_owned()
        };
        self.say(Notice { at: now, text, bad: false });
    }

    fn peak(&mut self) {
        let best = self.trends.moments().iter().max_by_key(|m| self.measure(m.2)).map(|m| m.0);
        if let Some(n) = best {
            self.playing = false;
            self.go_to(n);
        }
    }

    /// Goes to the next peak or start of a finding, or to the last one before what is shown.
    fn go_to_place(&mut self, forward: bool, now: Duration) {
        let here = self.series.number().unwrap_or(0);
        let mut places = calendar::places(self);
        let place = match forward {
            true => places.drain(..).find(|(number, _)| *number > here),
            false => places.drain(..).rev().find(|(number, _)| *number < here),
        };
        let text = match place {
            Some((number, text)) => {
                self.playing = false;
                self.go_to(number);
                text
            }
            None if forward => "there is no later peak or finding".to_owned(),
            None => "there is no earlier peak or finding".to_owned(),
        };
        self.say(Notice { at: now, text, bad: false });
    }

    /// Goes back to the most recent configuration change before what is shown.
    fn event(&mut self, now: Duration) {
        let here = match self.series.at() {
            At::Live => u64::MAX,
            At::Past(n) => n,
        };
        let before = self.series.events().rev().map(|e| e.0).find(|n| *n < here);
        let Some(n) = before else {
            let text = "nothing changed on the host before this".to_owned();
            self.say(Notice { at: now, text, bad: false });
            return;
        };
        self.playing = false;
        self.go_to(n);
    }

    /// Loads all of a capture: its intervals, oldest first, and the totals. At first, the last
    /// interval that is not empty is shown.
    pub fn load(&mut self, intervals: Vec<Interval>, total: Snapshot) {
        self.series.load(intervals, total);
        self.refresh();
    }

    /// Shows the interval that contains a time, or else the nearest one.
    pub fn look_at(&mut self, time: SystemTime) {
        if let Some(n) = self.series.number_at(time) {
            self.series.go_to(n);
            self.refresh();
        }
    }

    fn receive(&mut self, reading: Reading, now: Duration) {
        for text in reading.notices {
            self.say(Notice { at: now, text, bad: true });
        }
        self.trouble = None;
        if self.series.ends() {
            return self.load(reading.past, reading.snapshot);
        }
        let mut snapshot = reading.snapshot;
        // Retransmissions measured in examined rows, for the detectors.
        if let Some(timed) = self.lens.as_ref().and_then(|(lens, _)| lens.timed.clone()) {
            snapshot.beside = Arc::new(snapshot.beside.timed(timed));
        }
        if let Some(i) = snapshot.interfaces.iter().find(|i| i.stale) {
            let name = units::sanitize(&i.name);
            self.last_error = Some((now, format!("the counters of {name} could not be read")));
        }
        self.read = Some(now);
        let before = self.series.at();
        self.series.push(Reading { overlay: reading.overlay, ..Reading::from(snapshot) });
        if self.series.at() == At::Live || self.series.at() != before {
            self.refresh();
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut Editing) -> Edit) {
        let Some(e) = &mut self.editing else { return };
        match change(e) {
            Edit::Nothing => {}
            Edit::Kept => {
                self.filter_text = e.text.trim().to_owned();
                self.editing = None;
            }
            Edit::Dropped => {
                (self.filter_text, self.filter) = e.before.clone();
                self.editing = None;
                self.refresh();
            }
            Edit::Changed => match self.names.filter(&e.text, &self.groups) {
                Err(error) => e.error = Some(error),
                Ok(filter) => {
                    e.error = None;
                    if filter != self.filter {
                        self.filter = filter;
                        self.refresh();
                    }
                }
            },
        }
    }

    fn act(&mut self, action: Action, now: Duration) -> Option<Effect> {
        match action {
            Action::Quit => return Some(Effect::Quit),
            Action::Suspend => return Some(Effect::Suspend),
            Action::SavePicture => return Some(Effect::Save(Form::Picture)),
            Action::SavePage => return Some(Effect::Save(Form::Page)),
            Action::Theme => return Some(Effect::Theme),
            Action::Redraw => return Some(Effect::Redraw),
            Action::Help => (self.help, self.scroll) = (!self.help, 0),
            Action::NextView => self.step_view(1),
            Action::PreviousView => self.step_view(View::ALL.len() - 1),
            Action::Chord => self.show(View::Chord),
            Action::Matrix => self.show(View::Matrix),
            Action::Table => self.show(View::Table),
            Action::Health => self.show(View::Health),
            Action::Findings => self.show(View::Findings),
            Action::Up
            | Action::Down
            | Action::Left
            | Action::Right
            | Action::PageUp
            | Action::PageDown
            | Action::First
            | Action::Last => self.go(action),
            Action::Enter => self.enter(now),
            Action::Back if self.lens.is_some() && !self.help => return Some(Effect::Look(None)),
            Action::Back => self.back(),
            Action::Lens if self.lens.is_some() => return Some(Effect::Look(None)),
            Action::Lens => {
                let rows = self.meant_or_say(now)?;
                if self.view.is_text() {
                    self.show(View::Table);
                }
                return Some(Effect::Look(Some(rows)));
            }
            Action::Capture if self.catching.is_some() => return Some(Effect::Catch(None)),
            Action::Capture => return self.meant_or_say(now).map(|rows| Effect::Catch(Some(rows))),
            Action::Mark => self.mark(),
            Action::ClearMarks => self.marks.clear(),
            Action::NextTunnel => self.step_tunnel(true),
            Action::PreviousTunnel => self.step_tunnel(false),
            Action::Filter => {
                self.help = false;
                self.editing = Some(Editing::new(self.filter_text.clone(), self.filter.clone()));
            }
            Action::Rate => {
                self.rate = !self.rate;
                self.sort = match self.sort {
                    Column::Rate => Column::Total,
                    Column::Total => Column::Rate,
                    other => other,
                };
                self.refresh();
            }
            Action::Groups => {
                if self.step_levels() {
                    (self.pick, self.hover, self.row) = (None, None, None);
                    self.marks.clear();
                    self.refresh();
                } else {
                    let text =
                        "there are no groups of hosts: define them with `--groups FILE`".to_owned();
                    self.say(Notice { at: now, text, bad: false });
                }
            }
            Action::Names => self.numeric = !self.numeric,
            Action::Unit => {
                self.unit = self.unit.next();
                self.refresh();
            }
            Action::Sort if self.view == View::Table => self.sort_by(self.sort.next()),
            Action::Sort => {
                self.by_name = !self.by_name;
                self.refresh();
            }
            Action::Reverse => {
                self.reversed = !self.reversed;
                self.refresh();
            }
            Action::More | Action::Fewer => {
                let n = self.ends_shown();
                let step = (n / 4).max(1);
                self.top = Some(
                    if action == Action::More { n + step } else { n.saturating_sub(step).max(1) }
                        .min(1000),
                );
                self.refresh();
            }
            Action::Pause => self.pause(),
            Action::Older => self.step_time(-1),
            Action::Newer => self.step_time(1),
            Action::MuchOlder => self.step_time(-10),
            Action::MuchNewer => self.step_time(10),
            Action::Peak => self.peak(),
            Action::PlaceBefore => self.go_to_place(false, now),
            Action::PlaceAfter => self.go_to_place(true, now),
            Action::Event => self.event(now),
            Action::Faster => self.play_at(self.speed.faster(), now),
            Action::Slower => self.play_at(self.speed.slower(), now),
        }
        None
    }

    fn sort_by(&mut self, column: Column) {
        self.reversed = column == self.sort && !self.reversed;
        self.sort = column;
        self.refresh();
    }

    fn click(&mut self, hit: Hit, now: Duration) -> Option<Effect> {
        self.hover = None;
        match hit {
            Hit::Key(action) => return self.act(action, now),
            Hit::Pick(pick) if self.pick == Some(pick) => self.enter(now),
            Hit::Pick(pick) => self.pick = Some(pick),
            Hit::Tunnel(tunnel) => self.choose_tunnel(tunnel),
            Hit::Row(interface, key) if self.row == Some((interface, key)) => self.enter(now),
            Hit::Row(interface, key) => {
                let line = Line::new(interface, key, Counters::default(), self.rate);
                self.choose_row(&line);
            }
            Hit::Finding(number) if self.found.is_chosen(number) => self.enter(now),
            Hit::Finding(number) => self.found.choose(number),
            Hit::Column(column) => self.sort_by(column),
            Hit::Crumb(levels) => self.leave(levels),
            Hit::Time(number) => self.go_to(number),
        }
        None
    }
}
