//! Folders whose images are listed: good, broken, and hostile.

use tempfile::TempDir;

use crate::fixtures::{picture, png, write};
use crate::{BadImages, Loaded, ReadOptions, check, detect, read};

/// Four images in two folders.
fn folder(name: &str, metadata: &[u8]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (file, seed) in [("cat/1.png", 1), ("cat/2.png", 2), ("dog/3.png", 3), ("dog/4.png", 4)] {
        write(folder.path().join(file), png(&picture(4, 3, 3, seed)));
    }
    write(folder.path().join(name), metadata);
    folder
}

const LINES: &str = r#"{"file_name": "dog/4.png", "text": "a dog, \"asleep\""}
{"file_name": "./cat/1.png", "text": "ein Kätzchen", "width": 4}

{"file_name": "dog/3.png", "text": "a dog"}
{"text": "a cat", "file_name": "cat/2.png"}
"#;

const CELLS: &str = "\u{feff}file_name,text,other\r\n\
    dog/4.png,\"a dog, \"\"asleep\"\"\",1\r\ncat/1.png,ein Kätzchen,2\r\ndog/3.png,a dog,\r\ncat/2.png,a cat,4\r\n";

fn outcome(folder: &TempDir, options: &ReadOptions) -> Result<Loaded, String> {
    let source = detect(folder.path()).map_err(|error| error.to_string())?;
    read(&source, options).map_err(|error| error.to_string())
}

/// The words with which metadata are refused.
fn refusal(name: &str, metadata: impl AsRef<[u8]>) -> String {
    outcome(&folder(name, metadata.as_ref()), &ReadOptions::default()).expect_err("to be refused")
}

fn skip() -> ReadOptions {
    ReadOptions { bad_images: BadImages::Skip, ..ReadOptions::default() }
}

#[test]
fn captions_and_classes_come_from_either_kind_of_file() {
    for (name, text) in [("metadata.jsonl", LINES), ("metadata.csv", CELLS)] {
        let folder = folder(name, text.as_bytes());
        let images = outcome(&folder, &ReadOptions::default()).unwrap().images;
        assert_eq!(images.classes(), ["cat", "dog"]);
        assert_eq!((images.ids(), images.labels()), (&[0, 1, 2, 3][..], &[1, 0, 1, 0][..]));
        let expected = ["a dog, \"asleep\"", "ein Kätzchen", "a dog", "a cat"];
        assert_eq!(images.captions().unwrap(), expected, "{name}");
        for (index, seed) in [4, 1, 3, 2].into_iter().enumerate() {
            assert_eq!(images.image(index), picture(4, 3, 3, seed).pixels, "{index}");
        }
        let by_file = detect(&folder.path().join(name)).unwrap();
        assert_eq!(by_file, detect(folder.path()).unwrap());
        let summary = check(&by_file, &ReadOptions::default()).unwrap().to_string();
        assert!(summary.contains("captions: 4\n") && summary.contains(name), "{summary}");
    }
}

#[test]
fn captions_stay_with_their_images_under_every_option() {
    let folder = folder("metadata.jsonl", LINES.as_bytes());
    write(folder.path().join("dog/3.png"), "broken");
    let options = ReadOptions { per_class: Some(1), resolution: Some(2), ..skip() };
    let images = outcome(&folder, &options).unwrap().images;
    assert_eq!((images.ids(), images.labels()), (&[0, 1][..], &[1, 0][..]));
    assert_eq!(images.captions().unwrap(), ["a dog, \"asleep\"", "ein Kätzchen"]);
    let images = outcome(&folder, &skip()).unwrap().images;
    assert_eq!((images.ids(), images.captions().unwrap()[2].as_str()), (&[0, 1, 3][..], "a cat"));
}

#[test]
fn a_column_of_labels_says_the_class_by_name_or_number() {
    let csv = |labels: [&str; 4]| {
        let files = ["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"];
        let lines = files.iter().zip(labels).map(|(file, label)| format!("{file},{label}\n"));
        let folder = folder(
            "metadata.csv",
            format!("file_name,label\n{}", lines.collect::<String>()).as_bytes(),
        );
        outcome(&folder, &skip()).map(|loaded| loaded.images)
    };
    let named = csv(["z", "a", "a", "z"]).unwrap();
    assert_eq!(
        (named.classes(), named.labels()),
        (&["a".into(), "z".into()][..], &[1, 0, 0, 1][..])
    );
    assert_eq!(named.captions(), None);
    let numbered = csv(["7", "0", "0", "7"]).unwrap();
    assert_eq!((numbered.classes().len(), numbered.labels()), (10, &[7, 0, 0, 7][..]));
    assert!(csv(["7", "10", "0", "7"]).unwrap_err().contains("cat/2.png: label: expected 0 to 9"));
    assert_eq!(csv(["7", "", "0", "7"]).unwrap().ids(), [0, 2, 3]);
    let mixed = "{\"file_name\": \"cat/1.png\", \"label\": 3}\n{\"file_name\": \"cat/2.png\", \"label\": \"x\"}";
    let message = refusal("metadata.jsonl", mixed);
    assert!(message.contains("a name in line 2 and a number in line 1"), "{message}");
    let half = "{\"file_name\": \"cat/1.png\", \"label\": 0.5}";
    assert!(refusal("metadata.jsonl", half).contains("line 1: label: expected a name or a whole"));
}

