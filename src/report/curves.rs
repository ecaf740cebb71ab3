//! Curves over epochs, as pictures that need no script.

use super::page::escape;
use std::fmt::Write as _;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 40.0;
const RIGHT: f64 = 6.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 18.0;
/// From this factor between the largest and the smallest value on, a scale of powers of ten tells more.
const WIDE: f64 = 50.0;

/// Curves that a legend names, at most.
const MOST_NAMED: usize = 6;

/// One line of a chart.
#[derive(Debug)]
pub(super) struct Curve<'a> {
    pub(super) name: &'a str,
    /// A colour of the page, or one that is seen on light and dark alike.
    pub(super) color: String,
    /// Where it is and how high; what is not finite is a gap.
    pub(super) points: Vec<(f64, f64)>,
}

/// How a chart's heights are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// Parts as percentages.
    Percent,
    /// Numbers; by powers of ten where they are all positive and lie far apart.
    Numbers,
}

/// A chart with its caption, and a legend where the curves are few.
pub(super) fn figure(title: &str, note: &str, scale: Scale, curves: &[Curve<'_>]) -> String {
    let mut figure = format!("<figure><figcaption>{}<span class=\"legend\">{}", escape(title), escape(note));
    if (2..=MOST_NAMED).contains(&curves.len()) {
        for curve in curves {
            let _ = write!(
                figure,
                " <span class=\"key\"><i style=\"background:{}\"></i>{}</span>",
                curve.color,
                escape(curve.name)
            );
        }
    }
    let _ = writeln!(figure, "</span></figcaption>{}</figure>", chart(title, scale, curves));
    figure
}

fn chart(title: &str, scale: Scale, curves: &[Curve<'_>]) -> String {
    let points =
        || curves.iter().flat_map(|curve| &curve.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let range = |of: fn(&(f64, f64)) -> f64| {
        points()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    if points().next().is_none() {
        return "<p>nothing was measured</p>".to_owned();
    }
    let (across, up) = (range(|point| point.0), range(|point| point.1));
    let axis = Axis::new(scale, up);
    let x = |value: f64| {
        let part = if across.1 > across.0 { (value - across.0) / (across.1 - across.0) } else { 0.5 };
        LEFT + (WIDTH - LEFT - RIGHT) * part
    };
    let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - axis.part(value));
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(title));
    for &tick in &axis.ticks {
        let (at, end) = (y(tick), WIDTH - RIGHT);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 4.0,
            at + 3.0,
            axis.label(tick)
        );
    }
    for tick in whole_ticks(across) {
        let at = x(tick);
        let anchor = if tick == across.1 && across.0 < across.1 { "end" } else { "middle" };
        let _ =
            write!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{tick}</text>", HEIGHT - 5.0);
    }
    for curve in curves {
        line(&mut svg, curve, x, y);
    }
    svg + "</svg>"
}

/// One curve, in as many pieces as its gaps make; a piece of one point is a dot.
fn line(svg: &mut String, curve: &Curve<'_>, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) {
    let last = curve.points.iter().rev().find(|(_, y)| y.is_finite()).map(|(_, y)| number(*y));
    let _ = write!(svg, "<g><title>{}: {} at last</title>", escape(curve.name), last.unwrap_or_default());
    for piece in
        curve.points.split(|(x, y)| !x.is_finite() || !y.is_finite()).filter(|piece| !piece.is_empty())
    {
        if let [(at, value)] = piece {
            let _ = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\" style=\"fill:{}\"/>",
                x(*at),
                y(*value),
                curve.color
            );
            continue;
        }
        let points: Vec<String> =
            piece.iter().map(|&(at, value)| format!("{:.1},{:.1}", x(at), y(value))).collect();
        let _ = write!(
            svg,
            "<polyline class=\"curve\" style=\"stroke:{}\" points=\"{}\"/>",
            curve.color,
            points.join(" ")
        );
    }
    svg.push_str("</g>");
}

