//! Plots as inline SVG, drawn on the server: no library, no inline style.

use std::fmt::Write as _;

use maud::{Markup, html};

/// Drawing units; the style sheet stretches them.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// One line of a plot.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Class in the style sheet, which gives the colour.
    pub(super) class: &'a str,
    /// For the legend.
    pub(super) name: &'a str,
    /// The present value, as text.
    pub(super) now: String,
    /// The oldest first; `None` leaves a gap.
    pub(super) values: Vec<Option<f64>>,
}

/// A plot with its legend. `capacity` values fill the width: a young server's line begins on the
/// right. `scale` words the value at the top.
pub(super) fn plot(
    title: &str,
    lines: &[Line<'_>],
    capacity: usize,
    span: &str,
    scale: impl Fn(f64) -> String,
) -> Markup {
    let values = lines.iter().flat_map(|line| &line.values).flatten();
    let highest = values.fold(0.0_f64, |highest, value| highest.max(*value));
    let top = round_up(highest);
    html! {
        figure class="plot" {
            figcaption {
                strong { (title) }
                @for line in lines {
                    span class=(format!("key {}", line.class)) { (line.name) " " b { (line.now) } }
                }
            }
            div class="canvas" {
                span class="top" { (scale(top)) }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(title) {
                    @for part in 1..4 {
                        @let y = HEIGHT * f64::from(part) / 4.0;
                        line class="grid" x1="0" y1=(y) x2=(WIDTH) y2=(y) {}
                    }
                    @for line in lines {
                        @let (stroke, fill) = paths(&line.values, capacity, top);
                        path class=(format!("area {}", line.class)) d=(fill) {}
                        path class=(format!("line {}", line.class)) d=(stroke) {}
                    }
                }
            }
            p class="axis" { span { (span) " ago" } span { "now" } }
        }
    }
}

/// The line, and the area below it.
fn paths(values: &[Option<f64>], capacity: usize, top: f64) -> (String, String) {
    let (mut stroke, mut fill) = (String::new(), String::new());
    let steps = number(capacity.max(2) - 1);
    let first = number(capacity.max(values.len()) - values.len());
    let mut begun = None;
    let mut last_x = 0.0;
    for (index, value) in values.iter().enumerate() {
        let x = (first + number(index)) / steps * WIDTH;
        // Writing to a string does not fail.
        if let Some(value) = value {
            let y = HEIGHT - value / top * (HEIGHT - 2.0);
            let word = if begun.is_some() { 'L' } else { 'M' };
            let _ = write!(stroke, "{word}{x:.1} {y:.1}");
            if begun.is_none() {
                begun = Some(x);
                let _ = write!(fill, "M{x:.1} {HEIGHT}");
            }
            let _ = write!(fill, "L{x:.1} {y:.1}");
        } else if begun.take().is_some() {
            let _ = write!(fill, "L{last_x:.1} {HEIGHT}Z");
        }
        last_x = x;
    }
    if begun.is_some() {
        let _ = write!(fill, "L{last_x:.1} {HEIGHT}Z");
    }
    (stroke, fill)
}

/// The next of 1, 2, 5, 10, 20 …; at least 1, so that nothing is divided by zero.
fn round_up(value: f64) -> f64 {
    let mut step = 1.0;
    loop {
        for factor in [1.0, 2.0, 5.0] {
            if value <= step * factor {
                return step * factor;
            }
        }
        step *= 10.0;
        if !(step * 10.0).is_finite() {
            return step;
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a few hundred points")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_is_a_round_number_above_the_highest() {
        for (value, top) in [(0.0, 1.0), (1.5, 2.0), (3.0, 5.0), (1e9, 1e9), (1.1e9, 2e9)] {
            assert!((round_up(value) - top).abs() < 1e-6, "{value}");
        }
        assert!(round_up(f64::MAX).is_finite());
    }

    #[test]
    fn line_has_a_gap_where_nothing_was_measured_and_ends_at_the_right() {
        let values = [Some(1.0), None, Some(0.0), Some(1.0)];
        let (stroke, fill) = paths(&values, 5, 1.0);
        assert_eq!(stroke, "M150.0 2.0M450.0 120.0L600.0 2.0");
        assert_eq!(fill.matches('Z').count(), 2, "{fill}");
    }
}
