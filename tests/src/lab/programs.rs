//! Small C and Go programs, compiled for the lab's instances.

use super::Host;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A C library, named by the compiler that links with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// The GNU C library, by `cc`.
    Glibc,
    /// musl, by `musl-gcc`, linked statically.
    Musl,
}

impl Libc {
    /// Both.
    pub const ALL: [Libc; 2] = [Libc::Glibc, Libc::Musl];

    /// Its name in figures and paths.
    pub fn name(self) -> &'static str {
        match self {
            Libc::Glibc => "glibc",
            Libc::Musl => "musl",
        }
    }
}

/// Compiles C and puts the program where the host's instances can run it.
pub fn compile(host: &Host, name: &str, source: &str, libc: Libc) -> Result<PathBuf> {
    let mut command = match libc {
        Libc::Glibc => Command::new("cc"),
        Libc::Musl => Command::new("musl-gcc"),
    };
    if libc == Libc::Musl {
        command.arg("-static");
    }
    command.args(["-O1", "-Wall", "-Werror", "-pthread"]);
    build(
        host,
        &format!("{name}-{}", libc.name()),
        command,
        "program.c",
        source,
    )
}

/// Compiles Go with Go's own resolver and puts the program where the host's instances can run it.
pub fn compile_go(host: &Host, name: &str, source: &str) -> Result<PathBuf> {
    let mut command = Command::new("go");
    command
        .arg("build")
        .env("CGO_ENABLED", "0")
        .env("GO111MODULE", "off");
    build(host, &format!("{name}-go"), command, "program.go", source)
}

fn build(
    host: &Host,
    name: &str,
    mut compiler: Command,
    file: &str,
    source: &str,
) -> Result<PathBuf> {
    let directory = tempfile::tempdir().context("cannot make a directory to compile in")?;
    let (input, output) = (
        directory.path().join(file),
        directory.path().join("program"),
    );
    fs::write(&input, source)?;
    compiler.arg("-o").arg(&output).arg(&input);
    // Go wants a cache; one of its own needs no home directory.
    compiler.env("GOCACHE", directory.path().join("cache"));
    let done = compiler
        .output()
        .with_context(|| format!("cannot run {compiler:?}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "cannot compile {name}: {said}");
    host.write(&format!("bin/{name}"), fs::read(&output)?)
}
