//! What a shell and `man` know of the command line, made from its grammar.

use crate::cli::Cli;
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::{ErrorKind, Write, stdout};
use std::path::Path;

/// Prints the completions of `shell`.
pub fn completions(shell: Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "margay", &mut text);
    print(&text)
}

/// Writes a page for `margay` and one for each of its commands into `directory`, or prints the first.
pub fn pages(directory: Option<&Path>) -> Result<()> {
    let command = Cli::command();
    let Some(directory) = directory else {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text)?;
        return print(&text);
    };
    let writing = || format!("cannot write manual pages to {}", directory.display());
    std::fs::create_dir_all(directory).with_context(writing)?;
    clap_mangen::generate_to(command, directory).with_context(writing)
}

/// Prints; whoever reads may stop at any time.
fn print(text: &[u8]) -> Result<()> {
    match stdout().write_all(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        pages(Some(&directory.path().join("man1"))).unwrap();
        for command in Cli::command().get_subcommands() {
            let page = format!("man1/margay-{}.1", command.get_name());
            let text = std::fs::read_to_string(directory.path().join(&page)).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
        }
        assert!(directory.path().join("man1/margay.1").is_file());
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "margay", &mut text);
            let text = String::from_utf8(text).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(text.contains(command.get_name()), "{shell}: {command}");
            }
        }
    }
}
