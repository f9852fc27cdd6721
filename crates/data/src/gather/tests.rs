//! Sets made of sets: classes, shares, resolutions.

use tempfile::TempDir;

use crate::fixtures::{idx, picture, png, write};
use crate::{BadImages, Colour, DataError, ReadOptions, Shape, Source, check, read};

/// Eight grey images of one pixel, the pixel being the id; classes 1 0 0 1 2 0 1 2.
fn eight() -> (TempDir, Source) {
    let folder = TempDir::new().unwrap();
    let [images, labels] = ["images", "labels"].map(|name| folder.path().join(name));
    write(&images, idx(&[8, 1, 1], &[0, 1, 2, 3, 4, 5, 6, 7]));
    write(&labels, idx(&[8], &[1, 0, 0, 1, 2, 0, 1, 2]));
    (folder, Source::Idx { images, labels })
}

/// Class "a" with a small grey image and a larger RGB one, class "b" with a broken file and a good one.
fn mixed() -> (TempDir, Source) {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    write(root.join("a/0.png"), png(&picture(4, 3, 1, 1)));
    write(root.join("a/1.png"), png(&picture(5, 6, 3, 2)));
    write(root.join("b/2.png"), "broken");
    write(root.join("b/3.png"), png(&picture(4, 3, 1, 3)));
    let source = Source::Folder { folder: root.to_path_buf() };
    (folder, source)
}

fn three_classes() -> Option<Vec<String>> {
    Some(["x", "y", "z"].map(String::from).to_vec())
}

#[test]
fn per_class_takes_the_first_and_keeps_their_ids() {
    let (_folder, source) = eight();
    let options =
        ReadOptions { per_class: Some(2), classes: three_classes(), ..ReadOptions::default() };
    let images = read(&source, &options).unwrap().images;
    assert_eq!(images.ids(), [0, 1, 2, 3, 4, 7]);
    assert_eq!(images.pixels(), [0, 1, 2, 3, 4, 7]);
    assert_eq!(images.counts(), [2, 2, 2]);
}

#[test]
fn a_class_with_too_few_images_is_named() {
    let (_folder, source) = eight();
    let options =
        ReadOptions { per_class: Some(3), classes: three_classes(), ..ReadOptions::default() };
    let message = read(&source, &options).unwrap_err().to_string();
    assert!(
        message.contains("class \"z\": expected per_class = 3 usable images, found 2"),
        "{message}"
    );
}

#[test]
fn names_that_are_given_bound_the_labels_and_must_agree_with_the_data() {
    let (_folder, source) = eight();
    let given = |names: &[&str]| {
        let classes = Some(names.iter().map(|name| name.to_string()).collect());
        read(&source, &ReadOptions { classes, ..ReadOptions::default() })
    };
    assert_eq!(given(&["x", "y", "z"]).unwrap().images.class_name(2), Some("z"));
    let message = given(&["x", "y"]).unwrap_err().to_string();
    assert!(message.contains("row 4: label: expected 0 to 1 (2 classes), found 2"), "{message}");
    assert!(matches!(given(&["x", "x", "y"]), Err(DataError::Parts { field: "classes", .. })));
    assert!(matches!(given(&[]), Err(DataError::Parts { field: "classes", .. })));
    let options = ReadOptions { classes: three_classes(), ..ReadOptions::default() };
    let message = read(&Source::FashionMnist, &options).unwrap_err().to_string();
    assert!(message.contains("`classes`: expected [\"T-shirt/top\""), "{message}");
}

#[test]
fn images_of_two_shapes_need_options_that_make_them_one() {
    let (_folder, source) = mixed();
    let skip = ReadOptions { bad_images: BadImages::Skip, ..ReadOptions::default() };
    let message = read(&source, &skip).unwrap_err().to_string();
    assert!(message.contains("a/0.png is 4x3 grey but "), "{message}");
    assert!(message.contains("a/1.png is 5x6 RGB; set `resolution`"), "{message}");
    let only_size = ReadOptions { resolution: Some(2), ..skip.clone() };
    assert!(matches!(read(&source, &only_size), Err(DataError::Shapes { .. })));
    let both = ReadOptions { colour: Some(Colour::Rgb), ..only_size };
    let loaded = read(&source, &both).unwrap();
    assert_eq!(loaded.images.shape(), Shape { width: 2, height: 2, channels: 3 });
    assert_eq!((loaded.images.ids(), loaded.skipped.len()), (&[0, 1, 3][..], 1));
}

#[test]
fn bad_images_come_before_shapes_in_what_is_told() {
    let (_folder, source) = mixed();
    let error = read(&source, &ReadOptions::default()).unwrap_err();
    assert!(
        matches!(&error, DataError::BadImages { bad, rows: 4, .. } if bad.len() == 1),
        "{error}"
    );
}

#[test]
fn an_image_beyond_the_quota_is_not_looked_at_and_a_bad_one_does_not_fill_it() {
    let (_folder, source) = mixed();
    let one =
        ReadOptions { per_class: Some(1), bad_images: BadImages::Skip, ..ReadOptions::default() };
    // a/1.png would differ in shape, but the class is full; b/2.png is broken, so b/3.png is the first of its class.
    let loaded = read(&source, &one).unwrap();
    assert_eq!((loaded.images.ids(), loaded.skipped.len()), (&[0, 3][..], 1));
}

#[test]
fn a_source_without_a_usable_image_is_refused() {
    let folder = TempDir::new().unwrap();
    write(folder.path().join("a/broken.png"), "");
    let source = Source::Folder { folder: folder.path().to_path_buf() };
    let skip = ReadOptions { bad_images: BadImages::Skip, ..ReadOptions::default() };
    assert!(matches!(read(&source, &skip), Err(DataError::Empty { rows: 1, .. })));
    let none = Source::Parquet { files: Vec::new() };
    assert!(matches!(read(&none, &skip), Err(DataError::Empty { rows: 0, .. })));
}

#[test]
fn options_outside_their_range_are_refused() {
    let refusal =
        |options: ReadOptions| read(&Source::FashionMnist, &options).unwrap_err().to_string();
    for side in [0, 16_385] {
        let message = refusal(ReadOptions { resolution: Some(side), ..ReadOptions::default() });
        assert!(message.starts_with("resolution: expected 1 to 16384 pixels, found"), "{message}");
    }
    let message = refusal(ReadOptions { per_class: Some(0), ..ReadOptions::default() });
    assert!(message.starts_with("per_class: expected at least 1 image, found 0"), "{message}");
}

#[test]
fn a_check_tells_everything_without_refusing() {
    let (_folder, source) = mixed();
    let summary = check(&source, &ReadOptions::default()).unwrap();
    assert!(!summary.is_sound());
    assert_eq!(summary.rows, 4);
    assert_eq!(summary.classes, [("a".to_string(), 2), ("b".to_string(), 1)]);
    let report = summary.to_string();
    for part in
        ["3 usable of 4 rows", "a 2, b 1", "4x3 grey 2, 5x6 RGB 1", "bad:     1\n", "refused: "]
    {
        assert!(report.contains(part), "{part} in {report}");
    }
}

#[test]
fn a_check_gives_the_digest_that_reading_gives() {
    let (_folder, source) = eight();
    let options = ReadOptions { classes: three_classes(), ..ReadOptions::default() };
    let summary = check(&source, &options).unwrap();
    assert!(summary.is_sound());
    let digest = read(&source, &options).unwrap().images.digest();
    assert!(summary.to_string().ends_with(&format!("digest:  {digest}")));
}
