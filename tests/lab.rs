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
    let page = std::fs::read_to_string(place.path().join("mhn/mhn.html")).unwrap();
    for id in ["rise", "replay", "regimes"] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert!(!page.contains("NaN") && !page.contains("<script") && !page.contains("http"));
    // The table of means is the mean of the table of rotations.
    let rises = table(&place.path().join("mhn/rise-rotations.csv"));
    assert_eq!(rises.len(), 2 * 60 * 13);
    for row in
        table(&place.path().join("mhn/rise.csv")).iter().filter(|row| row["pattern"] == "outlier")
    {
        let of_outlier =
            rises.iter().filter(|r| r["angle"] == row["angle"] && r["pattern"] == "12");
        let values: Vec<f64> = of_outlier.map(|r| number(r, "rise")).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean - number(row, "rise")).abs() <= 1e-12, "{row:?}");
        assert!(number(row, "rise_low") < mean && mean < number(row, "rise_high"));
    }
    // The map's diagonal is the self families.
    let map = table(&place.path().join("mhn/replay-map.csv"));
    assert_eq!(map.len(), 2 * 13 * 13);
    for row in table(&place.path().join("mhn/replay.csv")) {
        let cells = map
            .iter()
            .filter(|cell| cell["family"] == row["family"] && cell["angle"] == row["angle"]);
        let gains: Vec<f64> = cells.map(|cell| number(cell, "net_gain")).collect();
        let mean = gains.iter().sum::<f64>() / gains.len() as f64;
        assert!((mean / number(&row, "net_gain") - 1.).abs() <= 1e-9, "{row:?}");
    }
    assert_eq!(table(&place.path().join("mhn/regimes.csv")).len(), 9 * 6 + 5 * 6);
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
        names.map(|name| std::fs::read(out.join("replay").join(name)).unwrap())
    };
    let first = run("1", "5", one.path());
    assert_eq!(first, run("3", "5", two.path()));
    assert_ne!(first, run("1", "6", other.path()));
}

#[test]
fn what_cannot_be_is_refused_in_words_and_leaves_nothing() {
    for (words, expected) in [
        ("mhn rise --inverse-temperature 0", "--inverse-temperature: expected a positive"),
        ("mhn rise --inverse-temperature inf", "--inverse-temperature: expected a positive"),
        ("mhn rise --inverse-temperature NaN", "--inverse-temperature: expected a positive"),
        ("mhn rise --overlap 1", "overlap: expected"),
        ("mhn rise --dimension 1", "dimension: expected"),
        ("mhn rise --cluster 0", "cluster: expected"),
        ("mhn rise --cluster 99999999", "--cluster: expected at most"),
        ("mhn rise --dimension 1000000 --rotations 2", "--dimension: expected at most"),
        ("mhn rise --rotations 99999999999", "--rotations: expected at most"),
        ("mhn replay --inverse-temperature 1e300", "--inverse-temperature: expected a positive"),
        ("mhn replay --rotations 1", "--rotations: expected at least 2"),
        ("mhn replay --angles 0.1,0.1", "--angles: expected each once"),
        ("mhn replay --angles NaN", "--angles: expected numbers"),
        ("mhn replay --angles 1e300", "from -100 to 100, got 1e300"),
        ("mhn regimes --overlaps 2", "--overlaps: expected"),
        ("mhn regimes --dimensions 99999999999 --clusters 2", "--dimensions: expected at most"),
        ("mhn regimes --inverse-temperatures 0", "--inverse-temperatures: expected"),
        ("mhn boltzmann --hidden 12", "--hidden: expected at least one unit for each of the 13"),
        ("mhn boltzmann --angle 0", "--angle: expected a rotation"),
        ("mhn boltzmann --batch 0", "--batch: expected at least 1"),
        ("mhn boltzmann --steps 0", "--steps: expected at least 1"),
        ("mhn boltzmann --optimizer lbfgs --steps 20", "--steps: expected with --optimizer adam"),
        ("mhn bridge --angle 0", "--angle: expected a rotation"),
        ("mhn bridge --rotations 1", "--rotations: expected at least 2"),
        ("mhn bridge --width 0", "width: expected"),
        ("mhn images --budget 0", "--budget: expected"),
        ("mhn images --budget -1", "--budget: expected a share"),
        ("mhn images --old-classes 0,0", "--old-classes: expected each once"),
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

/// The line of the claim `id` about `words`.
fn claim<'a>(said: &'a str, id: &str, words: &str) -> &'a str {
    let is_it = |line: &&str| line.starts_with(&format!("{id}: ")) && line.contains(words);
    said.lines().find(is_it).unwrap_or_else(|| panic!("no claim {id} {words} in {said}"))
}

