//! What is wrong with a text, and where: shown to whoever wrote it.

use std::fmt::{self, Write};
use std::ops::Range;

/// The most that is quoted of the offending text, in characters: a terminal's line.
const FOUND_CHARACTERS_MAX: usize = 60;

/// Everything that is wrong with one text, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Sentences(mistakes))]
pub struct Mistakes {
    mistakes: Vec<Mistake>,
}

/// One thing that is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// The offending text, up to the end of its line.
    pub found: String,
    /// What is wrong.
    pub problem: String,
    /// What should stand there.
    pub expected: String,
    /// What to try, where there is a guess.
    pub hint: Option<String>,
    /// How many characters of the line it takes.
    width: usize,
}

impl Mistake {
    /// Points at the bytes `span` of `text`.
    pub(super) fn new(text: &str, span: Range<usize>, problem: String, expected: String) -> Self {
        let start = text.floor_char_boundary(span.start);
        let end = text.ceil_char_boundary(span.end.max(start));
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let found = text[start..end].lines().next().unwrap_or_default();
        Mistake {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            found: found.chars().take(FOUND_CHARACTERS_MAX).collect(),
            problem,
            expected,
            hint: None,
            width: found.chars().count(),
        }
    }

    /// Appends the mistake below a header, with its line and a caret.
    fn render(&self, out: &mut String, file_name: &str, text: &str) -> fmt::Result {
        let source = text.split('\n').nth(self.line - 1).unwrap_or_default();
        let lead: String = source.chars().take(self.column - 1).map(blank).collect();
        let carets = "^".repeat(self.width.max(1));
        let gutter = " ".repeat(self.line.to_string().len());
        writeln!(out, "error: {}", printable(&self.problem))?;
        let (line, column) = (self.line, self.column);
        writeln!(out, "{gutter}--> {file_name}:{line}:{column}")?;
        writeln!(out, "{gutter} |")?;
        let source = format!("{line} | {}", printable(source));
        writeln!(out, "{}", source.trim_end())?;
        writeln!(out, "{gutter} | {lead}{carets} expected {}", self.expected)?;
        if let Some(hint) = &self.hint {
            writeln!(out, "{gutter} = help: {}", printable(hint))?;
        }
        Ok(())
    }
}

impl Mistakes {
    /// Orders the mistakes by their place; there is at least one.
    pub(super) fn new(mut mistakes: Vec<Mistake>) -> Self {
        debug_assert!(!mistakes.is_empty(), "an error without a mistake");
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        Mistakes { mistakes }
    }

    /// What is wrong, in the order of the text.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// Shows every mistake below its line, as rustc does; `text` is what was parsed.
    pub fn render(&self, file_name: &str, text: &str) -> String {
        let mut out = String::new();
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                out.push('\n');
            }
            let written = mistake.render(&mut out, file_name, text);
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
        out
    }
}

/// The mistakes as plain lines, for logs and JSON.
struct Sentences<'a>(&'a [Mistake]);

impl fmt::Display for Sentences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            let Mistake {
                line,
                column,
                problem,
                expected,
                ..
            } = mistake;
            let problem = printable(problem);
            write!(
                f,
                "{newline}line {line}, column {column}: {problem}; expected {expected}"
            )?;
            if let Some(hint) = &mistake.hint {
                write!(f, " ({})", printable(hint))?;
            }
        }
        Ok(())
    }
}

/// What takes the same room as `character` without showing it: tabs stay tabs.
fn blank(character: char) -> char {
    if character == '\t' { '\t' } else { ' ' }
}

/// `text` without the control characters by which a file could steer the operator's terminal.
fn printable(text: &str) -> String {
    let harmless = |character: char| match character {
        '\t' => '\t',
        character if character.is_control() => char::REPLACEMENT_CHARACTER,
        character => character,
    };
    text.chars().map(harmless).collect()
}
