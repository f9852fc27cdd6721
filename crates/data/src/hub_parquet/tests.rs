//! The hub's Parquet files: the original images, and files that are broken.

use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use tempfile::TempDir;

use crate::fixtures::{
    CIFAR_LABELS, HubFile as NewFile, cifar_originals, golden, picture, png, write,
};
use crate::{BadImages, Loaded, ReadOptions, Source, check, detect, read};

/// Three images of 4x3 pixels with labels 2, 0, 1.
fn three() -> NewFile<'static> {
    let image = |seed| Some(png(&picture(4, 3, 3, seed)));
    NewFile::new(vec![image(1), image(2), image(3)], vec![Some(2), Some(0), Some(1)])
}

fn outcome_of(files: &[Vec<u8>], options: &ReadOptions) -> Result<Loaded, String> {
    let folder = TempDir::new().unwrap();
    let path = |index: usize| folder.path().join(format!("part-{index}.parquet"));
    files.iter().enumerate().for_each(|(index, bytes)| write(path(index), bytes));
    let source = Source::Parquet { files: (0..files.len()).map(path).collect() };
    read(&source, options).map_err(|error| error.to_string())
}

fn outcome(file: &NewFile<'_>) -> Result<Loaded, String> {
    outcome_of(&[file.bytes()], &ReadOptions::default())
}

fn refusal(file: &NewFile<'_>) -> String {
    outcome(file).expect_err("a file to refuse")
}

#[test]
fn a_file_of_another_writer_gives_the_twenty_originals() {
    let source = Source::Parquet { files: vec![golden("cifar10/hub.parquet")] };
    let images = read(&source, &ReadOptions::default()).unwrap().images;
    assert_eq!((images.len(), images.labels()), (20, &CIFAR_LABELS[..]));
    assert_eq!(images.class_name(images.label(0)), Some("cat"));
    for (index, original) in cifar_originals().iter().enumerate() {
        assert_eq!(images.image(index), original.pixels, "image {index}");
    }
    let pixel = |row: usize, column: usize| &images.image(0)[3 * (32 * row + column)..][..3];
    assert_eq!(pixel(0, 31), [116, 85, 33]);
    assert_eq!(pixel(31, 0), [54, 107, 160]);
}

#[test]
fn every_codec_gives_the_same_images() {
    let plain = outcome(&three()).unwrap().images;
    assert_eq!(plain.labels(), [2, 0, 1]);
    assert_eq!(plain.image(1), picture(4, 3, 3, 2).pixels);
    assert_eq!(plain.classes()[9], "9");
    let gzip = Compression::GZIP(GzipLevel::default());
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for compression in [Compression::SNAPPY, gzip, zstd] {
        let file = NewFile { compression, ..three() };
        assert_eq!(outcome(&file).unwrap().images, plain, "{compression}");
    }
}

#[test]
fn the_other_column_names_and_types_are_read() {
    let schema = "message schema {
        required int32 label;
        required group image { required binary bytes; }
    }";
    let file = NewFile { schema, ..three() };
    assert_eq!(outcome(&file).unwrap().images, outcome(&three()).unwrap().images);
}

#[test]
fn more_rows_than_one_batch_stay_in_step() {
    let labels: Vec<Option<i64>> = (0..300).map(|row| Some(row % 10)).collect();
    let images = (0..300).map(|row| Some(png(&picture(2, 2, 1, row as u8)))).collect();
    let images = outcome(&NewFile::new(images, labels)).unwrap().images;
    for (row, example) in images.iter().enumerate() {
        assert_eq!((example.id, example.label), (row as u64, row as u32 % 10));
        assert_eq!(example.pixels, picture(2, 2, 1, row as u8).pixels);
    }
}

