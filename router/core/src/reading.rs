//! Typed reading of TOML that goes on behind a mistake, so that one run shows them all.

mod hint;
mod mistake;

pub use hint::did_you_mean;
pub use mistake::{Mistake, Mistakes};

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The most mistakes that are collected: beyond them the file is likely of another kind.
const MISTAKES_MAX: usize = 32;

/// The largest number that TOML can write, so that no bound needs to be told.
pub const NUMBER_MAX: u64 = i64::MAX as u64;

/// A TOML value with its place.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// A text and the mistakes found in it so far.
pub struct Reader<'t> {
    text: &'t str,
    mistakes: Vec<Mistake>,
}

/// A table with how messages call it: automaton `web`.
pub struct Section<'a> {
    /// Its keys and values.
    pub table: &'a DeTable<'a>,
    /// Where to point at what is missing.
    pub span: Range<usize>,
    /// How messages call it.
    pub what: String,
}

impl<'t> Reader<'t> {
    /// Begins with `text`, and no mistake yet.
    pub fn new(text: &'t str) -> Self {
        Reader {
            text,
            mistakes: Vec::new(),
        }
    }

    /// The text being read.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// What was read, unless there were mistakes.
    pub fn finish<T>(self, read: Option<T>) -> Result<T, Mistakes> {
        match read {
            Some(read) if self.mistakes.is_empty() => Ok(read),
            _ => Err(Mistakes::new(self.mistakes)),
        }
    }

    /// Notes a mistake and hands it out for a hint.
    pub fn mistake(
        &mut self,
        span: Range<usize>,
        problem: impl Display,
        expected: impl Display,
    ) -> Option<&mut Mistake> {
        if self.mistakes.len() >= MISTAKES_MAX {
            return None;
        }
        let (problem, expected) = (problem.to_string(), expected.to_string());
        let mistake = Mistake::new(self.text, span, problem, expected);
        self.mistakes.push(mistake);
        self.mistakes.last_mut()
    }

    /// [`Reader::mistake`] with a guess at what was meant.
    pub fn mistake_with_hint(
        &mut self,
        span: Range<usize>,
        problem: impl Display,
        expected: impl Display,
        hint: Option<String>,
    ) {
        if let Some(mistake) = self.mistake(span, problem, expected) {
            mistake.hint = hint;
        }
    }

