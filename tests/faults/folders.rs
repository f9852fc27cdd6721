//! Folders as they come: broken images among good ones, and names of every kind.

use crate::images::{broken as broken_images, good as good_image};
use crate::inputs::check;
use crate::process::{Rule, lethe};
use crate::runs::TINY;
use crate::tally::{Place, Suite, Tally};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Two class folders of `n` good images each, all different.
fn good(place: &Place, folder: &str, n: usize) {
    for (at, class) in ["cat", "dog"].into_iter().enumerate() {
        for number in 0..n {
            let bytes = good_image(at * n + number);
            place.write(&format!("{folder}/{class}/good-{number:04}.png"), bytes);
        }
    }
}

/// One pass lists every broken image with its reason; with `skip` the good ones are trained on, and the page counts.
pub fn broken(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    good(&place, "images", suite.tries(50, 500));
    let broken = broken_images();
    for (name, bytes) in &broken {
        place.write(&format!("images/dog/{name}"), bytes);
    }
    let images = place.path("images");
    let rule = Rule::codes(&[65]).saying("images").memory(256);
    let ended = rule.try_on(tally, "lethe data check", &mut check(&images));
    for (name, _) in &broken {
        let lines = ended.out.lines().filter(|line| line.contains(name));
        let has_reason = lines.into_iter().any(|line| line.trim().len() > name.len() + 4);
        let verdict = if has_reason { Ok(()) } else { Err("not listed with a reason".to_string()) };
        tally.count(|| format!("{name} is listed"), verdict);
    }
    let protocol = TINY
        .replace("source = \"fashion-mnist\"", "source = \"path\"\npath = \"DATA\"")
        .replace("DATA", &images.display().to_string())
        .replace("[[0, 1], [2, 3], [8, 9]]", "[[0], [1]]");
    let run = |protocol: &str, out: &str| {
        let file = place.write("p.toml", protocol);
        let mut command = lethe();
        command.arg("run").arg(file).arg("--out").arg(place.path(out));
        command
    };
    rule.try_on(tally, "a run refuses them", &mut run(&protocol, "refused"));
    let absent =
        if place.path("refused").exists() { Err("a folder is left".into()) } else { Ok(()) };
    tally.count(|| "a refused run leaves nothing".into(), absent);
    let skipping = protocol.replace("per_class", "bad_images = \"skip\"\nper_class");
    Rule::codes(&[0]).try_on(tally, "a run leaves them out", &mut run(&skipping, "skipped"));
    let page = fs::read_to_string(place.path("skipped/report.html")).unwrap_or_default();
    let verdict = match page.contains("bad images left out") {
        true => Ok(()),
        false => Err("the page does not count them".to_string()),
    };
    tally.count(|| "the page counts them".into(), verdict);
    // Images that are all alike are no broken ones, and yet nothing can be learned of them.
    for (class, number) in ["a", "b"].into_iter().flat_map(|class| (0..8).map(move |n| (class, n)))
    {
        place.write(&format!("alike/{class}/{number}.png"), good_image(1));
    }
    let alike =
        protocol.replace(&images.display().to_string(), &place.path("alike").display().to_string());
    let rule = Rule::codes(&[65]).saying("alike");
    rule.try_on(tally, "images that are all alike", &mut run(&alike, "alike-run"));
}

/// Whatever a file system allows as a name of a class or an image.
const NAMES: [&[u8]; 12] = [
    b"plain",
    b"caf\xc3\xa9",
    b"latin-\xe9\xff",
    b"\xf0\x9f\x90\x88",
    b"two\nlines",
    b"tab\tand\rreturn",
    b"\x1b[31mred",
    b"-rf",
    b"a b  c",
    b"'quoted\"",
    b"{class}",
    b"=1+1",
];