#[test]
fn class_names_come_from_the_metadata() {
    let metadata = r#"{"info": {"features": {"label": {"names": ["x", "y", "z"]}}}}"#;
    let file = NewFile { metadata: Some(metadata), ..three() };
    assert_eq!(outcome(&file).unwrap().images.classes(), ["x", "y", "z"]);
    let file = NewFile { metadata: Some(r#"{"info": {}}"#), ..three() };
    assert_eq!(outcome(&file).unwrap().images.classes()[0], "0");
    for damaged in ["{", r#"{"info": {"features": {"label": {"names": [1]}}}}"#] {
        let message = refusal(&NewFile { metadata: Some(damaged), ..three() });
        assert!(message.contains("part-0.parquet: label names in the metadata"), "{message}");
    }
}

#[test]
fn a_missing_or_unsuitable_column_is_named_with_those_found() {
    let label_only = "message schema { optional int64 label; }";
    let message = refusal(&NewFile { schema: label_only, ..three() });
    assert!(
        message.contains("part-0.parquet: column img.bytes or image.bytes: expected"),
        "{message}"
    );
    assert!(message.contains("found label (INT64)"), "{message}");
    let text_label = "message schema {
        optional group img { optional binary bytes; } optional binary label (STRING); }";
    let message = refusal(&NewFile { schema: text_label, ..three() });
    assert!(
        message.contains("column label: expected exactly one of type [INT64, INT32]"),
        "{message}"
    );
    let both = "message schema { optional int64 label;
        optional group img { optional binary bytes; } optional group image { optional binary bytes; } }";
    assert!(
        refusal(&NewFile { schema: both, ..three() }).contains("column img.bytes or image.bytes")
    );
}

/// Of five rows, row 1 has no image, row 2 no label, row 3 no picture.
fn damaged_rows() -> NewFile<'static> {
    let good = || Some(png(&picture(4, 3, 3, 1)));
    let html = Some(b"<html>not found</html>".to_vec());
    let labels = [Some(2), Some(0), None, Some(1), Some(1)];
    NewFile::new(vec![good(), None, good(), html, good()], labels.to_vec())
}

#[test]
fn every_unusable_row_is_listed_in_one_pass() {
    let message = refusal(&damaged_rows());
    assert!(message.contains("found 3 bad entries beside or among 5 rows"), "{message}");
    assert!(message.contains("part-0.parquet row 1: the image is null"), "{message}");
    assert!(message.contains("part-0.parquet row 2: the label is null"), "{message}");
    assert!(message.contains("part-0.parquet row 3: not PNG, JPEG or WebP"), "{message}");
}

#[test]
fn skipped_rows_leave_the_ids_of_the_others_alone() {
    let options = ReadOptions { bad_images: BadImages::Skip, ..ReadOptions::default() };
    let loaded = outcome_of(&[damaged_rows().bytes()], &options).unwrap();
    assert_eq!((loaded.images.ids(), loaded.skipped.len()), (&[0, 4][..], 3));
}

#[test]
fn a_label_out_of_range_names_its_row() {
    for label in [10, -1] {
        let labels = vec![Some(0), Some(label), Some(1)];
        let message = refusal(&NewFile { labels, ..three() });
        let words =
            format!("part-0.parquet row 1: label: expected 0 to 9 (10 classes), found {label}");
        assert!(message.contains(&words), "{message}");
    }
}

#[test]
fn ids_run_through_several_files() {
    let files = [three().bytes(), three().bytes()];
    let images = outcome_of(&files, &ReadOptions::default()).unwrap().images;
    assert_eq!((images.ids(), images.labels()), (&[0, 1, 2, 3, 4, 5][..], &[2, 0, 1, 2, 0, 1][..]));
    let metadata = r#"{"info": {"features": {"label": {"names": ["x", "y", "z"]}}}}"#;
    let files = [three().bytes(), NewFile { metadata: Some(metadata), ..three() }.bytes()];
    let message = outcome_of(&files, &ReadOptions::default()).unwrap_err();
    assert!(message.contains("part-1.parquet: class names: expected None as"), "{message}");
}

#[test]
fn every_truncation_is_refused() {
    let bytes = three().bytes();
    for length in 0..bytes.len() {
        let outcome = outcome_of(&[bytes[..length].to_vec()], &ReadOptions::default());
        assert!(outcome.is_err_and(|message| message.contains("part-0.parquet")), "{length}");
    }
}