    /// Parses the text as TOML; its first error of syntax is the only mistake shown, for what
    /// follows it is guesswork.
    pub fn document(&mut self) -> Option<Spanned<DeTable<'t>>> {
        let error = match DeTable::parse(self.text) {
            Ok(document) => return Some(document),
            Err(error) => error,
        };
        let span = error.span().unwrap_or_default();
        let (problem, expected) = match error.message().split_once(", expected ") {
            Some((problem, expected)) => (problem, expected),
            None => (error.message(), "TOML (https://toml.io)"),
        };
        let found = self.text.get(span.clone()).unwrap_or_default();
        let (problem, expected, hint) = match problem {
            "duplicate key" => {
                let hint = format!("`{found}` stands here already; keep one of the two");
                (problem, "each key once", Some(hint))
            }
            "invalid boolean" | "string values must be quoted" => {
                let hint = format!("text is written in quotes: \"{found}\"");
                (
                    "a bare word",
                    "a text, a number, a list or a table",
                    Some(hint),
                )
            }
            _ => (problem, expected, None),
        };
        self.mistake_with_hint(span, problem, expected, hint);
        None
    }

    /// The table `value`; keys that are not `known` are mistakes.
    pub fn section<'a>(
        &mut self,
        key: &Spanned<impl AsRef<str>>,
        value: &'a Value<'a>,
        what: String,
        known: &[&str],
    ) -> Option<Section<'a>> {
        let expected = format!("a table with {}", listed(known, "and"));
        let table = self.table(value, key.get_ref().as_ref(), &expected)?;
        let section = Section {
            table,
            span: key.span(),
            what,
        };
        self.refuse_unknown(&section, known);
        Some(section)
    }

    /// Notes each key of `section` that is not `known`.
    pub fn refuse_unknown(&mut self, section: &Section<'_>, known: &[&str]) {
        for key in section
            .table
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()))
        {
            let problem = format!("{} has no key `{}`", section.what, key.get_ref());
            let hint = did_you_mean(key.get_ref(), known.iter().copied());
            self.mistake_with_hint(key.span(), problem, listed(known, "or"), hint);
        }
    }

    /// The value of `key` in `section`, which must have one.
    pub fn required<'a>(
        &mut self,
        section: &Section<'a>,
        key: &str,
        expected: impl Display,
    ) -> Option<&'a Value<'a>> {
        let value = section.table.get(key);
        if value.is_none() {
            let problem = format!("{} lacks `{key}`", section.what);
            self.mistake(section.span.clone(), problem, expected);
        }
        value
    }

    /// A table with any keys.
    pub fn table<'a>(
        &mut self,
        value: &'a Value<'a>,
        key: &str,
        expected: impl Display,
    ) -> Option<&'a DeTable<'a>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_kind(value, key, expected);
        }
        table
    }

    /// A text without zero bytes, which no program, user or variable could hold.
    pub fn string<'a>(
        &mut self,
        value: &'a Value<'a>,
        key: &str,
        expected: impl Display,
    ) -> Option<&'a str> {
        match value.get_ref().as_str() {
            Some(text) if text.contains('\0') => {
                self.mistake(value.span(), format!("`{key}` holds a zero byte"), expected);
                None
            }
            Some(text) => Some(text),
            None => {
                self.wrong_kind(value, key, expected);
                None
            }
        }
    }

    /// A list of texts, each with its place.
    pub fn strings<'a>(
        &mut self,
        value: &'a Value<'a>,
        key: &str,
        expected: &str,
    ) -> Option<Vec<(Range<usize>, &'a str)>> {
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_kind(value, key, expected);
            return None;
        };
        let mut texts = Vec::new();
        for value in list.iter() {
            texts.push((value.span(), self.string(value, key, expected)?));
        }
        Some(texts)
    }

    /// A whole number within `range`, if `section` has `key`.
    pub fn number(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let value = section.table.get(key)?;
        let expected = match (range.start(), *range.end()) {
            (start, NUMBER_MAX) => format!("a whole number from {start} up"),
            (start, end) => format!("a whole number from {start} to {end}"),
        };
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_kind(value, key, expected);
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix());
        let number = number.ok().filter(|number| range.contains(number));
        if number.is_none() {
            let found = self.text.get(value.span()).unwrap_or_default();
            self.mistake(value.span(), format!("`{key}` is {found}"), expected);
        }
        number
    }

    /// A list of whole numbers within `range`, each with its place, if `section` has `key`.
    pub fn numbers(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<Vec<(Range<usize>, u64)>> {
        let value = section.table.get(key)?;
        let (start, end) = (range.start(), range.end());
        let expected = format!("a list of whole numbers from {start} to {end}");
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_kind(value, key, expected);
            return None;
        };
        let mut numbers = Vec::new();
        for value in list.iter() {
            let integer = value.get_ref().as_integer();
            let number = integer.map(|it| u64::from_str_radix(it.as_str(), it.radix()));
            let number = number.and_then(Result::ok).filter(|it| range.contains(it));
            match number {
                Some(number) => numbers.push((value.span(), number)),
                None => {
                    let found = self.text.get(value.span()).unwrap_or_default();
                    let problem = format!("`{key}` holds {found}");
                    self.mistake(value.span(), problem, &expected);
                }
            }
        }
        Some(numbers)
    }

    /// `true` or `false`, if `section` has `key`.
    pub fn boolean(&mut self, section: &Section<'_>, key: &str) -> Option<bool> {
        let value = section.table.get(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_kind(value, key, "`true` or `false`");
        }
        boolean
    }

    /// A part of one, from 0 to 1, if `section` has `key`.
    pub fn fraction(&mut self, section: &Section<'_>, key: &str) -> Option<f64> {
        let value = section.table.get(key)?;
        let expected = "a fraction from 0.0 to 1.0";
        let written = match value.get_ref() {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) => integer.as_str(),
            _ => {
                self.wrong_kind(value, key, expected);
                return None;
            }
        };
        let fraction = written.parse().ok().filter(|it| (0.0..=1.0).contains(it));
        if fraction.is_none() {
            self.mistake(value.span(), format!("`{key}` is {written}"), expected);
        }
        fraction
    }

    /// One of a few words, if `section` has `key`.
    pub fn choice<T: Copy>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let value = section.table.get(key)?;
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let expected = listed(&words, "or").replace('`', "\"");
        let found = self.string(value, key, &expected)?;
        let chosen = choices.iter().find(|(word, _)| *word == found);
        if chosen.is_none() {
            let hint = did_you_mean(found, words);
            let problem = format!("`{key}` is `{found}`");
            self.mistake_with_hint(value.span(), problem, expected, hint);
        }
        chosen.map(|(_, choice)| *choice)
    }

    /// A name; if it is none, the hint says the nearest one.
    pub fn label<T: FromStr<Err: Display>>(&mut self, span: Range<usize>, text: &str) -> Option<T> {
        let error = match text.parse() {
            Ok(name) => return Some(name),
            Err(error) => error,
        };
        let tidied = text.to_lowercase().replace(['_', ' ', '.'], "-");
        let hint = tidied
            .parse::<T>()
            .is_ok()
            .then(|| format!("write `{tidied}`"));
        let expected = "1 to 63 of a-z, 0-9 and inner hyphens, not only digits";
        self.mistake_with_hint(span, error, expected, hint);
        None
    }

    fn wrong_kind(&mut self, value: &Value<'_>, key: &str, expected: impl Display) {
        let kind = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.mistake(value.span(), format!("`{key}` is {kind}"), expected);
    }
}

