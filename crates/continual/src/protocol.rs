//! The protocol's own words for tasks and replay: `[stream]` and `[replay]` of a protocol file.
//!
//! A `…Spec` is exactly what the file says; `validate` turns it into a plan that cannot be wrong in
//! itself, before any data are read; the plan's methods then meet the data.

use serde::{Deserialize, Serialize};

use crate::{
    AmountSpec, Arm, Balance, ClassId, ClassOrder, ContinualError, Mixture, TaskStream,
    amount::Amount,
    error::{Result, field},
    stream::check_groups,
};

/// `[stream]`: which classes come in which task.
///
/// Either `tasks`, or `classes_per_task` with an optional `order`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamSpec {
    /// The classes of each task: `[[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<Vec<ClassId>>>,
    /// How many classes each task takes from the order; must divide their number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes_per_task: Option<u32>,
    /// The order in which classes come, a [`ClassOrder`]; default `natural`, which is also the first
    /// of CLoG's orders (arXiv 2406.04584).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
}

/// `[replay]`: what is kept of earlier tasks, how much of it is replayed, and in which arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplaySpec {
    /// The buffer's capacity K for all tasks together: a count, or a percentage of the training
    /// examples of all tasks but the last.
    /// Default "5%" (one of the two budgets that this project compares, beside "1%").
    pub budget: AmountSpec,
    /// Replayed examples in every batch, beside the new ones: a count, or a percentage of the whole
    /// batch (below 100).
    /// Default "20%": 64 beside 256 new ones.
    pub per_batch: AmountSpec,
    /// The arms to compare, by name ([`Arm`]).
    /// Default: no replay, both ends of the energy scale and random between them, the upper bound
    /// and the control.
    pub arms: Vec<String>,
    /// `per-class` or `none` ([`Balance`]); default `per-class`, as is usual for replay buffers.
    pub balance: String,
}

/// A `[stream]` without contradictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPlan(Grouping);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Grouping {
    Explicit(Vec<Vec<ClassId>>),
    Ordered { order: ClassOrder, classes_per_task: u32 },
}

/// A `[replay]` without contradictions.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayPlan {
    budget: Amount,
    per_batch: Amount,
    arms: Vec<Arm>,
    balance: Balance,
}

impl Default for ReplaySpec {
    fn default() -> Self {
        let arms = ["none", "random", "top-energy", "bottom-energy", "joint", "control"];
        Self {
            budget: AmountSpec::Text("5%".to_owned()),
            per_batch: AmountSpec::Text("20%".to_owned()),
            arms: arms.map(str::to_owned).to_vec(),
            balance: Balance::default().to_string(),
        }
    }
}

impl StreamSpec {
    /// Checks everything that can be checked without data.
    ///
    /// # Errors
    /// Both or neither of `tasks` and `classes_per_task`, an unknown order, a class in two tasks.
    pub fn validate(&self) -> Result<StreamPlan> {
        let order = self.order.as_deref().unwrap_or("natural");
        let order = order.parse().map_err(|error| in_field("stream.order", error))?;
        let grouping = match (&self.tasks, self.classes_per_task, &self.order) {
            (Some(groups), None, None) => Grouping::Explicit(checked(groups)?),
            (None, Some(classes_per_task), _) => Grouping::Ordered { order, classes_per_task },
            (Some(_), Some(_), _) => return Err(contradiction("`classes_per_task` as well")),
            (Some(_), None, Some(_)) => return Err(contradiction("`order` as well")),
            (None, None, _) => return Err(contradiction("neither")),
        };
        Ok(StreamPlan(grouping))
    }
}

fn checked(groups: &[Vec<ClassId>]) -> Result<Vec<Vec<ClassId>>> {
    check_groups(groups)?;
    Ok(groups.to_vec())
}

fn contradiction(got: &str) -> ContinualError {
    field("stream.tasks", "either `tasks`, or `classes_per_task` with an optional `order`", got)
}

