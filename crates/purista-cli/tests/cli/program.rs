//! Runs the command line.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::spawn_blocking,
    time::timeout,
};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Demands an exit code, and a text on standard error: none if it is empty, otherwise one line.
    pub(crate) fn must(self, code: i32, told: &str) -> Result<Self> {
        ensure!(self.code == code, "not exit code {code}: {self:?}");
        match told {
            "" => ensure!(self.stderr.is_empty(), "{self:?}"),
            told => {
                ensure!(self.stderr.contains(told), "not told, {told:?}: {self:?}");
                ensure!(self.stderr.lines().count() == 1 || self.stderr.contains("try '--help'"), "{self:?}");
            }
        }
        Ok(self)
    }

    /// Returns the one line of standard output as JSON.
    pub(crate) fn json(&self) -> Result<Value> {
        ensure!(self.stdout.lines().count() == 1, "{self:?}");
        Ok(serde_json::from_str(&self.stdout)?)
    }
}

/// Returns a command line with its broker in the environment, and without what there may be for other tests.
fn program(url: &str, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_purista"));
    program.args(arguments).env_clear().env("PURISTA_URL", url);
    if url.is_empty() {
        program.env_remove("PURISTA_URL");
    }
    program
}

/// Runs a command line to its end, with nothing on standard input.
pub(crate) async fn run(url: &str, arguments: &[&str]) -> Result<Ended> {
    run_with(url, arguments, "").await
}

/// Runs a command line to its end, with a text on standard input.
pub(crate) async fn run_with(url: &str, arguments: &[&str], stdin: &str) -> Result<Ended> {
    let mut child = program(url, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let id = Pid::from_child(&child);
    // It may end without reading, and the texts of these tests fit into the pipe.
    let _unread = child.stdin.take().context("its standard input")?.write_all(stdin.as_bytes());
    let ended = timeout(PATIENCE, spawn_blocking(|| child.wait_with_output())).await;
    let Ok(ended) = ended else {
        kill_process(id, Signal::KILL)?;
        bail!("{arguments:?} did not end within {PATIENCE:?}");
    };
    let ended = ended??;
    Ok(Ended {
        code: ended.status.code().context("it was killed")?,
        stdout: String::from_utf8(ended.stdout)?,
        stderr: String::from_utf8(ended.stderr)?,
    })
}

/// Runs a command line whose standard output nobody reads; returns its exit code and what standard error has.
pub(crate) async fn run_unread(url: &str, arguments: &[&str]) -> Result<(i32, String)> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let child = program(url, arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn()?;
    let ended = timeout(PATIENCE, spawn_blocking(|| child.wait_with_output())).await???;
    Ok((ended.status.code().context("it was killed")?, String::from_utf8(ended.stderr)?))
}

/// A command line that runs, and is killed with this.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: UnboundedReceiver<String>,
    stderr: UnboundedReceiver<String>,
}

impl Running {
    /// Starts one.
    pub(crate) fn start(url: &str, arguments: &[&str]) -> Result<Self> {
        let (mut running, stdout) = Self::start_unread(url, arguments)?;
        running.stdout = lines(stdout);
        Ok(running)
    }

    /// Starts one whose standard output the caller reads.
    pub(crate) fn start_unread(url: &str, arguments: &[&str]) -> Result<(Self, ChildStdout)> {
        let mut child = program(url, arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("its standard output")?;
        let stderr = lines(child.stderr.take().context("its standard error")?);
        Ok((Self { child, stdout: unbounded_channel().1, stderr }, stdout))
    }

    /// Starts `tail`, and returns when it watches.
    pub(crate) async fn tail(url: &str, arguments: &[&str]) -> Result<Self> {
        let mut running = Self::start(url, &[&["tail"], arguments].concat())?;
        running.until_told("watching on").await?;
        Ok(running)
    }

    /// Waits for a line of standard error with this text, and returns it.
    pub(crate) async fn until_told(&mut self, text: &str) -> Result<String> {
        let mut before = Vec::new();
        loop {
            match timeout(PATIENCE, self.stderr.recv()).await {
                Ok(Some(line)) if line.contains(text) => return Ok(line),
                Ok(Some(line)) => before.push(line),
                other => bail!("not told, {text:?}: {before:?}, {other:?}"),
            }
        }
    }

    /// Returns the next line of standard output.
    pub(crate) async fn line(&mut self) -> Result<String> {
        match timeout(PATIENCE, self.stdout.recv()).await {
            Ok(Some(line)) => Ok(line),
            other => bail!("no line: {other:?}, standard error: {:?}", self.stderr.try_recv()),
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for the end; returns the exit code, and the lines that were not read.
    pub(crate) async fn ended(mut self) -> Result<(i32, Vec<String>)> {
        let mut rest = Vec::new();
        let to_the_end = async {
            while let Some(line) = self.stdout.recv().await {
                rest.push(line);
            }
            while let Some(line) = self.stderr.recv().await {
                rest.push(line);
            }
        };
        timeout(PATIENCE, to_the_end).await.context("it does not end")?;
        let status = self.child.wait()?;
        Ok((status.code().context("it was killed")?, rest))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Most have ended.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn lines(source: impl Read + Send + 'static) -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
