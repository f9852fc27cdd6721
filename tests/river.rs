//! The whole river through the real binary: a tiny protocol end to end, broken off and taken up again, and refused in words.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn lethe() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lethe"));
    command.stdin(Stdio::null());
    command
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Three tasks of two classes at 8x8, in arms that between them use every kind of evidence.
const TINY: &str = r#"
name = "tiny"
seeds = [7]

[data]
source = "fashion-mnist"
resolution = 8
per_class = 20
held_out = 0.2

[stream]
tasks = [[0, 1], [2, 3], [8, 9]]

[model]
channels = [8, 8]
layers_per_block = 1
norm_groups = 4
dropout = 0.1

[training]
steps = 6
later_steps = 4
batch = 8
warm_up = 2
learning_rate = 1e-3
ema_half_life = 20
flip = true
checkpoint_every = 2
log_every = 2
validate_every = 3

[replay]
budget = 8
per_batch = 4
arms = ["none", "random", "top-energy", "greedy", "top-loss", "herding", "joint", "control"]

[probe]
train_examples = 12
held_out_examples = 6
levels = [0.1, 0.3]
headline = 0.3
stages = 3
draws = 1
bound_points = 3
perplexity = 4
curve_every = 2
curve_examples = 6
samples = 4
sample_stages = 3
"#;

pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    pub(crate) fn run(&self, protocol: &str, out: &str, overrides: &[&str]) -> Command {
        let mut command = lethe();
        command
            .arg("run")
            .arg(self.write("protocol.toml", protocol))
            .arg("--out")
            .arg(self.path(out));
        for assignment in overrides {
            command.args(["--set", assignment]);
        }
        command
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{:?}: {}", output.status, text(&output.stderr));
    output
}

/// The words of a failure, which must end with `code`, in one cause, without a panic.
pub(crate) fn fail(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words}");
    assert!(words.contains("error: ") && !words.contains("panicked"), "{words}");
    words
}

/// Every file of a finished run that a broken run must reproduce, by name.
pub(crate) fn bytes_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            match path.is_dir() {
                true => folders.push(path),
                false if name == "lock" => {}
                false => _ = files.insert(name, fs::read(&path).unwrap()),
            }
        }
    }
    files
}

pub(crate) fn assert_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{name} differs");
    }
}

