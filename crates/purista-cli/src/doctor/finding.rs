use serde::Serialize;

use crate::{
    outcome::Failure,
    output::{printed, visible},
};

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Verdict {
    #[serde(rename = "ok")]
    Ok,
    #[serde(rename = "WARN")]
    Warn,
    #[serde(rename = "FAIL")]
    Fail,
    #[serde(rename = "not checked")]
    NotChecked,
}

/// A check, what it found, and where that is explained.
#[derive(Debug, Serialize)]
pub(super) struct Finding<'a> {
    pub(super) verdict: Verdict,
    pub(super) check: &'static str,
    pub(super) message: &'a str,
    /// The file and the heading in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) page: Option<&'static str>,
}

impl Finding<'_> {
    /// Prints it; breaks nothing if nobody reads, as the exit code tells the outcome.
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        let line = if json {
            serde_json::to_string(self).unwrap_or_default()
        } else {
            let verdict = match self.verdict {
                Verdict::Ok => "ok",
                Verdict::Warn => "WARN",
                Verdict::Fail => "FAIL",
                Verdict::NotChecked => "not checked",
            };
            let page = self.page.map(|page| format!("   {page}")).unwrap_or_default();
            format!("{verdict:<11}  {}: {}{page}", self.check, visible(self.message))
        };
        printed(&line).map(drop)
    }
}
