//! Whole reports of runs that never happened.

use super::*;
use crate::synthetic::Plan;
use std::fs;

/// A plan small enough for a test.
fn small() -> Plan {
    Plan {
        per_class: 16,
        arms: vec!["none", "control", "random", "top-energy", "bottom-energy"],
        probes: 3,
        ..Plan::default()
    }
}

/// A report with few draws: enough for every law but the width of an interval.
fn draft(folder: &Path) -> Result<PathBuf> {
    write_with(folder, None, Bootstrap { draws: 300, ..Bootstrap::default() })
}

fn report(plan: &Plan) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    plan.write(folder.path());
    let path = draft(folder.path()).unwrap();
    let page = fs::read_to_string(path).unwrap();
    (folder, page)
}

fn csv(folder: &tempfile::TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join("tables").join(name)).unwrap()
}

/// Text of the page without tags.
fn words(page: &str) -> String {
    let body = page.split_once("</head>").map_or(page, |(_, body)| body);
    let mut text = String::new();
    let mut is_tag = false;
    for character in body.chars() {
        match character {
            '<' => is_tag = true,
            '>' => is_tag = false,
            _ if !is_tag => text.push(character),
            _ => {}
        }
    }
    text
}

#[test]
fn the_page_answers_and_stands_alone() {
    let (folder, page) = report(&small());
    assert!(page.starts_with("<!DOCTYPE html>"));
    for forbidden in ["http:", "https:", "<script", "@import", "url(", " src=\"/", "NaN", "inf"] {
        let found = page.match_indices(forbidden).next();
        // "infinity"-like words are the style's and the text's own business.
        assert!(found.is_none() || forbidden == "inf", "{forbidden} in the page");
    }
    let text = words(&page);
    for expected in [
        "The model forgot.",
        "Examples of high energy forgot more",
        "Replay helped",
        "All intervals are over examples of one training",
        "Most forgotten",
        "Least forgotten",
        "random, after task 2",
        "column level is t/T for errors and the denoising loss",
    ] {
        assert!(text.contains(expected), "{expected} is missing");
    }
    assert_eq!(page.matches("class=\"figure ").count(), page.matches("<desc ").count());
    for name in ["arms", "claims", "correlations", "deciles", "task_matrix"] {
        assert!(csv(&folder, &format!("{name}.csv")).lines().count() > 5, "{name}");
    }
}

#[test]
fn identifiers_are_unique_and_every_link_has_its_place() {
    let (_folder, page) = report(&small());
    let ids: Vec<&str> =
        page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len());
    for target in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(ids.contains(&target), "{target}");
    }
}

#[test]
fn verdicts_follow_the_world_that_made_the_run() {
    let (folder, _) = report(&Plan { per_class: 80, ..small() });
    let claims = csv(&folder, "claims.csv");
    for id in ["C1", "C2", "C3", "C4", "C5"] {
        let line = claims.lines().find(|line| line.starts_with(&format!("{id},"))).unwrap();
        assert!(line.ends_with(",supported,supported"), "{line}");
    }
    // Too few examples in the buffers decide nothing, whatever their interval.
    let (folder, _) = report(&Plan { per_class: 40, ..small() });
    let claims = csv(&folder, "claims.csv");
    let line = claims.lines().find(|line| line.starts_with("C4,")).unwrap();
    assert!(line.ends_with(",undecided,undecided"), "{line}");
    let line = claims.lines().find(|line| line.starts_with("C5,")).unwrap();
    assert!(line.ends_with(",15,undecided,undecided"), "{line}");
    // The same world, in which examples of low energy are forgotten more.
    let (folder, page) = report(&Plan { per_class: 80, rise: (0.06, -0.05), ..small() });
    let claims = csv(&folder, "claims.csv");
    let line = claims.lines().find(|line| line.starts_with("C2,")).unwrap();
    assert!(line.ends_with(",not supported,not supported"), "{line}");
    assert!(words(&page).contains("Examples of low energy forgot more"));
}

#[test]
fn no_forgetting_is_not_called_forgetting() {
    let (_folder, page) = report(&Plan { rise: (-0.005, 0.0), ..small() });
    let text = words(&page);
    assert!(!text.contains("The model forgot."), "{}", &text[..600.min(text.len())]);
}

#[test]
fn several_runs_are_judged_one_by_one() {
    let (folder, page) = report(&Plan { n_runs: 3, images: false, ..small() });
    let text = words(&page);
    assert!(text.contains("Mean over 3 runs (seeds 1, 2, 3)"));
    assert!(text.contains("verdicts are given for each training"));
    let claims = csv(&folder, "claims.csv");
    for run in ["seed-1", "seed-2", "seed-3"] {
        assert!(claims.contains(&format!("C6,{run},")), "{run}");
    }
}

