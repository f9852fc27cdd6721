//! Figures, to the byte where the byte is the law.

use super::*;
use lethe_ledger::statistics::Interval;

fn caption() -> Caption {
    Caption::new("f", "T <1>", "D")
}

fn chart() -> LineChart {
    LineChart {
        caption: caption(),
        size: Size { width: 100.0, height: 100.0 },
        x: Axis::new("x").with_ticks(vec![]),
        y: Axis::new("y & z").with_ticks(vec![(0.0, "0".into())]),
        series: vec![Series {
            band: vec![(0.0, 0.0), (0.5, 1.0)],
            has_markers: true,
            ..Series::plain(Ink::BLUE, vec![(0.0, 0.0), (1.0, 1.0)])
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
    let cloud = Cloud::new(Ink::REFERENCE, vec![(0.0, 0.0), (1.0, 2.0), (0.5, 1.0)]);
    let scatter = Scatter::new(caption(), Axis::new("x"), Axis::new("y"), vec![cloud]);
    let svg = scatter.draw();
    assert_eq!(svg.as_str().matches("h0").count(), 3);
    assert_eq!(svg.as_str().matches("class=\"cloud ink0\"").count(), 1);
}

#[test]
fn bars_show_estimate_interval_and_zero() {
    let interval = Interval { estimate: 1.0, low: 0.5, high: 2.0, n: 10 };
    let bars = BarChart::new(caption(), "gain", vec![Bar::new("top & random", Ink::RED, interval)]);
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
    let names = || vec!["1".to_owned(), "2".to_owned()];
    let cells = vec![vec![Some(0.1), None], vec![Some(0.3), Some(0.2)]];
    let map = HeatMap {
        heading: "none".into(),
        has_scale: false,
        ..HeatMap::new(caption(), ("after", names()), ("of", names()), cells)
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
    let bars = BarChart::new(caption(), "", vec![]);
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

fn interval(low: f64, estimate: f64, high: f64) -> Interval {
    Interval { estimate, low, high, n: 10 }
}

#[test]
fn a_logarithmic_axis_leaves_out_what_has_no_place_and_says_so() {
    let points = vec![(0.01, 1.0), (0.0, 2.0), (1.0, 3.0), (10.0, f64::NAN), (100.0, 4.0)];
    let (x, y) = (Axis::log10("x"), Axis::new("y"));
    let series = Series { has_markers: true, ..Series::plain(Ink::BLUE, points.clone()) };
    let chart = LineChart::new(caption(), x.clone(), y.clone(), vec![series]);
    let scatter = Scatter::new(caption(), x, y, vec![Cloud::new(Ink::RED, points)]);
    let (line, dots) = (chart.draw(), scatter.draw());
    for svg in [line.as_str(), dots.as_str()] {
        assert!(svg.contains("Left out: 2 values, not finite, or not above zero"), "{svg}");
        assert!(svg.contains(">2 left out</text>") && svg.contains(">0.01</text>"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
    }
    // The line is broken at both gaps: three stretches, three dots.
    assert_eq!(line.as_str().matches("<circle").count(), 3);
    let path = line.as_str().split("class=\"line ink1\" d=\"").nth(1).unwrap();
    assert_eq!(path.split('"').next().unwrap().matches('M').count(), 3);
    assert_eq!(dots.as_str().matches("h0").count(), 3);
    assert!(!chart_of_all().draw().as_str().contains("left out"));
}

/// The control: every number has a place.
fn chart_of_all() -> LineChart {
    let series = Series::plain(Ink::RED, vec![(0.1, 1.0), (1.0, 2.0)]);
    LineChart::new(caption(), Axis::log10("x"), Axis::log10("y"), vec![series])
}

#[test]
fn names_beside_lines_keep_their_distance() {
    let named = |(ink, y): (Ink, f64)| Series {
        name: format!("line {y}"),
        ..Series::plain(ink, vec![(0.0, 0.0), (1.0, y)])
    };
    let series = Ink::HUES.into_iter().zip([0.5, 0.52, 0.49, 1.0, 0.0, 0.01]).map(named).collect();
    let svg = LineChart::new(caption(), Axis::new("x"), Axis::new("y"), series).draw();
    let mut places: Vec<f64> = svg
        .as_str()
        .split("class=\"name ")
        .skip(1)
        .filter_map(|rest| rest.split("y=\"").nth(1)?.split('"').next()?.parse().ok())
        .collect();
    places.sort_by(f64::total_cmp);
    assert_eq!(places.len(), 6);
    assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= 14.99), "{places:?}");
    assert!(places[0] >= 30.0 && places[5] <= 340.0 - 46.0 + 4.0, "{places:?}");
}

#[test]
fn clouds_have_their_ink_and_radius_and_a_diagonal_where_axes_meet() {
    let cloud = |ink, radius| Cloud { radius, ..Cloud::new(ink, vec![(0.0, 0.0), (1.0, 2.0)]) };
    let scatter = Scatter {
        has_diagonal: true,
        ..Scatter::new(
            caption(),
            Axis::new("x"),
            Axis::new("y"),
            vec![cloud(Ink::BLUE, 1.7), cloud(Ink::RED, 3.0)],
        )
    };
    let svg = scatter.draw();
    assert_eq!(svg.as_str().matches("style=").count(), 1);
    assert!(svg.as_str().contains("class=\"cloud ink2\" d=\"M"));
    assert!(svg.as_str().contains("style=\"stroke-width:6\""));
    // x reaches from -0.02 to 1.02, y from -0.1 to 2.1: the diagonal from one end of x to the other.
    let [left, right] = [-0.02, 1.02].map(|y| 179.0 - (y + 0.1) / 2.2 * 149.0);
    let expected = format!("d=\"M50,{}L310,{}\"", coordinate(left), coordinate(right));
    assert!(svg.as_str().contains(&expected), "{expected}: {}", svg.as_str());
    let apart = Scatter {
        clouds: vec![Cloud::new(Ink::RED, vec![(0.0, 5.0), (1.0, 6.0)])],
        ..scatter.clone()
    };
    assert!(!apart.draw().as_str().contains("boundary"));
    let mixed = Scatter { y: Axis::log10("y"), ..scatter };
    assert!(mixed.draw().as_str().contains("class=\"boundary\" d=\"M"));
}

#[test]
fn bars_stand_under_headings_and_end_at_the_edge_of_a_logarithm() {
    let bars = vec![
        Bar::new("a", Ink::RED, interval(0.1, 1.0, 10.0)).under("self <1>"),
        Bar::new("b", Ink::RED, interval(-1.0, 1.0, 10.0)).under("self <1>"),
        Bar::new("c", Ink::RED, interval(-2.0, -1.0, 0.0)).under("cross"),
    ];
    let chart = BarChart { spacing: Spacing::Log10, ..BarChart::new(caption(), "gain", bars) };
    let svg = chart.draw();
    assert_eq!(svg.as_str().matches("self &lt;1&gt;</text>").count(), 1);
    assert!(svg.as_str().contains("viewBox=\"0 0 320 159\""), "five rows: {}", svg.as_str());
    // 0.1 to 10 with a room of 4 % on 116..310: a decade is 89.81, and the left end is 116.
    assert!(svg.as_str().contains("x1=\"123.19\" y1=\"61.5\""), "{}", svg.as_str());
    assert!(svg.as_str().contains("x1=\"116\" y1=\"82.5\""), "{}", svg.as_str());
    assert_eq!(svg.as_str().matches("<circle").count(), 2);
    assert!(svg.as_str().contains(">–</text>") && svg.as_str().contains("Left out: 1 value,"));
    let long = Bar::new("a name of more than twenty letters", Ink::RED, interval(0.0, 1.0, 2.0));
    let svg = BarChart::new(caption(), "gain", vec![long]).draw();
    assert!(!svg.as_str().contains("viewBox=\"0 0 320 "), "{}", svg.as_str());
}

fn map(cells: Cells) -> HeatMap {
    let names = |n: usize| (0..n).map(|name| name.to_string()).collect::<Vec<String>>();
    let (rows, columns) = (names(cells.len()), names(cells[0].len()));
    HeatMap::new(caption(), ("β", rows), ("c", columns), cells)
}

#[test]
fn a_cell_tells_its_number_in_full_and_a_strange_one_is_missing() {
    let svg = map(vec![vec![Some(0.012_345_678), Some(f64::NAN)], vec![None, Some(1.0)]]).draw();
    assert!(svg.as_str().contains("<title>β 0, c 0: 0.012345678</title>"), "{}", svg.as_str());
    assert!(svg.as_str().contains("<title>β 1, c 0: not measured</title>"));
    assert_eq!(svg.as_str().matches("cell empty").count(), 2);
    assert_eq!(svg.as_str().matches(">–</text>").count(), 2);
    assert!(svg.as_str().contains(">0.0123</text>") && !svg.as_str().contains("=\"NaN"));
    // The strip: thirty shades between the ends of the range.
    assert_eq!(svg.as_str().matches("rx=\"0\"").count(), 30);
    let crowd = map(vec![vec![Some(0.012_345); 20]; 20]).draw();
    assert!(!crowd.as_str().contains("class=\"value"), "numbers that do not fit");
    assert_eq!(crowd.as_str().matches(": 0.012345</title>").count(), 400);
}

#[test]
fn shades_follow_logarithms_or_part_at_the_middle() {
    let plain = HeatMap { has_scale: false, ..map(vec![vec![Some(1.0), Some(10.0), Some(100.0)]]) };
    let has = |map: &HeatMap, class: &str, opacity: &str| {
        let svg = map.draw();
        let rects = svg.as_str().split("<rect ").skip(1);
        rects
            .filter(|rest| {
                rest.starts_with(&format!("class=\"{class}\""))
                    && rest
                        .split("/>")
                        .next()
                        .unwrap()
                        .contains(&format!("fill-opacity=\"{opacity}\""))
            })
            .count()
    };
    assert_eq!([has(&plain, "cell", "0.31"), has(&plain, "cell", "0.56")], [0, 1]);
    let logarithmic = plain.clone().by_logarithm();
    assert_eq!([has(&logarithmic, "cell", "0.31"), has(&logarithmic, "cell", "0.56")], [1, 1]);
    let parted = logarithmic.around(10.0);
    let counts = [("cell", "0.56"), ("cell", "0.06"), ("cell above", "0.56")];
    assert_eq!(counts.map(|(class, opacity)| has(&parted, class, opacity)), [1, 1, 1]);
    let negative = map(vec![vec![Some(-1.0), Some(1.0), Some(10.0)]]).by_logarithm();
    assert_eq!((has(&negative, "cell empty", "0.06"), negative.range), (1, (1.0, 10.0)));
}