#[test]
fn the_column_of_captions_can_be_named_and_must_then_be_there() {
    let folder = folder("metadata.csv", CELLS.replace("text", "prompt").as_bytes());
    let named = |name: &str| ReadOptions { caption_column: Some(name.into()), ..skip() };
    let images = outcome(&folder, &named("prompt")).unwrap().images;
    assert_eq!(images.captions().unwrap()[2], "a dog");
    // An empty cell is no caption.
    let found = outcome(&folder, &named("other")).unwrap();
    assert_eq!((found.images.len(), found.skipped.len()), (3, 1));
    assert_eq!(found.skipped[0].reason, "the caption is empty");
    let message = outcome(&folder, &named("label")).unwrap_err();
    assert!(
        message.contains("columns: expected `file_name`, and `label`, found file_name"),
        "{message}"
    );
    let message = outcome(&folder, &ReadOptions::default()).unwrap_err();
    assert!(message.contains("`file_name`, and `text` or `label`"), "{message}");
}

#[test]
fn what_is_listed_and_gone_and_what_is_there_and_not_listed_is_named_at_once() {
    let lines = LINES.replace("cat/1.png", "cat/one.png");
    let folder = folder("metadata.jsonl", lines.as_bytes());
    let message = outcome(&folder, &ReadOptions::default()).unwrap_err();
    assert!(message.contains("found 2 bad entries beside or among 4 rows"), "{message}");
    assert!(
        message.contains("cat/one.png: listed in the metadata, but no visible file"),
        "{message}"
    );
    assert!(message.contains("cat/1.png: a file that the metadata does not list"), "{message}");
    let found = outcome(&folder, &skip()).unwrap();
    assert_eq!((found.images.ids(), found.skipped.len()), (&[0, 2, 3][..], 2));
}

#[test]
fn metadata_that_are_no_metadata_are_refused_with_their_line() {
    let line = |text: &str| refusal("metadata.jsonl", format!("{LINES}{text}\n"));
    assert!(line("{\"file_name\": ").contains("metadata.jsonl: line 6: expected a JSON object"));
    assert!(line("[1]").contains("line 6: expected a JSON object"));
    assert!(line("{\"text\": \"no file\"}").contains("line 6: file_name: expected a path"));
    assert!(line("{\"file_name\": \"\"}").contains("line 6: file_name"));
    assert!(
        line("{\"file_name\": \"cat/2.png\"}")
            .contains("line 6: file_name: expected each image once")
    );
    assert!(line("{\"file_name\": \"cat/./2.png\"}").contains("cat/2.png as in line 5"));
    for path in ["../x.png", "cat/../dog/3.png", "/etc/passwd", ".."] {
        let message = line(&format!("{{\"file_name\": \"{path}\"}}"));
        assert!(message.contains("line 6: file_name: expected a path below"), "{path}: {message}");
    }
    assert!(line("{\"file_name\": \"cat/5.png\", \"text\": 5}").contains("line 6: caption"));
    let long = format!("{{\"file_name\": \"cat/5.png\", \"text\": \"{}\"}}", "a".repeat(20_000));
    assert!(line(&long).contains("at most 16384 bytes"));
    let foreign = [LINES.as_bytes(), b"{\"file_name\": \"\xff.png\"}"].concat();
    assert!(
        refusal("metadata.jsonl", foreign)
            .contains("line 6: expected a JSON object, found invalid utf-8")
    );
    let foreign = [CELLS.as_bytes(), b"cat/5.png,\xff,1\r\n"].concat();
    let message = refusal("metadata.csv", foreign);
    assert!(message.contains("line 6") && message.contains("UTF-8"), "{message}");
    let message = refusal("metadata.csv", format!("{CELLS}cat/5.png,a\n"));
    assert!(message.contains("line: 6"), "{message}");
    assert!(refusal("metadata.csv", "file_name,text,text\n").contains("each column once"));
    assert!(refusal("metadata.csv", "").contains("columns: expected `file_name`"));
    assert!(refusal("metadata.csv", "file_name,text\n").contains("found 4 bad entries"));
}

