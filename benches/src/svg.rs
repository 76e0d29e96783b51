//! Draws groups of series as horizontal bars: the median as the bar, from p10 to p90 as a line on it.

use crate::frame::{Group, Series, number};
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
/// Where bars begin; the names stand to the left.
const LEFT: f64 = 300.0;
/// Where the longest line ends; its number stands to the right.
const RIGHT: f64 = WIDTH - 80.0;
const ROW: f64 = 24.0;
const BAR: f64 = 15.0;
/// Above the first row of a group, for its name.
const HEAD: f64 = 34.0;

/// On a light ground and on a dark one.
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-size:15px;font-weight:600}.g{font-weight:600}\
    .n{text-anchor:end}.b{fill:#8c959f}.o{fill:#0969da}.r{stroke:#1f2328;stroke-width:1.5}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.b{fill:#6e7681}.o{fill:#4493f8}.r{stroke:#e6edf3}}";

/// Each group has a scale of its own, since only its own series are compared. Series whose names begin with `Torpor` stand out.
pub(crate) fn draw<'g>(title: &str, unit: &str, groups: impl Iterator<Item = (String, &'g Group)>) -> String {
    let mut body = String::new();
    let mut y = 30.0;
    // Groups of several quantities have counts among them, of which more may be better.
    let legend = if unit.is_empty() { String::new() } else { format!(", {unit}; shorter is better") };
    text(&mut body, "t", 12.0, y, &format!("{title}{legend}"));
    for (name, group) in groups {
        y += HEAD;
        text(&mut body, "g", 12.0, y, &name);
        let most =
            group.series.iter().map(|series| series.range.1.max(series.median)).fold(f64::MIN_POSITIVE, f64::max);
        for series in &group.series {
            y += ROW;
            row(&mut body, series, y, (RIGHT - LEFT) / most);
        }
    }
    let height = y + 20.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n\
         <style>{STYLE}</style>\n{body}</svg>\n",
        escaped(title)
    )
}

/// Writing to a string cannot fail.
fn row(body: &mut String, series: &Series, y: f64, scale: f64) {
    let Series { name, median, range: (low, high), .. } = series;
    // A difference may be below nothing, where there is no room to draw it; its number is there all the same.
    let [length, low, high] = [*median, *low, *high].map(|value| value.max(0.0) * scale);
    let class = if name.starts_with("Torpor") { "o" } else { "b" };
    text(body, "n", LEFT - 8.0, y, name);
    let top = y - 12.0;
    let _ = writeln!(body, "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\"/>");
    let (from, to, middle) = (LEFT + low, LEFT + high, top + BAR / 2.0);
    let _ = writeln!(body, "<path class=\"r\" d=\"M{from:.1} {middle}H{to:.1}\"/>");
    text(body, "", LEFT + high.max(length) + 8.0, y, &number(*median));
}

fn text(body: &mut String, class: &str, x: f64, y: f64, text: &str) {
    let _ = writeln!(body, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y}\">{}</text>", escaped(text));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_medians() {
        let mut group = Group::new("a & b");
        group.add("Torpor", vec![50.0; 3]);
        group.add("native <1>", vec![100.0; 3]);
        let drawing = draw("wake", "ms", [("a & b".to_owned(), &group)].into_iter());
        let full = RIGHT - LEFT;
        assert!(
            drawing.contains(&format!("class=\"o\" x=\"{LEFT}\" y=\"76\" width=\"{:.1}\"", full / 2.0)),
            "{drawing}"
        );
        assert!(drawing.contains(&format!("class=\"b\" x=\"{LEFT}\" y=\"100\" width=\"{full:.1}\"")), "{drawing}");
        let mut group = Group::new("differences");
        group.add("of nothing", vec![-5.0; 3]);
        group.add("of something", vec![5.0; 3]);
        let below = draw("wake", "ms", [("differences".to_owned(), &group)].into_iter());
        assert!(below.contains("width=\"0.0\"") && below.contains(">-5.00<"), "{below}");
        assert!(drawing.contains("wake, ms; shorter is better"), "{drawing}");
        assert!(!draw("density", "", [].into_iter()).contains("better"));
        assert!(drawing.contains("a &amp; b") && drawing.contains("native &lt;1>"), "{drawing}");
    }
}
