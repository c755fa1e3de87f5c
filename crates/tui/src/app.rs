// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dashboard's state, as the user has changed it. Pure: no terminal, no clock, no file.
//!
//! Messages change it (see [`super::update`]), and drawing only reads it. Time is an argument.
use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use foldhash::{HashMap, HashSet};

use feed::{
    CatchNews,
    series::{At, Series},
};
use model::{
    filter::{Filter, FilterError},
    flow::{Count, Key, Pair, Tunnel},
    fragments::fragmented,
    groups::{Group, Grouping, Groups},
    lens::{Lens, LensSum},
    lines::{Column, Line, Lines, Sorting},
    matrix::{End, Level, Pick, Scope, Within, label},
    picture::Picture,
    snapshot::{Interval, Snapshot},
    trend::{self, Trends},
    units::{self, Base, Quantity},
};

use crate::{
    called::Called,
    edit::Editing,
    findings_list::FindingsList,
    start::Start,
    words::{NOTICE, Notice, Speed, Unit, View},
};

/// A level that was entered; the state to come back to.
#[derive(Clone, Debug)]
pub struct Crumb {
    /// What was entered.
    pub within: Within,
    /// What filled the middle there.
    pub view: View,
    /// What was selected there.
    pub pick: Option<Pick>,
    /// What was marked there.
    pub marks: BTreeSet<End>,
    /// For groups: show what is in them as hosts, whatever groups they contain.
    pub whole: bool,
}

/// The dashboard's whole state.
#[derive(Clone, Debug)]
pub struct App {
    /// What fills the middle.
    pub view: View,
    /// Unit of the values.
    pub unit: Unit,
    /// The step between unit prefixes of bytes.
    pub base: Base,
    /// Rates, or totals.
    pub rate: bool,
    /// Order the ends by name rather than by size.
    pub by_name: bool,
    /// How many ends are shown; `None`: as many as there is room for.
    pub top: Option<usize>,
    /// What is being watched, in a word or two.
    pub title: String,
    /// The names of addresses.
    pub names: Called,
    /// Show addresses instead of names.
    pub numeric: bool,
    /// Groups of hosts.
    pub(super) groups: Arc<Groups>,
    /// The hosts of a fleet from whose names the groups were made; `None` if they come from a file.
    grouped: Option<Arc<HashMap<IpAddr, String>>>,
    /// How many levels of groups are expanded everywhere, if the user has chosen that.
    levels: Option<usize>,
    /// Which of the groups are on the screen.
    grouping: Grouping,
    /// The levels that were entered, from groups or hosts down.
    pub crumbs: Vec<Crumb>,
    /// Show only this tunnel.
    pub tunnel: Option<Tunnel>,
    /// Show only rows that match this filter, and its text.
    pub filter: Filter,
    /// The filter as it was typed.
    pub filter_text: String,
    /// The filter being edited.
    pub editing: Option<Editing>,
    /// Marked ends, for entering several at once.
    pub marks: BTreeSet<End>,
    /// What is selected.
    pub pick: Option<Pick>,
    /// What the mouse is over.
    pub hover: Option<Pick>,
    /// The selected row of the table.
    pub row: Option<(u16, Key)>,
    /// The table's order.
    pub sort: Column,
    /// Whether the table's order is reversed.
    pub reversed: bool,
    /// The first column of the table, or line of a text, that is shown.
    pub scroll: usize,
    /// Whether a capture is being played.
    pub playing: bool,
    /// The speed at which it plays.
    pub speed: Speed,
    /// How much of a capture has been read, if reading continues.
    pub progress: Option<String>,
    /// Whether the help is shown.
    pub help: bool,
    /// The readings, and which of them is shown.
    pub series: Series,
    /// The last error of reading, until a reading works again.
    pub trouble: Option<String>,
    /// Notices of the source and the program, newest last.
    pub notices: VecDeque<Notice>,
    /// When the newest reading arrived, on the clock of the messages.
    pub read: Option<Duration>,
    /// The last error, and when it occurred.
    pub last_error: Option<(Duration, String)>,
    /// The screen: columns and lines.
    pub size: (u16, u16),
    /// The contents of packets while a lens is open; and the same by protocol and port.
    pub lens: Option<(Lens, Vec<LensSum>)>,
    /// The progress of a running capture, and when it was started.
    pub catching: Option<(Duration, CatchNews)>,
    /// The findings as listed.
    pub found: FindingsList,
    /// What is drawn.
    pub picture: Picture,
    /// The history of what is in scope.
    pub trends: Trends,
    /// The history of the table's rows that may be on the screen.
    row_trends: HashMap<(u16, Key), Vec<u64>>,
    /// Incremented by every visible change, except for what the mouse is over.
    pub version: u64,
}

