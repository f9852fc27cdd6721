//! Models by hub id, through the real binary and a server in the test: fetched, checked, and never looked for where no
//! socket may be opened.

use crate::golden;
use crate::river::{Place, fail, lethe, succeed};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A file of the repository, and the digest that the server says it has.
struct Served {
    bytes: Vec<u8>,
    etag: String,
}

/// A repository `small/model`, and what was asked of it.
#[derive(Clone, Default)]
struct Hub {
    files: Arc<Mutex<BTreeMap<String, Served>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Hub {
    /// The golden model in small, with what no pipeline needs beside it; and the server's address.
    fn serve() -> (Self, String) {
        let hub = Self::default();
        let root = golden::path("latent");
        for folder in ["", "unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
            for entry in fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap()) {
                let name = Path::new(folder).join(entry.file_name());
                let is_ours = !folder.is_empty() || name.ends_with("model_index.json");
                if is_ours && entry.path().is_file() {
                    hub.add(name.to_str().unwrap(), &fs::read(entry.path()).unwrap());
                }
            }
        }
        for name in ["README.md", "v1.ckpt", "unet/diffusion_pytorch_model.fp16.safetensors"] {
            hub.add(name, b"not wanted");
        }
        hub.add("vae/diffusion_pytorch_model.bin", b"a pickle");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = hub.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            listener.incoming().for_each(|stream| server.answer(&mut stream.unwrap()))
        });
        (hub, address)
    }

    /// Large files bear their SHA-256, small ones that of git.
    fn add(&self, name: &str, bytes: &[u8]) {
        let digest = sha256(bytes);
        let etag = if name.ends_with("safetensors") { digest } else { digest[..40].to_string() };
        self.files.lock().unwrap().insert(name.to_string(), Served { bytes: bytes.to_vec(), etag });
    }

    fn answer(&self, stream: &mut TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        // The headers end with an empty line.
        lines.by_ref().map(Result::unwrap).find(String::is_empty);
        let mut words = line.split(' ').map(String::from);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        self.asked.lock().unwrap().push(path.clone());
        let files = self.files.lock().unwrap();
        let tree = format!("/api/models/small/model/tree/{COMMIT}?recursive=true");
        let file = path.strip_prefix(&format!("/small/model/resolve/{COMMIT}/"));
        let (status, etag, body) = match (path == tree, file.and_then(|name| files.get(name))) {
            (true, _) => ("200 OK", String::new(), listing(&files)),
            (_, Some(file)) => ("200 OK", file.etag.clone(), file.bytes.clone()),
            _ => ("404 Not Found", String::new(), Vec::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        if method == "GET" {
            stream.write_all(&body).unwrap();
        }
    }

    /// What was asked for since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn listing(files: &BTreeMap<String, Served>) -> Vec<u8> {
    let entry = |(name, file): (&String, &Served)| json!({"type": "file", "oid": file.etag, "size": file.bytes.len(), "path": name});
    let entries: Vec<Value> = files.iter().map(entry).collect();
    Value::Array(entries).to_string().into_bytes()
}

/// A command whose hub is at `address`, and whose cache lies in `place`.
fn at(address: &str, place: &Place) -> Command {
    let mut command = lethe();
    for name in ["HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "LETHE_OFFLINE"] {
        command.env_remove(name);
    }
    command.env_remove("HF_HUB_OFFLINE").env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
    command.env("HF_ENDPOINT", address).env("HF_HOME", place.path("hub"));
    command.env("NO_PROXY", "127.0.0.1");
    command
}

fn verify(address: &str, place: &Place, model: &str) -> Command {
    let mut command = at(address, place);
    command.args(["models", "verify", model]);
    command
}

fn id() -> String {
    format!("hub:small/model@{COMMIT}")
}

fn snapshot(place: &Place) -> PathBuf {
    place.path("hub/hub/models--small--model/snapshots").join(COMMIT)
}

#[test]
fn a_model_is_fetched_once_without_what_it_does_not_need() {
    let ((hub, address), place) = (Hub::serve(), Place::new());
    let output = succeed(&mut verify(&address, &place, &id()));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("a StableDiffusionPipeline") && said.contains("166452"), "{said}");
    let asked = hub.asked();
    for name in ["model_index.json", "unet/config.json", "vae/diffusion_pytorch_model.safetensors"]
    {
        assert!(asked.iter().any(|path| path.ends_with(name)), "{name}: {asked:?}");
    }
    for name in ["README.md", ".ckpt", ".bin", "fp16"] {
        assert!(!asked.iter().any(|path| path.contains(name)), "{name}: {asked:?}");
    }
    assert!(snapshot(&place).join("model_index.json").exists());
    // What is there is used, and nobody is asked, whether or not anybody may be.
    succeed(&mut verify(&address, &place, &id()));
    succeed(verify(&address, &place, &id()).arg("--offline"));
    succeed(verify(&address, &place, &id()).env("LETHE_OFFLINE", "1"));
    let mut draw = at(&address, &place);
    draw.args(["sample", "--model", &id(), "--prompt", "a", "--count", "1", "--stages", "1"]);
    succeed(draw.args(["--size", "64", "--out"]).arg(place.path("drawn.png")));
    assert_eq!(hub.asked(), Vec::<String>::new());
}

