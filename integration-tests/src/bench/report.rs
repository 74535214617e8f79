#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]

use super::{
    contender::{Contender, Sample},
    cpu::Used,
    scenario::{Comparison, Scenario},
};

/// What one contender did in one round.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) sample: Sample,
    pub(super) cpu: Option<Used>,
}

pub(super) fn print_names<S>(scenarios: &[&Scenario<S>]) {
    scenarios.iter().for_each(|scenario| println!("{}: benchmark", scenario.name));
}

pub(super) fn print_head() {
    println!(
        "{:<19} {:<9} {:<15} {:>9} {:>21} {:>9} {:>9}",
        "scenario", "unit", "who", "median", "min..max", "client", "server"
    );
}

pub(super) fn print_notes<S>(scenario: &Scenario<S>, notes: &[String]) {
    notes.iter().for_each(|note| println!("{:<19} {note}", scenario.name));
}

/// Prints what the contenders did, and how they compare. Returns the comparisons that have a goal.
pub(super) fn print<S>(
    scenario: &Scenario<S>,
    contenders: &[Contender],
    played: &[Vec<Round>],
    noise: Option<f64>,
) -> Vec<String> {
    let (mut compared, mut goals) = (Vec::new(), Vec::new());
    for (number, unit) in scenario.units.iter().enumerate() {
        let head = format!("{:<19} {unit:<9}", scenario.name);
        for (contender, rounds) in contenders.iter().zip(played) {
            let values = column(rounds, number);
            let spread = format!("{:.0}..{:.0}", least(&values), most(&values));
            println!(
                "{head} {:<15} {:>9.0} {spread:>21} {:>9} {:>9}",
                contender.name,
                median(values),
                per_operation(rounds, |cpu| cpu.client.as_secs_f64()),
                per_operation(rounds, |cpu| cpu.server.as_secs_f64()),
            );
        }
        for comparison in scenario.comparisons {
            let Some(ratios) = compare(comparison, number, contenders, played) else { continue };
            let line = format!("{head} {:<15}{ratios}", comparison.who);
            if comparison.goals.get(number).is_some_and(Option::is_some) {
                goals.push(line.clone());
            }
            compared.push(line);
        }
    }
    compared.iter().for_each(|line| println!("{line}"));
    let noise = noise.map_or_else(|| "unknown".to_owned(), |noise| format!("{:.0} %", noise * 100.0));
    println!("{:<19} noise     {noise}\n", scenario.name);
    goals
}

pub(super) fn print_goals(goals: &[String]) {
    println!("goals, as ratios:");
    goals.iter().for_each(|goal| println!("{goal}"));
}

/// Returns the ratios of one contender to others, if they took part.
fn compare(
    comparison: &Comparison,
    number: usize,
    contenders: &[Contender],
    played: &[Vec<Round>],
) -> Option<String> {
    let find = |name| {
        let position = contenders.iter().position(|contender| contender.name == name)?;
        Some(column(&played[position], number))
    };
    let values = find(comparison.who)?;
    let goal = comparison.goals.get(number).copied().flatten();
    let mut text = goal.map(|goal| format!(" {goal}")).unwrap_or_default();
    let mut is_alone = true;
    for (name, others) in comparison.others.iter().filter_map(|name| Some((name, find(name)?))) {
        let ratio = median(values.iter().zip(&others).map(|(value, other)| value / other).collect());
        let verdict = goal.map(|goal| if goal.is_met_by(ratio) { " met" } else { " missed" });
        text += &format!("  / {name} {ratio:.2}{}", verdict.unwrap_or_default());
        is_alone = false;
    }
    (!is_alone).then_some(text)
}

fn column(rounds: &[Round], number: usize) -> Vec<f64> {
    rounds.iter().map(|round| round.sample.values[number]).collect()
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