const NOTICES: usize = 100;
impl App {
    /// An app that has not read anything.
    ///
    /// # Errors
    /// The filter is not one.
    pub fn new(start: Start) -> Result<Self, FilterError> {
        let mut series =
            if start.recorded { Series::of_recording() } else { Series::new(start.history) };
        series.look_for_findings(start.known);
        let groups = start.groups.clone().unwrap_or_default();
        Ok(App {
            view: start.view,
            unit: start.unit,
            base: start.base,
            rate: !start.totals,
            by_name: false,
            top: start.top,
            title: units::sanitize(&start.title).into_owned(),
            numeric: start.numeric,
            grouped: start.groups.is_none().then(Arc::default),
            filter: start.names.filter(&start.filter, &groups)?,
            groups,
            levels: None,
            grouping: Grouping::default(),
            crumbs: Vec::new(),
            tunnel: None,
            filter_text: start.filter.trim().to_owned(),
            names: Called::new(start.names),
            editing: None,
            marks: BTreeSet::new(),
            pick: None,
            hover: None,
            row: None,
            sort: if start.totals { Column::Total } else { Column::Rate },
            reversed: false,
            scroll: 0,
            playing: false,
            speed: Speed::default(),
            progress: None,
            help: false,
            series,
            trouble: None,
            notices: VecDeque::new(),
            read: None,
            last_error: None,
            size: (80, 24),
            lens: None,
            catching: None,
            found: FindingsList::default(),
            picture: Picture::default(),
            trends: Trends::default(),
            row_trends: HashMap::default(),
            version: 0,
        })
    }

    /// An end for display: its name, if it has one, or its address.
    pub fn called(&self, end: End) -> String {
        self.called_at(self.level(), end)
    }

    /// The same for an end of a given level, whichever is shown.
    pub fn called_at(&self, level: Level, end: End) -> String {
        if let End::Group(group) = end {
            return self.group_path(group).to_owned();
        }
        let name = || self.names.end(end, level);
        let name = if self.numeric { None } else { name() };
        name.unwrap_or_else(|| label(end, self.picture.matrix.folded))
    }

    /// The name of a group: its path.
    pub fn group_path(&self, group: Group) -> &str {
        self.groups.path(group)
    }

    /// The name of a tunnel on the screen.
    pub fn tunnel_called(&self, tunnel: Tunnel) -> String {
        if self.numeric { tunnel.to_string() } else { self.names.tunnel(tunnel) }
    }

    /// What the breadcrumb shows for the level entered `depth` levels below the first.
    pub fn crumb(&self, depth: usize) -> String {
        let level = if depth > self.groups_entered() { Level::Inner } else { Level::Hosts };
        let within = self.crumbs.get(depth).map_or(&Within::All, |c| &c.within);
        within.text(|end| self.called_at(level, end))
    }

