//! Names that would be live where they are shown: on the page, and in a spreadsheet.

use crate::inputs::{golden, idx_pair};
use crate::process::{Rule, lethe};
use crate::runs::TINY;
use crate::tally::{Place, Suite, Tally};
use std::fs;
use std::path::Path;

const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "</style></title><img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "\"><a href=https://example.org>x</a>",
    "-2+3",
];

/// Class names and a protocol's name of markup and formulas: inert on the page, text in a spreadsheet.
pub fn markup(_: &Suite, tally: &mut Tally) {
    let place = Place::new();
    idx_pair(&place, "data", 60, 6);
    let classes = HOSTILE.map(|name| format!("{name:?}")).join(", ");
    let protocol = TINY
        .replace("name = \"tiny\"", "name = \"<b>bold<script>\"")
        .replace(
            "source = \"fashion-mnist\"",
            "source = \"path\"\npath = \"DATA\"\nclasses = [NAMES]",
        )
        .replace("NAMES", &classes)
        .replace("[8, 9]", "[4, 5]")
        .replace("DATA", &place.path("data").display().to_string());
    let file = place.write("p.toml", protocol);
    let mut command = lethe();
    command.arg("run").arg(file).arg("--out").arg(place.path("run"));
    Rule::codes(&[0]).try_on(tally, "a run of such classes", &mut command);
    let page = fs::read_to_string(place.path("run/report.html")).unwrap_or_default();
    tally.count(|| "its page".into(), inert(&page));
    tally.count(
        || "its names, escaped".into(),
        match page.contains("&lt;script&gt;alert(1)") {
            true => Ok(()),
            false => Err("the page does not show the names at all".into()),
        },
    );
    let tables = fs::read_dir(place.path("run/tables")).into_iter().flatten();
    let tables: Vec<_> = tables.map(|entry| entry.unwrap().path()).collect();
    let verdict = if tables.len() >= 4 { Ok(()) } else { Err("no tables".to_string()) };
    tally.count(|| "its tables".into(), verdict);
    for table in tables {
        tally.count(|| table.display().to_string(), no_formula(&table));
    }
    captions(&place, tally);
}

/// No markup of a name's is live, and nothing is fetched.
pub fn inert(page: &str) -> Result<(), String> {
    let low = page.to_lowercase();
    for live in ["<script", "<img src=x", "onerror=alert(1)>", "<a href=https", "</style></title>"]
    {
        if low.contains(live) {
            return Err(format!("`{live}` is live"));
        }
    }
    for address in ["src=\"http", "href=\"http", "url(http", "@import"] {
        if low.contains(address) {
            return Err(format!("`{address}`: an address to elsewhere"));
        }
    }
    if page.is_empty() { Err("no page".into()) } else { Ok(()) }
}

/// No cell begins as a formula does, unless it is a number.
fn no_formula(table: &Path) -> Result<(), String> {
    for cell in fs::read_to_string(table).unwrap().split([',', '\n', '\r']) {
        let text = cell.trim_start_matches('"');
        let is_live = text.starts_with(['=', '+', '-', '@', '\t']) && text.parse::<f64>().is_err();
        if is_live {
            return Err(format!("the cell {cell} is live"));
        }
    }
    Ok(())
}

/// Captions of markup are data like any other.
fn captions(place: &Place, tally: &mut Tally) {
    let bytes = fs::read(golden("images/bits.png")).unwrap();
    let mut lines = String::new();
    for (number, text) in HOSTILE.iter().enumerate() {
        place.write(&format!("captions/c/{number}.png"), &bytes);
        let line = serde_json::json!({ "file_name": format!("c/{number}.png"), "text": text });
        lines += &format!("{line}\n");
    }
    place.write("captions/metadata.jsonl", lines);
    let mut command = crate::inputs::check(&place.path("captions"));
    Rule::codes(&[0]).saying("captions").try_on(tally, "captions of markup", &mut command);
}
