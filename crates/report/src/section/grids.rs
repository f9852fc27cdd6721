//! The examples that were forgotten most and least, before and after.

use super::{Context, missing, paragraph, section};
use crate::analysis::extremes::{self, Extreme};
use crate::analysis::{NONE, View};
use crate::error::{Error, Result};
use crate::gauge::FIRST;
use crate::markup::Markup;
use crate::number;
use crate::sprite::Sheet;

/// Examples on each side.
const N: usize = 12;

/// Writes the section. Images are of one training: the first run's.
///
/// # Errors
/// A sheet that is not what the manifest says.
pub(crate) fn write(context: &Context<'_>, page: &mut Markup) -> Result<()> {
    let Some((run, view)) = context.view.one_by_one().next() else { return Ok(()) };
    let last = view.last();
    let sheets = Sheets {
        originals: context.folder.originals()?,
        before: context.folder.reconstructions(&run.run, FIRST, 1)?,
        after: context.folder.reconstructions(&run.run, NONE, last)?,
    };
    let mut outcome = Ok(());
    section(page, "examples", "Most and least forgotten examples", |body| match extremes::measure(
        &view, N,
    ) {
        Ok((most, least)) => {
            paragraph(
                body,
                &format!(
                    "Run {} (seed {}), arm none: training examples of task 1 by the increment ΔR at {}. Each row of three: the example, its reconstruction after task 1, its reconstruction after task {last}. E is the energy.",
                    run.run,
                    run.seed,
                    context.level()
                ),
            );
            sheets.absent().iter().for_each(|why| missing(body, why));
            outcome = write_grid(&view, &sheets, "Most forgotten", &most, body)
                .and_then(|()| write_grid(&view, &sheets, "Least forgotten", &least, body));
        }
        Err(why) => missing(body, &why),
    });
    outcome
}

/// The three sheets, as far as they exist.
struct Sheets {
    originals: Option<Sheet>,
    before: Option<Sheet>,
    after: Option<Sheet>,
}

impl Sheets {
    fn in_order(&self) -> [(&'static str, &Option<Sheet>); 3] {
        [("example", &self.originals), ("before", &self.before), ("after", &self.after)]
    }

    fn absent(&self) -> Vec<String> {
        let is_absent = |(_, sheet): &(&str, &Option<Sheet>)| sheet.is_none();
        let sentence =
            |(name, _): (&str, &Option<Sheet>)| format!("there is no sheet of images “{name}”");
        self.in_order().into_iter().filter(is_absent).map(sentence).collect()
    }
}

fn write_grid(
    view: &View<'_>,
    sheets: &Sheets,
    title: &str,
    extremes: &[Extreme],
    body: &mut Markup,
) -> Result<()> {
    let mut outcome = Ok(());
    body.leaf("h3", &[], title);
    body.element("ul", &[("class", "grid")], |list| {
        for extreme in extremes {
            list.element("li", &[], |item| {
                if outcome.is_ok() {
                    outcome = write_example(view, sheets, extreme, item);
                }
            });
        }
    });
    outcome
}

fn write_example(
    view: &View<'_>,
    sheets: &Sheets,
    extreme: &Extreme,
    item: &mut Markup,
) -> Result<()> {
    let row = view.study.examples()[extreme.position];
    let class = view.study.class_name(row.class);
    let mut tiles = Vec::new();
    for (name, sheet) in sheets.in_order() {
        if let Some(tile) = sheet.as_ref().and_then(|sheet| sheet.tile(extreme.position)) {
            let uri = tile.data_uri().map_err(|error| Error::Image {
                path: "images".into(),
                problem: format!("cannot encode a tile: {error}"),
            })?;
            tiles.push((format!("{name}: {class}, id {}", row.id), uri));
        }
    }
    item.element("div", &[("class", "tiles")], |place| {
        for (words, uri) in &tiles {
            place.void("img", &[("src", uri), ("alt", words)]);
        }
    });
    item.leaf("b", &[], &class).text(&format!(" id {}", row.id)).void("br", &[]);
    item.text(&format!(
        "E {}, ΔR {}",
        number::short(extreme.energy),
        number::short(extreme.increment)
    ));
    Ok(())
}
