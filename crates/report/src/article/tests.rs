//! Articles, from one that shows every part to those that are refused.

use super::*;
use crate::figure::{
    Axis, Bar, BarChart, Caption, Cloud, HeatMap, LineChart, Scatter, Series, Size, Spacing,
};
use crate::table::{Cell, Column};
use lethe_ledger::statistics::Interval;

const SCRIPT: &str = "</style><script>alert(1)</script>\"'&";

/// A number that goes up and down with its place, the same on every machine.
fn wave(place: usize) -> f64 {
    ((place * place * 7919 + place * 131 + 13) % 997) as f64 / 997.0
}

fn around(estimate: f64, width: f64) -> Interval {
    Interval { estimate, low: estimate - width, high: estimate + width, n: 100 }
}

/// Lines over β, logarithmic, with bands, markers and names; one point has no place.
fn lines() -> LineChart {
    let betas: Vec<f64> = (0..13).map(|step| 10f64.powf(-1.0 + 0.25 * f64::from(step))).collect();
    let names = ["12 patterns", "6 patterns", "outlier", "isolated limit"];
    let series = names.iter().zip(Ink::HUES).enumerate().map(|(index, (name, ink))| {
        let height = |beta: &f64| 1.0 / (1.0 + (index as f64 + 2.0) / beta);
        let points: Vec<(f64, f64)> = betas.iter().map(|beta| (*beta, height(beta))).collect();
        Series {
            name: (*name).to_owned(),
            band: points.iter().map(|&(_, y)| (0.9 * y, (1.1 * y).min(1.0))).collect(),
            has_markers: true,
            ..Series::plain(ink, points)
        }
    });
    let mut series: Vec<Series> = series.collect();
    series[1].points[6].1 = f64::NAN;
    let caption = Caption::new("lines", "p over β", "Rising.");
    LineChart::new(caption, Axis::log10("inverse temperature β"), Axis::new("mean p_self"), series)
}

fn clouds() -> [Scatter; 2] {
    let cloud = |ink, spread: f64, offset: usize| {
        let point = |place: usize| {
            let x = 10f64.powf(-5.0 + 4.0 * wave(place + offset));
            (x, x * (1.0 + spread * (wave(3 * place + offset) - 0.5)))
        };
        Cloud::new(ink, (0..300).map(point).collect())
    };
    let large = Cloud { radius: 3.0, ..cloud(Ink::RED, 0.4, 500) };
    let clouds = vec![cloud(Ink::BLUE, 1.2, 0), large];
    let caption = |name| Caption::new(name, "Gain against rise", "Near the diagonal.");
    let logarithmic = Scatter {
        has_diagonal: true,
        ..Scatter::new(
            caption("cloud-log"),
            Axis::log10("first order ρ·ΔE"),
            Axis::log10("net gain"),
            clouds.clone(),
        )
    };
    let fit = Series::plain(Ink::REFERENCE, vec![(0.0, 0.0), (0.1, 0.1)]);
    let (x, y) = (Axis::new("first order ρ·ΔE"), Axis::new("net gain"));
    let linear = Scatter { lines: vec![fit], ..Scatter::new(caption("cloud"), x, y, clouds) };
    [logarithmic, linear]
}

fn bars() -> [BarChart; 2] {
    let families = [
        ("outlier, itself", 0.0159, "self replay"),
        ("cluster, itself", 0.0132, "self replay"),
        ("another of the same cluster", 2.5e-4, "cross replay"),
        ("cluster by outlier", 1.46e-5, "cross replay"),
        ("outlier by cluster", 1.2e-5, "cross replay"),
    ];
    let bar = |&(name, mean, group): &(&str, f64, &str)| {
        Bar::new(name, Ink::RED, around(mean, 0.05 * mean)).under(group)
    };
    let mut all: Vec<Bar> = families.iter().map(bar).collect();
    all.push(Bar::new("reaches zero", Ink::BLUE, around(1e-4, 1e-3)).under("at the edge"));
    all.push(Bar::new("below zero", Ink::BLUE, around(-1e-4, 1e-3)).under("at the edge"));
    let caption = |name| Caption::new(name, "Net gain by family", "Self above cross.");
    let logarithmic = BarChart {
        spacing: Spacing::Log10,
        width: Size::WIDE.width,
        ..BarChart::new(caption("bars-log"), "net gain, ε = 0.05", all.clone())
    };
    [logarithmic, BarChart::new(caption("bars"), "net gain, ε = 0.05", all)]
}

