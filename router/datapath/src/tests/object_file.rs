//! The checked-in eBPF object: what its sources say, byte for byte.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The compiler whose output is checked in; another one's bytes differ.
const CLANG_VERSION: &str = "version 14.0.6";

fn pinned_clang_is_here() -> bool {
    Command::new("clang-14")
        .arg("--version")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(CLANG_VERSION))
}

fn bpf_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bpf")
}

/// Rebuilt in another directory, so that a path that leaks into the object shows.
#[test]
fn the_checked_in_object_is_what_its_sources_say() {
    if !pinned_clang_is_here() {
        eprintln!("not compared: there is no clang {CLANG_VERSION}");
        return;
    }
    let copy = env::temp_dir().join(format!("margay-object-{}", std::process::id()));
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(bpf_dir()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let output = Command::new(copy.join("build"))
        .arg(copy.join("rebuilt.o"))
        .output()
        .unwrap();
    let rebuilt = fs::read(copy.join("rebuilt.o"));
    fs::remove_dir_all(&copy).unwrap();
    assert!(output.status.success(), "{output:?}");
    let checked_in = fs::read(bpf_dir().join("margay.bpf.o")).unwrap();
    assert!(
        rebuilt.unwrap() == checked_in,
        "bpf/margay.bpf.o is not what its sources say: run bpf/build"
    );
}
