//! Figures, to the byte where the byte is the law.

use super::*;
use lethe_ledger::statistics::Interval;

fn caption() -> Caption {
    Caption { name: "f".into(), title: "T <1>".into(), description: "D".into() }
}

fn chart() -> LineChart {
    LineChart {
        caption: caption(),
        size: Size { width: 100.0, height: 100.0 },
        x: Axis { label: "x".into(), ticks: Some(vec![]) },
        y: Axis { label: "y & z".into(), ticks: Some(vec![(0.0, "0".into())]) },
        series: vec![Series {
            ink: Ink::BLUE,
            points: vec![(0.0, 0.0), (1.0, 1.0)],
            band: vec![(0.0, 0.0), (0.5, 1.0)],
            has_markers: true,
            is_range: false,
        }],
        marks: vec![(1.0, "end".into())],
        includes_zero: true,
    }
}

#[test]
fn a_line_chart_is_these_bytes() {
    let expected = concat!(
        r#"<svg class="figure small" viewBox="0 0 100 100" role="img" aria-labelledby="f-title f-desc">"#,
        r#"<title id="f-title">T &lt;1&gt;</title><desc id="f-desc">D</desc>"#,
        r#"<line class="zero" x1="58" y1="54.82" x2="86" y2="54.82"/>"#,
        r#"<text class="tick end" x="51" y="58.82">0</text>"#,
        r#"<text class="label" x="4" y="14">y &amp; z</text>"#,
        r#"<line class="axis" x1="58" y1="56" x2="86" y2="56"/>"#,
        r#"<text class="label end" x="86" y="94">x</text>"#,
        r#"<line class="boundary" x1="85.46" y1="30" x2="85.46" y2="56"/>"#,
        r#"<text class="tick middle" x="85.46" y="24">end</text>"#,
        r#"<path class="band ink1" d="M58.54,54.82L85.46,31.18L85.46,43L58.54,54.82Z"/>"#,
        r#"<path class="line ink1" d="M58.54,54.82L85.46,31.18"/>"#,
        r#"<circle class="dot ink1" cx="58.54" cy="54.82" r="2.6"/>"#,
        r#"<circle class="dot ink1" cx="85.46" cy="31.18" r="2.6"/>"#,
        "</svg>\n",
    );
    assert_eq!(chart().draw().as_str(), expected);
}

#[test]
fn a_range_has_a_band_and_no_line() {
    let mut chart = chart();
    chart.series[0].is_range = true;
    let svg = chart.draw();
    assert!(svg.as_str().contains("class=\"band ink1\"") && !svg.as_str().contains("class=\"line"));
}

#[test]
fn a_scatter_is_one_path_of_dots() {
    let scatter = Scatter {
        caption: caption(),
        size: Size::PANEL,
        x: Axis::new("x"),
        y: Axis::new("y"),
        ink: Ink::REFERENCE,
        points: vec![(0.0, 0.0), (1.0, 2.0), (0.5, 1.0)],
    };
    let svg = scatter.draw();
    assert_eq!(svg.as_str().matches("h0").count(), 3);
    assert_eq!(svg.as_str().matches("class=\"cloud ink0\"").count(), 1);
}

#[test]
fn bars_show_estimate_interval_and_zero() {
    let interval = Interval { estimate: 1.0, low: 0.5, high: 2.0, n: 10 };
    let bars = BarChart {
        caption: caption(),
        label: "gain".into(),
        bars: vec![Bar { name: "top & random".into(), ink: Ink::RED, interval }],
    };
    let svg = bars.draw();
    // Zero to two with a room of 4 % on 118..386: 0 at 127.93, 0.5 at 190.96, 2 at 376.07.
    assert!(svg.as_str().contains(r#"<line class="zero" x1="127.93""#), "{}", svg.as_str());
    assert!(
        svg.as_str()
            .contains(r#"<line class="whisker ink2" x1="189.96" y1="42" x2="376.07" y2="42"/>"#),
        "{}",
        svg.as_str()
    );
    assert!(svg.as_str().contains("top &amp; random"));
}

#[test]
fn a_heat_map_shades_from_low_to_high_and_marks_what_is_missing() {
    let map = HeatMap {
        caption: caption(),
        heading: "none".into(),
        rows: vec!["1".into(), "2".into()],
        columns: vec!["1".into(), "2".into()],
        cells: vec![vec![Some(0.1), None], vec![Some(0.3), Some(0.2)]],
        range: (0.1, 0.3),
    };
    let svg = map.draw();
    for opacity in ["0.06", "0.56", "0.31"] {
        assert!(svg.as_str().contains(&format!("fill-opacity=\"{opacity}\"")), "{}", svg.as_str());
    }
    assert_eq!(svg.as_str().matches("cell empty").count(), 1);
    let flat = HeatMap { range: (0.2, 0.2), ..map };
    assert!(!flat.draw().as_str().contains("NaN"));
}

#[test]
fn empty_charts_draw_without_numbers() {
    let mut empty = chart();
    empty.series.clear();
    empty.marks.clear();
    assert!(!empty.draw().as_str().contains("NaN"));
    let bars = BarChart { caption: caption(), label: String::new(), bars: vec![] };
    assert!(!bars.draw().as_str().contains("NaN"));
}
