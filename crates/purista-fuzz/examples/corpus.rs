//! Seeds are kept one a line, and libFuzzer wants a file each: `corpus unpack TARGET FOLDER`, and `corpus pack TARGET
//! FOLDER`, which replaces the seeds that were found before by what is in the folder: all of it if there is room, or some
//! of each length. `corpus replay TARGET FOLDER` runs what is in the folder through the target, for instance to measure
//! coverage.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::{collections::BTreeSet, env, fs, io, path::Path, process::ExitCode};

use purista_fuzz::{TARGETS, replay::replay, seeds};

/// How much is kept of what was found: more would only slow down those who read it.
const MAX_BYTES: usize = 16 * 1_024;
const MAX_SEEDS: usize = 48;

/// Heads what was found by running a target.
const FOUND: &str = "# Found by running the target, and minimised.";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["targets"] => {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            Ok(())
        }
        ["unpack", target, folder] => unpack(target, Path::new(folder)),
        ["pack", target, folder] => pack(target, Path::new(folder)),
        ["replay", target, folder] => replay_all(target, Path::new(folder)),
        _ => Err(io::Error::other("corpus targets | unpack, pack or replay TARGET FOLDER")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn inputs(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    fs::read_dir(folder)?.map(|file| fs::read(file?.path())).collect()
}

fn replay_all(target: &str, folder: &Path) -> io::Result<()> {
    let known = TARGETS.iter().find(|known| known.name == target);
    let known = known.ok_or_else(|| io::Error::other(format!("no such target: {target}")))?;
    replay(known, &inputs(folder)?).map_err(io::Error::other)
}

fn unpack(target: &str, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, seed) in seeds::read(target)?.into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:04}")), seed)?;
    }
    Ok(())
}

/// Leaves out what was found by running the target, up to the next comment: what broke something stays.
fn without_found(text: &str) -> String {
    let mut is_found = false;
    let keeps = |line: &&str| {
        is_found = *line == FOUND || (is_found && !line.starts_with('#'));
        !is_found
    };
    text.lines().filter(keeps).flat_map(|line| [line, "\n"]).collect()
}

fn pack(target: &str, folder: &Path) -> io::Result<()> {
    let path = seeds::folder().join(format!("{target}.txt"));
    let mut text = without_found(&fs::read_to_string(&path)?);
    let mut known: BTreeSet<Vec<u8>> = text.lines().filter_map(seeds::parse).collect();
    let mut found = inputs(folder)?;
    found.retain(|seed| known.insert(seed.clone()));
    found.sort_by_key(|seed| (seed.len(), seed.clone()));
    let lines: Vec<String> = found.iter().map(|seed| seeds::line(seed)).collect();
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    let nth = lines.len().div_ceil(MAX_SEEDS).max(bytes.div_ceil(MAX_BYTES)).max(1);
    // From the end, as the longest ones cover most.
    let mut kept: Vec<&String> = lines.iter().rev().step_by(nth).collect();
    kept.reverse();
    println!("{target}: {} of {} seeds that were found", kept.len(), lines.len());
    if !kept.is_empty() {
        text.push_str(FOUND);
        text.push('\n');
    }
    for line in kept {
        text.push_str(line);
        text.push('\n');
    }
    fs::write(path, text)
}