/// `a`, `b` or `c`.
pub fn listed(words: &[&str], before_last: &str) -> String {
    match words {
        [] => String::new(),
        [word] => format!("`{word}`"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|word| format!("`{word}`")).collect();
            format!("{} {before_last} `{last}`", first.join(", "))
        }
    }
}

/// The words to choose from, few enough for a line.
pub fn one_of(words: &[&str]) -> String {
    const SHOWN_MAX: usize = 8;
    match words.len() {
        0 => "nothing: there is none".to_owned(),
        1..=SHOWN_MAX => listed(words, "or"),
        count => {
            let shown = listed(&words[..SHOWN_MAX], "or");
            format!("{shown} ({} more)", count - SHOWN_MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `read` makes of `key = VALUE`, or the first mistake's problem.
    fn read<T>(
        text: &str,
        read: impl FnOnce(&mut Reader<'_>, &Section<'_>) -> Option<T>,
    ) -> Result<T, String> {
        let mut reader = Reader::new(text);
        let document = reader.document().unwrap();
        let section = Section {
            table: document.get_ref(),
            span: 0..0,
            what: "the file".to_owned(),
        };
        let found = read(&mut reader, &section);
        let finished = reader.finish(found);
        finished.map_err(|error| error.mistakes()[0].problem.clone())
    }

    #[test]
    fn fractions_lie_between_none_and_all() {
        let fraction = |text: &str| read(text, |reader, section| reader.fraction(section, "part"));
        assert_eq!(fraction("part = 0.25"), Ok(0.25));
        assert_eq!(fraction("part = 1"), Ok(1.0));
        for wrong in ["1.1", "-0.1", "nan", "inf", "2"] {
            let problem = Err(format!("`part` is {wrong}"));
            assert_eq!(fraction(&format!("part = {wrong}")), problem);
        }
        assert_eq!(fraction("part = \"x\""), Err("`part` is a text".into()));
    }

    #[test]
    fn booleans_are_words_without_quotes() {
        let boolean = |text: &str| read(text, |reader, section| reader.boolean(section, "on"));
        assert_eq!(boolean("on = true"), Ok(true));
        assert_eq!(boolean("on = \"true\""), Err("`on` is a text".into()));
    }
}
