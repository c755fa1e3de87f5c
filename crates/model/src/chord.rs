// SPDX-License-Identifier: MIT OR Apache-2.0
//! The chord diagram as angles: d3-chord's layout. Pure.
//!
//! [`Layout::new`] computes the same as
//! `d3.chord().padAngle(p).sortGroups(d3.descending).sortSubgroups(d3.ascending)`
//! (<https://d3js.org/d3-chord>), and [`Layout::ordered`] the same with a choice of order: every
//! end gets an arc as wide as what it sent, and every pair of ends a ribbon that is as wide at each
//! end as what that end sent to the other. Angles are in radians, clockwise from 12 o'clock.
//! [`tween`] is the transition from one layout to the next.
use std::{collections::HashMap, f64::consts::TAU, hash::Hash};

/// The arc of one end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArcGroup {
    /// Where it begins.
    pub start: f64,
    /// Where it ends; `end >= start`.
    pub end: f64,
    /// What the end sent, including to itself: the sum of its row.
    pub value: f64,
    /// 1 when fully present, less while it appears or disappears.
    pub presence: f64,
}

impl ArcGroup {
    /// The angle of its middle.
    pub fn middle(&self) -> f64 {
        f64::midpoint(self.start, self.end)
    }
}

/// One end of a ribbon: a part of a group's arc.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Foot {
    /// The group on whose arc it stands, an index into [`Layout::groups`].
    pub group: usize,
    /// Where it begins.
    pub start: f64,
    /// Where it ends; `end >= start`.
    pub end: f64,
    /// What this group sent to the group of the other foot.
    pub value: f64,
}

/// What two ends sent each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ribbon {
    /// The foot of the end that sent more; of the end with the lower index when both sent the same.
    pub source: Foot,
    /// The other foot; equal to `source` for what an end sent to itself.
    pub target: Foot,
    /// 1 when fully present, less while it appears or disappears.
    pub presence: f64,
}

impl Ribbon {
    /// The indices of its ends, the lower first.
    pub fn ends(&self) -> (usize, usize) {
        let (a, b) = (self.source.group, self.target.group);
        (a.min(b), a.max(b))
    }
}

/// The order of feet on an arc, clockwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Smallest first. Groups are sorted by descending size, so the ribbons of the largest lie side
    /// by side instead of all crossing in the centre.
    #[default]
    Ascending,
    /// Largest first.
    Descending,
}

/// Arcs and ribbons of a matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// One per end, in the order of the matrix (not of the circle).
    pub groups: Vec<ArcGroup>,
    /// One per pair in which anything was sent, ordered by (lower, higher) index.
    pub ribbons: Vec<Ribbon>,
}

impl Layout {
    /// Lays out `n` ends, where `sent(i, j)` is what end `i` sent to end `j`. The circle begins
    /// with the end that sent most. `padding` radians stay free after every arc; if that is more
    /// than the circle has, arcs have no width (see [`padding`]). Values that are negative or not
    /// finite count as 0.
    pub fn new(n: usize, sent: impl Fn(usize, usize) -> f64, padding: f64) -> Self {
        Self::ordered(n, sent, padding, Order::default())
    }

