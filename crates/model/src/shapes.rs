// SPDX-License-Identifier: MIT OR Apache-2.0
//! The chord diagram as shapes: turns a layout into paths, in drawing order, and a point into the
//! part under it. Pure.
//!
//! Unit coordinates: the centre is (0, 0), the outer edge of the arcs has radius 1, x goes right and
//! y goes down. Arcs are annular sectors; ribbons are d3-ribbon's: along the circle under the first
//! foot, a quadratic curve through the centre, along the circle under the second foot, and back.
use crate::chord::{Foot, Layout, Ribbon};
use std::f64::consts::TAU;

/// What a shape stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShapeOf {
    /// An end's arc.
    Arc(usize),
    /// What two ends sent each other, the lower index first; with the same index twice, what an end
    /// sent to itself.
    Ribbon(usize, usize),
}

impl ShapeOf {
    /// The ribbon between two ends, whichever is named first.
    pub fn ribbon(a: usize, b: usize) -> Self {
        ShapeOf::Ribbon(a.min(b), a.max(b))
    }

    /// Whether this end is part of it.
    pub fn touches(self, end: usize) -> bool {
        match self {
            ShapeOf::Arc(i) => i == end,
            ShapeOf::Ribbon(i, j) => i == end || j == end,
        }
    }
}

/// A step of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PathStep {
    /// Begins a path at a point.
    Move([f64; 2]),
    /// A straight line.
    Line([f64; 2]),
    /// Along a circle around the centre, from one angle to another (clockwise when it is larger).
    Arc {
        /// The circle's radius.
        radius: f64,
        /// The angle of the path's current point.
        from: f64,
        /// The angle of the target.
        to: f64,
    },
    /// A quadratic curve to a point, with the centre as its control point.
    Bow([f64; 2]),
    /// Straight back to the beginning.
    Close,
}

/// One thing to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// What it stands for.
    pub part: ShapeOf,
    /// The end whose colour it has: for an arc, its own; for a ribbon, the end that sent clearly
    /// more.
    pub colour: usize,
    /// 1 when fully present, less while it appears or disappears.
    pub presence: f64,
    /// Its outline, closed.
    pub path: Vec<PathStep>,
}

/// Measures, in units of the radius.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proportions {
    /// The arcs' inner radius.
    pub inner: f64,
    /// The radius on which ribbons stand.
    pub foot: f64,
    /// The smallest angle with which an arc is drawn, so that a quiet end is still visible; ribbons
    /// that are not empty get at least half of it.
    pub least: f64,
}

impl Default for Proportions {
    fn default() -> Self {
        Proportions { inner: 0.92, foot: 0.91, least: 0.0 }
    }
}

/// The shapes of a layout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shapes {
    /// In drawing order: broad ribbons, narrow ribbons, arcs.
    pub shapes: Vec<Shape>,
    measure: Proportions,
    /// Where each end's arc is drawn; `None` for an end that neither sent nor received.
    arcs: Vec<Option<(f64, f64)>>,
    feet: Vec<(ShapeOf, f64, f64)>,
}

/// The point at an angle on a circle.
pub fn point(angle: f64, radius: f64) -> [f64; 2] {
    [angle.sin() * radius, -angle.cos() * radius]
}

/// How much more than the other an end must have sent for the ribbon to have its colour. Otherwise
/// the ribbon has the colour of the lesser end of the two, so that the ribbons of a hub can be told
/// apart.
const CLEARLY: f64 = 1.2;