#[test]
fn an_image_without_a_folder_wants_a_label() {
    let folder = folder("metadata.jsonl", LINES.replace("cat/2.png", "5.png").as_bytes());
    write(folder.path().join("5.png"), png(&picture(4, 3, 3, 5)));
    let message = outcome(&folder, &skip()).unwrap_err();
    assert!(
        message.contains("line 5: label: expected a column `label`, or an image in"),
        "{message}"
    );
}

#[test]
fn two_metadata_files_or_metadata_further_in_are_refused() {
    let both = folder("metadata.jsonl", LINES.as_bytes());
    write(both.path().join("metadata.csv"), CELLS);
    let message = outcome(&both, &ReadOptions::default()).unwrap_err();
    assert!(message.contains("more than one dataset"), "{message}");
    assert!(message.contains("metadata.jsonl") && message.contains("metadata.csv"), "{message}");
    let inner = folder("dog/metadata.jsonl", LINES.as_bytes());
    let message = outcome(&inner, &ReadOptions::default()).unwrap_err();
    assert!(message.contains("dog/metadata.jsonl: metadata inside a class folder"), "{message}");
}

#[test]
fn a_file_that_is_far_too_large_is_not_read() {
    let folder = folder("metadata.jsonl", b"");
    let file = std::fs::File::options().write(true).open(folder.path().join("metadata.jsonl"));
    file.unwrap().set_len(1 << 40).unwrap();
    let message = outcome(&folder, &ReadOptions::default()).unwrap_err();
    assert!(
        message.contains("metadata.jsonl: length: expected at most 268435456 bytes"),
        "{message}"
    );
}

#[cfg(unix)]
#[test]
fn a_listed_link_may_stay_inside_but_not_lead_out() {
    use std::os::unix::fs::symlink;

    let more = "{\"file_name\": \"cat/5.png\", \"text\": \"5\"}\n{\"file_name\": \"cat/6.png\", \"text\": \"6\"}\n\
        {\"file_name\": \"out/secret.png\", \"text\": \"7\"}\n";
    let folder = folder("metadata.jsonl", format!("{LINES}{more}").as_bytes());
    let outside = TempDir::new().unwrap();
    write(outside.path().join("secret.png"), png(&picture(4, 3, 3, 8)));
    symlink("../dog/3.png", folder.path().join("cat/5.png")).unwrap();
    symlink(outside.path().join("secret.png"), folder.path().join("cat/6.png")).unwrap();
    symlink(outside.path(), folder.path().join("out")).unwrap();
    symlink("cat", folder.path().join("loop")).unwrap();
    let message = outcome(&folder, &ReadOptions::default()).unwrap_err();
    for line in [
        "cat/6.png: a link that leads out of the image folder",
        "cat/6.png: listed in the metadata, but no visible file",
        "out: a link that leads out of the image folder",
        "out/secret.png: listed in the metadata",
        "loop: a link to a folder",
    ] {
        assert!(message.contains(line), "{line} in {message}");
    }
    assert_eq!(outcome(&folder, &skip()).unwrap().images.ids(), [0, 1, 2, 3, 4]);
}

#[cfg(unix)]
#[test]
fn metadata_that_are_a_link_out_are_never_followed() {
    use std::os::unix::fs::symlink;

    let outside = TempDir::new().unwrap();
    for name in ["metadata.jsonl", "metadata.csv"] {
        let folder = folder(name, LINES.as_bytes());
        let path = folder.path().join(name);
        let target = outside.path().join(name);
        let put = |target: &std::path::Path| {
            std::fs::remove_file(&path).unwrap();
            symlink(target, &path).unwrap();
        };
        write(&target, "a secret\nof one\n");
        put(&target);
        for options in [ReadOptions::default(), skip()] {
            let message = outcome(&folder, &options).unwrap_err();
            let words = format!(
                "{name}: file: expected one in the image folder, found a link that leads out of the image folder"
            );
            assert!(message.contains(&words) && !message.contains("secret"), "{message}");
            let told = check(&detect(&path).unwrap(), &options).unwrap_err().to_string();
            assert_eq!(told, message);
        }
        put(&outside.path().join("nothing"));
        assert!(outcome(&folder, &skip()).unwrap_err().contains("found a link to nothing"));
        let kept = if name == "metadata.csv" { CELLS } else { LINES };
        write(folder.path().join(".kept"), kept);
        put(std::path::Path::new(".kept"));
        assert_eq!(outcome(&folder, &skip()).unwrap().images.len(), 4);
    }
}