    /// Like [`Layout::new`], with a choice of the order of the feet.
    pub fn ordered(
        n: usize,
        sent: impl Fn(usize, usize) -> f64,
        padding: f64,
        feet_order: Order,
    ) -> Self {
        let sent = |i, j| Some(sent(i, j)).filter(|v| v.is_finite()).map_or(0.0, |v| v.max(0.0));
        let padding = if padding.is_finite() { padding.max(0.0) } else { 0.0 };

        let sums: Vec<f64> = (0..n).map(|i| (0..n).map(|j| sent(i, j)).sum()).collect();
        let total: f64 = sums.iter().sum();
        let mut scale = (TAU - padding * n as f64).max(0.0) / total;
        let gap = if scale == 0.0 { TAU / n as f64 } else { padding };
        if !scale.is_finite() {
            scale = 0.0; // nothing was sent
        }

        let mut groups = vec![ArcGroup { start: 0.0, end: 0.0, value: 0.0, presence: 1.0 }; n];
        let mut feet: HashMap<(usize, usize), (Option<Foot>, Option<Foot>)> = HashMap::new();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]));
        let mut x = 0.0;
        for i in order {
            let start = x;
            let mut peers: Vec<usize> =
                (0..n).filter(|&j| sent(i, j) > 0.0 || sent(j, i) > 0.0).collect();
            match feet_order {
                Order::Ascending => peers.sort_by(|&a, &b| sent(i, a).total_cmp(&sent(i, b))),
                Order::Descending => peers.sort_by(|&a, &b| sent(i, b).total_cmp(&sent(i, a))),
            }
            for j in peers {
                let value = sent(i, j);
                let foot = Foot { group: i, start: x, end: x + value * scale, value };
                x = foot.end;
                let pair = feet.entry((i.min(j), i.max(j))).or_default();
                if i <= j {
                    pair.0 = Some(foot);
                }
                if j <= i {
                    pair.1 = Some(foot);
                }
            }
            groups[i] = ArcGroup { start, end: x, value: sums[i], presence: 1.0 };
            x += gap;
        }

        let mut ribbons: Vec<Ribbon> = feet
            .into_values()
            .filter_map(|(lower, higher)| {
                let (lower, higher) = (lower?, higher?);
                let (source, target) =
                    if lower.value < higher.value { (higher, lower) } else { (lower, higher) };
                Some(Ribbon { source, target, presence: 1.0 })
            })
            .collect();
        ribbons.sort_by_key(Ribbon::ends);
        Layout { groups, ribbons }
    }

    /// The middle angle of each end's arc; `None` for an end that neither sent nor received.
    pub fn angles(&self) -> Vec<Option<f64>> {
        let mut angles = vec![None; self.groups.len()];
        for foot in self.ribbons.iter().flat_map(|r| [r.source, r.target]) {
            if let (Some(angle), Some(group)) =
                (angles.get_mut(foot.group), self.groups.get(foot.group))
            {
                *angle = Some(group.middle());
            }
        }
        angles
    }

    /// Nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.ribbons.is_empty()
    }
}

/// A good-looking padding for `n` ends: `wanted`, but at most a quarter of the circle in total.
pub fn padding(n: usize, wanted: f64) -> f64 {
    wanted.min(TAU / 4.0 / n.max(1) as f64)
}

/// A layout whose ends have names that persist from one layout to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene<K> {
    /// The name of each group, without duplicates, as many as groups.
    pub ends: Vec<K>,
    /// The arcs and ribbons.
    pub layout: Layout,
}

