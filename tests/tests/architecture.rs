//! The shape of the repository, checked: who depends on whom, file lengths, purpose lines.

use margay_core::catalog::CatalogDrop;
use margay_core::drop_reason::DropReason;
use margay_core::membership::MembershipDrop;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Lines a file may have, without the tests at its end.
const FILE_LINES_MAX: usize = 800;

/// Who may depend on whom: everything else between our crates is forbidden.
const MAY_DEPEND: &[(&str, &[&str])] = &[
    ("margay-core", &[]),
    ("margay-datapath", &["margay-core"]),
    ("margay-keeper", &["margay-core"]),
    ("margay-overlay", &["margay-core"]),
    ("margay-resolver", &["margay-core"]),
    ("margay-sim", &["margay-core", "margay-overlay"]),
    (
        "margay",
        &[
            "margay-core",
            "margay-datapath",
            "margay-keeper",
            "margay-overlay",
            "margay-resolver",
        ],
    ),
    (
        "margay-tests",
        &[
            "margay",
            "margay-core",
            "margay-datapath",
            "margay-keeper",
            "margay-overlay",
            "margay-resolver",
            "margay-sim",
        ],
    ),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What `cargo metadata` says about our own crates.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs, as it runs this test");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {error}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("an array").clone()
}

/// The repository's own files whose names end in one of `extensions`, with their text.
fn sources(extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut directories = vec![root().to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("our directories are readable") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                // Cargo marks its target directories so.
                if !name.starts_with('.') && !path.join("CACHEDIR.TAG").exists() {
                    directories.push(path);
                }
            } else if extensions.iter().any(|it| name.ends_with(it)) {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                let inside = path.strip_prefix(root()).expect("found below the root");
                found.push((inside.display().to_string(), text));
            }
        }
    }
    assert!(!found.is_empty(), "found no {extensions:?} file at all");
    found.sort();
    found
}

/// Fails with every finding at once.
fn assert_none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn crates_depend_only_downwards() {
    let packages = packages();
    let ours: BTreeSet<&str> = packages
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    let known: BTreeSet<&str> = MAY_DEPEND.iter().map(|(name, _)| *name).collect();
    assert_eq!(ours, known, "a new crate needs its line in MAY_DEPEND");

    let mut findings = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().expect("a name");
        let allowed = MAY_DEPEND
            .iter()
            .find(|(it, _)| *it == name)
            .expect("known")
            .1;
        for dependency in package["dependencies"].as_array().expect("an array") {
            let on = dependency["name"].as_str().expect("a name");
            if ours.contains(on) && !allowed.contains(&on) {
                findings.push(format!("{name} must not depend on {on}"));
            }
        }
    }
    assert_none(findings);
}

#[test]
fn dependencies_come_from_the_registry_or_from_here() {
    let here = root().canonicalize().expect("the root exists");
    let mut findings = Vec::new();
    for package in packages() {
        for dependency in package["dependencies"].as_array().expect("an array") {
            let source = dependency["source"].as_str();
            let local = dependency["path"].as_str().is_some_and(|path| {
                Path::new(path)
                    .canonicalize()
                    .is_ok_and(|it| it.starts_with(&here))
            });
            let registry = source.is_some_and(|it| it.starts_with("registry+"));
            if !local && !registry {
                findings.push(format!("{}: {}", package["name"], dependency["name"]));
            }
        }
    }
    assert_none(findings);
}

#[test]
fn every_crate_says_its_purpose_and_takes_the_lints() {
    let mut findings = Vec::new();
    for package in packages() {
        let name = &package["name"];
        if package["description"].as_str().is_none_or(str::is_empty) {
            findings.push(format!("{name} has no description"));
        }
        let manifest = package["manifest_path"].as_str().expect("a path");
        let manifest = fs::read_to_string(manifest).expect("cargo just read it");
        if !manifest.contains("[lints]\nworkspace = true") {
            findings.push(format!("{name} does not take the workspace's lints"));
        }
    }
    assert_none(findings);
}