impl Shapes {
    /// The shapes of a layout. Ends that neither sent nor received have no shape.
    pub fn new(layout: &Layout, measure: Proportions) -> Self {
        let arcs: Vec<Option<(f64, f64)>> = layout
            .groups
            .iter()
            .zip(layout.angles())
            .map(|(g, angle)| {
                angle.map(|_| {
                    widen(
                        g.start,
                        g.end,
                        if g.presence < 1.0 { measure.least * g.presence } else { measure.least },
                    )
                })
            })
            .collect();

        let mut ribbons: Vec<&Ribbon> = layout.ribbons.iter().collect();
        ribbons.sort_by(|a, b| breadth(b).total_cmp(&breadth(a)).then(a.ends().cmp(&b.ends())));
        let mut shapes: Vec<Shape> = ribbons
            .into_iter()
            .map(|r| Shape {
                part: ShapeOf::ribbon(r.source.group, r.target.group),
                colour: colour(layout, r),
                presence: r.presence,
                path: ribbon(r, measure),
            })
            .collect();
        let feet = layout
            .ribbons
            .iter()
            .map(|r| {
                (
                    ShapeOf::ribbon(r.source.group, r.target.group),
                    middle(&r.source),
                    middle(&r.target),
                )
            })
            .collect();
        for (i, arc) in arcs.iter().enumerate() {
            if let Some((start, end)) = *arc {
                let path = vec![
                    PathStep::Move(point(start, 1.0)),
                    PathStep::Arc { radius: 1.0, from: start, to: end },
                    PathStep::Line(point(end, measure.inner)),
                    PathStep::Arc { radius: measure.inner, from: end, to: start },
                    PathStep::Close,
                ];
                shapes.push(Shape {
                    part: ShapeOf::Arc(i),
                    colour: i,
                    presence: layout.groups[i].presence,
                    path,
                });
            }
        }
        Shapes { shapes, measure, arcs, feet }
    }

    /// Removes all but the `n` broadest ribbons and those for which `keep` holds.
    pub fn limit(&mut self, n: usize, keep: impl Fn(ShapeOf) -> bool) {
        let mut seen = 0;
        self.shapes.retain(|s| {
            let ribbon = matches!(s.part, ShapeOf::Ribbon(..));
            seen += usize::from(ribbon);
            !ribbon || seen <= n || keep(s.part)
        });
    }

    /// Draws the ribbons for which this holds after, and so over, the others.
    pub fn raise(&mut self, above: impl Fn(ShapeOf) -> bool) {
        self.shapes.sort_by_key(|s| (matches!(s.part, ShapeOf::Arc(_)), above(s.part)));
    }

    /// The topmost part at a point.
    pub fn at(&self, x: f64, y: f64) -> Option<ShapeOf> {
        let radius = x.hypot(y);
        if radius.is_nan() || radius > 1.0 {
            return None;
        }
        if radius >= self.measure.inner {
            let angle = x.atan2(-y).rem_euclid(TAU);
            let on = |&(start, end): &(f64, f64)| (angle - start).rem_euclid(TAU) <= end - start;
            return self.arcs.iter().position(|a| a.as_ref().is_some_and(on)).map(ShapeOf::Arc);
        }
        self.shapes
            .iter()
            .rev()
            .find(|s| matches!(s.part, ShapeOf::Ribbon(..)) && inside(&s.path, x, y))
            .map(|s| s.part)
    }

    /// A point on the middle line of a part, at a share of its length: 0.5 is its centre.
    pub fn along(&self, part: ShapeOf, share: f64) -> Option<[f64; 2]> {
        match part {
            ShapeOf::Arc(i) => {
                let (start, end) = (*self.arcs.get(i)?)?;
                Some(point(start + (end - start) * share, f64::midpoint(1.0, self.measure.inner)))
            }
            ShapeOf::Ribbon(i, j) => {
                let &(_, a, b) = self.feet.iter().find(|f| f.0 == part)?;
                // on the curve between the feet's middles, or in the bulge of a single foot
                let (a, b) = (point(a, self.measure.foot), point(b, self.measure.foot));
                let (p, q) = if i == j {
                    (0.375, 0.375)
                } else {
                    ((1.0 - share) * (1.0 - share), share * share)
                };
                Some([a[0] * p + b[0] * q, a[1] * p + b[1] * q])
            }
        }
    }

    /// The angle in the middle of an end's arc; `None` for an end that neither sent nor received.
    pub fn angle(&self, end: usize) -> Option<f64> {
        self.arcs.get(end).copied().flatten().map(|(start, end)| f64::midpoint(start, end))
    }
}

fn breadth(r: &Ribbon) -> f64 {
    let wide = |f: &Foot| f.end - f.start;
    wide(&r.source) + wide(&r.target)
}

fn middle(foot: &Foot) -> f64 {
    f64::midpoint(foot.start, foot.end)
}

/// An arc of at least this width around the same middle.
fn widen(start: f64, end: f64, least: f64) -> (f64, f64) {
    let missing = (least - (end - start)).max(0.0) / 2.0;
    (start - missing, end + missing)
}

