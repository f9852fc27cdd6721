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
        r#"<line class="zero" x1="50" y1="52.91" x2="90" y2="52.91"/>"#,
        r#"<text class="tick end" x="43" y="56.91">0</text>"#,
        r#"<text class="label strong" x="2" y="14">y &amp; z</text>"#,
        r#"<line class="axis" x1="50" y1="54" x2="90" y2="54"/>"#,
        r#"<text class="label end" x="90" y="94">x</text>"#,
        r#"<line class="boundary" x1="89.23" y1="30" x2="89.23" y2="54"/>"#,
        r#"<g class="bands">"#,
        r#"<path class="band ink1" d="M50.77,52.91L89.23,31.09L89.23,42L50.77,52.91Z"/></g>"#,
        r#"<path class="line ink1" d="M50.77,52.91L89.23,31.09"/>"#,
        r#"<circle class="dot ink1" cx="50.77" cy="52.91" r="2.6"/>"#,
        r#"<circle class="dot ink1" cx="89.23" cy="31.09" r="2.6"/>"#,
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
    // Zero to two with a room of 4 % on 116..310: 0 at 123.19, 0.5 at 168.09, 2 at 302.81.
    assert!(svg.as_str().contains(r#"<line class="zero" x1="123.19""#), "{}", svg.as_str());
    assert!(
        svg.as_str().contains(
            r#"<line class="whisker ink2" x1="168.09" y1="40.5" x2="302.81" y2="40.5"/>"#
        ),
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

#[test]
fn no_two_arms_look_alike() {
    let arms = [
        "none",
        "control",
        "joint",
        "random",
        "class-balanced",
        "top-energy",
        "bottom-energy",
        "stratified-energy",
        "energy-weighted",
        "top-loss",
        "nearest-neighbour",
        "herding",
        "k-center",
        "greedy",
        "gradient-diversity",
        "interference",
        "most-forgotten",
    ];
    let mut looks: Vec<&str> = arms.map(|arm| Ink::of_arm(arm).0).to_vec();
    // An arm that is not known has a look of its own too, and task 1 is the reference.
    looks.push(Ink::of_arm("another").0);
    let distinct: std::collections::BTreeSet<&str> = looks.iter().copied().collect();
    assert_eq!(distinct.len(), looks.len(), "{looks:?}");
    assert_eq!(Ink::of_arm("task-1"), Ink::REFERENCE);
    // Every class is one that the page's style knows.
    let style = include_str!("../style.css");
    for class in looks.iter().flat_map(|look| look.split(' ')) {
        assert!(style.contains(&format!(".{class} {{")), "{class}");
    }
}