#[test]
fn rounding_and_few_rotations_decide_nothing() {
    let place = tempfile::tempdir().unwrap();
    let said = |words: &str| succeed(&format!("mhn {words}"), place.path());
    let is_undecided = |line: &str| assert!(line.contains(": undecided ("), "{line}");
    // All patterns share one fixed point: self and within are the same number.
    let merged = said("replay --inverse-temperature 4 --rotations 100");
    is_undecided(claim(&merged, "A5", "cluster self gains more than within"));
    let merged = said("rise --inverse-temperature 4 --rotations 100");
    is_undecided(claim(&merged, "A1", ""));
    is_undecided(claim(&merged, "A2", "ε 0.05"));
    is_undecided(claim(&said("rise --cluster 1 --dimension 3 --rotations 40"), "A1", ""));
    let small = said("rise --angles 1e-9 --rotations 40");
    is_undecided(claim(&small, "A2", ""));
    is_undecided(claim(&small, "A3", ""));
    let few = said("rise --rotations 2");
    for id in ["A2", "A3", "published"] {
        is_undecided(claim(&few, id, "ε 0.05"));
    }
    let few = said("replay --rotations 2");
    for id in ["A5", "A6", "published"] {
        is_undecided(claim(&few, id, "ε 0.05"));
    }
    // The control, and the sign of the angle changes nothing but the signs of odd orders.
    let turned = said("replay --rotations 500 --angles -0.05");
    assert!(claim(&turned, "A6", "to 17 %").contains(": holds ("), "{turned}");
}

#[test]
fn regimes_say_what_their_maps_show() {
    let place = tempfile::tempdir().unwrap();
    succeed("mhn regimes", place.path());
    let page = std::fs::read_to_string(place.path().join("regimes/regimes.html")).unwrap();
    let rows = table(&place.path().join("regimes/regimes.csv"));
    let largest = rows
        .iter()
        .filter(|row| !row["ratio"].is_empty())
        .max_by(|a, b| number(a, "ratio").total_cmp(&number(b, "ratio")))
        .unwrap();
    assert_eq!(largest["fixed_points"], "2");
    let place_of_it =
        format!("is at β {}, c {}", largest["inverse_temperature"], largest["overlap"]);
    assert!(page.contains(&place_of_it), "{place_of_it}");
    assert!(page.contains("the cluster shares one, the outlier has its own."));
    // Merged places: exactly 1, not what retrieval left.
    for row in rows.iter().filter(|row| row["fixed_points"] == "1") {
        assert_eq!(row["ratio"], "1");
    }
    succeed("mhn regimes --inverse-temperatures 2", place.path());
    let page = std::fs::read_to_string(place.path().join("regimes/regimes.html")).unwrap();
    assert!(!page.contains("inf ") && !page.contains("inf<"));
}

#[test]
fn places_are_checked_first_and_files_of_others_kept() {
    let place = tempfile::tempdir().unwrap();
    let code = |words: &str, out: &Path| lethe(words, out).status.code();
    let file = place.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    assert_eq!(code("mhn boltzmann --rotations 4", &file), Some(73));
    std::fs::create_dir(place.path().join("rise")).unwrap();
    std::fs::write(place.path().join("rise/rise.csv"), "mine").unwrap();
    assert_eq!(code("mhn rise --rotations 2", place.path()), Some(73));
    assert_eq!(std::fs::read_to_string(place.path().join("rise/rise.csv")).unwrap(), "mine");
    // A page replaces itself, but nothing that is no file.
    let out = place.path().join("new");
    assert_eq!(code("mhn rise --rotations 2", &out), Some(0));
    assert_eq!(code("mhn rise --rotations 2", &out), Some(0));
    std::fs::remove_file(out.join("rise/rise.csv")).unwrap();
    std::fs::create_dir(out.join("rise/rise.csv")).unwrap();
    assert_eq!(code("mhn rise --rotations 2", &out), Some(73));
    // What fails leaves no folder.
    assert_eq!(code("mhn rise --overlap 1", &place.path().join("a/b")), Some(64));
    assert!(!place.path().join("a").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output_is_a_failure() {
    let place = tempfile::tempdir().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lethe"));
    command.args(["mhn", "rise", "--rotations", "2", "--out"]).arg(place.path()).stdout(full);
    assert_eq!(command.output().unwrap().status.code(), Some(74));
}

#[test]
fn divergence_ends_with_its_own_code() {
    for words in [
        "mhn boltzmann --rotations 2 --steps 50 --learning-rate 1e10",
        "mhn images --per-class 5 --steps 5 --perplexity 3 --budget 0.2 --learning-rate 1e30",
    ] {
        let place = tempfile::tempdir().unwrap();
        let output = lethe(words, place.path());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(76), "{words}: {errors}");
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
        let folder = place.path().join(words.split_whitespace().nth(1).unwrap());
        for entry in std::fs::read_dir(folder).unwrap() {
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
    let mitigation = table(&place.path().join("images/images-mitigation.csv"));
    let kept = |selector: &str| {
        mitigation
            .iter()
            .filter(|row| row["selector"] == selector && row["buffered"] == "yes")
            .count()
    };
    for policy in lethe::continual::Policy::ALL {
        assert_eq!(kept(policy.name()), 12, "{policy}");
    }
    let examples = table(&place.path().join("images/images-examples.csv"));
    for row in &examples {
        let [before, after, rise] =
            ["energy_before", "energy_after", "rise"].map(|name| number(row, name));
        assert!((after - before - rise).abs() <= 1e-15, "{row:?}");
        // One pattern fewer: never lower.
        assert!(number(row, "energy_loo") >= before, "{row:?}");
    }
    // No buffer gives a negative gain in the closed form, and greedy's mean is the largest.
    assert!(mitigation.iter().all(|row| number(row, "gain") >= 0.));
    let means = table(&place.path().join("images/images.csv"));
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
