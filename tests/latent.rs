//! The river in latents, through the real binary: a small Stable Diffusion model is made, learns and forgets.

use crate::river::{Place, assert_same, bytes_of, fail, killed_until_it_ends, lethe, succeed};
use lethe::candlex::weights::WeightFile;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Two tasks of two classes at 16x16, told texts.
const TINY: &str = r#"
name = "tiny-latent"
seeds = [7]

[data]
source = "fashion-mnist"
resolution = 16
colour = "rgb"
per_class = 12
held_out = 0.2

[stream]
tasks = [[0, 1], [8, 9]]

[latent]
templates = ["a photo of a {class}", "{class}, worn once"]
guidance = 2.0

[latent.make]
vae_channels = [8, 8]
vae_steps = 4
vae_batch = 4
channels = [16, 16]
norm_groups = 4
heads = 2
text_channels = 16
text_layers = 1

[diffusion]
schedule = "scaled-linear"
beta_start = 0.00085
beta_end = 0.012

[training]
steps = 4
later_steps = 3
batch = 4
warm_up = 2
learning_rate = 1e-3
ema_half_life = 20
checkpoint_every = 2
log_every = 2
validate_every = 2

[replay]
budget = 4
per_batch = 2
arms = ["none", "top-energy"]

[probe]
train_examples = 6
held_out_examples = 4
levels = [0.3]
headline = 0.3
stages = 2
draws = 1
bound_points = 0
perplexity = 4
curve_every = 2
curve_examples = 4
samples = 3
sample_stages = 2
"#;

fn run(place: &Place, out: &str, overrides: &[&str]) -> std::process::Command {
    let mut command = place.run(TINY, out, overrides);
    command.env("LETHE_CACHE", place.path("cache"));
    command
}

/// The only checkpoint in the folder of a task.
fn checkpoint(folder: &Path) -> PathBuf {
    let mut entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.join("checkpoint.json").exists()).unwrap()
}

#[test]
fn a_small_model_is_made_fine_tuned_and_measured_and_again_to_the_same_bytes() {
    let place = Place::new();
    succeed(&mut run(&place, "a", &[]));
    let ledger = fs::read_to_string(place.path("a/ledger.jsonl")).unwrap();
    assert!(ledger.contains("decoded_error") && ledger.contains("reconstruction_error"));
    let kept = checkpoint(&place.path("a/seed-7/task-1"));
    for part in ["unet", "vae", "text_encoder", "tokenizer", "scheduler", "model_index.json"] {
        assert!(kept.join(part).exists(), "{part}");
    }
    succeed(lethe().args(["models", "verify"]).arg(&kept));
    let out = place.path("drawn.png");
    let prompts = ["--prompt", "a photo of a Bag", "--count", "2", "--stages", "2"];
    succeed(lethe().arg("sample").arg("--model").arg(&kept).args(prompts).arg("--out").arg(&out));
    assert!(fs::read(&out).unwrap().starts_with(b"\x89PNG"));
    let vae = place.path("a/model/vae/diffusion_pytorch_model.safetensors");
    let weights = fs::read(&vae).unwrap();
    let check = || {
        let mut command = lethe();
        command.args(["report", "check"]).arg(place.path("a"));
        command
    };
    succeed(&mut check());
    fs::write(&vae, &weights[1..]).unwrap();
    fail(&mut check(), 77);
    fs::remove_file(&vae).unwrap();
    fail(&mut check(), 77);
    fs::write(&vae, weights).unwrap();
    // What lies where a model would be made is somebody's own.
    fs::create_dir_all(place.path("own/model")).unwrap();
    place.write("own/model/notes.txt", "mine");
    assert!(fail(&mut run(&place, "own", &[]), 73).contains("own/model"));
    // Another folder, with the latents that the first run left in the cache.
    succeed(&mut run(&place, "b", &[]));
    assert_eq!(ledger, fs::read_to_string(place.path("b/ledger.jsonl")).unwrap());
}