fn maps() -> [HeatMap; 4] {
    let names = |n: usize, word: &str| (1..=n).map(|i| format!("{word}{i}")).collect::<Vec<_>>();
    let cells = |rows: usize, columns: usize, of: fn(usize, usize) -> f64| -> Vec<Vec<_>> {
        let cell = |row, column| (row + column != 3).then(|| of(row, column));
        (0..rows).map(|row| (0..columns).map(|column| cell(row, column)).collect()).collect()
    };
    let caption = |name, title| Caption::new(name, title, "Shaded.");
    let share = |row, column| wave(20 * row + column);
    let size = |row, column| 10f64.powf(-6.0 + 5.0 * wave(20 * row + column));
    let ratio = |row: usize, column: usize| 0.5 + 0.08 * (row * column) as f64;
    let betas = ["2", "4", "8", "16", "32"].map(str::to_owned).to_vec();
    let overlaps = ["0.05", "0.2", "0.35", "0.5", "0.65"].map(str::to_owned).to_vec();
    let small = HeatMap::new(
        caption("map-small", "p_self, d = 50"),
        ("β", betas.clone()),
        ("c", overlaps.clone()),
        cells(5, 5, share),
    );
    let middle = HeatMap::new(
        caption("map-middle", "Ratio of rises"),
        ("β", betas),
        ("c", overlaps),
        cells(5, 5, ratio),
    );
    let targets = names(12, "cluster ");
    let large = HeatMap::new(
        caption("map-large", "Net gain by target and source"),
        ("target", targets.clone()),
        ("source", targets),
        cells(12, 12, size),
    );
    let largest = HeatMap::new(
        caption("map-largest", "Twenty by twenty"),
        ("n", names(20, "")),
        ("d", names(20, "")),
        cells(20, 20, share),
    );
    [small, middle.around(1.0), large.by_logarithm(), largest]
}

fn table() -> Table {
    let mut table = Table::new(&[
        Column::words("family", "Family"),
        Column::intervals("gain", "Net gain").of_any_size(),
        Column::numbers("rho", "ρ").of_any_size(),
        Column::numbers("n", "n"),
    ]);
    for (name, mean) in [("outlier self", 0.015_931_78), ("cross", 1.4618e-5), (SCRIPT, f64::NAN)] {
        let gain = Cell::Interval(around(mean, 0.04 * mean));
        table.row(vec![name.into(), gain, mean.into(), 2000_usize.into()]);
    }
    table
}

/// An article with every part, and what could break out of it.
fn example() -> Article {
    let mut article = Article::new("Energy rise <E1>", "d 50 · β 8 · c 0.35 · seed 1");
    article.section("text", "Text (section 4)", |section| {
        section.paragraph("The energy of an old fixed point rises when the task turns. & <b>");
        section.law("E(x|X) = ½‖x‖² − β⁻¹ log Σ_μ exp(β ξ_μ·x)\nΔE(x) = E(x|VX) − E(x|X)");
        section.list(&["sharp basins rise more", SCRIPT]);
        section.missing("the trained machine, it was not asked for");
        section.table("text", table());
        section.hidden_table("text-rotations", table());
        section.verdict(true, "A2", "E[ΔE_out] > E[ΔE_clu]", "0.0300 [0.0298, 0.0302] > 0.0262");
        section.verdict(false, "A3", SCRIPT, SCRIPT);
        section.verdict(None, "A4", "Eq. 13 is Eq. 14", "not computed");
    });
    article.section("lines", "Lines and clouds", |section| {
        section.figure(&[lines().draw()], &[], "p_self over β; bands: a tenth.");
        let legend = [(Ink::BLUE, "cluster".to_owned()), (Ink::RED, "outlier".to_owned())];
        section.figure(&clouds().map(|cloud| cloud.draw()), &legend, "Dotted: y = x.");
    });
    article.section("bars", "Bars and maps", |section| {
        let [logarithmic, linear] = bars().map(|chart| chart.draw());
        section.figure(&[logarithmic], &[], "Means with intervals.");
        let [small, middle, large, largest] = maps().map(|map| map.draw());
        section.figure(&[small, middle, linear], &[], "Panels.");
        section.figure(&[large], &[], "By logarithm.");
        section.figure(&[largest], &[], "No numbers: they do not fit.");
    });
    article
}

fn written(article: &Article) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let paths = article.write(folder.path().join("made/here"), "rise").unwrap();
    let page = fs::read_to_string(&paths[0]).unwrap();
    (folder, page)
}

#[test]
fn the_page_stands_alone_and_its_tables_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let paths = example().write(folder.path(), "rise").unwrap();
    let names = ["rise.html", "text.csv", "text-rotations.csv"];
    assert_eq!(paths, names.map(|name| folder.path().join(name)));
    let page = fs::read_to_string(&paths[0]).unwrap();
    for forbidden in ["http:", "https:", "<script", "@import", "url(", "src=", "NaN"] {
        assert!(!page.contains(forbidden), "{forbidden} in the page");
    }
    for link in page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        match link.strip_prefix('#') {
            Some(id) => assert!(page.contains(&format!("<section id=\"{id}\">")), "{link}"),
            None => assert!(names.contains(&link), "{link}"),
        }
    }
    let text = fs::read_to_string(&paths[1]).unwrap();
    assert!(text.starts_with("family,gain,gain_low,gain_high,rho,n\r\noutlier self,0.01593178,"));
    assert_eq!(fs::read_to_string(&paths[2]).unwrap(), text);
}

