//! What operators do wrong, and who is none.

use crate::world::{composition, host_with, margay, said, text};
use margay_tests::lab::run_directory;

/// Asks the daemon at `argv[1]` for its instances.
const ASK: &str = r#"
import socket, sys
daemon = socket.socket(socket.AF_UNIX)
daemon.connect(sys.argv[1])
daemon.sendall(b'"ps"\n')
print(daemon.makefile().readline())
"#;

/// A composition with one mistake: the word that is wrong, and the hint to expect.
struct Mistake {
    right: &'static str,
    wrong: &'static str,
    /// Where in `wrong` the mistake begins.
    at: &'static str,
    hint: &'static str,
}

const MISTAKES: [Mistake; 3] = [
    Mistake {
        right: r#"needs = ["echo"]"#,
        wrong: r#"needs = ["ecko"]"#,
        at: r#""ecko""#,
        hint: "echo",
    },
    Mistake {
        right: r#"protocol = "tcp""#,
        wrong: r#"protocol = "tpc""#,
        at: r#""tpc""#,
        hint: "tcp",
    },
    Mistake {
        right: "[automaton.caller]\ncommand",
        wrong: "[automaton.caller]\ncomand",
        at: "comand",
        hint: "command",
    },
];

/// Line and column of `part` in `text`, from 1.
fn place(text: &str, part: &str) -> (usize, usize) {
    let before = &text[..text.find(part).unwrap()];
    let column = before.chars().rev().take_while(|it| *it != '\n').count() + 1;
    (before.matches('\n').count() + 1, column)
}

#[test]
fn wrong_file_is_refused_at_its_line_and_column_and_changes_nothing() {
    let host = host_with("");
    let state = || {
        let asked = [["ps", "--json"], ["services", "--json"]];
        asked.map(|words| text(&margay(&host, &words)))
    };
    let before = state();
    for Mistake {
        right,
        wrong,
        at,
        hint,
    } in MISTAKES
    {
        let content = composition("")
            .replace("version = 1", "version = 2")
            .replace(right, wrong);
        let file = host.write("wrong.toml", &content).unwrap();
        let file = file.to_str().unwrap();

        let refused = margay(&host, &["apply", file]);

        let told = text(&refused);
        assert_eq!(refused.status.code(), Some(1), "{told}");
        let (line, column) = place(&content, at);
        assert!(told.contains(&format!("{file}:{line}:{column}")), "{told}");
        assert!(told.contains("expected"), "{told}");
        let help = told.lines().find(|line| line.contains("= help:"));
        assert!(help.is_some_and(|help| help.contains(hint)), "{told}");
        assert_eq!(state(), before);
    }
}

#[test]
fn composition_of_an_older_or_a_changed_version_is_refused() {
    let host = host_with("");
    let before = text(&margay(&host, &["ps", "--json"]));
    for (what, content) in [
        (
            "another content",
            composition("").replace("needs = [\"echo\"]", ""),
        ),
        (
            "older",
            composition("").replace("version = 1", "version = 0"),
        ),
    ] {
        let file = host.write("again.toml", &content).unwrap();
        let refused = margay(&host, &["apply", file.to_str().unwrap()]);
        let told = text(&refused);
        assert_eq!(refused.status.code(), Some(1), "{what}: {told}");
        assert_eq!(text(&margay(&host, &["ps", "--json"])), before, "{what}");
    }
}

#[test]
fn only_root_may_speak_to_the_daemon() {
    let host = host_with("");
    let socket = run_directory().join("control.sock").display().to_string();
    let mut nobody = host.command("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    nobody.args(["/usr/bin/python3", "-c", ASK, &socket]);

    let refused = nobody.output().unwrap();

    assert!(!refused.status.success(), "{}", text(&refused));
    assert!(text(&refused).contains("PermissionError"), "{refused:?}");

    // Even where somebody opened the socket to all, the daemon asks the kernel who calls.
    let open = ["chmod", "a+rwx", "/media/run", &socket];
    said(&host, &open);
    let refused = nobody.output().unwrap();
    assert!(text(&refused).contains("may not speak"), "{refused:?}");
    assert!(!text(&refused).contains("1.echo"), "{refused:?}");
    let root = said(&host, &["/usr/bin/python3", "-c", ASK, &socket]);
    assert!(root.contains("1.echo"), "{root}");
}