#[test]
fn no_damaged_byte_ends_the_program_and_most_are_noticed() {
    let bytes = three().bytes();
    let damage = |at: usize| {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        outcome_of(&[damaged], &ReadOptions::default())
    };
    let refusals = (0..bytes.len()).filter(|&at| damage(at).is_err()).count();
    // Without checksums in the file, a byte of its statistics or of a length that is not needed can change unseen.
    assert!(2 * refusals > bytes.len(), "{refusals} of {}", bytes.len());
}

/// Three images of 4x3 pixels with texts in the column `name`.
fn captioned(schema: &'static str, texts: [Option<&[u8]>; 3]) -> NewFile<'static> {
    let captions = texts.map(|text| text.map(<[u8]>::to_vec)).to_vec();
    NewFile { schema, captions, ..three() }
}

const TEXT: &str = "message schema {
    optional group image { optional binary bytes; optional binary path (STRING); }
    optional int64 label; optional binary text (STRING);
}";

const PROMPT: &str = "message schema {
    optional group image { optional binary bytes; optional binary path (STRING); }
    required int64 label; required binary prompt (STRING);
}";

#[test]
fn captions_lie_in_a_column_of_texts() {
    let texts = [Some(&b"one"[..]), Some("zw\u{f6}lf".as_bytes()), Some(b"three")];
    let images = outcome(&captioned(TEXT, texts)).unwrap().images;
    assert_eq!(images.captions().unwrap(), ["one", "zw\u{f6}lf", "three"]);
    let file = captioned(PROMPT, texts);
    assert_eq!(outcome(&file).unwrap().images.captions(), None);
    let named = |column: &str| ReadOptions {
        caption_column: Some(column.to_string()),
        bad_images: BadImages::Skip,
        ..ReadOptions::default()
    };
    let images = outcome_of(&[file.bytes()], &named("prompt")).unwrap().images;
    assert_eq!(images.captions().unwrap()[1], "zw\u{f6}lf");
    let message = outcome_of(&[file.bytes()], &named("text")).unwrap_err();
    assert!(message.contains("column text: expected exactly one of type"), "{message}");
    let holes = captioned(TEXT, [Some(b"one"), None, Some(b"three")]);
    let found = outcome_of(&[holes.bytes()], &named("text")).unwrap();
    assert_eq!(
        (found.images.ids(), found.skipped[0].reason.as_str()),
        (&[0, 2][..], "the caption is empty")
    );
    let foreign = captioned(TEXT, [Some(b"one"), Some(b"\xff"), Some(b"three")]);
    let message = refusal(&foreign);
    assert!(message.contains("row 1: caption: expected UTF-8"), "{message}");
    let long = vec![b'a'; crate::metadata::MAX_CAPTION + 1];
    let message = refusal(&captioned(TEXT, [Some(b"one"), Some(&long), Some(b"three")]));
    assert!(message.contains("row 1: caption: expected at most 16384 bytes"), "{message}");
    let two = [captioned(TEXT, texts).bytes(), three().bytes()];
    let message = outcome_of(&two, &ReadOptions::default()).unwrap_err();
    assert!(
        message.contains("captions: expected as in the first file, found no captions"),
        "{message}"
    );
}

#[test]
fn a_check_names_the_split_that_is_not_read() {
    let folder = TempDir::new().unwrap();
    let told = || {
        let summary = check(&detect(folder.path()).unwrap(), &ReadOptions::default()).unwrap();
        assert!(summary.is_sound());
        summary.to_string()
    };
    write(folder.path().join("train-00000-of-00001.parquet"), three().bytes());
    assert!(!told().contains("left out"));
    write(folder.path().join("test-00000-of-00001.parquet"), three().bytes());
    let line =
        "\nleft out: test-00000-of-00001.parquet (beside it; give its own path to read it)\n";
    assert!(told().contains(line), "{}", told());
    assert!(told().contains("3 usable of 3 rows"));
}