#[test]
fn several_trainings_stand_one_by_one() {
    let (folder, page) = report(&Plan { n_runs: 3, images: false, ..small() });
    let text = words(&page);
    let [forgot, helped] = ["The model forgot. ", "Replay helped: "];
    assert!(
        text.contains(forgot) && text.contains(helped) && text.contains("The trainings one by one")
    );
    assert_eq!(text.matches("(trainings one by one: from ").count(), 2);
    let table = csv(&folder, "trainings.csv");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names, ["run", "seed-1", "seed-2", "seed-3", "mean", "standard deviation"]);
    assert_eq!(rows[0].len(), 1 + 3 * (2 + 3), "two increments and three replay arms");
    for column in (1..rows[0].len()).step_by(3) {
        let [a, b, c, mean, deviation] =
            [1, 2, 3, 4, 5].map(|row: usize| rows[row][column].parse::<f64>().unwrap());
        assert!((mean - (a + b + c) / 3.0).abs() < 1e-12);
        let squares: f64 = [a, b, c].map(|x| (x - mean).powi(2)).iter().sum();
        assert!((deviation - (squares / 2.0).sqrt()).abs() < 1e-12);
    }
    let (folder, page) = report(&Plan { images: false, ..small() });
    assert!(!folder.path().join("tables/trainings.csv").exists());
    assert!(!words(&page).contains("trainings one by one"), "one training");
}

#[test]
fn what_one_training_denies_is_not_said_flatly() {
    let plan = Plan { n_runs: 3, turned: Some(2), images: false, ..small() };
    let text = words(&report(&plan).1);
    assert!(text.contains("The model forgot on average, not in every training."));
    assert!(text.contains("Replay helped on average, not in every training: "));
    assert!(text.contains("(trainings one by one: from \u{2212}0.0"));
    // Most learned where one forgot.
    let plan = Plan { rise: (-0.01, -0.04), ..plan };
    let text = words(&report(&plan).1);
    assert!(text.contains("The model did not forget on average, but it did in some training."));
    assert!(text.contains("Replay did harm on average, not in every training: "));
}

/// The stages of a plan of two tasks of which these are measured.
fn stages(plan: &Plan, measured: &[(&str, &str, u32)]) -> Stages {
    let stage = |&(run, arm, task): &(&str, &str, u32)| (run.to_owned(), arm.to_owned(), task);
    let planned = plan.n_runs * (1 + plan.arms.len());
    Stages { measured: measured.iter().map(stage).collect(), planned, ..Stages::default() }
}

/// Writes a run that was stopped: of its ledger what `is_kept`, and the page.
fn stopped(
    plan: &Plan,
    is_kept: impl Fn(&str) -> bool,
    stages: &Stages,
) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    plan.write(folder.path());
    let path = folder.path().join("ledger.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let kept: String =
        text.lines().filter(|line| is_kept(line)).flat_map(|line| [line, "\n"]).collect();
    assert!(kept.len() < text.len());
    fs::write(&path, kept).unwrap();
    let bootstrap = Bootstrap { draws: 300, ..Bootstrap::default() };
    let page = write_with(folder.path(), Some(stages), bootstrap).unwrap();
    let page = fs::read_to_string(page).unwrap();
    (folder, page)
}

/// Whether a line of the ledger is of one of these arms.
fn is_of(line: &str, arms: &[&str]) -> bool {
    arms.iter().any(|arm| line.contains(&format!("\"arm\":\"{arm}\"")))
}

#[test]
fn an_unfinished_run_is_read_as_far_as_all_its_stages_go() {
    let plan = Plan { n_runs: 2, images: false, ..small() };
    let mut measured: Vec<(&str, &str, u32)> =
        plan.arms.iter().map(|&arm| ("seed-1", arm, 2)).collect();
    measured.extend([("seed-1", "task-1", 1), ("seed-2", "task-1", 1), ("seed-2", "none", 2)]);
    // Seed 2 was stopped in the control arm.
    let is_kept = |line: &str| {
        let is_begun = is_of(line, &["control"]) && !line.contains("\"step\":800");
        line.contains("\"run\":\"seed-1\"") || is_of(line, &["data", "task-1", "none"]) || is_begun
    };
    let (folder, page) = stopped(&plan, is_kept, &stages(&plan, &measured));
    let text = words(&page);
    for expected in [
        "This run is not finished: 8 of 12 stages are measured",
        "Left out of every mean and verdict: seed-2.",
        "run the same command again",
        "The model forgot.",
        "Run seed-1 (seed 1); buffer of",
        "runs left out of the meansseed-2 (seed 2)",
        "One training can neither prove nor refute",
    ] {
        assert!(text.contains(expected), "{expected} is missing");
    }
    assert!(
        !text.contains("Mean over 2")
            && !text.contains("seeds 1")
            && !folder.path().join("tables/trainings.csv").exists()
    );
    let (alone, _) = report(&Plan { n_runs: 1, ..plan });
    for name in ["arms", "claims", "correlations", "deciles", "task_matrix"] {
        let name = format!("{name}.csv");
        assert_eq!(csv(&folder, &name), csv(&alone, &name), "{name}");
    }
}

