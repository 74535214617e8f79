//! Every place that lists the adapters lists all of them, and what `docs/adding-an-adapter.md` says of their files holds.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A place that lists adapters, and how it names one.
struct Place {
    file: &'static str,
    names: fn(&str) -> String,
    of: Of,
}

/// Which adapters a place lists.
#[derive(PartialEq, Eq)]
enum Of {
    All,
    /// Those with a broker, a wire and a network.
    Brokers,
}

const fn all(file: &'static str, names: fn(&str) -> String) -> Place {
    Place { file, names, of: Of::All }
}

const fn brokers(file: &'static str, names: fn(&str) -> String) -> Place {
    Place { file, names, of: Of::Brokers }
}

const PLACES: &[Place] = &[
    all("Cargo.toml", |name| format!("purista-{name} = {{ path")),
    all("README.md", |name| format!("`purista-{name}`")),
    all("CONTRIBUTING.md", |name| format!("purista-{name}")),
    all("crates/purista/Cargo.toml", |name| format!("purista-{name} = {{|purista-{name}.workspace")),
    all("crates/purista/src/systems.rs", |name| format!("purista_{name}::")),
    all("crates/purista/src/lib.rs", |name| format!("pub use purista_{name} as")),
    all("crates/purista/tests/options.rs", |name| format!("\"{name}\"),")),
    brokers("crates/purista/README.md", |name| format!("| `{name}` | ")),
    brokers("examples/Cargo.toml", |name| format!("{name} = [\"purista/{name}\"]")),
    brokers("examples/quickstart.rs", |name| {
        format!("--features {name} -- --bridge {name}://|--features {name} -- --bridge '{name}://")
    }),
    brokers("CONTRIBUTING.md", |name| format!("-- {name}`|`{name}`")),
    brokers("docs/operating.md", |name| format!("-p purista-{name}`")),
    brokers("docs/operating.md", |name| format!("-- {name}`|`{name}`")),
    brokers("scripts/test.sh", |name| format!("{name}_url=|{name}_urls=")),
    brokers("integration-tests/examples/fault_run/main.rs", |name| format!("mod {name};")),
    brokers("crates/purista-fuzz/Cargo.toml", |name| format!("purista-{name} =")),
    brokers("crates/purista-fuzz/src/targets/environment.rs", |name| format!("purista_{name}")),
    brokers("crates/purista-fuzz/src/targets/servers.rs", |name| format!("purista_{name}::")),
];

/// Lists of names within one line: the file, and how the line begins.
const LINES: &[(&str, &str, Of)] =
    &[("integration-tests/examples/fault_run/main.rs", "usage: fault_run ", Of::Brokers)];

