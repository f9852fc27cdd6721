//! The claims, each with its verdict.

use super::{Context, paragraph, section};
use crate::claims::{self, Claim, Finding};
use crate::markup::Markup;
use crate::number;
use crate::table::{Cell, Column, Table};

/// Writes the section and returns the claims as a table.
pub(crate) fn write(context: &Context<'_>, page: &mut Markup) -> Table {
    let claims = claims::judge(&context.view);
    section(page, "claims", "Claims", |body| {
        paragraph(body, &explanation(context));
        for claim in &claims {
            write_claim(claim, body);
        }
    });
    table(&claims)
}

fn explanation(context: &Context<'_>) -> String {
    let agreement = match context.view.repetitions().len() {
        1 => "One training can neither prove nor refute a claim: a verdict is for this run.",
        2 => {
            "The overall verdict is that of both trainings where they agree, else undecided; two trainings are few."
        }
        _ => "The overall verdict is that of all trainings where they agree, else undecided.",
    };
    format!(
        "Each verdict follows from its rule and the {} below. An interval that holds 0 decides nothing. {agreement}",
        context.intervals().trim_end_matches('.')
    )
}

fn write_claim(claim: &Claim, body: &mut Markup) {
    body.element("article", &[("class", "claim")], |article| {
        article.element("h3", &[], |heading| {
            heading.leaf("span", &[("class", "id")], claim.id).text(" ").text(claim.statement);
        });
        article.element("p", &[], |line| {
            let class = format!("verdict {}", class(claim));
            line.leaf("strong", &[("class", &class)], claim.verdict.words());
        });
        article.leaf("p", &[("class", "rule")], claim.rule);
        article.element("ul", &[("class", "evidence")], |list| {
            for finding in &claim.findings {
                list.element("li", &[], |item| {
                    item.leaf("b", &[], &finding.run);
                    item.text(&format!(": {}", words(finding)));
                });
            }
        });
    });
    body.line();
}

fn class(claim: &Claim) -> &'static str {
    match claim.verdict {
        claims::Verdict::Supported => "supported",
        claims::Verdict::NotSupported => "refuted",
        claims::Verdict::Undecided => "undecided",
        claims::Verdict::NotMeasured => "unmeasured",
    }
}

fn words(finding: &Finding) -> String {
    let numbers: Vec<String> = finding
        .evidence
        .iter()
        .map(|(name, outcome)| match outcome {
            Ok(interval) => format!("{name} {} (n = {})", number::interval(interval), interval.n),
            Err(why) => format!("{name} not measured ({why})"),
        })
        .collect();
    format!("{}: {}.", finding.verdict.words(), numbers.join("; "))
}

fn table(claims: &[Claim]) -> Table {
    let mut table = Table::new(&[
        Column::words("claim", "Claim"),
        Column::words("run", "Run"),
        Column::words("evidence", "Evidence"),
        Column::intervals("value", "Value"),
        Column::numbers("n", "n"),
        Column::words("verdict", "Verdict"),
        Column::words("overall", "Overall verdict"),
    ]);
    for claim in claims {
        for finding in &claim.findings {
            for (name, outcome) in &finding.evidence {
                let n = outcome.as_ref().ok().map(|interval| interval.n as u64);
                table.row(vec![
                    claim.id.into(),
                    finding.run.as_str().into(),
                    (*name).into(),
                    outcome.clone().into(),
                    n.map_or(Cell::Missing(String::new()), Cell::Count),
                    finding.verdict.words().into(),
                    claim.verdict.words().into(),
                ]);
            }
        }
    }
    table
}
