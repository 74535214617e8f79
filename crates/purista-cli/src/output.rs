//! What goes to standard output and standard error.

use std::{
    io::{self, IsTerminal as _, Write as _},
    ops::ControlFlow,
    process::ExitCode,
};

use purista::Payload;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::outcome::{Failure, Outcome};

/// Tells what happened: to people, or as JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope: Option<&'a RawValue>,
}

impl Report<'_> {
    const fn new(outcome: Outcome) -> Self {
        Self {
            outcome: outcome.name(),
            status: None,
            message: None,
            data: None,
            payload: None,
            envelope: None,
        }
    }
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Tells the answer of a command: for people with indentation on a terminal, and as it came in a pipe.
    pub(crate) fn answer(self, payload: Option<&Payload>) -> Result<(), Failure> {
        if self.json {
            return report(&Report { payload, ..Report::new(Outcome::Ok) });
        }
        let text = payload.map_or("null", Payload::as_str);
        let text = if io::stdout().is_terminal() { indented(text) } else { on_one_line(text) };
        printed(&text).map(drop)
    }

    /// Tells an event that was emitted, and its envelope as it was sent.
    pub(crate) fn emitted(self, told: &str, envelope: &[u8]) -> Result<(), Failure> {
        if self.json {
            let envelope: &RawValue = serde_json::from_slice(envelope).map_err(cannot_write)?;
            return report(&Report { envelope: Some(envelope), ..Report::new(Outcome::Ok) });
        }
        printed(told).map(drop)
    }

    /// Tells a script that it is done; people have seen it.
    pub(crate) fn done(self) -> Result<(), Failure> {
        if self.json { report(&Report::new(Outcome::Ok)) } else { Ok(()) }
    }

    /// Tells a failure, and returns its exit code.
    pub(crate) fn failed(self, failure: &Failure) -> ExitCode {
        let Failure { outcome, message, status, data } = failure;
        let status_text = status.map(|status| format!("{status}: ")).unwrap_or_default();
        let data_text = data.as_ref().map(|data| format!(", data {data}")).unwrap_or_default();
        note(&format!("{}: {status_text}{message}{data_text}", outcome.name()));
        if self.json {
            let status = status.map(purista::StatusCode::as_u16);
            let line =
                Report { status, message: Some(message), data: data.as_ref(), ..Report::new(*outcome) };
            // The exit code tells the same.
            let _unwritten = report(&line);
        }
        outcome.exit_code()
    }
}

fn report(line: &Report<'_>) -> Result<(), Failure> {
    printed(&serde_json::to_string(line).map_err(cannot_write)?).map(drop)
}

/// Writes a line to standard output; breaks if whoever read it has closed it.
pub(crate) fn printed(line: &str) -> Result<ControlFlow<()>, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(cannot_write(error)),
    }
}

fn cannot_write(error: impl std::fmt::Display) -> Failure {
    Failure::new(Outcome::Failed, format!("standard output cannot be written: {error}"))
}

/// Tells people something on standard error, on one line; if that is closed, nobody wants to know.
pub(crate) fn note(told: &str) {
    let _closed = writeln!(io::stderr().lock(), "purista: {}", visible(told));
}

/// Replaces what could move the cursor or colour the terminal, and what ends the line: names and texts come from others.
pub(crate) fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        if is_invisible(character) {
            shown.extend(character.escape_unicode())
        } else {
            shown.push(character)
        }
        shown
    })
}

/// Control characters, the ends of lines of Unicode, and what changes the direction of writing.
fn is_invisible(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns JSON on one line, as it is but for characters that a terminal would act upon.
pub(crate) fn on_one_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            // Outside of strings, where alone they can be, these are white space.
            '\n' | '\r' | '\t' => line.push(' '),
            character => push_json(&mut line, character),
        }
    }
    line
}

/// Returns JSON with a line for each member. Numbers keep their digits, as nothing is parsed.
fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut characters = json.chars().filter(|character| !matches!(character, '\n' | '\r' | '\t')).peekable();
    let new_line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(character) = characters.next() {
        if in_string {
            push_json(&mut text, character);
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        match character {
            ' ' => {}
            '"' => {
                in_string = true;
                text.push('"');
            }
            '{' | '[' => {
                text.push(character);
                while characters.next_if_eq(&' ').is_some() {}
                match characters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => text.push(end),
                    None => {
                        depth += 1;
                        new_line(&mut text, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut text, depth);
                text.push(character);
            }
            ',' => {
                text.push(',');
                new_line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            other => text.push(other),
        }
    }
    text
}

/// Writes a character of JSON, as its escape where a terminal would act upon it.
fn push_json(text: &mut String, character: char) {
    if is_invisible(character) {
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    } else {
        text.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indentation_changes_nothing_but_white_space() {
        let json = r#"{"a":[1.10,{}, [ ] ],"b \" {,":"x\\","c":{"d":12345678901234567890123}}"#;
        let expected = "{\n  \"a\": [\n    1.10,\n    {},\n    []\n  ],\n  \"b \\\" {,\": \"x\\\\\",\n  \"c\": {\n    \"d\": 12345678901234567890123\n  }\n}";
        assert_eq!(indented(json), expected);
        assert_eq!(indented(" 7 "), "7");
        let back: serde_json::Value = serde_json::from_str(&indented(json)).unwrap();
        assert_eq!(back, serde_json::from_str::<serde_json::Value>(json).unwrap());
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        let json = "{\n\"a\":\t\"\u{9b}2J\u{7f}\u{202e}x\"}";
        assert_eq!(on_one_line(json), "{ \"a\": \"\\u009b2J\\u007f\\u202ex\"}");
        let value: serde_json::Value = serde_json::from_str(&on_one_line(json)).unwrap();
        assert_eq!(value["a"], "\u{9b}2J\u{7f}\u{202e}x");
        assert_eq!(visible("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\u{a}b");
    }
}