/// From the making of the model on, whole and by adapters.
#[test]
fn killed_runs_in_latents_end_in_the_same_bytes() {
    let place = Place::new();
    for (name, overrides) in
        [("full", ["training.parts=2"].as_slice()), ("lora", &["latent.lora.rank=2"])]
    {
        let started = Instant::now();
        succeed(&mut run(&place, name, overrides));
        let unbroken = started.elapsed();
        let killed = format!("{name}-killed");
        let kills = killed_until_it_ends(|| run(&place, &killed, overrides), unbroken);
        assert!(kills >= 2, "{name}: the run was killed {kills} times only");
        assert_same(&bytes_of(&place.path(&killed)), &bytes_of(&place.path(name)));
    }
}

#[test]
fn adapters_are_trained_alone_and_added_into_a_whole_model() {
    let place = Place::new();
    succeed(&mut run(&place, "base", &["training.steps=1", "training.later_steps=1"]));
    let model = format!("model.pretrained={}", place.path("base/model").display());
    // [latent.make] goes unused beside a model that is there.
    let lora = ["latent.lora.rank=2", "latent.lora.alpha=4", "training.recompute=true", &model];
    succeed(&mut run(&place, "lora", &lora));
    let kept = checkpoint(&place.path("lora/seed-7/task-1"));
    let open = |path: &Path| WeightFile::open(path).unwrap();
    let weights = "unet/diffusion_pytorch_model.safetensors";
    let (mut before, mut after) =
        (open(&place.path("base/model").join(weights)), open(&kept.join(weights)));
    let mut adapters = open(&kept.join("lora/pytorch_lora_weights.safetensors"));
    let mut trained = open(&kept.join("training/adapters.safetensors"));
    let values = |file: &mut WeightFile, name: &str| {
        file.tensor(name).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
    };
    let names: Vec<String> = before.names().map(String::from).collect();
    let (mut adapted, mut moved) = (0, 0);
    for name in &names {
        let layer = name.strip_suffix(".weight").unwrap_or(name);
        let up = format!("unet.{layer}.lora_B.weight");
        let is_adapted = adapters.info(&up).is_ok();
        adapted += usize::from(is_adapted);
        let differs = values(&mut before, name) != values(&mut after, name);
        assert!(is_adapted || !differs, "{name} moved without an adapter");
        moved += usize::from(differs);
        if is_adapted {
            let (a, b) = (adapters.tensor(&up.replace("lora_B", "lora_A")), adapters.tensor(&up));
            // diffusers knows no alpha beside the numbers: 4 / 2 is in B already.
            let more = b.unwrap().matmul(&a.unwrap()).unwrap();
            let doubled: Vec<f64> = values(&mut trained, &up).iter().map(|b| 2. * b).collect();
            assert_eq!(values(&mut adapters, &up), doubled);
            let sum = (before.tensor(name).unwrap() + more).unwrap();
            let off = (sum - after.tensor(name).unwrap()).unwrap().abs().unwrap().max_all();
            assert!(off.unwrap().to_scalar::<f64>().unwrap() <= 1e-6, "{name}");
        }
    }
    assert!(adapted == moved && adapted == 4 * 2 * 4, "{adapted} adapted, {moved} moved");
    succeed(lethe().args(["models", "verify"]).arg(&kept));
}

/// Two classes of twelve images, and what their metadata say of them.
fn captioned(folder: &Path) -> String {
    let mut lines = String::new();
    for (class, shade) in [("dark", 20), ("light", 200)] {
        fs::create_dir_all(folder.join(class)).unwrap();
        for i in 0..12u8 {
            let file = format!("{class}/{i}.png");
            let mut encoder =
                png::Encoder::new(fs::File::create(folder.join(&file)).unwrap(), 16, 16);
            encoder.set_color(png::ColorType::Rgb);
            let pixels: Vec<u8> =
                (0..16 * 16 * 3).map(|k| shade + (k % (i as usize + 2)) as u8).collect();
            encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
            lines.push_str(&format!(
                "{{\"file_name\": \"{file}\", \"text\": \"stripes of {i}, {class}\"}}\n"
            ));
        }
    }
    lines
}