    /// The addresses on the screen whose names are wanted, and whether they are inner ones.
    pub fn addresses(&self) -> Vec<(IpAddr, bool)> {
        if self.numeric {
            return Vec::new();
        }
        let level = self.level() == Level::Inner;
        let ends = self.picture.matrix.ends.iter().map(|e| (*e, level));
        let hosts = self.groups_entered();
        let crumbs = self.crumbs.iter().enumerate().map(|(i, crumb)| (crumb, i > hosts));
        let crumbs =
            crumbs.flat_map(|(c, inner)| c.within.ends().into_iter().map(move |e| (e, inner)));
        let senders = self.picture.fragmented.iter().flat_map(|f| [(f.from, false), (f.to, false)]);
        let ends = ends.chain(crumbs).chain(senders);
        let ends = ends
            .filter_map(|(e, inner)| if let End::Addr(a) = e { Some((a, inner)) } else { None });
        let both = |p: Option<Pair>, inner| {
            p.into_iter().flat_map(move |p| [(p.first, inner), (p.second, inner)])
        };
        let lines = self.picture.lines.list.get(self.page_of_lines()).unwrap_or_default();
        let lines = lines
            .iter()
            .flat_map(|l| both(l.key.outer, false).chain(both(l.key.inner.pair(), true)));
        ends.chain(lines).collect()
    }

    /// The lines of the table that may be on the screen.
    fn page_of_lines(&self) -> Range<usize> {
        let (lines, height) = (&self.picture.lines, usize::from(self.size.1));
        let cursor = self.row.and_then(|r| lines.index(r)).unwrap_or(0);
        cursor.saturating_sub(height)..(cursor + height).min(lines.list.len())
    }

    pub(super) fn level(&self) -> Level {
        if self.crumbs.len() == self.groups_entered() { Level::Hosts } else { Level::Inner }
    }

    /// How many levels of groups were entered.
    pub(super) fn groups_entered(&self) -> usize {
        self.crumbs.iter().take_while(|crumb| crumb.within.groups().next().is_some()).count()
    }

    /// How many levels of groups are expanded everywhere. Groups made from the names of a fleet are
    /// used only if not all hosts fit.
    fn levels(&self) -> usize {
        let is_crowded = |hosts: &Arc<_>| HashMap::len(hosts) > self.ends_shown();
        let by_group = self.grouped.as_ref().is_none_or(is_crowded) || self.groups_entered() > 0;
        let coarsest = || self.groups.coarsest();
        self.levels.unwrap_or_else(|| if by_group { coarsest() } else { self.groups.levels() })
    }

    /// Expands one more level of groups, up to hosts, and then starts again with the coarsest.
    pub(super) fn step_levels(&mut self) -> bool {
        let (now, all) = (self.levels(), self.groups.levels());
        self.levels = Some(if now < all { now + 1 } else { self.groups.coarsest() });
        all > 0
    }

