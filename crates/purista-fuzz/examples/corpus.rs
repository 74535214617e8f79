//! Seeds are kept one a line, and libFuzzer wants a file each: `corpus unpack TARGET FOLDER` and `corpus pack TARGET
//! FOLDER`, which adds what is in the folder to the seeds, the shortest first.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::{collections::BTreeSet, env, fs, path::Path, process::ExitCode};

use purista_fuzz::{TARGETS, seeds};

/// How much is added to the seeds of a target at once: more would only slow down those who read them.
const MAX_BYTES: usize = 48 * 1_024;
const MAX_SEEDS: usize = 400;

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
        _ => Err(std::io::Error::other("corpus targets | unpack TARGET FOLDER | pack TARGET FOLDER")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn unpack(target: &str, folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, seed) in seeds::read(target)?.into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:04}")), seed)?;
    }
    Ok(())
}

fn pack(target: &str, folder: &Path) -> std::io::Result<()> {
    let mut known: BTreeSet<Vec<u8>> = seeds::read(target)?.into_iter().collect();
    let files = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut found = files.iter().map(|file| fs::read(file.path())).collect::<Result<Vec<_>, _>>()?;
    found.sort_by_key(|seed| (seed.len(), seed.clone()));
    let path = seeds::folder().join(format!("{target}.txt"));
    let mut text = fs::read_to_string(&path)?;
    let (mut room, mut added) = (MAX_BYTES, 0);
    for seed in found.into_iter().filter(|seed| known.insert(seed.clone())) {
        let line = seeds::line(&seed);
        if added == MAX_SEEDS || line.len() > room {
            break;
        }
        if !text.lines().any(|line| line == FOUND) {
            text.push_str(FOUND);
            text.push('\n');
        }
        room -= line.len();
        added += 1;
        text.push_str(&line);
        text.push('\n');
    }
    println!("{target}: {added} seeds added");
    fs::write(path, text)
}
