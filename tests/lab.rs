//! `lethe mhn` from the command line: pages and tables that agree with the rooms, the same bytes twice, refusals in words.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

fn lethe(words: &str, out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lethe"));
    command.args(words.split_whitespace()).arg("--out").arg(out).output().unwrap()
}

/// Standard output of a command that must succeed.
fn succeed(words: &str, out: &Path) -> String {
    let output = lethe(words, out);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A CSV's rows by column name.
fn table(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| {
        let cells = line.split(',').map(|cell| cell.trim_matches('"').to_string());
        names.iter().map(|name| name.to_string()).zip(cells).collect()
    };
    lines.map(row).collect()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|error| panic!("{column}: {error}: {row:?}"))
}

#[test]
fn the_quick_experiments_write_one_page_and_their_numbers() {
    let place = tempfile::tempdir().unwrap();
    let said = succeed("mhn --rotations 60", place.path());
    assert!(said.contains("A4: ") && said.lines().last().unwrap().ends_with("mhn.html"), "{said}");
    let page = std::fs::read_to_string(place.path().join("mhn.html")).unwrap();
    for id in ["rise", "replay", "regimes"] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert!(!page.contains("NaN") && !page.contains("<script") && !page.contains("http"));
    // The table of means is the mean of the table of rotations.
    let rises = table(&place.path().join("rise-rotations.csv"));
    assert_eq!(rises.len(), 2 * 60 * 13);
    for row in
        table(&place.path().join("rise.csv")).iter().filter(|row| row["pattern"] == "outlier")
    {
        let of_outlier =
            rises.iter().filter(|r| r["angle"] == row["angle"] && r["pattern"] == "12");
        let values: Vec<f64> = of_outlier.map(|r| number(r, "rise")).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean - number(row, "rise")).abs() <= 1e-12, "{row:?}");
        assert!(number(row, "rise_low") < mean && mean < number(row, "rise_high"));
    }
    // The map's diagonal is the self families.
    let map = table(&place.path().join("replay-map.csv"));
    assert_eq!(map.len(), 2 * 13 * 13);
    for row in table(&place.path().join("replay.csv")) {
        let cells = map
            .iter()
            .filter(|cell| cell["family"] == row["family"] && cell["angle"] == row["angle"]);
        let gains: Vec<f64> = cells.map(|cell| number(cell, "net_gain")).collect();
        let mean = gains.iter().sum::<f64>() / gains.len() as f64;
        assert!((mean / number(&row, "net_gain") - 1.).abs() <= 1e-9, "{row:?}");
    }
    assert_eq!(table(&place.path().join("regimes.csv")).len(), 9 * 6 + 5 * 6);
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let (one, two, other) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |threads: &str, seed: &str, out: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lethe"));
        command.args(["mhn", "replay", "--rotations", "40", "--seed", seed, "--out"]).arg(out);
        assert!(command.env("RAYON_NUM_THREADS", threads).output().unwrap().status.success());
        let names = ["replay.html", "replay.csv", "replay-map.csv", "replay-rotations.csv"];
        names.map(|name| std::fs::read(out.join(name)).unwrap())
    };
    let first = run("1", "5", one.path());
    assert_eq!(first, run("3", "5", two.path()));
    assert_ne!(first, run("1", "6", other.path()));
}

#[test]
fn what_cannot_be_is_refused_in_words_and_leaves_nothing() {
    for (words, expected) in [
        ("mhn rise --inverse-temperature 0", "inverse temperature: expected a positive"),
        ("mhn rise --inverse-temperature inf", "inverse temperature: expected a positive"),
        ("mhn rise --inverse-temperature NaN", "inverse temperature: expected a positive"),
        ("mhn rise --overlap 1", "overlap: expected"),
        ("mhn rise --dimension 1", "dimension: expected"),
        ("mhn rise --cluster 0", "cluster: expected"),
        ("mhn rise --cluster 99999999", "dimension: expected"),
        ("mhn replay --rotations 1", "--rotations: expected at least 2"),
        ("mhn replay --angles 0.1,0.1", "--angles: expected each once"),
        ("mhn replay --angles NaN", "angle: expected"),
        ("mhn replay --angles 1e9", "angle: expected"),
        ("mhn regimes --overlaps 2", "overlap: expected"),
        ("mhn boltzmann --hidden 12", "--hidden: expected at least one unit for each of the 13"),
        ("mhn boltzmann --angle 0", "--angle: expected a rotation"),
        ("mhn boltzmann --batch 0", "samples in a batch: expected at least one"),
        ("mhn bridge --angle 0", "--angle: expected a rotation"),
        ("mhn bridge --rotations 1", "--rotations: expected at least 2"),
        ("mhn bridge --width 0", "width: expected"),
        ("mhn images --budget 0", "--budget: expected"),
        ("mhn images --old-classes 0,1 --new-classes 1,2", "classes: 1 is in both tasks"),
        ("mhn images --old-classes 0,11", "classes: expected below 10, got 11"),
        ("mhn images --perplexity 5000", "perplexity"),
        ("mhn rise --angle 3", "unexpected argument"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let output = lethe(words, place.path());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{words}: {errors}");
        assert!(errors.contains(expected), "{words}: {errors}");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "{words}");
    }
}

/// Strange but possible: every answer is a number or a word.
#[test]
fn extreme_settings_are_answered() {
    for words in [
        "mhn rise --rotations 5 --inverse-temperature 10000",
        "mhn replay --rotations 5 --inverse-temperature 1e-6",
        "mhn replay --rotations 5 --cluster 1 --dimension 3",
        "mhn replay --rotations 5 --overlap 0",
        "mhn rise --rotations 5 --angles 0,3,-0.05",
    ] {
        let place = tempfile::tempdir().unwrap();
        succeed(words, place.path());
        for entry in std::fs::read_dir(place.path()).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains("NaN") && !text.contains(",inf"), "{words}: {}", path.display());
        }
    }
}

#[test]
fn images_are_compared_under_every_selector() {
    let place = tempfile::tempdir().unwrap();
    let words = "mhn images --per-class 24 --resolution 8 --hidden 24 --steps 40 --budget 0.1 --perplexity 4";
    succeed(words, place.path());
    let mitigation = table(&place.path().join("images-mitigation.csv"));
    let kept = |selector: &str| {
        mitigation
            .iter()
            .filter(|row| row["selector"] == selector && row["buffered"] == "yes")
            .count()
    };
    for policy in lethe::continual::Policy::ALL {
        assert_eq!(kept(policy.name()), 12, "{policy}");
    }
    // No buffer gives a negative gain in the closed form, and greedy's mean is the largest.
    assert!(mitigation.iter().all(|row| number(row, "gain") >= 0.));
    let means = table(&place.path().join("images.csv"));
    let mean = |selector: &str| {
        let is_wanted = |row: &&BTreeMap<String, String>| {
            row["selector"] == selector && row["group"] == "all" && row["gauge"] == "closed form"
        };
        number(means.iter().find(is_wanted).unwrap(), "mitigation")
    };
    let greedy = mean("greedy");
    for policy in lethe::continual::Policy::ALL {
        assert!(greedy >= mean(policy.name()) - 1e-6, "{policy}");
    }
}
