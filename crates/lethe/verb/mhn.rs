//! `lethe mhn`: the theory lab, one experiment or the quick ones.

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use lethe::destination;
use lethe::exit::{Fault, fault_of, in_words, of_output, otherwise, tell};
use lethe::lab::bridge::Learning;
use lethe::lab::images::ImageSetting;
use lethe::lab::regimes::Grid;
use lethe::lab::school::Machine;
use lethe::lab::setting::{Setting, Turning, Turns};
use lethe::lab::{boltzmann, bridge, images, regimes, replay, rise};
use lethe::report::article::{Article, claim};
use std::path::{Path, PathBuf};

/// The modern Hopfield network itself: the paper's exact parts, reproduced in seconds, and what lies beyond them.
///
/// Without an experiment: rise, replay and regimes on one page.
/// Each writes a page with its figures and claims, and its numbers as CSV beside it, into a folder of the page's name.
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
    #[command(after_help = ANEW)]
    Boltzmann(Trained),
    /// E5: the closed form and the Boltzmann machine on images, and every selector at equal budget
    #[command(after_help = ANEW)]
    Images(Pictured),
    /// E6: energies read from trained score networks by four estimators, against the closed form
    #[command(after_help = ANEW)]
    Bridge(Bridged),
}

/// Of what takes minutes.
const ANEW: &str = "Interrupted, it begins anew: nothing is kept on the way.";

/// Where pages go.
#[derive(Args)]
struct Out {
    /// Folder in which the page has its own: DIR/rise/rise.html; a folder there that holds others' files is refused
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
    run_experiment(arguments).map_err(otherwise(Fault::Usage)).map_err(|error| {
        // Of this verb's own numbers nothing was written before: what they lack, the options have not given.
        match fault_of(&error) {
            Fault::Untrustworthy => {
                let why = "these options leave a number without a value; take more patterns, images or rotations, or larger steps";
                Fault::Usage.because(anyhow!("{}: {why}", in_words(&error)))
            }
            _ => error,
        }
    })
}

fn run_experiment(arguments: &Arguments) -> Result<()> {
    match &arguments.experiment {
        None => arguments.quick.out.page("mhn", || quick(&arguments.quick)),
        Some(Experiment::Rise(turned)) => turned.out.page("rise", || {
            let turning = Turning::measure(&turned.setting, &turned.turns)?;
            let mut article = turned.article("Energy rise");
            article.section("rise", RISE, |section| rise::write(&turning, section))?;
            Ok(article)
        }),
        Some(Experiment::Replay(turned)) => turned.out.page("replay", || {
            let turning = Turning::measure(&turned.setting, &turned.turns)?;
            let mut article = turned.article("Replay gain");
            article.section("replay", REPLAY, |section| replay::write(&turning, section))?;
            Ok(article)
        }),
        Some(Experiment::Regimes(Mapped { setting, grid, out })) => out.page("regimes", || {
            let mut article = Article::new("Regimes", setting.in_words());
            let write = |section: &mut _| regimes::write(setting, grid, section);
            article.section("regimes", REGIMES, write)?;
            Ok(article)
        }),
        Some(Experiment::Boltzmann(Trained { setting, machine, out })) => {
            out.page("boltzmann", || {
                let mut article = Article::new("Boltzmann machine", facts(setting));
                let write = |section: &mut _| boltzmann::write(setting, machine, section);
                article.section("boltzmann", BOLTZMANN, write)?;
                Ok(article)
            })
        }
        Some(Experiment::Bridge(Bridged { setting, learning, out })) => out.page("bridge", || {
            let mut article = Article::new("Bridge", facts(setting));
            let write = |section: &mut _| bridge::write(setting, learning, section);
            article.section("bridge", BRIDGE, write)?;
            Ok(article)
        }),
        Some(Experiment::Images(Pictured { setting, out })) => out.page("images", || {
            let mut article = Article::new("Images", format!("seed {}", setting.seed));
            article.section("images", IMAGES, |section| images::write(setting, section))?;
            Ok(article)
        }),
    }
}

const RISE: &str = "Energy rise (E1, section 4)";
const REPLAY: &str = "Replay gain (E2, section 5)";
const REGIMES: &str = "Regimes (E3)";
const BOLTZMANN: &str = "Boltzmann machine (E4)";
const BRIDGE: &str = "Bridge to learned scores (E6)";
const IMAGES: &str = "Images (E5)";

fn facts(setting: &Setting) -> String {
    format!("{} · seed {}", setting.in_words(), setting.seed)
}

fn quick(turned: &Turned) -> Result<Article> {
    let turning = Turning::measure(&turned.setting, &turned.turns)?;
    let mut article = turned.article("The modern Hopfield network");
    article.section("rise", RISE, |section| rise::write(&turning, section))?;
    article.section("replay", REPLAY, |section| replay::write(&turning, section))?;
    let write = |section: &mut _| regimes::write(&turned.setting, &Grid::usual(), section);
    article.section("regimes", REGIMES, write)?;
    Ok(article)
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

impl Out {
    /// Makes the folder of the page `name`, the page, and says its claims and where it is.
    ///
    /// The folder comes first: what cannot be written need not be computed. A failure takes the empty folder away again.
    fn page(&self, name: &str, make: impl FnOnce() -> Result<Article>) -> Result<()> {
        let folder = self.out.join(name);
        destination::expect_outside_runs(&folder)?;
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let new: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
        let outcome = claim(&folder, name).map_err(|error| Fault::Held.because(error));
        let outcome = outcome.and_then(|()| write(&make()?, &folder, name));
        if outcome.is_err() {
            // Only empty folders can be removed so.
            new.into_iter().for_each(|folder| _ = std::fs::remove_dir(folder));
        }
        outcome
    }
}

/// Writes the page and its tables, says the claims, and names the page.
fn write(article: &Article, folder: &Path, name: &str) -> Result<()> {
    let written = article.write(folder, name).map_err(of_output)?;
    article.claims().try_for_each(tell)?;
    written.first().map_or(Ok(()), |page| tell(&page.display().to_string()))
}