#[test]
fn captions_are_told_in_place_of_classes_and_stand_in_the_protocol() {
    let place = Place::new();
    let folder = place.path("stripes");
    let lines = captioned(&folder);
    fs::write(folder.join("metadata.jsonl"), &lines).unwrap();
    let checked = succeed(lethe().args(["data", "check"]).arg(&folder));
    assert!(String::from_utf8(checked.stdout).unwrap().contains("captions: 24"));
    let path = format!("data.path={}", folder.display());
    let data = ["data.source=path", &path, "stream.tasks=[[0], [1]]", "replay.arms=[\"none\"]"];
    let told = |out: &str, templates: &str| {
        let mut command = run(&place, out, &data);
        command.args(["--set", &format!("latent.templates={templates}")]);
        succeed(&mut command);
        fs::read_to_string(place.path(out).join("ledger.jsonl")).unwrap()
    };
    let by_class = told("class", "[\"{class}\"]");
    let by_caption = told("caption", "[\"{text}\"]");
    assert_ne!(by_class, by_caption);
    // Without templates the captions are told; other captions are other data.
    let plain = TINY.replace("templates = [\"a photo of a {class}\", \"{class}, worn once\"]", "");
    let suggested = |out: &str| {
        let mut command = place.run(&plain, out, &data);
        succeed(command.env("LETHE_CACHE", place.path("cache")));
        fs::read_to_string(place.path(out).join("ledger.jsonl")).unwrap()
    };
    assert_eq!(suggested("suggested"), by_caption);
    let kept = fs::read_to_string(place.path("suggested/protocol.toml")).unwrap();
    assert!(kept.contains("templates = [\"{text}\"]"), "{kept}");
    fs::write(folder.join("metadata.jsonl"), lines.replace("stripes of 3", "dots")).unwrap();
    let mut command = place.run(&plain, "suggested", &data);
    assert!(fail(&mut command, 64).contains("made of another protocol's images"));
}

#[test]
fn what_latents_cannot_have_is_refused_before_anything_is_made() {
    let place = Place::new();
    for (assignment, words) in [
        ("training.flip=true", "training.flip"),
        ("probe.bound_points=3", "probe.bound_points"),
        ("latent.templates=[]", "latent.templates"),
        ("latent.guidance=nan", "latent.guidance"),
        ("latent.guidance=1e300", "latent.guidance"),
        ("latent.templates=[\"a {kind}\"]", "latent.templates"),
        ("latent.templates=[\"a garment\"]", "latent.same_text = true"),
        ("latent.templates=[\"{text}\"]", "asks for captions, and the data have none"),
        ("latent.make.text_layers=0", "text_layers"),
        ("latent.make.channels=[1000000000, 16]", "block_out_channels"),
        ("latent.make.vae_steps=0", "latent.make.vae_steps"),
        ("latent.make.norm_groups=3", "norm_num_groups"),
        ("latent.make.heads=3", "heads"),
        ("latent.mak.heads=3", "make"),
        ("data.resolution=18", "data.resolution"),
    ] {
        let found = fail(&mut run(&place, "refused", &[assignment]), 64);
        assert!(found.contains(words), "{assignment}: {found}");
        assert!(!place.path("refused").join("model").exists(), "{assignment}");
    }
}

