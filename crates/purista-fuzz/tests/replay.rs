//! Replays the seeds and what was found: each line of `fuzz/seeds` runs through its target as libFuzzer would run it.

use std::{collections::BTreeSet, fs};

use libtest_mimic::{Arguments, Failed, Trial};
use purista_fuzz::{TARGETS, Target, Verdict, replay::replay, seeds};

fn main() {
    let mut trials: Vec<_> =
        TARGETS.iter().map(|target| Trial::test(target.name, || seeds_hold(target))).collect();
    trials.push(Trial::test("each_target_has_a_binary_and_each_file_a_target", files_and_targets_match));
    trials.push(Trial::test("a_broken_property_is_caught", broken_properties_are_caught));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn seeds_hold(target: &Target) -> Result<(), Failed> {
    Ok(replay(target, &seeds::read(target.name)?)?)
}

fn files_and_targets_match() -> Result<(), Failed> {
    let targets: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    for (folder, ending) in [("seeds", "txt"), ("fuzz_targets", "rs")] {
        let files = fs::read_dir(seeds::folder().with_file_name(folder))?.collect::<Result<Vec<_>, _>>()?;
        let is_one = |path: &std::path::PathBuf| path.extension().is_some_and(|is| is == ending);
        let paths = files.iter().map(fs::DirEntry::path).filter(is_one);
        let names: BTreeSet<_> =
            paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
        assert_eq!(names, targets, "{folder}");
    }
    Ok(())
}

/// Runs the real seeds through decoders that are wrong in one way each.
fn broken_properties_are_caught() -> Result<(), Failed> {
    fn loses_the_tenant(data: &[u8]) -> Verdict {
        let decode = |bytes: Vec<u8>| purista_core::Message::decode(bytes);
        let Ok(mut message) = decode(purista_fuzz::input::expand(data)) else { return Verdict::Refused };
        let sent = message.clone();
        message.tenant_id = None;
        assert_eq!(decode(message.encode().into()).ok(), Some(sent));
        Verdict::Accepted
    }
    fn takes_nothing(_data: &[u8]) -> Verdict {
        Verdict::Refused
    }
    fn takes_all(_data: &[u8]) -> Verdict {
        Verdict::Accepted
    }
    let envelope = TARGETS.iter().find(|target| target.name == "envelope").ok_or("no such target")?;
    let inputs = seeds::read(envelope.name)?;
    let with = |run| {
        let mut target = *envelope;
        target.run = run;
        replay(&target, &inputs)
    };
    let says = |run, why| with(run).is_err_and(|error| error.contains(why));
    assert!(says(loses_the_tenant, "tenantId"));
    assert!(says(takes_nothing, "none of"));
    with(takes_all)?;
    assert!(replay(envelope, &[]).is_err());
    Ok(())
}
