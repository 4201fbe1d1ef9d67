//! Plots without a library: horizontal bars with the range of the rounds, as SVG.

use std::fmt::Write as _;

use super::book::{Figure, short};

const WIDTH: f64 = 720.0;
const LABELS: f64 = 230.0;
/// Behind the longest bar there is room for its number.
const BAR: f64 = 380.0;
const LINE: f64 = 26.0;
const HEAD: f64 = 44.0;
/// Colour-blind safe; `ours` are the proxy's bars.
const OURS: &str = "#0072b2";
const OTHERS: &str = "#999999";

/// One bar.
pub struct Bar {
    pub label: String,
    pub figure: Figure,
    pub ours: bool,
}

pub fn bars(title: &str, bars: &[Bar]) -> String {
    let longest = bars.iter().map(|bar| bar.figure.max).fold(f64::MIN_POSITIVE, f64::max);
    let scale = |value: f64| value.max(0.0) / longest * BAR;
    let height = HEAD + LINE * bars.len() as f64 + 8.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    );
    for (n, bar) in bars.iter().enumerate() {
        let top = HEAD + LINE * n as f64;
        let (middle, baseline) = (top + 9.0, top + 14.0);
        let Figure { median, min, max } = bar.figure;
        let _ = writeln!(
            text,
            "<text x=\"{x}\" y=\"{baseline}\" text-anchor=\"end\">{label}</text>\
             <rect x=\"{LABELS}\" y=\"{top}\" width=\"{width:.1}\" height=\"18\" fill=\"{colour}\"/>\
             <path d=\"M{from:.1} {middle}H{to:.1}\" stroke=\"black\" stroke-width=\"1.5\"/>\
             <text x=\"{behind:.1}\" y=\"{baseline}\">{number}</text>",
            x = LABELS - 8.0,
            label = escape(&bar.label),
            width = scale(median),
            colour = if bar.ours { OURS } else { OTHERS },
            from = LABELS + scale(min),
            to = LABELS + scale(max),
            behind = LABELS + scale(max) + 8.0,
            number = short(median),
        );
    }
    text + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

// A bench is built with its unit tests' helpers, but without the tests: those run in the integration tests' binary.
#[cfg(test)]
#[allow(dead_code, unused_imports)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_medians() {
        let bar = |label: &str, median, max| Bar {
            label: label.into(),
            figure: Figure { median, min: 0.0, max },
            ours: label == "plain",
        };
        let text = bars("a < b", &[bar("haproxy", 2.0, 4.0), bar("plain", 1.0, 1.0)]);
        assert!(text.contains("a &lt; b"), "{text}");
        assert!(text.contains("width=\"190.0\" height=\"18\" fill=\"#999999\""), "half of the longest: {text}");
        assert!(text.contains("width=\"95.0\" height=\"18\" fill=\"#0072b2\""), "{text}");
        assert_eq!(text.matches("<rect x=").count(), 2);
    }
}
