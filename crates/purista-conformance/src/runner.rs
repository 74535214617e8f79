use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};
use parking_lot::{Mutex, RwLock};
use purista_core::{Capabilities, Capability};

use crate::{
    case::{Gate, Outcome, Run, Without},
    cases,
    catalogue::{Proof, ROWS, Row, row},
    profile::{DeploymentOptions, Profile},
    report::{Report, Verdict},
    stage::Stage,
    worker::work_if_asked,
};

/// How long a trial may take: so that one that hangs ends, and not to measure any. The largest sends 100,000 events, each
/// a request and its answer where that is how a bridge talks to its broker.
const TIME_LIMIT: Duration = Duration::from_secs(240);

/// Trials that measure time run alone, before the others, which share.
static MACHINE: RwLock<()> = RwLock::new(());

/// Runs the suite as the `main` of a test with `harness = false`.
///
/// `table` is the path of `docs/capabilities.md`, which is written anew if all rows ran and none failed. The seed comes
/// from `PURISTA_SEED`, or is random; the result file names it.
///
/// Trials that need a consumer that dies start this program again, as that consumer.
pub fn main(profile: impl Profile, table: &str) -> ExitCode {
    let profile: Arc<dyn Profile> = Arc::new(profile);
    if let Some(ended) = work_if_asked(&profile) {
        return ended;
    }
    let arguments = Arguments::from_args();
    let claims = match block_on(claims(&profile)) {
        Ok(claims) => claims,
        Err(error) => {
            report_missing_broker(profile.name(), &error);
            return ExitCode::FAILURE;
        }
    };
    let seed = seed();
    let report = Arc::new(Mutex::new(Report::new(profile.name(), seed, claims)));
    let mut rows: Vec<_> = ROWS.iter().collect();
    rows.sort_by_key(|row| !cases::measures_time(row.id));
    let mut trials: Vec<_> =
        rows.into_iter().map(|row| trial(&profile, row, claims, seed, &report)).collect();
    trials.push(claims_are_proved(&*profile, claims));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list
        && let Err(error) = report.lock().write(table)
    {
        report_missing_broker(profile.name(), &error);
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Runs one row for a profile; for the tests of the suite itself.
///
/// # Errors
///
/// What the trial saw. A row that does not apply cannot fail.
pub(crate) fn run_row(profile: &Arc<dyn Profile>, id: &str) -> Outcome {
    let claims = block_on(claims(profile))?;
    match plan(row(id).ok_or_else(|| anyhow!("{id} is no row"))?, claims, &**profile) {
        Plan::Run(run, _) => play(profile, id, run, seed()),
        Plan::Fail(reason) => Err(anyhow!(reason)),
        Plan::Core(_) | Plan::NotApplicable(_) => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "it is the output of a test runner")]
fn report_missing_broker(profile: &str, error: &anyhow::Error) {
    eprintln!("{profile}: {error:?}");
}

fn seed() -> u64 {
    let given = std::env::var("PURISTA_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(rand::random)
}

async fn claims(profile: &Arc<dyn Profile>) -> anyhow::Result<Capabilities> {
    let deployment = profile.deploy(&DeploymentOptions::default()).await?;
    let bridge = deployment.bridge()?;
    bridge.start().await?;
    let claims = bridge.capabilities();
    bridge.shutdown(Duration::from_secs(5)).await;
    Ok(claims)
}

/// What is to be done for a row.
enum Plan {
    Run(Run, Verdict),
    Core(&'static str),
    NotApplicable(&'static str),
    Fail(String),
}

fn plan(row: &Row, claims: Capabilities, profile: &dyn Profile) -> Plan {
    if let Some((_, reason)) = profile.not_applicable().iter().find(|(id, _)| *id == row.id) {
        return Plan::NotApplicable(reason);
    }
    match row.proof {
        Proof::Core(test) => Plan::Core(test),
        Proof::Missing(Some(capability), _) if claims.has(capability) => {
            Plan::Fail(format!("{capability} is claimed, and no trial proves {}", row.id))
        }
        Proof::Missing(_, reason) => Plan::NotApplicable(reason),
        Proof::Trial => match cases::all().find(|case| case.row == row.id) {
            None => Plan::Fail(format!("{} has no trial", row.id)),
            Some(case) => match case.gate {
                Gate::All => Plan::Run(case.run, Verdict::Passed),
                Gate::Claimed(capability, _) if claims.has(capability) => {
                    Plan::Run(case.run, Verdict::Passed)
                }
                Gate::Claimed(_, Without::Refused(refusal)) => Plan::Run(refusal, Verdict::Refused),
                Gate::Claimed(_, Without::NothingToAsk(reason)) => Plan::NotApplicable(reason),
            },
        },
    }
}

fn trial(
    profile: &Arc<dyn Profile>,
    row: &'static Row,
    claims: Capabilities,
    seed: u64,
    report: &Arc<Mutex<Report>>,
) -> Trial {
    let name = |kind: &str| format!("{}::{}{kind} {}", profile.name(), row.id, row.title);
    let note = |verdict| report.lock().note(row.id, verdict, Duration::ZERO);
    match plan(row, claims, &**profile) {
        Plan::Run(run, verdict) => {
            let kind = if verdict == Verdict::Refused { " (refused)" } else { "" };
            let (profile, report) = (Arc::clone(profile), Arc::clone(report));
            Trial::test(name(kind), move || {
                let began = Instant::now();
                let outcome = play(&profile, row.id, run, seed);
                let verdict = if outcome.is_ok() { verdict } else { Verdict::Failed };
                report.lock().note(row.id, verdict, began.elapsed());
                outcome.map_err(|error| Failed::from(format!("{error:?}\nPURISTA_SEED={seed}")))
            })
        }
        Plan::Core(test) => {
            note(Verdict::ByCore(test));
            Trial::test(name(&format!(" (proved by {test})")), || Ok(())).with_ignored_flag(true)
        }
        Plan::NotApplicable(reason) => {
            note(Verdict::NotApplicable(reason));
            Trial::test(name(&format!(" (not applicable: {reason})")), || Ok(())).with_ignored_flag(true)
        }
        Plan::Fail(reason) => {
            note(Verdict::Failed);
            Trial::test(name(""), move || Err(reason.into()))
        }
    }
}

/// Fails if a claimed capability has no row that this profile can prove it by.
fn claims_are_proved(profile: &dyn Profile, claims: Capabilities) -> Trial {
    let is_unproved = |claim: &Capability| {
        // What both ends of a wire must agree on is not proved by one of them alone.
        let takes_core = *claim != Capability::WireCompatible;
        let proves = |id: &&str| match row(id).map(|row| plan(row, claims, profile)) {
            Some(Plan::Run(_, verdict)) => verdict == Verdict::Passed,
            Some(Plan::Core(_)) => takes_core,
            _ => false,
        };
        !claim.proved_by().iter().any(proves)
    };
    let unproved: Vec<_> = claims.iter().filter(is_unproved).map(Capability::name).collect();
    Trial::test(
        format!("{}::CLAIMS each claimed capability has a row that proves it", profile.name()),
        move || {
            if unproved.is_empty() {
                Ok(())
            } else {
                Err(format!("not proved: {}", unproved.join(", ")).into())
            }
        },
    )
}

fn play(profile: &Arc<dyn Profile>, id: &str, run: Run, seed: u64) -> Outcome {
    let measures_time = cases::measures_time(id);
    let _alone = measures_time.then(|| MACHINE.write());
    let _shared = (!measures_time).then(|| MACHINE.read());
    block_on_threads(cases::threads(id), async {
        let stage = Stage::new(Arc::clone(profile), id, seed).await?;
        let trial = tokio::time::timeout(TIME_LIMIT, run(stage));
        trial.await.with_context(|| format!("not done within {TIME_LIMIT:?}"))?
    })
}

pub(crate) fn block_on<R>(future: impl Future<Output = anyhow::Result<R>>) -> anyhow::Result<R> {
    block_on_threads(2, future)
}

fn block_on_threads<R>(threads: usize, future: impl Future<Output = anyhow::Result<R>>) -> anyhow::Result<R> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}