    /// What the ends on the screen are, in a word or two.
    pub fn what_ends_are(&self) -> &'static str {
        let is_group = |end: &End| matches!(end, End::Group(_));
        let ends = &self.picture.matrix.ends;
        match self.level() {
            Level::Inner => "inner addresses",
            Level::Hosts if !ends.iter().any(is_group) => "hosts",
            Level::Hosts if ends.iter().any(|end| matches!(end, End::Addr(_))) => "groups, hosts",
            Level::Hosts => "groups",
        }
    }

    /// What is on the first level, in a word.
    pub fn root(&self) -> &'static str {
        if self.levels() < self.groups.levels() { "groups" } else { "hosts" }
    }

    /// Assigns hosts to groups, and determines which groups are shown.
    fn group(&mut self, interval: &Interval) {
        match &mut self.grouped {
            Some(known) => {
                let hosts = self.names.hosts();
                if !Arc::ptr_eq(known, &hosts) {
                    Arc::make_mut(&mut self.groups).of_hosts(&hosts);
                    *known = hosts;
                }
            }
            None if self.groups.take_names() => {
                let pairs = interval.rows.walk().filter_map(|row| row.outer());
                let hosts = pairs.flat_map(|pair| [pair.first, pair.second]);
                self.groups.learn(hosts, |host| self.names.host(host));
            }
            None => {}
        }
        self.filter.learn(&self.groups);
        if !self.groups.is_empty() {
            let entered = self.crumbs.iter().take(self.groups_entered());
            let entered: Vec<_> =
                entered.flat_map(|c| c.within.groups().map(|group| (group, c.whole))).collect();
            self.grouping = Grouping::new(self.groups.clone(), self.levels(), &entered);
        }
    }

    /// Which rows count and what their ends are.
    pub fn scope(&self) -> Scope {
        let hosts = self.groups_entered();
        let within =
            |depth: usize| self.crumbs.get(depth).map_or(Within::All, |c| c.within.clone());
        Scope {
            level: self.level(),
            grouping: self.grouping.clone(),
            groups: self.crumbs.iter().take(hosts).map(|c| c.within.clone()).collect(),
            hosts: within(hosts),
            inner: within(hosts + 1),
            tunnel: self.tunnel,
            filter: self.filter.clone(),
        }
    }

    /// The addresses of the hosts whose rows are looked into, if only some are: on both ends, for a
    /// row has the counts of both.
    pub fn looked_into(&self) -> Vec<IpAddr> {
        let scope = self.scope();
        let is_of_fleet = self.series.newest().is_some_and(|i| i.once().is_of_fleet());
        if !is_of_fleet || (scope.hosts == Within::All && scope.filter.is_empty()) {
            return Vec::new();
        }
        let Some(interval) = self.interval() else { return Vec::new() };
        let pairs: HashSet<Pair> = scope.rows(&interval).filter_map(|row| row.outer()).collect();
        pairs.into_iter().flat_map(|pair| [pair.first, pair.second]).collect()
    }

    /// The rows of what is selected, as an expression.
    ///
    /// It cannot be told apart from other rows, or nothing is selected.
    pub fn meant(&self) -> Result<Filter, &'static str> {
        let filter = match self.row.filter(|_| self.view == View::Table) {
            Some((_, key)) if key.outer.is_none() || key.other => {
                return Err("this row combines what could not be told apart: select another");
            }
            Some((interface, key)) => {
                let names = &self.picture.interfaces;
                let name = names.get(usize::from(interface)).filter(|_| names.len() > 1);
                let on = name.map(|i| Filter::of_interface(&i.name)).unwrap_or_default();
                on.and(Filter::of_row(&key))
            }
            None => self.scope().meant(&match (self.pick, self.marks.is_empty()) {
                (Some(Pick::End(end)), _) => Within::Any(vec![end]),
                (Some(Pick::Pair(a, b)), _) => Within::Pair(a, b),
                (None, false) => Within::Any(self.marks.iter().copied().collect()),
                (None, true) => Within::All,
            })?,
        };
        match filter.is_empty() {
            true => Err("select a row, a pair, a host or a tunnel id first"),
            false => Ok(filter),
        }
    }

    /// What is selected, by mouse or by key.
    pub fn picked(&self) -> Option<Pick> {
        self.hover.or(self.pick)
    }

    /// Whether packets from one end to another are dropped, or there is another bad finding between
    /// them.
    pub fn is_wrong(&self, from: End, to: End) -> bool {
        !self.picture.dropped(from, to).is_zero() || self.found.concerns(self.level(), from, to)
    }

    /// The pairs of ends for which that holds in either direction, on the screen or not.
    pub fn wrong(&self) -> impl Iterator<Item = (End, End)> {
        let dropped = self.picture.dropped.keys().copied();
        dropped.chain(self.found.pairs(self.level()))
    }

    /// A count as text: a rate over the picture's time, or a total.
    pub fn quantity(&self, c: Count) -> Quantity {
        self.quantity_over(c, self.rate.then_some(self.picture.elapsed))
    }

    /// A count as a rate over a time, or as a total.
    pub fn quantity_over(&self, c: Count, elapsed: Option<Duration>) -> Quantity {
        self.unit.quantity(c, self.base, elapsed)
    }

    /// A count without its unit, for a narrow cell: `1.2 M`, six columns at most (seven in binary).
    pub fn number(&self, c: Count) -> String {
        let text = self.quantity(c).to_string();
        let unit = text.trim_end_matches("/s").trim_end_matches(['b', 'B']).trim_end().len();
        text[..unit].to_owned()
    }

    /// A count's weight in the chosen unit.
    pub fn measure(&self, c: Count) -> u64 {
        self.unit.measure().of(c)
    }

    /// The unit as shown in headings: `bits/s`, `bytes`.
    pub fn unit_name(&self) -> String {
        format!("{}{}", self.unit.name(), if self.rate { "/s" } else { "" })
    }

    /// How many ends the picture has room for.
    pub fn ends_shown(&self) -> usize {
        let lines = usize::from(self.size.1);
        match (self.top, self.view) {
            (Some(n), _) => n,
            (None, View::Matrix) => 300,
            (None, _) => (lines * 2 / 5).clamp(6, 24),
        }
    }

    /// The newest reading: totals since counting began.
    pub fn latest(&self) -> Option<&Snapshot> {
        self.series.latest()
    }

    /// What is shown, with all its rows. `None` if there is nothing yet, or no longer.
    pub fn interval(&self) -> Option<Interval> {
        self.series.shown(self.rate)
    }

    /// The length of the interval that rates refer to, whatever the picture shows.
    pub fn interval_elapsed(&self) -> Duration {
        if self.rate { self.picture.elapsed } else { self.series.elapsed() }
    }

    /// The newest notice that has not expired.
    pub fn news(&self, now: Duration) -> Option<&Notice> {
        self.notices.back().filter(|n| now.saturating_sub(n.at) < NOTICE)
    }

    pub(super) fn say(&mut self, notice: Notice) {
        if self.notices.len() == NOTICES {
            self.notices.pop_front();
        }
        self.notices
            .push_back(Notice { text: units::sanitize(&notice.text).into_owned(), ..notice });
    }

    /// Rebuilds the picture.
    pub(super) fn refresh(&mut self) {
        let Some(interval) = self.interval() else {
            self.picture = Picture::default();
            return;
        };
        self.group(&interval);
        let scope = self.scope();
        let measure = self.unit.measure();
        self.picture = Picture::of(&interval, &scope, measure, self.ends_shown(), self.by_name);
        self.picture.number = self.series.number();
        match self.view {
            View::Table => {
                let by = Sorting { column: self.sort, reversed: self.reversed, measure };
                let beside = self.series.beside(self.rate);
                let timed = self.lens.as_ref().and_then(|(lens, _)| lens.timed.as_ref());
                self.picture.lines = Lines::of(&interval, beside, timed, self.rate, &scope, by);
            }
            View::Health => self.picture.fragmented = fragmented(&interval, &scope),
            View::Chord | View::Matrix | View::Findings => {}
        }
        let shown = (self.series.at() != At::Live).then_some(interval.taken);
        self.found.list(self.series.findings(), shown, &scope);
        self.row_trends.clear();
        self.trends.update(&scope, self.series.history(), self.series.number());
    }

    /// A row of the table over the last intervals up to the one shown, oldest first.
    pub fn trend_of_row(&self, line: &Line) -> &[u64] {
        self.row_trends.get(&(line.interface, line.key)).map_or(&[], Vec::as_slice)
    }

    /// Prepares the sparklines of the table's rows when rows come into view that are not prepared.
    pub(super) fn prepare(&mut self) {
        let page = self.page_of_lines();
        let lines = &self.picture.lines.list;
        let known = |l: &Line| self.row_trends.contains_key(&(l.interface, l.key));
        let (Some(number), Some(on_page)) = (self.series.number(), lines.get(page.clone())) else {
            return;
        };
        if !on_page.iter().all(known) {
            let more = page.len();
            let lines = &lines[page.start.saturating_sub(more)..(page.end + more).min(lines.len())];
            let (history, measure) = (self.series.history(), self.unit.measure());
            self.row_trends = trend::of_rows(lines, history, number, trend::ROWS, measure);
        }
    }
}