#[test]
fn offline_and_for_a_folder_no_socket_is_opened() {
    let ((hub, address), place) = (Hub::serve(), Place::new());
    for name in ["LETHE_OFFLINE", "HF_HUB_OFFLINE"] {
        let words = fail(verify(&address, &place, &id()).env(name, "1"), 66);
        assert!(words.contains("offline; fetch it once without"), "{words}");
    }
    fail(verify(&address, &place, &id()).arg("--offline"), 66);
    let mut run = at(&address, &place);
    run.args(["--offline", "run", "fashion", "--set", "data.source=hub:small/data", "--out"]);
    run.arg(place.path("run"));
    let words = fail(&mut run, 66);
    assert!(words.contains("hub:small/data: offline"), "{words}");
    let folder = golden::path("latent");
    succeed(&mut verify(&address, &place, folder.to_str().unwrap()));
    // A branch moves, and is refused before anybody is asked where to.
    for branch in ["hub:small/model@main", "hub:small/model", "hub:small/model@0123"] {
        let words = fail(&mut verify(&address, &place, branch), 64);
        assert!(words.contains("git ls-remote"), "{words}");
    }
    assert_eq!(hub.asked(), Vec::<String>::new());
    assert!(!place.path("hub").exists());
}

#[test]
fn what_is_not_what_the_hub_says_is_refused_and_removed() {
    let ((hub, address), place) = (Hub::serve(), Place::new());
    let name = "vae/diffusion_pytorch_model.safetensors";
    let good = fs::read(golden::path("latent").join(name)).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    hub.files.lock().unwrap().get_mut(name).unwrap().bytes = bad.clone();
    let words = fail(&mut verify(&address, &place, &id()), 77);
    assert!(words.contains(name) && words.contains(&sha256(&good)), "{words}");
    assert!(!snapshot(&place).join(name).exists());
    hub.add(name, &good);
    succeed(&mut verify(&address, &place, &id()));
    // Spoilt after it was fetched: found, and fetched anew.
    let blob = fs::canonicalize(snapshot(&place).join(name)).unwrap();
    fs::write(&blob, &bad).unwrap();
    let words = fail(&mut verify(&address, &place, &id()), 77);
    assert!(words.contains("fetches it anew") && !blob.exists(), "{words}");
    succeed(&mut verify(&address, &place, &id()));
    assert_eq!(fs::read(&blob).unwrap(), good);
}

#[test]
fn a_repository_without_what_is_needed_is_refused_by_name() {
    let ((hub, address), place) = (Hub::serve(), Place::new());
    hub.files.lock().unwrap().remove("vae/diffusion_pytorch_model.safetensors");
    let words = fail(&mut verify(&address, &place, &id()), 66);
    assert!(words.contains("vae/config.json") && words.contains("pickles"), "{words}");
    let other = format!("hub:small/other@{COMMIT}");
    let words = fail(&mut verify(&address, &place, &other), 66);
    assert!(words.contains("hub:small/other@"), "{words}");
}