fn finish(mut child: Child, within: Duration) -> Option<i32> {
    let started = Instant::now();
    while started.elapsed() < within {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

#[test]
fn a_protocol_runs_end_to_end_and_again_to_the_same_bytes() {
    let place = Place::new();
    let started = Instant::now();
    let output = succeed(&mut place.run(TINY, "whole", &[]));
    let unbroken = started.elapsed();
    let last = text(&output.stdout).lines().last().unwrap().to_string();
    assert_eq!(Path::new(&last), place.path("whole/report.html"));
    let page = fs::read_to_string(&last).unwrap();
    assert!(page.contains("tiny") && page.contains("top-energy"));
    let expected = bytes_of(&place.path("whole"));
    for name in [
        "ledger.parquet",
        "ledger.jsonl",
        "training.jsonl",
        "examples.json",
        "run.json",
        "protocol.toml",
    ] {
        assert!(!expected[name].is_empty(), "{name}");
    }
    // 1 + 8 arms x 2 tasks, each with one checkpoint, the last.
    assert_eq!(expected.keys().filter(|name| name.ends_with("checkpoint.json")).count(), 17);

    let kills = killed_until_it_ends(|| place.run(TINY, "killed", &[]), unbroken);
    assert!(kills >= 2, "the run was killed {kills} times only");
    assert_same(&bytes_of(&place.path("killed")), &expected);
    killed_within_lessons_it_ends_in_the_same_bytes(&place, &expected);
    a_stopped_run_says_so_and_goes_on(&place, unbroken, &expected);
    what_does_not_belong_is_refused(&place);
}

/// kill -9 after times spread over the run, until it ends by itself; returns how often it was killed.
pub(crate) fn killed_until_it_ends(run: impl Fn() -> Command, unbroken: Duration) -> usize {
    let mut kills = 0;
    for attempt in 0..200 {
        // The golden section visits every part of the run: short and long lives alike.
        let share = (f64::from(attempt) * 0.618_034).fract();
        let life = Duration::from_millis(20) + unbroken.mul_f64(0.05 + 0.4 * share);
        let child = run().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        match finish(child, life) {
            Some(code) => {
                assert_eq!(code, 0, "after {kills} kills");
                return kills;
            }
            None => kills += 1,
        }
    }
    panic!("the run never ends")
}

/// kill -9 as soon as a checkpoint in the middle of a lesson is there: behind the last finished stage.
fn killed_within_lessons_it_ends_in_the_same_bytes(
    place: &Place,
    expected: &BTreeMap<String, Vec<u8>>,
) {
    let mut kills = 0;
    let lessons = ["task-1", "none/task-2", "random/task-2", "random/task-3", "control/task-3"];
    for lesson in lessons.iter().cycle().take(25) {
        let middle = place.path("within/seed-7").join(lesson).join("step-00000002");
        let mut child = place
            .run(TINY, "within", &[])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while !middle.exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        match child.try_wait().unwrap() {
            // So fast, or this machine so busy, that the checkpoint came and went unseen: once more from the start.
            Some(status) => {
                assert!(status.success(), "{lesson}: {status}");
                fs::remove_dir_all(place.path("within")).unwrap();
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += usize::from(middle.exists());
            }
        }
        if kills == 5 {
            break;
        }
    }
    assert!(kills >= 2, "the run was killed within {kills} lessons only");
    succeed(&mut place.run(TINY, "within", &[]));
    assert_same(&bytes_of(&place.path("within")), expected);
}

/// SIGTERM: exit code 75, and the same command goes on.
fn a_stopped_run_says_so_and_goes_on(
    place: &Place,
    unbroken: Duration,
    expected: &BTreeMap<String, Vec<u8>>,
) {
    let child = place
        .run(TINY, "stopped", &[])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(unbroken.mul_f64(0.4));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    // A machine so fast that the run was over already proves nothing, but breaks nothing either.
    if output.status.code() != Some(0) {
        assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
        assert!(
            text(&output.stderr).contains("run the same command again"),
            "{}",
            text(&output.stderr)
        );
    }
    succeed(&mut place.run(TINY, "stopped", &[]));
    assert_same(&bytes_of(&place.path("stopped")), expected);
}

fn what_does_not_belong_is_refused(place: &Place) {
    let words = fail(&mut place.run(TINY, "whole", &["training.learning_rate=2e-3"]), 64);
    assert!(words.contains("training.learning_rate: 0.001 then, 0.002 now"), "{words}");
    let trained = place.path("whole/seed-7/task-1/step-00000006");
    let pretrained = format!("model.pretrained={:?}", trained.display().to_string());
    let overrides = [pretrained.as_str(), "diffusion.schedule=cosine"];
    let words = fail(&mut place.run(TINY, "never", &overrides), 64);
    assert!(
        words.contains("trained for another process; expected schedule = \"linear\""),
        "{words}"
    );
    let lock = fs::File::open(place.path("whole/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    fs::write(place.path("whole/lock"), "process 1 on another").unwrap();
    let words = fail(&mut place.run(TINY, "whole", &[]), 73);
    assert!(words.contains("the run is locked by process 1 on another"), "{words}");
    drop(lock);
    let checkpoint =
        place.path("killed/seed-7/task-1/step-00000006/unet/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&checkpoint).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&checkpoint, bytes).unwrap();
    let words = fail(&mut place.run(TINY, "killed", &[]), 77);
    assert!(words.contains("diffusion_pytorch_model.safetensors"), "{words}");
    fs::remove_dir_all(place.path("within/seed-7/none/task-3")).unwrap();
    let words = fail(&mut place.run(TINY, "within", &[]), 77);
    assert!(words.contains("its checkpoint is gone"), "{words}");
    let progress = place.path("stopped/progress.json");
    let kept = fs::read_to_string(&progress).unwrap();
    fs::write(&progress, kept.replace("/task-3/train", "/task-3/trains")).unwrap();
    let words = fail(&mut place.run(TINY, "stopped", &[]), 77);
    assert!(words.contains("progress.json: it is not as it was written"), "{words}");
}

#[test]
fn impossible_protocols_are_refused_before_anything_is_written() {
    let place = Place::new();
    let cases = [
        ("training.learnig_rate=1", "did you mean `learning_rate`"),
        ("stream.tasks=[[0, 1], [1, 2]]", "task"),
        ("replay.budget=1000", "replay.budget"),
        ("replay.arms=[\"best\"]", "best"),
        ("model.channels=[6, 6]", "norm_num_groups"),
        ("data.resolution=9", "data.resolution"),
        ("data.per_class=100000", "class"),
        ("probe.headline=0.2", "probe.headline"),
        ("training.steps=0", "training.steps"),
        ("diffusion.beta_end=2.0", "diffusion.beta_end"),
        ("seeds=[]", "seeds"),
        ("name=\"../elsewhere\"", "name"),
    ];
    for (assignment, expected) in cases {
        let words = fail(&mut place.run(TINY, "never", &[assignment]), 64);
        assert!(words.contains(expected), "{assignment}: {words}");
        assert!(!place.path("never").exists(), "{assignment}");
    }
    let words = fail(lethe().args(["run", "absent.toml"]), 66);
    assert!(words.contains("absent.toml"), "{words}");
    fail(&mut place.run(TINY, "never", &["data.source=path", "data.path=/nonexistent"]), 66);
    let broken = place.write("broken.toml", "name = ");
    assert!(fail(lethe().arg("run").arg(broken), 64).contains("broken.toml"));
}

#[test]
fn arms_of_another_laboratory_are_refused_by_name() {
    let place = Place::new();
    let protocol = place.write("protocol.toml", TINY);
    for arm in ["gradient-diversity", "interference", "most-forgotten"] {
        let belongs = "it belongs to `lethe mhn images`";
        let arms = format!("replay.arms=[\"none\", \"{arm}\"]");
        // Even where the data are not there: it is the protocol that is wrong.
        let overrides = [arms.as_str(), "data.source=path", "data.path=/nonexistent"];
        let words = fail(&mut place.run(TINY, "never", &overrides), 64);
        assert!(words.contains(&format!("replay.arms: `{arm}` selects by")), "{words}");
        assert!(words.contains(belongs), "{words}");
        let mut alone = lethe();
        alone.arg("train").arg(&protocol).args(["--task", "2", "--arm", arm, "--out"]);
        let words = fail(alone.arg(place.path("never")), 64);
        assert!(words.contains(&format!("--arm: `{arm}`")) && words.contains(belongs), "{words}");
        assert!(!place.path("never").exists(), "{arm}");
    }
}

#[test]
fn broken_data_are_refused_by_name() {
    let place = Place::new();
    let images = place.path("data");
    fs::create_dir(&images).unwrap();
    fs::write(
        images.join("train-images-idx3-ubyte"),
        [0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 8, 1, 2, 3],
    )
    .unwrap();
    fs::write(
        images.join("train-labels-idx1-ubyte"),
        [0, 0, 8, 1, 0, 0, 0, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8],
    )
    .unwrap();
    let source = format!("data.path={:?}", images.display().to_string());
    let words = fail(&mut place.run(TINY, "never", &["data.source=path", &source]), 65);
    assert!(words.contains("train-images-idx3-ubyte"), "{words}");
    let words = fail(lethe().args(["data", "check"]).arg(&images), 65);
    assert!(words.contains("train-images-idx3-ubyte"), "{words}");
    let output = succeed(lethe().args(["data", "check", "fashion-mnist"]));
    assert!(text(&output.stdout).contains("Ankle boot"));
}

#[test]
fn the_reaches_of_the_river_work_alone() {
    let place = Place::new();
    let protocol = place.write("protocol.toml", TINY);
    let train = |task: &str, extra: &[&str], out: &str| {
        let mut command = lethe();
        command
            .arg("train")
            .arg(&protocol)
            .args(["--task", task, "--out"])
            .arg(place.path(out))
            .args(extra);
        command
    };
    let first = place.path("task-1").display().to_string();
    succeed(&mut train("1", &[], "task-1"));
    let words = fail(&mut train("2", &["--arm", "random"], "task-2"), 64);
    assert!(words.contains("--from"), "{words}");
    for arm in ["energy-weighted", "k-center"] {
        succeed(&mut train("2", &["--arm", arm, "--from", &first], arm));
        let manifest = fs::read(place.path(arm).join("step-00000004/checkpoint.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let kept = manifest["state"]["buffer"]["tasks"][0].as_array().unwrap().len();
        assert_eq!(kept, 8, "{arm}");
    }
    let output = succeed(&mut train("2", &["--arm", "top-energy", "--from", &first], "task-2"));
    let checkpoint = PathBuf::from(text(&output.stdout).trim());
    for file in ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"] {
        assert!(checkpoint.join(file).exists(), "{file}");
    }
    let second = place.path("task-2").display().to_string();
    for (task, extra) in [
        ("3", ["--arm", "top-energy", "--from", &first]),
        ("3", ["--arm", "none", "--from", &second]),
    ] {
        let words = fail(&mut train(task, &extra, "never"), 64);
        assert!(words.contains("--from: ") && words.contains("expected task"), "{words}");
    }
    let words = fail(&mut train("2", &["--seed", "8", "--from", &first], "never"), 64);
    assert!(words.contains("--seed: expected one of"), "{words}");
    let velocity = ["--from", &first, "--set", "diffusion.parameterization=velocity"];
    let words = fail(&mut train("2", &velocity, "never"), 64);
    assert!(words.contains("was trained for another process"), "{words}");
    assert!(!place.path("never/ledger.jsonl").exists());
    let probe = |out: &str, extra: &[&str]| {
        let mut command = lethe();
        command.arg("probe").arg(&protocol).args(["--task", "2", "--checkpoint", &second]);
        command.args(extra).arg("--out").arg(place.path(out));
        command
    };
    fail(&mut probe("never", &["--set", "diffusion.schedule=cosine"]), 64);
    let output = succeed(&mut probe("probe", &[]));
    let ledger = fs::read_to_string(text(&output.stdout).trim()).unwrap();
    assert!(ledger.contains("reconstruction_error") && ledger.contains("top-energy"));
    assert!(place.path("probe/ledger.parquet").exists());
    succeed(
        lethe()
            .arg("sample")
            .arg(place.path("task-2"))
            .args(["--count", "3", "--stages", "2", "--out"])
            .arg(place.path("samples.png")),
    );
    assert!(fs::read(place.path("samples.png")).unwrap().starts_with(b"\x89PNG"));
    for option in ["--prompt", "--negative-prompt", "--guidance"] {
        let mut sample = lethe();
        let words = fail(sample.arg("sample").arg(place.path("task-2")).args([option, "2"]), 64);
        assert!(words.contains(option) && words.contains("told no texts"), "{words}");
    }
    let output = succeed(lethe().args(["models", "verify", "--json"]).arg(place.path("task-2")));
    let finding: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(finding["kind"], "UNet2DModel");
}

#[test]
fn verification_reads_a_reference_and_names_what_is_wrong() {
    let model = golden("unet/defaults-like");
    let output = succeed(
        lethe()
            .args(["models", "verify", "--json"])
            .arg(&model)
            .arg("--reference")
            .arg(model.join("reference.safetensors")),
    );
    let finding: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(finding["worst"]["relative_error"].as_f64().unwrap() <= 7e-5, "{finding}");
    assert!(finding["errors"].as_array().unwrap().len() > 100);
    let strict = |tolerance| {
        let mut command = lethe();
        command.args(["models", "verify", "--tolerance", tolerance]).arg(&model);
        command.arg("--reference").arg(model.join("reference.safetensors"));
        command
    };
    succeed(&mut strict("1e-3"));
    assert!(fail(&mut strict("1e-12"), 77).contains("relative error"));
    let place = Place::new();
    let folder = place.path("cut");
    fs::create_dir(&folder).unwrap();
    fs::copy(model.join("config.json"), folder.join("config.json")).unwrap();
    let weights = fs::read(model.join("diffusion_pytorch_model.safetensors")).unwrap();
    for length in [0, 7, 100, weights.len() / 2, weights.len() - 1] {
        fs::write(folder.join("diffusion_pytorch_model.safetensors"), &weights[..length]).unwrap();
        let words = fail(lethe().args(["models", "verify"]).arg(&folder), 77);
        assert!(words.contains("diffusion_pytorch_model.safetensors"), "{length}: {words}");
    }
    assert!(
        fail(lethe().args(["models", "verify"]).arg(place.path("absent")), 66).contains("absent")
    );
}

#[test]
fn energies_of_ones_own_arrays_are_written() {
    use candle_core::{Device, Tensor};
    use lethe::candlex::weights::{WeightFile, serialize};
    let place = Place::new();
    let patterns = Tensor::new(&[[1f64, 0.], [0., 1.], [3., 3.]], &Device::Cpu).unwrap();
    let queries = Tensor::new(&[[1f64, 0.], [0.5, 0.5]], &Device::Cpu).unwrap();
    let patterns =
        place.write("x.safetensors", serialize(&[("patterns", patterns)], None).unwrap());
    let queries = place.write("q.safetensors", serialize(&[("queries", queries)], None).unwrap());
    let run = |extra: &[&str]| {
        let mut command = lethe();
        command.arg("energy").arg("--queries").arg(&queries).arg("--patterns").arg(&patterns);
        command.args(extra).arg("--out").arg(place.path("e.safetensors"));
        command
    };
    succeed(&mut run(&["--inverse-temperature", "2", "--form", "dot"]));
    let file = WeightFile::open(&place.path("e.safetensors")).unwrap();
    let energy = file.tensor("energy").unwrap().to_vec1::<f64>().unwrap();
    let expected = 0.5 - (2f64.exp() + 1. + 6f64.exp()).ln() / 2.;
    assert!((energy[0] - expected).abs() <= 1e-14);
    assert_eq!(file.names().collect::<Vec<_>>(), ["energy", "entropy", "gradient", "retrieved"]);
    succeed(&mut run(&["--inverse-temperature", "2", "--form", "distance", "--leave-one-out"]));
    let file = WeightFile::open(&place.path("e.safetensors")).unwrap();
    let energy = file.tensor("energy").unwrap().to_vec1::<f64>().unwrap();
    // Query 0 leaves pattern 0 out: squared distances 2 and 13 remain.
    assert!((energy[0] + (0.5 * ((-2f64).exp() + (-13f64).exp())).ln() / 2.).abs() <= 1e-14);
    let words = fail(&mut run(&["--inverse-temperature", "0", "--form", "dot"]), 64);
    assert!(words.contains("inverse temperature"), "{words}");
    // A user's own files: what is wrong with them is wrong with the data.
    let whole = fs::read(place.path("q.safetensors")).unwrap();
    fs::write(place.path("q.safetensors"), &whole[..whole.len() - 3]).unwrap();
    let question = ["--inverse-temperature", "2", "--form", "dot"];
    fail(&mut run(&question), 65);
    fs::write(place.path("q.safetensors"), &whole).unwrap();
    let masses = |values: &[f64]| {
        let masses = Tensor::new(values, &Device::Cpu).unwrap();
        place.write("m.safetensors", serialize(&[("masses", masses)], None).unwrap());
    };
    let file = place.path("m.safetensors").display().to_string();
    let weighed = [&question[..], &["--masses", &file]].concat();
    for bad in [&[1., -1., 2.][..], &[1., 1.]] {
        masses(bad);
        assert!(fail(&mut run(&weighed), 65).contains("`masses`: expected"));
    }
    let long = [&question[..], &["--updates", "99999999999999"]].concat();
    assert!(fail(&mut run(&long), 64).contains("--updates: expected at most"));
    let name = place.path("").file_name().unwrap().to_string_lossy().into_owned();
    let out = format!("../{name}/q.safetensors");
    let mut same = lethe();
    same.current_dir(place.path("")).args(["energy", "--queries", "q.safetensors"]).args(question);
    same.args(["--patterns", "x.safetensors", "--out", &out]);
    assert!(fail(&mut same, 64).contains("is an input"));
    assert_eq!(fs::read(place.path("q.safetensors")).unwrap(), whole);
    let mut nowhere = lethe();
    nowhere.arg("energy").arg("--queries").arg(place.path("q.safetensors")).args(question);
    nowhere.arg("--patterns").arg(place.path("x.safetensors"));
    assert!(fail(nowhere.arg("--out").arg(place.path("no/e")), 73).contains("--out"));
    let mut folder = lethe();
    folder.arg("energy").arg("--queries").arg(place.path("")).args(question);
    folder.arg("--patterns").arg(place.path("x.safetensors"));
    fail(folder.arg("--out").arg(place.path("e")), 65);
}