fn colour(layout: &Layout, r: &Ribbon) -> usize {
    let (s, t) = (&r.source, &r.target);
    if s.value > t.value * CLEARLY || s.group == t.group {
        return s.group;
    }
    let total = |f: &Foot| layout.groups.get(f.group).map_or(0.0, |g| g.value);
    match total(s).total_cmp(&total(t)) {
        std::cmp::Ordering::Less => s.group,
        std::cmp::Ordering::Greater => t.group,
        std::cmp::Ordering::Equal => s.group.max(t.group),
    }
}

fn ribbon(r: &Ribbon, measure: Proportions) -> Vec<PathStep> {
    let radius = measure.foot;
    let stand = |f: &Foot| {
        widen(f.start, f.end, if f.value > 0.0 { measure.least / 2.0 * r.presence } else { 0.0 })
    };
    let (s, t) = (stand(&r.source), stand(&r.target));
    let mut path =
        vec![PathStep::Move(point(s.0, radius)), PathStep::Arc { radius, from: s.0, to: s.1 }];
    if r.source.group != r.target.group {
        path.push(PathStep::Bow(point(t.0, radius)));
        path.push(PathStep::Arc { radius, from: t.0, to: t.1 });
    }
    path.push(PathStep::Bow(point(s.0, radius)));
    path.push(PathStep::Close);
    path
}