#[test]
fn every_file_opens_with_its_purpose() {
    let opens = |path: &str, text: &str| {
        // A licence tag or an interpreter may stand before the purpose.
        let before =
            |line: &&str| line.contains("SPDX-License-Identifier") || line.starts_with("#!/");
        let line = text.lines().find(|line| !before(line)).unwrap_or_default();
        let marks: &[&str] = match path.rsplit('.').next() {
            Some("rs") => &["//! "],
            Some("c" | "h") => &["// ", "/* "],
            _ => &["# "],
        };
        marks
            .iter()
            .any(|mark| line.strip_prefix(mark).is_some_and(|it| it.len() > 8))
    };
    let findings = sources(&[".rs", ".c", ".h", ".sh", ".py"])
        .into_iter()
        .filter(|(path, text)| !opens(path, text))
        .map(|(path, _)| format!("{path} does not open with its purpose"))
        .collect();
    assert_none(findings);
}

#[test]
fn files_stay_short() {
    let without_tests = |text: &str| {
        text.lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .count()
    };
    let findings = sources(&[".rs", ".c", ".h"])
        .into_iter()
        .map(|(path, text)| (path, without_tests(&text)))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| format!("{path} has {lines} lines; {FILE_LINES_MAX} are the most"))
        .collect();
    assert_none(findings);
}

#[test]
fn no_test_is_ignored() {
    let findings = sources(&[".rs"])
        .into_iter()
        .filter(|(_, text)| {
            text.lines()
                .any(|line| line.trim_start().starts_with("#[ignore"))
        })
        .map(|(path, _)| format!("{path} ignores a test"))
        .collect();
    assert_none(findings);
}

#[test]
fn core_stays_pure() {
    let clippy = fs::read_to_string(root().join("router/core/clippy.toml")).expect("it is there");
    for forbidden in [
        "std::time::Instant::now",
        "std::thread::spawn",
        "std::net::UdpSocket",
    ] {
        assert!(
            clippy.contains(forbidden),
            "core's clippy.toml lacks {forbidden}"
        );
    }
    let findings = sources(&[".rs"])
        .into_iter()
        .filter(|(path, _)| path.starts_with("router/core/src/"))
        .filter(|(_, text)| text.contains("clippy::disallowed_"))
        .map(|(path, _)| format!("{path} opts out of purity"))
        .collect();
    assert_none(findings);
}

#[test]
fn every_drop_reason_is_in_the_operators_guide() {
    let guide = fs::read_to_string(root().join("docs/operator.md")).expect("it is there");
    let findings = DropReason::ALL
        .iter()
        .filter(|reason| !guide.contains(&format!("`{}`", reason.name())))
        .map(|reason| format!("docs/operator.md does not explain `{}`", reason.name()))
        .collect();
    assert_none(findings);
}

#[test]
fn every_reason_not_to_believe_a_host_is_in_the_protocols_page() {
    let page = fs::read_to_string(root().join("docs/protocol/catalog.md")).expect("it is there");
    let catalog = CatalogDrop::ALL.iter().map(|reason| reason.name());
    let membership = MembershipDrop::ALL.iter().map(|reason| reason.name());
    let findings = catalog
        .chain(membership)
        .filter(|name| !page.contains(&format!("`{name}`")))
        .map(|name| format!("docs/protocol/catalog.md does not explain `{name}`"))
        .collect();
    assert_none(findings);
}

#[test]
fn no_source_names_a_developers_home() {
    let homes = ["/home/", "/Users/"];
    let findings = sources(&[".rs", ".c", ".h", ".toml", ".md"])
        .into_iter()
        .filter(|(path, _)| path != "tests/tests/architecture.rs")
        .filter(|(_, text)| homes.iter().any(|home| text.contains(home)))
        .map(|(path, _)| format!("{path} names a path of one machine"))
        .collect();
    assert_none(findings);
}
