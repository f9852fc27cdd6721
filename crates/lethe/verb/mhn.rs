//! `lethe mhn`: the theory lab, one experiment or the quick ones.

use super::say;
use anyhow::Result;
use clap::{Args, Subcommand};
use lethe::exit::{Fault, otherwise};
use lethe::lab::bridge::Learning;
use lethe::lab::images::ImageSetting;
use lethe::lab::regimes::Grid;
use lethe::lab::school::Machine;
use lethe::lab::setting::{Setting, Turning, Turns};
use lethe::lab::{boltzmann, bridge, images, regimes, replay, rise};
use lethe::report::article::{Article, Section};
use std::path::PathBuf;

/// The modern Hopfield network itself: the paper's exact parts, reproduced in seconds, and what lies beyond them.
///
/// Without an experiment: rise, replay and regimes on one page.
/// Each writes a page with its figures and claims, and its numbers as CSV beside it.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  lethe mhn\n  lethe mhn rise --rotations 500 --seed 7 --out runs/mhn\n  lethe mhn regimes --cluster 6 --dimension 32"
)]
pub struct Arguments {
    #[command(subcommand)]
    experiment: Option<Experiment>,
    #[command(flatten)]
    quick: Turned,
}

#[derive(Subcommand)]
enum Experiment {
    /// E1: energy rise of cluster and outlier when the task turns (section 4, appendix E)
    Rise(Turned),
    /// E2: replay gain of every pattern for every other (section 5, appendix H)
    Replay(Turned),
    /// E3: where the outlier rises more, and the rule that chooses the inverse temperature
    Regimes(Mapped),
    /// E4: a Boltzmann machine that learns both tasks, with replay, beside the closed form (sections 4.2 and 5.2)
    Boltzmann(Trained),
    /// E5: the closed form and the Boltzmann machine on images, and every selector at equal budget
    Images(Pictured),
    /// E6: energies read from trained score networks by four estimators, against the closed form
    Bridge(Bridged),
}

/// Where pages go.
#[derive(Args)]
struct Out {
    /// Folder of the page and its tables
    #[arg(long, value_name = "DIR", default_value = "runs/mhn")]
    out: PathBuf,
}

#[derive(Args)]
struct Turned {
    #[command(flatten)]
    setting: Setting,
    #[command(flatten)]
    turns: Turns,
    #[command(flatten)]
    out: Out,
}

#[derive(Args)]
struct Mapped {
    #[command(flatten)]
    setting: Setting,
    #[command(flatten)]
    grid: Grid,
    #[command(flatten)]
    out: Out,
}

#[derive(Args)]
struct Trained {
    #[command(flatten)]
    setting: Setting,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    out: Out,
}

#[derive(Args)]
struct Bridged {
    #[command(flatten)]
    setting: Setting,
    #[command(flatten)]
    learning: Learning,
    #[command(flatten)]
    out: Out,
}

#[derive(Args)]
struct Pictured {
    #[command(flatten)]
    setting: ImageSetting,
    #[command(flatten)]
    out: Out,
}

/// Runs what was asked for and names what was written.
pub fn run(arguments: &Arguments) -> Result<()> {
    run_experiment(arguments).map_err(otherwise(Fault::Usage))
}

fn run_experiment(arguments: &Arguments) -> Result<()> {
    match &arguments.experiment {
        None => quick(&arguments.quick),
        Some(Experiment::Rise(turned)) => {
            let turning = Turning::measure(&turned.setting, &turned.turns)?;
            let mut article = turned.article("Energy rise");
            article.section("rise", RISE, |section| rise::write(&turning, section))?;
            finish(&article, &turned.out, "rise")
        }
        Some(Experiment::Replay(turned)) => {
            let turning = Turning::measure(&turned.setting, &turned.turns)?;
            let mut article = turned.article("Replay gain");
            article.section("replay", REPLAY, |section| replay::write(&turning, section))?;
            finish(&article, &turned.out, "replay")
        }
        Some(Experiment::Regimes(mapped)) => {
            let mut article = Article::new("Regimes", mapped.setting.in_words());
            article.section("regimes", REGIMES, |section| {
                regimes::write(&mapped.setting, &mapped.grid, section)
            })?;
            finish(&article, &mapped.out, "regimes")
        }
        Some(Experiment::Boltzmann(trained)) => {
            let Trained { setting, machine, out } = trained;
            let facts = format!("{} · seed {}", setting.in_words(), setting.seed);
            let mut article = Article::new("Boltzmann machine", facts);
            article.section("boltzmann", BOLTZMANN, |section| {
                boltzmann::write(setting, machine, section)
            })?;
            finish(&article, out, "boltzmann")
        }
        Some(Experiment::Bridge(bridged)) => {
            let Bridged { setting, learning, out } = bridged;
            let facts = format!("{} · seed {}", setting.in_words(), setting.seed);
            let mut article = Article::new("Bridge", facts);
            article
                .section("bridge", BRIDGE, |section| bridge::write(setting, learning, section))?;
            finish(&article, out, "bridge")
        }
        Some(Experiment::Images(pictured)) => {
            let facts = format!("seed {}", pictured.setting.seed);
            let mut article = Article::new("Images", facts);
            article
                .section("images", IMAGES, |section| images::write(&pictured.setting, section))?;
            finish(&article, &pictured.out, "images")
        }
    }
}

const RISE: &str = "Energy rise (E1, section 4)";
const REPLAY: &str = "Replay gain (E2, section 5)";
const REGIMES: &str = "Regimes (E3)";
const BOLTZMANN: &str = "Boltzmann machine (E4)";
const BRIDGE: &str = "Bridge to learned scores (E6)";
const IMAGES: &str = "Images (E5)";

fn quick(turned: &Turned) -> Result<()> {
    let turning = Turning::measure(&turned.setting, &turned.turns)?;
    let mut article = turned.article("The modern Hopfield network");
    article.section("rise", RISE, |section| rise::write(&turning, section))?;
    article.section("replay", REPLAY, |section| replay::write(&turning, section))?;
    article.section("regimes", REGIMES, |section: &mut Section| {
        regimes::write(&turned.setting, &Grid::usual(), section)
    })?;
    finish(&article, &turned.out, "mhn")
}

impl Turned {
    fn article(&self, title: &str) -> Article {
        let rotations = lethe::report::number::count(self.turns.rotations as u64);
        let facts = format!(
            "{} · {rotations} rotations · seed {}",
            self.setting.in_words(),
            self.setting.seed
        );
        Article::new(title, facts)
    }
}

/// Says the claims, writes the page and its tables, and names the page.
fn finish(article: &Article, out: &Out, name: &str) -> Result<()> {
    for claim in article.claims() {
        say(claim);
    }
    let written = article.write(&out.out, name)?;
    if let Some(page) = written.first() {
        say(&page.display().to_string());
    }
    Ok(())
}