/// All of them load, and no name breaks a line of what is told, or of what is written.
pub fn names(_: &Suite, tally: &mut Tally) {
    let long = [b'n'; 251];
    for name in NAMES.into_iter().chain([&long[..]]) {
        let place = Place::new();
        for (at, (class, image)) in
            [(name, &b"image"[..]), (b"other", name)].into_iter().enumerate()
        {
            let folder = place.path("images").join(OsStr::from_bytes(class));
            fs::create_dir_all(&folder).unwrap();
            for number in 0..8 {
                let file = [image, format!("{number}").as_bytes(), b".png"].concat();
                let file = if file.len() > 255 { file[file.len() - 255..].to_vec() } else { file };
                fs::write(folder.join(OsStr::from_bytes(&file)), good_image(at * 8 + number))
                    .unwrap();
            }
        }
        let shown = name.escape_ascii().to_string();
        let ended = Rule::codes(&[0]).try_on(tally, &shown, &mut check(&place.path("images")));
        tally.count(|| format!("{shown}, as told"), is_plain(&ended.out));
        // A broken one is named so that it can be found.
        let file = place.path("images/other").join(OsStr::from_bytes(&[name, b".jpg"].concat()));
        fs::write(&file, "no image").unwrap_or_default();
        let is_there = file.exists();
        let codes = if is_there { [65] } else { [0] };
        let ended = Rule::codes(&codes).try_on(tally, &shown, &mut check(&place.path("images")));
        tally.count(|| format!("{shown}, as told when broken"), is_plain(&ended.out));
        fs::remove_file(&file).unwrap_or_default();
        outside(&place, &shown, tally);
    }
    let place = Place::new();
    good(&place, "images", 4);
    let outer = place.path("outer").join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir_all(outer.parent().unwrap()).unwrap();
    fs::rename(place.path("images"), &outer).unwrap();
    Rule::codes(&[0]).try_on(tally, "a path that is no UTF-8", &mut check(&outer));
    let mut command = lethe();
    command.arg("run").arg("fashion").arg("--set").arg(OsStr::from_bytes(b"name=\xff"));
    Rule::codes(&[64]).try_on(tally, "an option that is no UTF-8", &mut command);
    run_into(&place, tally);
}

/// A run whose classes have this name ends, and its page is well-formed where it shows it.
fn outside(place: &Place, shown: &str, tally: &mut Tally) {
    let protocol = TINY
        .replace("source = \"fashion-mnist\"", "source = \"path\"\npath = \"DATA\"")
        .replace("DATA", &place.path("images").display().to_string())
        .replace("resolution = 8", "resolution = 8\ncolour = \"grey\"")
        .replace("[[0, 1], [2, 3], [8, 9]]", "[[0], [1]]");
    let file = place.write("p.toml", protocol);
    let mut command = lethe();
    command.arg("run").arg(file).arg("--out").arg(place.path("run"));
    Rule::codes(&[0]).try_on(tally, &format!("{shown}, as a class of a run"), &mut command);
}

/// A run's folder may have any name.
fn run_into(place: &Place, tally: &mut Tally) {
    let out = place.path("runs").join(OsStr::from_bytes(b"caf\xe9 \xf0\x9f\x90\x88"));
    let file = place.write("tiny.toml", TINY);
    let command = || {
        let mut command = lethe();
        command.arg("run").arg(&file).arg("--out").arg(&out);
        command
    };
    Rule::codes(&[0]).try_on(tally, "--out that is no UTF-8", &mut command());
    Rule::codes(&[0]).try_on(tally, "the same again", &mut command());
    let is_there = out.join("report.html").exists() && !Path::new(&out).join("report").exists();
    let verdict = if is_there { Ok(()) } else { Err("no report there".to_string()) };
    tally.count(|| "its report".into(), verdict);
}

/// No control character but the ends of lines.
fn is_plain(text: &str) -> Result<(), String> {
    match text.chars().find(|c| c.is_control() && *c != '\n') {
        Some(found) => Err(format!("{found:?} reaches the terminal")),
        None => Ok(()),
    }
}