/// The scene at time `t` (0 ..= 1) between two scenes: arcs and ribbons of both slide, those only
/// in `to` grow in, those only in `from` shrink and fade. The ends are those of `to`, at the same
/// indices, followed by the ones that leave. Values are always those of `to`: the animation shows
/// how they came about. `from` may itself be such a scene, so that one change can interrupt
/// another.
pub fn tween<K: Eq + Hash + Clone>(from: &Scene<K>, to: &Scene<K>, t: f64) -> Scene<K> {
    let t = if t.is_nan() { 1.0 } else { t.clamp(0.0, 1.0) };
    if t >= 1.0 {
        return to.clone();
    }
    let mix = |a: f64, b: f64| a + (b - a) * t;

    // maps every index of `from` to an index of the result, and back
    let mut ends = to.ends.clone();
    let index: HashMap<K, usize> =
        to.ends.iter().cloned().enumerate().map(|(i, k)| (k, i)).collect();
    let mut before: Vec<Option<usize>> = vec![None; ends.len()];
    let now: Vec<usize> = (0..from.ends.len().min(from.layout.groups.len()))
        .map(|i| match index.get(&from.ends[i]) {
            Some(&j) => {
                before[j] = Some(i);
                j
            }
            None => {
                ends.push(from.ends[i].clone());
                before.push(Some(i));
                ends.len() - 1
            }
        })
        .collect();

    let old_group =
        |i: usize| before.get(i).copied().flatten().and_then(|i| from.layout.groups.get(i));
    let groups: Vec<ArcGroup> = (0..ends.len())
        .map(|i| {
            let (old, new) = (old_group(i), to.layout.groups.get(i));
            let gone = |g: &ArcGroup| ArcGroup {
                start: g.middle(),
                end: g.middle(),
                value: 0.0,
                presence: 0.0,
            };
            let a = old.copied().or(new.map(gone)).unwrap_or(ArcGroup {
                start: 0.0,
                end: 0.0,
                value: 0.0,
                presence: 0.0,
            });
            let b = new.copied().unwrap_or(gone(&a));
            ArcGroup {
                start: mix(a.start, b.start),
                end: mix(a.end, b.end),
                value: b.value,
                presence: mix(a.presence, b.presence),
            }
        })
        .collect();

    // feet stand on their arcs, so they move in proportion to them
    let share = |foot: &Foot, group: Option<&ArcGroup>| -> (f64, f64) {
        match group.map(|g| (g.start, g.end - g.start)) {
            Some((start, width)) if width > 0.0 => (
                ((foot.start - start) / width).clamp(0.0, 1.0),
                ((foot.end - start) / width).clamp(0.0, 1.0),
            ),
            _ => (0.5, 0.5),
        }
    };
    let stand = |group: usize, a: (f64, f64), b: (f64, f64), value: f64| -> Foot {
        let g = groups[group];
        let at = |share: f64| g.start + share * (g.end - g.start);
        Foot { group, start: at(mix(a.0, b.0)), end: at(mix(a.1, b.1)), value }
    };
    let point = |(a, b): (f64, f64)| (f64::midpoint(a, b), f64::midpoint(a, b));

    let mut old: HashMap<(usize, usize), Ribbon> = from
        .layout
        .ribbons
        .iter()
        .filter_map(|r| {
            let mut r = *r;
            r.source.group = *now.get(r.source.group)?;
            r.target.group = *now.get(r.target.group)?;
            Some((r.ends(), r))
        })
        .collect();
    let mut ribbons = Vec::with_capacity(to.layout.ribbons.len() + old.len());
    for r in &to.layout.ribbons {
        let was = old.remove(&r.ends());
        let foot = |foot: &Foot| {
            let end = share(foot, to.layout.groups.get(foot.group));
            let start = match was {
                Some(was) => share(
                    if was.source.group == foot.group { &was.source } else { &was.target },
                    old_group(foot.group),
                ),
                None if old_group(foot.group).is_some() => point(end),
                None => end, // grows with its arc
            };
            stand(foot.group, start, end, foot.value)
        };
        ribbons.push(Ribbon {
            source: foot(&r.source),
            target: foot(&r.target),
            presence: mix(was.map_or(0.0, |w| w.presence), r.presence),
        });
    }
    let mut leaving: Vec<Ribbon> = old.into_values().collect();
    leaving.sort_by_key(Ribbon::ends);
    ribbons.extend(leaving.iter().map(|r| {
        let foot = |foot: &Foot| {
            let start = share(foot, old_group(foot.group));
            stand(
                foot.group,
                start,
                if foot.group < to.ends.len() { point(start) } else { start },
                0.0,
            )
        };
        Ribbon { source: foot(&r.source), target: foot(&r.target), presence: mix(r.presence, 0.0) }
    }));
    Scene { ends, layout: Layout { groups, ribbons } }
}

