//! What a finished or broken run answers when it is asked whether it can be believed, and what an edited protocol may do.

use crate::river::{Place, fail, lethe, succeed};
use std::fs;
use std::path::Path;

/// Two tasks of one class, in as few steps as there can be.
const SMALL: &str = r#"
name = "small"
seeds = [7]
[data]
source = "fashion-mnist"
resolution = 8
per_class = 12
held_out = 0.2
[stream]
tasks = [[0], [1]]
[model]
channels = [8, 8]
layers_per_block = 1
norm_groups = 4
[training]
steps = 2
later_steps = 2
batch = 4
checkpoint_every = 1
[replay]
budget = 4
per_batch = 2
arms = ["none", "random"]
[probe]
train_examples = 6
held_out_examples = 2
levels = [0.3]
headline = 0.3
stages = 2
draws = 1
bound_points = 0
perplexity = 3
curve_every = 0
samples = 2
sample_stages = 2
"#;

fn check(folder: &Path) -> std::process::Command {
    let mut command = lethe();
    command.args(["report", "check"]).arg(folder);
    command
}

/// What `report check` prints of a run that it refuses with `code`.
fn refused(folder: &Path, code: i32) -> String {
    let output = check(folder).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    told
}

#[test]
fn a_run_is_checked_file_by_file() {
    let place = Place::new();
    succeed(&mut place.run(SMALL, "run", &[]));
    let run = place.path("run");
    let output = succeed(&mut check(&run));
    assert!(String::from_utf8_lossy(&output.stdout).contains("the run is complete"));
    let weights = "seed-7/random/task-2/step-00000002/unet/diffusion_pytorch_model.safetensors";
    let files = [
        ("report.html", "report.html"),
        ("tables/arms.csv", "tables/arms.csv"),
        ("ledger.jsonl", "line "),
        ("ledger.parquet", "ledger.parquet"),
        ("examples.json", "ledger.parquet"),
        ("training.jsonl", "training.jsonl"),
        ("protocol.toml", "protocol.toml"),
        ("progress.json", "progress.json"),
        ("run.json", "run.json"),
        ("images/examples.png", "examples.png"),
        (weights, "diffusion_pytorch_model.safetensors"),
    ];
    for (file, named) in files {
        let path = run.join(file);
        let whole = fs::read(&path).unwrap();
        for at in [whole.len() / 3, whole.len() / 2] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).unwrap();
            assert!(refused(&run, 77).contains(named), "{file}");
        }
        fs::write(&path, &whole).unwrap();
    }
    fs::remove_file(run.join(weights)).unwrap();
    assert!(refused(&run, 77).contains("diffusion_pytorch_model.safetensors"));
    assert!(refused(&place.path("nowhere"), 66).contains("expected the folder of a run"));
}

#[test]
fn an_edited_protocol_goes_on_only_by_name_and_on_record() {
    let place = Place::new();
    succeed(&mut place.run(SMALL, "run", &[]));
    let rate = ["training.learning_rate=0.5", "seeds=[7, 8]"];
    let words = fail(&mut place.run(SMALL, "run", &rate), 64);
    assert!(words.contains("learning_rate: 0.0002 then, 0.5 now"), "{words}");
    assert!(words.contains("--allow-change seeds --allow-change training.learning_rate"));
    let words = fail(
        place.run(SMALL, "run", &["training.steps=3"]).args(["--allow-change", "training.steps"]),
        64,
    );
    assert!(words.contains("training.steps cannot change"), "{words}");
    let mut grown = place.run(SMALL, "run", &rate);
    succeed(grown.args(["--allow-change", "seeds", "--allow-change", "training.learning_rate"]));
    let run = place.path("run");
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("learning_rate from 0.0002 to 0.5") && page.contains("seed-8"));
    succeed(&mut check(&run));
    // The edited protocol is the run's now: it needs no leave, and the one before it is another.
    succeed(&mut place.run(SMALL, "run", &rate));
    fail(&mut place.run(SMALL, "run", &[]), 64);
}

#[test]
fn an_edit_that_was_recorded_and_not_written_is_taken_up() {
    let place = Place::new();
    succeed(&mut place.run(SMALL, "run", &[]));
    let protocol = place.path("run").join("protocol.toml");
    let before = fs::read(&protocol).unwrap();
    let clip = ["training.clip=2.0"];
    let words = fail(place.run(SMALL, "run", &clip).args(["--allow-change", "training.clip"]), 64);
    assert!(words.contains("the run is finished"), "{words}");
    let clip = ["training.clip=2.0", "seeds=[7, 8]"];
    let allowed = ["--allow-change", "training.clip", "--allow-change", "seeds"];
    succeed(place.run(SMALL, "run", &clip).args(allowed));
    let page = fs::read(place.path("run/report.html")).unwrap();
    fs::write(&protocol, before).unwrap();
    succeed(&mut place.run(SMALL, "run", &clip));
    assert_eq!(fs::read(place.path("run/report.html")).unwrap(), page);
    succeed(&mut check(&place.path("run")));
}