#[test]
fn a_stage_in_progress_does_not_pass_for_its_boundary() {
    let plan = Plan { images: false, ..small() };
    let is_kept = |line: &str| {
        is_of(line, &["data", "task-1"]) || is_of(line, &["none"]) && !line.contains("\"step\":800")
    };
    let (folder, page) = stopped(&plan, is_kept, &stages(&plan, &[("seed-1", "task-1", 1)]));
    let text = words(&page);
    assert!(text.contains("This run is not finished: 1 of 6 stages are measured"));
    assert!(!text.contains("Left out"), "there is no other");
    assert!(text.contains("Whether there was forgetting is not known"));
    assert!(text.contains("Forgetting curves of 1 arms"), "what is measured is drawn");
    // The same ledger, were the run finished.
    let page = fs::read_to_string(draft(folder.path()).unwrap()).unwrap();
    assert!(words(&page).contains("The model forgot."));
}

#[test]
fn a_control_that_is_still_to_come_is_not_called_absent() {
    let plan = Plan { images: false, ..small() };
    let is_kept = |line: &str| is_of(line, &["data", "task-1", "none"]);
    let measured = [("seed-1", "task-1", 1), ("seed-1", "none", 2)];
    let text = words(&stopped(&plan, is_kept, &stages(&plan, &measured)).1);
    assert!(text.contains("The model forgot. "));
    assert!(text.contains("; the control, to compare it with, was not measured."));
}

#[test]
fn a_page_is_stale_once_its_run_has_gone_on() {
    let plan = Plan { per_class: 8, images: false, ..small() };
    let folder = tempfile::tempdir().unwrap();
    plan.write(folder.path());
    let measured = [("seed-1", "task-1", 1), ("seed-1", "none", 2)];
    let first = stages(&plan, &measured[..1]);
    write(folder.path(), Some(&first)).unwrap();
    assert_eq!(stale(folder.path(), Some(&first)).unwrap(), [] as [PathBuf; 0]);
    let later = stale(folder.path(), Some(&stages(&plan, &measured))).unwrap();
    assert!(later.contains(&folder.path().join("report.html")), "{later:?}");
}

#[test]
fn more_than_two_tasks_fill_the_matrix() {
    let plan = Plan { n_tasks: 3, classes_per_task: 2, images: false, ..small() };
    let (folder, page) = report(&plan);
    assert!(words(&page).contains("task 3 →"));
    let cells = csv(&folder, "task_matrix.csv");
    assert_eq!(cells.lines().filter(|line| line.starts_with("none,")).count(), 9);
}

#[test]
fn the_same_folder_gives_the_same_bytes() {
    let (folder, page) = report(&small());
    let claims = csv(&folder, "claims.csv");
    assert_eq!(fs::read_to_string(draft(folder.path()).unwrap()).unwrap(), page);
    assert_eq!(csv(&folder, "claims.csv"), claims);
}

#[test]
fn names_cannot_break_out_of_the_page_or_of_a_table() {
    let name = "</style><script>alert(1)</script><img src=x onerror=alert(2)>";
    let (_folder, page) = report(&Plan { class_name: name, ..small() });
    assert!(page.contains("&lt;/style&gt;&lt;script&gt;alert(1)"));
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(!page.contains("<script") && !page.contains("<img src=x"));
}

#[test]
fn what_was_not_measured_is_said() {
    let plan = Plan { arms: vec!["none"], levels: vec![0.3], images: false, ..small() };
    let (folder, page) = report(&plan);
    let text = words(&page);
    for expected in [
        "there is no control arm",
        "no replay arm was measured",
        "there is no sheet of images",
        "the run folder holds no sheet of samples",
        "not measured (reconstruction_error at level 0.300 was not measured after task 2 of arm top-energy)",
    ] {
        assert!(text.contains(expected), "{expected} is missing");
    }
    assert!(csv(&folder, "claims.csv").contains(",not measured,not measured"));
    fs::remove_file(folder.path().join("training.jsonl")).unwrap();
    let page = fs::read_to_string(draft(folder.path()).unwrap()).unwrap();
    assert!(words(&page).contains("training.jsonl holds no record of the first run"));
}