impl StreamPlan {
    /// The classes of each task, for data with classes 0 to `n_classes` - 1.
    ///
    /// # Errors
    /// `classes_per_task` does not divide the classes into two tasks or more, or the order is for
    /// another number of classes.
    pub fn groups(&self, n_classes: u32) -> Result<Vec<Vec<ClassId>>> {
        let (order, size) = match &self.0 {
            Grouping::Explicit(groups) => return Ok(groups.clone()),
            Grouping::Ordered { order, classes_per_task } => (order, *classes_per_task),
        };
        if size == 0 || !n_classes.is_multiple_of(size) || n_classes / size < 2 {
            let expected = format!("a divisor of {n_classes} classes that makes two tasks or more");
            return Err(field("stream.classes_per_task", expected, size.to_string()));
        }
        let classes = order.arrange(n_classes)?;
        Ok(classes.chunks(size as usize).map(<[ClassId]>::to_vec).collect())
    }
}

impl ReplaySpec {
    /// Checks everything that can be checked without data.
    ///
    /// # Errors
    /// An amount out of range, an unknown arm or balance, no arm, an arm listed twice.
    pub fn validate(&self) -> Result<ReplayPlan> {
        let balance = self.balance.parse().map_err(|error| in_field("replay.balance", error))?;
        let per_batch = self.per_batch.validate("replay.per_batch")?;
        if per_batch == Amount::Percent(100.0) {
            return Err(field("replay.per_batch", "less than the whole batch", "100%"));
        }
        let budget = self.budget.validate("replay.budget")?;
        Ok(ReplayPlan { budget, per_batch, arms: parse_arms(&self.arms)?, balance })
    }
}

fn parse_arms(names: &[String]) -> Result<Vec<Arm>> {
    let mut arms = Vec::with_capacity(names.len());
    for name in names {
        let arm: Arm = name.parse().map_err(|error| in_field("replay.arms", error))?;
        if arms.contains(&arm) {
            return Err(field("replay.arms", "every arm once", format!("`{arm}` twice")));
        }
        arms.push(arm);
    }
    if arms.is_empty() { Err(field("replay.arms", "at least one arm", "none")) } else { Ok(arms) }
}

/// Puts the field before an unknown name; other errors already name theirs.
fn in_field(name: &'static str, error: ContinualError) -> ContinualError {
    match error {
        ContinualError::UnknownName { name: got, expected, .. } => {
            field(name, expected, format!("`{got}`"))
        }
        other => other,
    }
}

impl ReplayPlan {
    /// The arms, in the order of the protocol.
    pub fn arms(&self) -> &[Arm] {
        &self.arms
    }

    /// Whether classes get equal quotas.
    pub fn balance(&self) -> Balance {
        self.balance
    }

    /// The buffer's capacity K for this stream.
    ///
    /// # Errors
    /// K rounds to zero, or is larger than a task that enters the buffer (all but the last).
    pub fn capacity(&self, stream: &TaskStream) -> Result<usize> {
        let n_replayed = stream.tasks().len() - 1;
        let replayed = &stream.tasks()[..n_replayed];
        let pool: usize = replayed.iter().map(|task| task.train().len()).sum();
        let budget = match self.budget {
            Amount::Count(count) => count,
            Amount::Percent(percent) => (pool as f64 * percent / 100.0).round() as u64,
        };
        if budget == 0 {
            let got = format!("none of {pool} earlier ones");
            return Err(field("replay.budget", "at least one example", got));
        }
        match replayed.iter().find(|task| budget > task.train().len() as u64) {
            Some(task) => Err(ContinualError::BudgetAboveTask {
                budget,
                task: task.number(),
                size: task.train().len(),
            }),
            None => Ok(budget as usize),
        }
    }

    /// How batches divide when each brings `new_per_batch` new examples.
    ///
    /// # Errors
    /// A percentage that rounds to no replayed example; an oversized batch.
    pub fn mixture(&self, new_per_batch: u64) -> Result<Mixture> {
        let replayed = match self.per_batch {
            Amount::Count(count) => count,
            // r of the whole is r/(1 - r) of the new.
            Amount::Percent(percent) => {
                (new_per_batch as f64 * percent / (100.0 - percent)).round() as u64
            }
        };
        if replayed == 0 {
            let got = format!("none beside {new_per_batch} new ones");
            return Err(field("replay.per_batch", "at least one replayed example", got));
        }
        Mixture::new(new_per_batch, replayed)
    }
}

#[cfg(test)]
mod tests;