const GUIDE: &str = "docs/adding-an-adapter.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The names of what is in a folder.
fn listed(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The adapters, which are the crates with a transport.
fn adapters(of: &Of) -> Vec<String> {
    let has = |name: &str, file: &str| root().join(format!("crates/purista-{name}/src/{file}")).exists();
    let crates = listed("crates");
    let names = crates.iter().filter_map(|name| name.strip_prefix("purista-"));
    let adapters = names.filter(|name| has(name, "transport.rs"));
    adapters.filter(|name| *of == Of::All || has(name, "connection.rs")).map(str::to_owned).collect()
}

/// The test targets of an adapter that begin so.
fn targets(name: &str, begin: &str) -> Vec<String> {
    let files = listed(&format!("crates/purista-{name}/tests"));
    let targets = files.iter().filter_map(|file| file.strip_suffix(".rs"));
    targets.filter(|target| target.starts_with(begin)).map(str::to_owned).collect()
}

#[test]
fn the_adapters_are_found() {
    let (all, brokers) = (adapters(&Of::All), adapters(&Of::Brokers));
    assert!(brokers.len() >= 4, "{brokers:?}");
    let others: Vec<_> = all.iter().filter(|name| !brokers.contains(name)).collect();
    assert_eq!(others, ["default"]);
}

#[test]
fn every_place_lists_every_adapter() {
    for Place { file, names, of } in PLACES {
        let text = read(file);
        for adapter in adapters(of) {
            let forms = names(&adapter);
            let is_listed = forms.split('|').any(|form| text.contains(form));
            assert!(is_listed, "{file} does not list {adapter}: there is no {forms}");
        }
    }
    for (file, begin, of) in LINES {
        let text = read(file);
        let line =
            text.lines().find(|line| line.contains(begin)).unwrap_or_else(|| panic!("{file}: {begin}"));
        let words: Vec<_> = line.split(|character: char| !character.is_ascii_alphanumeric()).collect();
        for adapter in adapters(of) {
            assert!(words.contains(&&*adapter), "{file} does not list {adapter}: {line}");
        }
    }
}

#[test]
fn the_guide_lists_every_place() {
    let guide = read(GUIDE);
    let places = PLACES.iter().map(|place| place.file).chain(LINES.iter().map(|(file, ..)| *file));
    for file in places.chain(["docs/capabilities.md", "docs/conformance"]) {
        assert!(guide.contains(&format!("`{file}`")), "{GUIDE} does not name {file}");
    }
}

/// Setters of which the URL says the same in another part: before the host, in its path, or in what its query says for the
/// broker.
const OTHERWISE: [&str; 4] = ["user_and_password", "token", "vhost", "external_credentials"];

#[test]
fn every_setter_of_a_text_a_number_or_a_time_is_an_option_of_the_url() {
    let mut options = 0;
    for adapter in adapters(&Of::Brokers) {
        let builder = read(&format!("crates/purista-{adapter}/src/builder.rs"));
        let table =
            builder.split("        options {\n").nth(1).unwrap().split("\n        }\n").next().unwrap();
        let listed: Vec<_> =
            table.lines().filter_map(|line| line.trim().split([':', ';', ' ']).next()).collect();
        for line in builder.lines() {
            let Some(setter) = line.strip_prefix("    pub fn ") else { continue };
            let Some((name, rest)) = setter.split_once("(self") else { continue };
            let types = rest.split(')').next().unwrap().split(", ").skip(1);
            let mut types = types.filter_map(|parameter| parameter.split(": ").nth(1));
            let is_simple = |type_name: &str| {
                let simple = [
                    "impl Into<String>",
                    "impl Into<PathBuf>",
                    "Duration",
                    "u16",
                    "u32",
                    "u64",
                    "usize",
                    "bool",
                ];
                simple.contains(&type_name)
            };
            if name == "build" || OTHERWISE.contains(&name) || !types.all(is_simple) {
                continue;
            }
            assert!(listed.contains(&name), "{adapter}: `url_options!` does not list {name}");
            options += 1;
        }
    }
    assert!(options > 20, "{options}");
}

#[test]
fn every_profile_is_run_and_has_its_column() {
    let recipe = read("justfile");
    let recipe = recipe.split("\ncapabilities:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(recipe.contains("--workspace") && recipe.contains("--test 'conformance*'"), "{recipe}");
    let profiles = listed("docs/conformance");
    let profiles: BTreeSet<_> = profiles.iter().map(|file| file.strip_suffix(".json").unwrap()).collect();
    let mut known = 0;
    for adapter in adapters(&Of::All) {
        let manifest = read(&format!("crates/purista-{adapter}/Cargo.toml"));
        let conformance = targets(&adapter, "conformance");
        assert!(!conformance.is_empty(), "{adapter} has no conformance target");
        let wrong_bridges = targets(&adapter, "wrong_bridges");
        assert_eq!(wrong_bridges.len(), 1, "{adapter} does not test the suite");
        for target in conformance.iter().chain(&wrong_bridges) {
            let declared = format!("[[test]]\nname = \"{target}\"\nharness = false\n");
            assert!(manifest.contains(&declared), "{adapter}: {target} is no target without a harness");
        }
        let of_adapter =
            |profile: &&&str| **profile == adapter || profile.starts_with(&format!("{adapter}-"));
        let its_own = profiles.iter().filter(of_adapter).count();
        assert_eq!(its_own, conformance.len(), "{adapter}: profiles in docs/conformance, and targets");
        known += its_own;
    }
    assert_eq!(known, profiles.len(), "{profiles:?}");
    let columns: Vec<_> = profiles.into_iter().collect();
    let header = format!("| capability | {} | proved by |", columns.join(" | "));
    assert!(read("docs/capabilities.md").lines().any(|line| line == header), "there is no {header}");
}

#[test]
fn the_guide_says_which_files_an_adapter_has() {
    let guide = read(GUIDE);
    let section = guide.split("\n## ").find(|section| section.starts_with("2. Write the crate")).unwrap();
    let table = section.split("| file | holds |").nth(1).unwrap().split("\n\n").next().unwrap();
    let files = table.lines().filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    let named: BTreeSet<_> =
        files.flat_map(|cell| cell.split('`')).filter(|word| word.ends_with(".rs")).collect();
    let brokers = adapters(&Of::Brokers);
    let sources: Vec<_> = brokers.iter().map(|name| listed(&format!("crates/purista-{name}/src"))).collect();
    for (adapter, files) in brokers.iter().zip(&sources) {
        let missing: Vec<_> = named.iter().filter(|file| !files.contains(**file)).collect();
        assert!(missing.is_empty(), "{adapter} lacks {missing:?}, which {GUIDE} tells of");
    }
    let in_all = sources[0].iter().filter(|file| sources.iter().all(|files| files.contains(*file)));
    let untold: Vec<_> = in_all.filter(|file| !named.contains(file.as_str())).collect();
    assert!(untold.is_empty(), "every adapter has {untold:?}, and {GUIDE} does not tell");
    for adapter in &brokers {
        let tests = listed(&format!("crates/purista-{adapter}/tests"));
        for folder in ["profile", "server"] {
            assert!(
                tests.contains(folder) && guide.contains(&format!("`tests/{folder}`")),
                "{adapter}: {folder}"
            );
        }
    }
}