#[test]
fn a_run_without_any_measurement_still_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan { images: false, ..small() };
    plan.write(folder.path());
    fs::write(folder.path().join("ledger.jsonl"), "").unwrap();
    let page = fs::read_to_string(draft(folder.path()).unwrap()).unwrap();
    let text = words(&page);
    assert!(text.contains("Whether there was forgetting is not known"));
    assert_eq!(text.matches("not measured: ").count(), 6, "six claims");
}

#[test]
fn no_shape_of_a_run_is_too_small() {
    let plans = [
        Plan { n_runs: 0, ..small() },
        Plan { n_tasks: 1, ..small() },
        Plan { n_tasks: 0, ..small() },
        Plan { per_class: 0, ..small() },
        Plan { per_class: 1, ..small() },
        Plan { arms: vec![], ..small() },
    ];
    for plan in plans {
        let (_folder, page) = report(&Plan { images: false, ..plan.clone() });
        assert!(words(&page).contains("The answer") && !page.contains("NaN"), "{plan:?}");
    }
}

#[test]
fn an_arm_that_stopped_early_is_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    small().write(folder.path());
    let path = folder.path().join("ledger.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let is_kept =
        |line: &&str| !(line.contains("\"arm\":\"random\"") && line.contains("\"step\":800"));
    let kept: Vec<&str> = text.lines().filter(is_kept).collect();
    assert!(kept.len() < text.lines().count());
    fs::write(&path, kept.join("\n") + "\n").unwrap();
    let page = fs::read_to_string(draft(folder.path()).unwrap()).unwrap();
    let expected = "was not measured after task 2 of arm random";
    assert!(words(&page).contains(expected));
}

#[test]
fn damaged_input_is_named_and_nothing_is_written() {
    type Damage = fn(&Path);
    let cases: [(Damage, &str); 6] = [
        (|folder| flip(&folder.join("ledger.jsonl"), 5000), "ledger.jsonl, line "),
        (|folder| flip(&folder.join("examples.json"), 100), "examples.json, line 2"),
        (|folder| flip(&folder.join("training.jsonl"), 10), "training.jsonl, line 1"),
        (|folder| fs::write(folder.join("run.json"), "{").unwrap(), "run.json: field `check`: "),
        (|folder| fs::write(folder.join("images/examples.png"), "no").unwrap(), "examples.png: "),
        (
            |folder| fs::remove_file(folder.join("ledger.jsonl")).unwrap(),
            "ledger.jsonl: cannot open",
        ),
    ];
    for (damage, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        small().write(folder.path());
        damage(folder.path());
        let message = draft(folder.path()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(!folder.path().join("report.html").exists());
    }
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_line_that_was_being_written_is_mentioned() {
    let folder = tempfile::tempdir().unwrap();
    small().write(folder.path());
    let path = folder.path().join("ledger.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"run\":\"se");
    fs::write(&path, text).unwrap();
    let page = fs::read_to_string(draft(folder.path()).unwrap()).unwrap();
    assert!(words(&page).contains("The last line of ledger.jsonl has no end (10 bytes)"));
}

/// For the eye: `LETHE_REPORT_LOOK=folder cargo test -p lethe-report look` writes reports to open
/// in a browser.
#[test]
fn look() {
    let Some(folder) = std::env::var_os("LETHE_REPORT_LOOK") else { return };
    let large = Plan { per_class: 60, ..Plan::default() };
    let colour = Plan {
        n_runs: 3,
        n_tasks: 5,
        classes_per_task: 2,
        colour: true,
        per_class: 60,
        class_name: "<b>class</b>",
        ..Plan::default()
    };
    // About a million rows.
    let million = Plan { per_class: 200, probes: 13, images: false, ..Plan::default() };
    for (name, plan) in [("one", large), ("three", colour), ("million", million)] {
        let folder = Path::new(&folder).join(name);
        fs::create_dir_all(&folder).unwrap();
        // A ledger is appended to: that of an earlier look must go.
        for name in ["ledger.jsonl", "training.jsonl"] {
            let _ = fs::remove_file(folder.join(name));
        }
        plan.write(&folder);
        write(&folder, None).unwrap();
    }
}
