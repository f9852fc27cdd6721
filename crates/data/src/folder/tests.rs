//! Folders of images, good and broken.

use image::ImageFormat;
use tempfile::TempDir;

use crate::fixtures::{encoded, picture, png, write};
use crate::{BadImages, Loaded, ReadOptions, Source, read};

/// Two classes of two images, with hidden entries that do not count.
fn animals() -> TempDir {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    write(root.join("dog/b.png"), png(&picture(4, 3, 3, 4)));
    write(root.join("dog/a.jpg"), png(&picture(4, 3, 3, 3)));
    write(root.join("Cat/2"), encoded(&picture(4, 3, 3, 2), ImageFormat::WebP));
    write(root.join("Cat/10.webp"), png(&picture(4, 3, 3, 1)));
    write(root.join("Cat/.DS_Store"), "hidden");
    write(root.join(".cache/x"), "hidden");
    folder
}

fn outcome(folder: &TempDir, options: &ReadOptions) -> Result<Loaded, String> {
    let source = Source::Folder { folder: folder.path().to_path_buf() };
    read(&source, options).map_err(|error| error.to_string())
}

fn refusal(folder: &TempDir) -> String {
    outcome(folder, &ReadOptions::default()).expect_err("a folder to refuse")
}

#[test]
fn classes_and_files_are_in_bytewise_order_and_known_by_content() {
    let images = outcome(&animals(), &ReadOptions::default()).unwrap().images;
    assert_eq!(images.classes(), ["Cat", "dog"]);
    assert_eq!((images.ids(), images.labels()), (&[0, 1, 2, 3][..], &[0, 0, 1, 1][..]));
    for (index, seed) in [1, 2, 3, 4].into_iter().enumerate() {
        assert_eq!(images.image(index), picture(4, 3, 3, seed).pixels, "{index}");
    }
}

#[test]
fn every_bad_entry_is_listed_in_one_pass() {
    let folder = animals();
    let root = folder.path();
    let good = png(&picture(4, 3, 3, 9));
    write(root.join("dog/empty.png"), "");
    write(root.join("dog/page.jpg"), "<html>404</html>");
    write(root.join("dog/short.png"), &good[..good.len() / 2]);
    write(root.join("dog/puppies/c.png"), &good);
    write(root.join("labels.csv"), "file,label");
    std::fs::create_dir(root.join("emu")).unwrap();
    let message = refusal(&folder);
    assert!(message.contains("found 6 bad entries beside or among 7 rows"), "{message}");
    for line in [
        "dog/empty.png: an empty file",
        "dog/page.jpg: not PNG, JPEG or WebP: begins with \"<html>40\"",
        "dog/short.png: truncated PNG",
        "dog/puppies: a folder inside a class folder",
        "labels.csv: a file beside the class folders",
        "emu: a class folder without a file",
    ] {
        assert!(message.contains(line), "{line} in {message}");
    }
    let skip = ReadOptions { bad_images: BadImages::Skip, ..ReadOptions::default() };
    let loaded = outcome(&folder, &skip).unwrap();
    assert_eq!((loaded.images.len(), loaded.skipped.len()), (4, 6));
}

#[test]
fn a_long_list_is_cut_but_counted() {
    let folder = animals();
    (0..25).for_each(|n| write(folder.path().join(format!("dog/x{n:02}")), ""));
    let message = refusal(&folder);
    assert!(message.contains("found 25 bad entries"), "{message}");
    assert!(message.contains("x19: an empty file") && !message.contains("x20"), "{message}");
    assert!(message.ends_with("and 5 more"), "{message}");
}

#[cfg(unix)]
#[test]
fn names_need_not_be_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = animals();
    let class = folder.path().join(OsStr::from_bytes(b"\xff\xfe"));
    write(class.join(OsStr::from_bytes(b"\xc3.png")), png(&picture(4, 3, 3, 7)));
    let images = outcome(&folder, &ReadOptions::default()).unwrap().images;
    assert_eq!(images.classes()[2], "\u{fffd}\u{fffd}");
    assert_eq!(images.image(4), picture(4, 3, 3, 7).pixels);
    write(class.join(OsStr::from_bytes(b"\xc4\n\x1b")), "");
    assert!(refusal(&folder).contains("\u{fffd}\u{fffd}/\u{fffd}\\n\\u{1b}: an empty file"));
}

#[cfg(unix)]
#[test]
fn two_names_that_read_the_same_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = animals();
    for name in [b"\xff", b"\xfe"] {
        let class = folder.path().join(OsStr::from_bytes(name));
        write(class.join("a.png"), png(&picture(4, 3, 3, 7)));
    }
    assert!(refusal(&folder).contains("classes: expected different names"));
}

#[cfg(unix)]
#[test]
fn a_link_may_stay_inside_but_not_lead_out() {
    use std::os::unix::fs::symlink;

    let (folder, outside) = (animals(), TempDir::new().unwrap());
    let root = folder.path();
    write(outside.path().join("secret.png"), png(&picture(4, 3, 3, 8)));
    symlink("../dog/b.png", root.join("Cat/same.png")).unwrap();
    assert_eq!(outcome(&folder, &ReadOptions::default()).unwrap().images.len(), 5);
    symlink(outside.path().join("secret.png"), root.join("Cat/out.png")).unwrap();
    symlink(outside.path(), root.join("fox")).unwrap();
    symlink("nowhere", root.join("Cat/lost.png")).unwrap();
    let message = refusal(&folder);
    assert!(
        message.contains("Cat/out.png: a link that leads out of the image folder"),
        "{message}"
    );
    assert!(message.contains("fox: a link that leads out of the image folder"), "{message}");
    assert!(message.contains("Cat/lost.png: a link to nothing"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_socket_is_not_opened() {
    let folder = animals();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("dog/socket")).unwrap();
    assert!(refusal(&folder).contains("dog/socket: neither a file nor a folder"));
}
