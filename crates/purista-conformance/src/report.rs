//! What a run showed: the result file, and the table of all adapters.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::Context as _;
use purista_core::{Capabilities, Capability};
use serde::{Deserialize, Serialize};

use crate::catalogue::ROWS;

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Refused,
    Failed,
    ByCore(&'static str),
    NotApplicable(&'static str),
}

/// The verdicts of one profile, in the order of the catalogue.
pub(crate) struct Report {
    profile: &'static str,
    seed: u64,
    claims: Capabilities,
    verdicts: BTreeMap<usize, (Verdict, Duration)>,
}

/// What is kept of a profile beside the table, for the table of all of them.
#[derive(Serialize, Deserialize)]
struct Summary {
    profile: String,
    capabilities: BTreeMap<String, String>,
    rows: BTreeMap<String, String>,
}

impl Report {
    pub(crate) const fn new(profile: &'static str, seed: u64, claims: Capabilities) -> Self {
        Self { profile, seed, claims, verdicts: BTreeMap::new() }
    }

    pub(crate) fn note(&mut self, id: &str, verdict: Verdict, took: Duration) {
        if let Some(position) = ROWS.iter().position(|row| row.id == id) {
            self.verdicts.insert(position, (verdict, took));
        }
    }

    /// Writes the result file and, if all rows ran and none failed, the table.
    pub(crate) fn write(&self, table: &str) -> anyhow::Result<()> {
        let table = Path::new(table);
        let docs = table.parent().context("the table has no folder")?;
        let results = docs.join("../target/conformance");
        fs::create_dir_all(&results)?;
        fs::write(results.join(format!("{}.json", self.profile)), self.result_file()?)?;

        let is_clean = self.verdicts.values().all(|(verdict, _)| *verdict != Verdict::Failed);
        if !is_clean || self.verdicts.len() < ROWS.len() {
            return Ok(());
        }
        let summaries = docs.join("conformance");
        fs::create_dir_all(&summaries)?;
        let summary = serde_json::to_string_pretty(&self.summary())?;
        fs::write(summaries.join(format!("{}.json", self.profile)), summary + "\n")?;
        let mut known = Vec::new();
        for entry in fs::read_dir(&summaries)? {
            known.push(serde_json::from_slice::<Summary>(&fs::read(entry?.path())?)?);
        }
        known.sort_by(|one, other| one.profile.cmp(&other.profile));
        fs::write(table, render(&known)?)?;
        Ok(())
    }

    fn result_file(&self) -> anyhow::Result<String> {
        let rows: Vec<_> = self
            .verdicts
            .iter()
            .map(|(position, (verdict, took))| {
                serde_json::json!({
                    "id": ROWS[*position].id,
                    "title": ROWS[*position].title,
                    "verdict": verdict.to_string(),
                    "seconds": took.as_secs_f64(),
                })
            })
            .collect();
        let result = serde_json::json!({ "profile": self.profile, "seed": self.seed, "rows": rows });
        Ok(serde_json::to_string_pretty(&result)? + "\n")
    }

    fn summary(&self) -> Summary {
        let capability = |capability: &Capability| {
            let given = if self.claims.has(*capability) { "yes" } else { "no" };
            (capability.name().to_owned(), given.to_owned())
        };
        let row = |(position, (verdict, _)): (&usize, &(Verdict, Duration))| {
            (ROWS[*position].id.to_owned(), verdict.to_string())
        };
        Summary {
            profile: self.profile.to_owned(),
            capabilities: Capability::ALL.iter().map(capability).collect(),
            rows: self.verdicts.iter().map(row).collect(),
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Refused => f.write_str("refused"),
            Self::Failed => f.write_str("failed"),
            Self::ByCore(test) => write!(f, "proved by {test}"),
            Self::NotApplicable(reason) => write!(f, "not applicable: {reason}"),
        }
    }
}

fn render(summaries: &[Summary]) -> anyhow::Result<String> {
    let mut out = String::from(
        "# What each adapter gives\n\n\
         Written by the conformance suite from what it saw; do not edit. A `yes` is proved by the rows named beside it, \
         a `no` is refused with `Unsupported` where it can be asked for.\n\n",
    );
    let header = |out: &mut String, first: &str, last: &str| -> std::fmt::Result {
        write!(out, "| {first} |")?;
        summaries.iter().try_for_each(|summary| write!(out, " {} |", summary.profile))?;
        write!(out, "{last}\n|---|")?;
        summaries.iter().try_for_each(|_| out.write_str("---|"))?;
        writeln!(out, "{}", if last.is_empty() { "" } else { "---|" })
    };
    header(&mut out, "capability", " proved by |")?;
    for capability in Capability::ALL {
        write!(out, "| {capability} |")?;
        for summary in summaries {
            write!(out, " {} |", summary.capabilities.get(capability.name()).map_or("no", String::as_str))?;
        }
        writeln!(out, " {} |", capability.proved_by().join(", "))?;
    }
    out.push_str("\n## Rows\n\n");
    header(&mut out, "row", "")?;
    for row in ROWS {
        write!(out, "| {} {} |", row.id, row.title)?;
        for summary in summaries {
            write!(out, " {} |", summary.rows.get(row.id).map_or("not run", String::as_str))?;
        }
        out.push('\n');
    }
    Ok(out)
}