/// Slow, fast, slow: the cubic easing of d3's transitions, from a share of the time to a `t` for
/// [`tween`].
pub fn ease(t: f64) -> f64 {
    let t = t.clamp(0.0, 1.0) * 2.0;
    if t <= 1.0 { t * t * t / 2.0 } else { ((t - 2.0).powi(3) + 2.0) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const CLOSE: f64 = 1e-9;

    /// The output of d3-chord 3.0.2: see `tests/fixtures/d3_chord.mjs`.
    fn d3() -> Vec<Value> {
        serde_json::from_str(include_str!("../tests/fixtures/d3_chord.json")).unwrap()
    }

    fn matrix(v: &Value) -> Vec<Vec<f64>> {
        serde_json::from_value(v.clone()).unwrap()
    }

    fn layout(m: &[Vec<f64>], pad: f64) -> Layout {
        Layout::new(m.len(), |i, j| m[i][j], pad)
    }

    fn same(name: &str, (index, start, end, value): (usize, f64, f64, f64), v: &Value) {
        let [i, s, e, x] = [0, 1, 2, 3].map(|k| v[k].as_f64().unwrap());
        assert_eq!(index as f64, i, "{name}");
        assert!(
            (start - s).abs() < CLOSE && (end - e).abs() < CLOSE,
            "{name}: {index} is {start}..{end}, d3 says {s}..{e}"
        );
        assert!((value - x).abs() <= x * 1e-15, "{name}: {value} {x}");
    }

    #[test]
    fn layout_matches_d3_chord() {
        let cases = d3();
        assert!(cases.len() > 20);
        for case in &cases {
            let name = case["name"].as_str().unwrap();
            let order =
                if case["order"] == "ascending" { Order::Ascending } else { Order::Descending };
            let m = matrix(&case["matrix"]);
            let pad = case["padding"].as_f64().unwrap();
            let layout = Layout::ordered(m.len(), |i, j| m[i][j], pad, order);
            let groups = case["groups"].as_array().unwrap();
            assert_eq!(layout.groups.len(), groups.len(), "{name}");
            for (i, (g, v)) in layout.groups.iter().zip(groups).enumerate() {
                same(name, (i, g.start, g.end, g.value), v);
            }
            let ribbons = case["ribbons"].as_array().unwrap();
            assert_eq!(layout.ribbons.len(), ribbons.len(), "{name}");
            for (r, v) in layout.ribbons.iter().zip(ribbons) {
                same(name, (r.source.group, r.source.start, r.source.end, r.source.value), &v[0]);
                same(name, (r.target.group, r.target.start, r.target.end, r.target.value), &v[1]);
            }
        }
    }

    #[test]
    fn arcs_and_padding_make_one_turn() {
        for case in d3() {
            let m = matrix(&case["matrix"]);
            let pad = padding(m.len(), 0.05);
            let layout = layout(&m, pad);
            if layout.is_empty() {
                continue;
            }
            let arcs: f64 = layout.groups.iter().map(|g| g.end - g.start).sum();
            assert!((arcs + pad * m.len() as f64 - TAU).abs() < CLOSE, "{}", case["name"]);
            let feet: f64 = layout
                .ribbons
                .iter()
                .map(|r| {
                    let own = r.source.end - r.source.start;
                    own + if r.source == r.target { 0.0 } else { r.target.end - r.target.start }
                })
                .sum();
            assert!((arcs - feet).abs() < CLOSE, "feet cover the arcs");
        }
    }

    #[test]
    fn a_symmetric_matrix_has_equal_feet() {
        for r in Layout::new(6, |i, j| ((i + 1) * (j + 1)) as f64, 0.05).ribbons {
            assert!(
                ((r.source.end - r.source.start) - (r.target.end - r.target.start)).abs() < CLOSE
            );
        }
    }

    fn numbers(l: &Layout) -> impl Iterator<Item = f64> + '_ {
        let groups = l.groups.iter().flat_map(|g| [g.start, g.end, g.presence]);
        groups.chain(
            l.ribbons.iter().flat_map(|r| {
                [r.source.start, r.source.end, r.target.start, r.target.end, r.presence]
            }),
        )
    }

    #[test]
    fn invalid_numbers_yield_finite_angles() {
        let bad = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -1.0,
            -0.0,
            0.0,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            u64::MAX as f64,
            1.0,
        ];
        for (k, &pad) in bad.iter().enumerate() {
            for n in [1, 2, 5, 11] {
                let l = Layout::new(n, |i, j| bad[(i * 7 + j * 3 + k) % bad.len()], pad);
                assert!(numbers(&l).all(f64::is_finite), "{k} {n} {pad} {l:?}");
                assert!(l.groups.iter().all(|g| g.start <= g.end));
            }
        }
    }

    fn scene(ends: &[&'static str], value: impl Fn(usize, usize) -> f64) -> Scene<&'static str> {
        Scene { ends: ends.to_vec(), layout: Layout::new(ends.len(), value, 0.05) }
    }

    #[test]
    fn a_tween_goes_from_one_layout_to_the_other() {
        let a = scene(&["a", "b", "c"], |i, j| (i * 3 + j) as f64);
        let b = scene(&["d", "c", "a"], |i, j| if i == j { 0.0 } else { (1 + i + j * j) as f64 });
        let start = tween(&a, &b, 0.0);
        assert_eq!(start.ends, ["d", "c", "a", "b"]);
        for (i, end) in start.ends.iter().enumerate() {
            let g = start.layout.groups[i];
            match a.ends.iter().position(|e| e == end) {
                Some(k) => {
                    assert!(
                        (g.start - a.layout.groups[k].start).abs() < CLOSE
                            && (g.end - a.layout.groups[k].end).abs() < CLOSE
                    );
                    assert_eq!(g.presence, 1.0);
                }
                None => assert_eq!((g.end - g.start, g.presence), (0.0, 0.0)),
            }
        }
        for r in &start.layout.ribbons {
            let ends = (start.ends[r.source.group], start.ends[r.target.group]);
            let old = a.layout.ribbons.iter().find(|o| {
                let o = (a.ends[o.source.group], a.ends[o.target.group]);
                o == ends || (o.1, o.0) == ends
            });
            match old {
                Some(o) => {
                    let o = if a.ends[o.source.group] == ends.0 { o.source } else { o.target };
                    assert!(
                        (r.source.start - o.start).abs() < CLOSE
                            && (r.source.end - o.end).abs() < CLOSE,
                        "{r:?} {o:?}"
                    );
                }
                None => assert_eq!(r.presence, 0.0),
            }
        }
        assert_eq!(tween(&a, &b, 1.0), b);
        assert_eq!(tween(&a, &b, f64::NAN), b);
        assert_eq!(tween(&a, &a, 0.3).ends, a.ends);
    }

    #[test]
    fn a_tween_is_smooth_and_can_be_interrupted() {
        let a = scene(&["a", "b", "c"], |i, j| (i * 3 + j) as f64);
        let b = scene(&["d", "c", "a"], |i, j| (1 + i + j * j) as f64);
        let mut last = tween(&a, &b, 0.0);
        for step in 1..=100 {
            let next = tween(&a, &b, f64::from(step) / 100.0);
            for (x, y) in last.layout.groups.iter().zip(&next.layout.groups) {
                assert!((x.start - y.start).abs() < 0.1 && (x.end - y.end).abs() < 0.1);
            }
            for r in &next.layout.ribbons {
                for f in [r.source, r.target] {
                    let g = next.layout.groups[f.group];
                    assert!(
                        g.start - CLOSE <= f.start && f.end <= g.end + CLOSE,
                        "feet stay on their arcs"
                    );
                }
            }
            last = next;
        }
        let half = tween(&a, &b, 0.5);
        let back = tween(&half, &a, 0.0);
        for (i, end) in back.ends.iter().enumerate() {
            let k = half.ends.iter().position(|e| e == end).unwrap();
            assert!((back.layout.groups[i].start - half.layout.groups[k].start).abs() < CLOSE);
            assert!(
                (back.layout.groups[i].presence - half.layout.groups[k].presence).abs() < CLOSE
            );
        }
        assert_eq!(back.ends, ["a", "b", "c", "d"]);
        let nothing = Scene::default();
        assert_eq!(tween(&nothing, &nothing, 0.5), nothing);
        assert_eq!(tween(&nothing, &a, 0.5).layout.groups[1].presence, 0.5);
        assert_eq!(tween(&a, &nothing, 0.75).layout.groups[1].presence, 0.25);
    }

    #[test]
    fn easing_keeps_its_endpoints() {
        assert_eq!((ease(0.0), ease(0.5), ease(1.0), ease(7.0)), (0.0, 0.5, 1.0, 1.0));
    }
}