/// Whether a point is inside a path (non-zero winding).
fn inside(path: &[PathStep], x: f64, y: f64) -> bool {
    let mut winding = 0;
    let mut at = [0.0, 0.0];
    let mut first = at;
    let mut edge = |a: [f64; 2], b: [f64; 2]| {
        let side = (b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1]);
        if a[1] <= y && b[1] > y && side > 0.0 {
            winding += 1;
        } else if a[1] > y && b[1] <= y && side < 0.0 {
            winding -= 1;
        }
    };
    for step in path {
        match *step {
            PathStep::Move(p) => (at, first) = (p, p),
            PathStep::Line(p) => {
                edge(at, p);
                at = p;
            }
            PathStep::Arc { radius, from, to } => {
                let pieces = ((to - from).abs() / 0.05).ceil().max(1.0);
                for k in 1..=pieces as u32 {
                    let p = point(from + (to - from) * f64::from(k) / pieces, radius);
                    edge(at, p);
                    at = p;
                }
            }
            PathStep::Bow(p) => {
                let start = at;
                for k in 1..=24 {
                    let t = f64::from(k) / 24.0;
                    let (a, b) = ((1.0 - t) * (1.0 - t), t * t);
                    let q = [a * start[0] + b * p[0], a * start[1] + b * p[1]];
                    edge(at, q);
                    at = q;
                }
            }
            PathStep::Close => {
                edge(at, first);
                at = first;
            }
        }
    }
    winding != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> (Layout, Shapes) {
        let m = [[0.0, 8.0, 1.0], [4.0, 0.0, 0.0], [1.0, 0.0, 3.0]];
        let layout = Layout::new(3, |i, j| m[i][j], 0.05);
        let shapes = Shapes::new(&layout, Proportions::default());
        (layout, shapes)
    }

    /// Compares the numbers of d3-ribbon's SVG paths with ours.
    #[test]
    fn ribbons_match_d3_ribbon() {
        let cases: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../tests/fixtures/d3_chord.json")).unwrap();
        let mut compared = 0;
        for case in &cases {
            let matrix: Vec<Vec<f64>> = serde_json::from_value(case["matrix"].clone()).unwrap();
            if case["order"] == "descending" {
                continue;
            }
            let layout =
                Layout::new(matrix.len(), |i, j| matrix[i][j], case["padding"].as_f64().unwrap());
            for (r, path) in layout.ribbons.iter().zip(case["paths"].as_array().unwrap()) {
                let d3: Vec<f64> = path
                    .as_str()
                    .unwrap()
                    .split(|c: char| "MAQZL,".contains(c))
                    .filter(|s| !s.is_empty())
                    .map(|s| s.parse().unwrap())
                    .collect();
                let mut ours = vec![];
                for step in ribbon(r, Proportions { inner: 1.0, foot: 1.0, least: 0.0 }) {
                    match step {
                        PathStep::Move(p) | PathStep::Line(p) => ours.extend(p),
                        // d3 leaves out segments of length zero
                        PathStep::Arc { from, to, .. } if to - from < 1e-6 => {}
                        PathStep::Arc { radius, from, to } => {
                            let large = if to - from >= std::f64::consts::PI { 1.0 } else { 0.0 };
                            ours.extend([radius, radius, 0.0, large, 1.0]);
                            ours.extend(point(to, radius));
                        }
                        PathStep::Bow(p) => ours.extend([0.0, 0.0, p[0], p[1]]),
                        PathStep::Close => {}
                    }
                }
                assert_eq!(ours.len(), d3.len(), "{path} {ours:?}");
                assert!(
                    ours.iter().zip(&d3).all(|(a, b)| (a - b).abs() < 1e-9),
                    "{} {path} {ours:?}",
                    case["name"]
                );
                compared += 1;
            }
        }
        assert!(compared > 30);
    }

    #[test]
    fn broad_ribbons_come_first_and_arcs_last() {
        let (_, s) = demo();
        let parts: Vec<ShapeOf> = s.shapes.iter().map(|s| s.part).collect();
        assert_eq!(
            parts,
            [
                ShapeOf::Ribbon(0, 1),
                ShapeOf::Ribbon(2, 2),
                ShapeOf::Ribbon(0, 2),
                ShapeOf::Arc(0),
                ShapeOf::Arc(1),
                ShapeOf::Arc(2)
            ]
        );
    }

    #[test]
    fn a_ribbon_has_the_colour_of_the_end_that_sent_more() {
        let (_, s) = demo();
        assert_eq!(s.shapes[0].colour, 0, "8 against 4");
        assert_eq!(
            s.shapes[2].colour, 2,
            "1 against 1: the lesser end's, so that a hub's ribbons differ"
        );
    }

    #[test]
    fn a_point_maps_to_the_part_under_it() {
        let (layout, s) = demo();
        for (i, g) in layout.groups.iter().enumerate() {
            let [x, y] = point(g.middle(), 0.96);
            assert_eq!(s.at(x, y), Some(ShapeOf::Arc(i)));
        }
        for r in &layout.ribbons {
            for foot in [r.source, r.target] {
                let [x, y] = point(f64::midpoint(foot.start, foot.end), 0.88);
                assert_eq!(s.at(x, y), Some(ShapeOf::ribbon(r.source.group, r.target.group)));
            }
        }
        for shape in &s.shapes {
            let [x, y] = s.along(shape.part, 0.5).unwrap();
            assert!(inside(&shape.path, x, y), "{:?}", shape.part);
        }
        let gap = (layout.groups[0].end + 0.025).sin() * 0.96;
        assert_eq!(
            s.at(gap, -(layout.groups[0].end + 0.025).cos() * 0.96),
            None,
            "padding is nobody's"
        );
        for (x, y) in [(2.0, 0.0), (f64::NAN, 0.0), (f64::INFINITY, 1.0), (1.0, 1.0)] {
            assert_eq!(s.at(x, y), None);
        }
        assert_eq!(Shapes::default().at(0.0, 0.0), None);
    }

    #[test]
    fn the_broadest_ribbons_stay_and_the_chosen_are_on_top() {
        let (_, mut s) = demo();
        s.limit(1, |p| p == ShapeOf::Ribbon(0, 2));
        s.raise(|p| p == ShapeOf::Ribbon(0, 1));
        let parts: Vec<ShapeOf> = s.shapes.iter().map(|s| s.part).collect();
        assert_eq!(
            parts,
            [
                ShapeOf::Ribbon(0, 2),
                ShapeOf::Ribbon(0, 1),
                ShapeOf::Arc(0),
                ShapeOf::Arc(1),
                ShapeOf::Arc(2)
            ]
        );
    }

    #[test]
    fn quiet_ends_stay_visible() {
        let sent = |i, j| match (i, j) {
            (0, 1) | (1, 0) => 1e12,
            (0, 2) => 1.0, // 2 only receives, 3 does nothing
            _ => 0.0,
        };
        let layout = Layout::new(4, sent, 0.05);
        let s = Shapes::new(&layout, Proportions { least: 0.02, ..Proportions::default() });
        let width = |i: usize| s.arcs[i].map(|(a, b)| b - a);
        assert!((width(2).unwrap() - 0.02).abs() < 1e-12);
        assert_eq!(width(3), None);
        assert_eq!(s.angle(3), None);
        let [x, y] = point(s.angle(2).unwrap(), 0.95);
        assert_eq!(s.at(x, y), Some(ShapeOf::Arc(2)));
        assert!(
            (width(0).unwrap() - (layout.groups[0].end - layout.groups[0].start)).abs() < 1e-12,
            "others are as they are"
        );
    }
}
