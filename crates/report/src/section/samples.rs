//! What the model draws after each task.

use super::{Context, missing, paragraph, section};
use crate::error::{Error, Result};
use crate::gauge::FIRST;
use crate::markup::Markup;
use crate::sprite::Picture;
use lethe_ledger::SpriteLayout;

/// Tiles shown of a sheet, across and down: enough to judge, large enough to see.
const SHOWN: (u32, u32) = (10, 4);

/// Writes the section. Images are of one training: the first run's.
///
/// # Errors
/// An image that cannot be read.
pub(crate) fn write(context: &Context<'_>, page: &mut Markup) -> Result<()> {
    let manifest = context.view.study.manifest();
    let Some((run, _)) = context.view.one_by_one().next() else { return Ok(()) };
    let (mut drawn, mut absent) = (Vec::new(), Vec::new());
    let after_first = std::iter::once((FIRST.to_owned(), 1));
    let later = manifest
        .arms
        .iter()
        .flat_map(|arm| (2..=context.view.last()).map(move |task| (arm.clone(), task)));
    for (arm, task) in after_first.chain(later) {
        match context.folder.samples(&run.run, &arm, task)? {
            Some(picture) => drawn.push((arm, task, uri(picture, &manifest.images)?)),
            None => absent.push(format!("{arm} after task {task}")),
        }
    }
    section(page, "samples", "Samples drawn from the model", |body| {
        if drawn.is_empty() {
            missing(body, "the run folder holds no sheet of samples");
            return;
        }
        paragraph(
            body,
            &format!(
                "Run {} (seed {}): a corner of the sheet that each network drew. A model that has forgotten task 1 would draw the newest task only.",
                run.run, run.seed
            ),
        );
        body.element("div", &[("class", "samples")], |list| {
            for (arm, task, uri) in &drawn {
                let words = format!("{arm}, after task {task}");
                list.element("figure", &[], |figure| {
                    figure.void("img", &[("src", uri), ("alt", &format!("samples: {words}"))]);
                    figure.leaf("figcaption", &[], &words);
                });
            }
        });
        if !absent.is_empty() {
            missing(body, &format!("no samples of {}", absent.join(", ")));
        }
    });
    Ok(())
}

fn uri(picture: Picture, layout: &SpriteLayout) -> Result<String> {
    let width = picture.width.min(layout.tile_width.saturating_mul(SHOWN.0));
    let height = picture.height.min(layout.tile_height.saturating_mul(SHOWN.1));
    let shown = picture.crop(0, 0, width, height).unwrap_or(picture);
    shown.data_uri().map_err(|error| Error::Image {
        path: "images".into(),
        problem: format!("cannot encode a sheet of samples: {error}"),
    })
}