#[test]
fn a_run_whose_record_was_changed_does_not_go_on() {
    let place = Place::new();
    succeed(&mut place.run(SMALL, "run", &[]));
    let path = place.path("run").join("run.json");
    let text = fs::read_to_string(&path).unwrap();
    for (was, is) in [("\"budget\": 4", "\"budget\": 5"), ("\"seed\": 7", "\"seed\": 9")] {
        assert!(text.contains(was));
        fs::write(&path, text.replace(was, is)).unwrap();
        let words = fail(&mut place.run(SMALL, "run", &[]), 77);
        assert!(words.contains("run.json") && words.contains("field"), "{words}");
    }
}

/// What is no edit of the protocol that is given, but of the copy that the run keeps.
#[test]
fn a_protocol_that_was_changed_in_the_run_is_no_edit() {
    let place = Place::new();
    succeed(&mut place.run(SMALL, "run", &[]));
    let path = place.path("run").join("protocol.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("clip = 1.0", "clip = 3.0")).unwrap();
    let words = fail(&mut place.run(SMALL, "run", &[]), 77);
    assert!(words.contains("protocol.toml: it is not as it was written"), "{words}");
    // Killed between its two first files, a run goes on; any other protocol there may be somebody's own.
    fs::create_dir(place.path("bare")).unwrap();
    fs::write(place.path("bare/protocol.toml"), text).unwrap();
    let words = fail(&mut place.run(SMALL, "bare", &["training.steps=1"]), 73);
    assert!(words.contains("it is there already"), "{words}");
    succeed(&mut place.run(SMALL, "bare", &[]));
}

/// A model that is fine-tuned belongs to a run as its data do.
#[test]
fn other_weights_do_not_go_on() {
    let place = Place::new();
    succeed(&mut place.run(SMALL, "first", &[]));
    let pretrained = place.path("first/seed-7/task-1/step-00000002");
    let start = SMALL.replace(
        "[model]\nchannels = [8, 8]\nlayers_per_block = 1\nnorm_groups = 4",
        &format!("[model]\npretrained = {:?}", pretrained.display().to_string()),
    );
    succeed(&mut place.run(&start, "second", &[]));
    succeed(&mut place.run(&start, "second", &[]));
    let weights = "unet/diffusion_pytorch_model.safetensors";
    let other = place.path("first/seed-7/none/task-2/step-00000002").join(weights);
    fs::copy(other, pretrained.join(weights)).unwrap();
    let words = fail(&mut place.run(&start, "second", &[]), 77);
    assert!(words.contains(weights) && words.contains("remove"), "{words}");
    fs::remove_file(pretrained.join("checkpoint.json")).unwrap();
    let words = fail(&mut place.run(&start, "second", &[]), 77);
    assert!(words.contains("model that the run starts from has changed"), "{words}");
}

/// Files that are whole, and another run's.
#[test]
fn what_another_run_wrote_does_not_go_on() {
    let place = Place::new();
    succeed(&mut place.run(SMALL, "run", &[]));
    let other = ["training.learning_rate=0.002"];
    succeed(&mut place.run(SMALL, "other", &other));
    let (run, other) = (place.path("run"), place.path("other"));
    let swap = |name: &str| {
        fs::rename(run.join(name), run.join("kept")).unwrap();
        fs::rename(other.join(name), run.join(name)).unwrap();
        let words = fail(&mut place.run(SMALL, "run", &[]), 77);
        refused(&run, 77);
        fs::rename(run.join(name), other.join(name)).unwrap();
        fs::rename(run.join("kept"), run.join(name)).unwrap();
        words
    };
    let words = swap("seed-7/task-1");
    assert!(words.contains("task-1") && words.contains("put here from elsewhere"), "{words}");
    for journal in ["ledger.jsonl", "training.jsonl"] {
        let words = swap(journal);
        assert!(words.contains(journal), "{words}");
    }
    succeed(&mut check(&run));
    // A whole run is no folder for one of its tasks alone.
    let protocol = place.path("protocol.toml");
    let words = fail(lethe().arg("train").arg(protocol).arg("--out").arg(&run), 64);
    assert!(words.contains("the folder of `lethe run`"), "{words}");
    succeed(&mut check(&run));
}

#[cfg(unix)]
#[test]
fn nothing_outside_is_written_through_a_link() {
    let place = Place::new();
    succeed(&mut place.run(SMALL, "run", &[]));
    let victim = place.write("victim", "precious");
    let lock = place.path("run/lock");
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&victim, &lock).unwrap();
    let words = fail(&mut place.run(SMALL, "run", &[]), 73);
    assert!(words.contains("lock"), "{words}");
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&victim, place.path("run/.report.html.partial")).unwrap();
    succeed(&mut place.run(SMALL, "run", &[]));
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(!place.path("run/report.html").symlink_metadata().unwrap().is_symlink());
    succeed(&mut check(&place.path("run")));
}