#[test]
fn a_model_that_does_not_fit_is_refused_by_name() {
    let place = Place::new();
    succeed(&mut run(&place, "base", &["training.steps=1", "training.later_steps=1"]));
    let model = place.path("base/model");
    // It is changed on purpose below.
    fs::remove_file(model.join("checkpoint.json")).unwrap();
    let pretrained = format!("model.pretrained={}", model.display());
    let refused = |assignments: &[&str], code: i32| {
        let all = [&[pretrained.as_str()][..], assignments].concat();
        fail(&mut run(&place, "refused", &all), code)
    };
    assert!(refused(&["data.colour=grey"], 64).contains("data.colour"));
    assert!(refused(&["diffusion.schedule=linear"], 64).contains("another process"));
    assert!(refused(&["model.channels=[8]"], 64).contains("pretrained"));
    assert!(refused(&["latent.lora.targets=[\"to_x\"]"], 64).contains("lora.targets"));
    assert!(refused(&["latent.lora.rank=0"], 64).contains("lora.rank"));
    // What says the noise levels, and parts that fit together, belong to a whole model.
    let scheduler = model.join("scheduler/scheduler_config.json");
    let text = fs::read_to_string(&scheduler).unwrap();
    let verified = |code: i32| fail(lethe().args(["models", "verify"]).arg(&model), code);
    for (from, to, words) in [
        ("\"steps_offset\": 1", "\"steps_offset\": 5000", "steps_offset"),
        ("\"clip_sample\": false", "\"clip_sample\": true", "clip_sample"),
        ("\"beta_end\": 0.012", "\"beta_end\": 2", "beta_end"),
        ("timesteps\": 1000", "timesteps\": 1000000000000", "timesteps"),
        ("\"clip_sample\"", "\"timestep_spacing\": \"trailing\", \"clip_sample\"", "spacing"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&scheduler, text.replace(from, to)).unwrap();
        assert!(verified(77).contains(words), "{to}");
    }
    fs::remove_file(&scheduler).unwrap();
    assert!(verified(66).contains("scheduler_config.json"));
    fs::write(&scheduler, text).unwrap();
    let config = model.join("unet/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"sample_size\": 8", "\"sample_size\": 1000000000")).unwrap();
    assert!(verified(77).contains("sample_size"));
    fs::write(&config, text).unwrap();
    let draw = |options: &[&str], code: i32| {
        let command = &mut lethe();
        command.args(["sample", "--prompt", "a", "--model"]).arg(&model).args(options);
        fail(command.arg("--out").arg(place.path("drawn.png")), code)
    };
    assert!(draw(&["--size", "100000000"], 64).contains("--size"));
    assert!(draw(&["--count", "99999999999999"], 64).contains("--count"));
    assert!(draw(&["--guidance", "1e300"], 64).contains("--guidance"));
    // Pickles instead of weights, a cut file, and a file whose name says another family.
    let unet = model.join("unet/diffusion_pytorch_model.safetensors");
    let bytes = fs::read(&unet).unwrap();
    fs::write(&unet, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refused(&[], 77).contains("diffusion_pytorch_model"));
    fs::rename(&unet, model.join("unet/diffusion_pytorch_model.bin")).unwrap();
    assert!(refused(&[], 77).contains("a pickle"));
    let index = model.join("model_index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace("StableDiffusionPipeline", "StableDiffusionXLPipeline"))
        .unwrap();
    assert!(refused(&[], 77).contains("StableDiffusionXLPipeline"));
}

/// Bytes of all files below a folder.
fn bytes_below(folder: &Path) -> u64 {
    let size = |entry: fs::DirEntry| match entry.metadata().unwrap() {
        kind if kind.is_dir() => bytes_below(&entry.path()),
        kind => kind.len(),
    };
    fs::read_dir(folder).unwrap().map(|entry| size(entry.unwrap())).sum()
}

#[test]
fn a_plan_foretells_what_a_run_leaves_and_keeps_nothing_itself() {
    let place = Place::new();
    let planned = |options: &[&str]| {
        let mut command = lethe();
        command.arg("plan").arg(place.write("protocol.toml", TINY)).args(options);
        command.env("LETHE_CACHE", place.path("cache")).arg("--disk").arg(place.path("a"));
        command
    };
    let text = String::from_utf8(succeed(&mut planned(&[])).stdout).unwrap();
    assert!(text.contains("making the model") && text.trim_end().ends_with("\nfits"), "{text}");
    let found = succeed(&mut planned(&["--json"])).stdout;
    let plan: serde_json::Value = serde_json::from_slice(&found).unwrap();
    assert!(!place.path("a").exists() && !place.path("cache").exists());
    succeed(&mut run(&place, "a", &[]));
    let bytes = |what: &str| -> f64 {
        let parts = plan["disk"].as_array().unwrap().iter();
        let part = |part: &&serde_json::Value| part["what"].as_str().unwrap().starts_with(what);
        parts.filter(part).map(|part| part["bytes"].as_f64().unwrap()).sum()
    };
    let (foretold, left) = (bytes("checkpoints that stay"), bytes_below(&place.path("a/seed-7")));
    let ratio = foretold / left as f64;
    assert!((0.9..1.1).contains(&ratio), "{foretold} of {left}");
    let (foretold, left) = (bytes("the model"), bytes_below(&place.path("a/model")));
    assert!((0.99..1.01).contains(&(foretold / left as f64)), "{foretold} of {left}");
    assert!(fail(&mut planned(&["--set", "training.batch=0"]), 64).contains("training.batch"));
}