/// The vertical axis: what it spans, and its ticks.
struct Axis {
    scale: Scale,
    decades: bool,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    fn new(scale: Scale, (low, high): (f64, f64)) -> Self {
        if scale == Scale::Numbers && low > 0.0 && high / low > WIDE {
            let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
            let every = ((last - first) as usize).div_ceil(7).max(1);
            let ticks = (first..=last).step_by(every).map(|decade| 10f64.powi(decade)).collect();
            return Self { scale, decades: true, low: low.log10(), high: high.log10(), ticks }.within();
        }
        // A curve that stays is drawn in the middle.
        let pad = if high > low { 0.0 } else { high.abs().max(1e-3) / 2.0 };
        let (low, high) = (low - pad, high + pad);
        let step = nice((high - low) / 5.0);
        let first = (low / step).floor() as i64;
        let last = (high / step).ceil() as i64;
        let ticks = (first..=last).map(|index| index as f64 * step).collect();
        Self { scale, decades: false, low: first as f64 * step, high: last as f64 * step, ticks }
    }

    /// Ticks that lie on the axis.
    fn within(mut self) -> Self {
        let (low, high) = (self.low, self.high);
        self.ticks.retain(|tick| (low..=high).contains(&tick.log10()));
        if self.ticks.len() < 2 {
            self.ticks = vec![10f64.powf(low), 10f64.powf(high)];
        }
        self
    }

    fn part(&self, value: f64) -> f64 {
        let value = if self.decades { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }

    fn label(&self, tick: f64) -> String {
        match self.scale {
            Scale::Percent => format!("{} %", number(100.0 * tick)),
            Scale::Numbers => number(tick),
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least this.
fn nice(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|&step| step >= least).unwrap_or(10.0 * power)
}

/// At most six whole numbers, the last of the range among them.
fn whole_ticks((low, high): (f64, f64)) -> Vec<f64> {
    let step = nice(((high - low) / 5.0).max(1.0));
    let mut ticks: Vec<f64> = (0..6).map(|index| ((low / step).ceil() + f64::from(index)) * step).collect();
    ticks.retain(|&tick| tick < high - 0.6 * step);
    ticks.push(high);
    ticks
}

/// A number with three digits, without zeros at the end.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return "-".to_owned();
    }
    let decade = value.abs().log10().floor() as i32;
    if !(-3..=5).contains(&decade) {
        let text = format!("{value:.1e}");
        return text.replacen(".0e", "e", 1);
    }
    let digits = (2 - decade).max(0) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (0.1, "0.1"),
            (-0.012_345, "-0.0123"),
            (39.96, "40"),
            (1234.0, "1234"),
            (0.000_1, "1e-4"),
            (0.000_012_6, "1.3e-5"),
            (2.5e7, "2.5e7"),
            (0.0, "0"),
            (f64::NAN, "-"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn axes_span_their_values_with_round_ticks() {
        let axis = Axis::new(Scale::Percent, (0.11, 0.95));
        let labels: Vec<String> = axis.ticks.iter().map(|&tick| axis.label(tick)).collect();
        assert_eq!(labels, ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]);
        assert!((axis.part(0.5) - 0.5).abs() < 1e-12);
        let axis = Axis::new(Scale::Numbers, (2e-5, 3e-2));
        assert_eq!(
            axis.ticks.iter().map(|&tick| number(tick)).collect::<Vec<_>>(),
            ["1e-4", "0.001", "0.01"]
        );
        assert_eq!((axis.part(2e-5), axis.part(3e-2)), (0.0, 1.0));
        for range in [(0.0, 0.0), (3.0, 3.0), (-2.0, -2.0), (-1.0, 500.0), (0.999, 1.0), (0.0, 1e-12)] {
            let axis = Axis::new(Scale::Numbers, range);
            assert!((2..=8).contains(&axis.ticks.len()), "{range:?}: {:?}", axis.ticks);
            for value in [range.0, range.1] {
                assert!((-1e-9..=1.0 + 1e-9).contains(&axis.part(value)), "{range:?}");
            }
        }
    }

    #[test]
    fn epochs_are_whole() {
        assert_eq!(whole_ticks((1.0, 100.0)), [20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(whole_ticks((1.0, 3.0)), [1.0, 2.0, 3.0]);
        assert_eq!(whole_ticks((1.0, 1.0)), [1.0]);
        assert_eq!(whole_ticks((0.0, 164.0)), [0.0, 50.0, 100.0, 164.0]);
    }
}