#[test]
fn no_text_leaves_its_place() {
    let mut article = Article::new(SCRIPT, SCRIPT);
    article.section("a", SCRIPT, |section| {
        section.paragraph(SCRIPT);
        section.law(SCRIPT);
        section.list(&[SCRIPT]);
        section.missing(SCRIPT);
        section.table("a", table());
        section.verdict(true, SCRIPT, SCRIPT, SCRIPT);
        let names = || vec![SCRIPT.to_owned()];
        let caption = Caption::new("f", SCRIPT, SCRIPT);
        let map = HeatMap::new(caption, (SCRIPT, names()), (SCRIPT, names()), vec![vec![None]]);
        section.figure(&[map.draw()], &[(Ink::RED, SCRIPT.to_owned())], SCRIPT);
    });
    let (_folder, page) = written(&article);
    assert!(!page.contains("<script") && page.matches("</style>").count() == 1);
    assert!(page.matches("&lt;script&gt;alert(1)").count() >= 20);
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    let (_first, page) = written(&example());
    let (_second, again) = written(&example());
    assert_eq!(page, again);
}

#[test]
fn verdicts_are_said_in_words() {
    let (_folder, page) = written(&example());
    for expected in ["supported\">holds<", "refuted\">does not hold<", "undecided\">undecided<"] {
        assert_eq!(page.matches(&format!("<strong class=\"verdict {expected}")).count(), 1);
    }
}

#[test]
fn what_holds_nothing_is_still_a_page() {
    let mut article = Article::new("", "");
    let (_folder, page) = written(&article);
    assert!(page.contains("<main></main>"));
    let axes = || (Axis::log10("x"), Axis::log10("y"));
    let caption = |name: &str| Caption::new(name, "", "");
    article.section("empty", "", |section| {
        section.list(&[] as &[&str]);
        section.table("none", Table::new(&[Column::numbers("a", "A")]));
        section.hidden_table("nothing", Table::new(&[]));
        section.figure(&[], &[], "");
        let scatter = Scatter {
            has_diagonal: true,
            ..Scatter::new(caption("s"), axes().0, axes().1, vec![])
        };
        let panels = [
            LineChart::new(caption("l"), axes().0, axes().1, vec![Series::plain(Ink::RED, vec![])])
                .draw(),
            scatter.draw(),
            BarChart::new(caption("b"), "", vec![]).draw(),
            HeatMap::new(caption("h"), ("", vec![]), ("", vec![]), vec![]).around(1.0).draw(),
        ];
        section.figure(&panels, &[], "");
    });
    let (folder, page) = written(&article);
    assert!(page.contains("Not shown: the table none, it has no row.") && !page.contains("NaN"));
    let table = folder.path().join("made/here/nothing.csv");
    assert_eq!(fs::read_to_string(table).unwrap(), "\r\n");
}

#[test]
fn what_is_no_page_is_refused_before_anything_is_written() {
    type Fault = fn(&mut Section);
    let figure = |section: &mut Section| {
        let chart = BarChart::new(Caption::new("f", "", ""), "", vec![]);
        section.figure(&[chart.draw()], &[], "");
    };
    let faults: [(Fault, &str); 5] = [
        (|section| section.table("../a", table()), "table \"../a\": expected ASCII letters"),
        (|section| section.hidden_table("", table()), "table \"\": expected ASCII letters"),
        (|section| section.table("Text", table()), "table \"Text\": expected a name of its own"),
        (|section| section.verdict(true, "", "", ""), "figure \"f\": expected a name of its own"),
        (
            |section| {
                let mut table = Table::new(&[Column::numbers("a", "A")]);
                table.row(vec![1.0.into()]);
                table.row(vec![]);
                section.table("b", table);
            },
            "table \"b\", row 2: expected 1, one a column, got 0 cells",
        ),
    ];
    for (index, (fault, expected)) in faults.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let mut article = example();
        article.section("fault", "Fault", fault);
        article.section("f", "A section may have the name of a figure", figure);
        if index == 3 {
            article.section("twice", "Twice", figure);
        }
        let message = article.write(folder.path(), "rise").unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("Energy rise"), "{message}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{message}");
    }
    for name in ["", "a/b", "..", "a b", "é"] {
        assert!(example().write("nowhere", name).is_err(), "{name:?}");
    }
}

#[test]
fn files_of_others_are_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("text.csv");
    fs::write(&own, "mine").unwrap();
    let message = example().write(folder.path(), "rise").unwrap_err().to_string();
    assert!(message.contains("expected an empty folder"), "{message}");
    fs::write(folder.path().join("rise.html"), "<p>mine</p>").unwrap();
    assert!(claim(folder.path(), "rise").is_err());
    assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    // What an article left is its own again, even where it was broken off.
    let (place, _) = written(&example());
    let place = place.path().join("made/here");
    fs::remove_file(place.join("text.csv")).unwrap();
    example().write(&place, "rise").unwrap();
    assert!(example().write(&place, "replay").is_err());
}

/// For the eye: `LETHE_REPORT_LOOK=folder cargo test -p lethe-report look` writes the example.
#[test]
fn look() {
    let Some(folder) = std::env::var_os("LETHE_REPORT_LOOK") else { return };
    example().write(folder, "article").unwrap();
}
