use std::fmt::Write as _;

use crate::{
    contender::{Contender, Sample},
    cpu::Used,
    scenario::{Goal, Scenario},
};

/// What one contender did in one round.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) sample: Sample,
    pub(crate) cpu: Option<Used>,
}

pub(crate) fn print_head() {
    println!(
        "{:<19} {:<9} {:<6} {:>9} {:>21} {:>11} {:>9} {:>9}",
        "scenario", "unit", "who", "median", "min..max", "ours/this", "client", "server"
    );
}

/// Prints what the contenders did. Returns what it means for the goals.
pub(crate) fn print(
    scenario: &Scenario,
    contenders: &[Contender],
    played: &[Vec<Round>],
    noise: Option<f64>,
) -> Vec<String> {
    let mut goals = Vec::new();
    for (number, value) in scenario.values.iter().enumerate() {
        let column = |rounds: &[Round]| -> Vec<f64> {
            rounds.iter().map(|round| round.sample.values[number]).collect()
        };
        let ours = contenders.iter().position(|contender| contender.name == "ours");
        let ours = ours.map(|ours| column(&played[ours])).unwrap_or_default();
        let mut verdict = String::new();
        for (contender, rounds) in contenders.iter().zip(played) {
            let values = column(rounds);
            let ratio = median(ours.iter().zip(&values).map(|(ours, this)| ours / this).collect());
            let spread = format!("{:.0}..{:.0}", least(&values), most(&values));
            println!(
                "{:<19} {:<9} {:<6} {:>9.0} {spread:>21} {ratio:>11.2} {:>9} {:>9}",
                scenario.name,
                value.unit,
                contender.name,
                median(values),
                per_operation(rounds, |cpu| cpu.client.as_secs_f64()),
                per_operation(rounds, |cpu| cpu.server.as_secs_f64()),
            );
            if let Some(goal) = value.goal.filter(|_| contender.name != "ours" && !ratio.is_nan()) {
                let word = if goal.is_met_by(ratio) { "met" } else { "missed" };
                let _cannot_fail = write!(verdict, "  {}: {ratio:.2} {word}", contender.name);
            }
        }
        goals.extend(value.goal.map(|goal| {
            let goal = match goal {
                Goal::AtLeast(ratio) => format!("\u{2265} {ratio:.2}"),
                Goal::AtMost(ratio) => format!("\u{2264} {ratio:.2}"),
            };
            format!("{:<19} {:<9} {goal}{verdict}", scenario.name, value.unit)
        }));
    }
    let noise = noise.map_or_else(|| "unknown".to_owned(), |noise| format!("{:.0} %", noise * 100.0));
    println!("{:<19} noise     {noise}\n", scenario.name);
    goals
}

pub(crate) fn print_goals(goals: &[String]) {
    println!("goals, as the ratio of ours to raw:");
    goals.iter().for_each(|goal| println!("{goal}"));
}

/// Returns the microseconds of processor time that one operation took.
fn per_operation(rounds: &[Round], seconds: impl Fn(&Used) -> f64) -> String {
    let used: Option<f64> = rounds.iter().map(|round| round.cpu.as_ref().map(&seconds)).sum();
    let operations: u64 = rounds.iter().map(|round| round.sample.operations).sum();
    used.map_or_else(
        || "-".to_owned(),
        |used| format!("{:.1} \u{b5}s", used * 1e6 / operations.max(1) as f64),
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}
