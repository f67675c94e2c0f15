//! Names: of compositions, of automatons (which are service names) and of instances.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// The zone under which services are named.
pub const ZONE: &str = "matrix";

/// The longest label of a DNS name, in bytes (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// Why a text is no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Nothing there.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than DNS allows.
    #[error("`{0}` is longer than {LABEL_BYTES_MAX} characters")]
    TooLong(String),
    /// A character outside the alphabet.
    #[error("`{0}` may hold only a-z, 0-9 and inner hyphens (RFC 1123 section 2.1)")]
    BadCharacter(String),
    /// All-digit labels name instances.
    #[error("`{0}` is all digits; such labels are reserved to instances (`2.web`)")]
    AllDigits(String),
}

fn check_label(text: &str) -> Result<(), LabelError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() {
        Err(LabelError::Empty)
    } else if text.len() > LABEL_BYTES_MAX {
        Err(LabelError::TooLong(text.to_owned()))
    } else if !text.bytes().all(allowed) || text.starts_with('-') || text.ends_with('-') {
        Err(LabelError::BadCharacter(text.to_owned()))
    } else if text.bytes().all(|b| b.is_ascii_digit()) {
        Err(LabelError::AllDigits(text.to_owned()))
    } else {
        Ok(())
    }
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The label's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = LabelError;
            fn from_str(text: &str) -> Result<Self, LabelError> {
                check_label(text).map(|()| $name(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = LabelError;
            fn try_from(text: String) -> Result<Self, LabelError> {
                check_label(&text).map(|()| $name(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

label!(
    /// A composition's name: one DNS label.
    CompositionName
);
label!(
    /// An automaton's name, which is its service's name below the zone: `web` of `web.matrix`.
    AutomatonName
);
label!(
    /// One tier of a site's path: `paris` of `rack1.paris`.
    SiteName
);
label!(
    /// A host's name, given with its membership certificate.
    HostName
);

/// The longest [`SitePath`], in bytes: with the longest ordinal (`4294967295.`), an automaton's
/// label, its dot and the zone (`.matrix`) it still makes a DNS name (253, RFC 1035 section 2.3.4).
const SITE_PATH_BYTES_MAX: usize = 253 - 11 - (LABEL_BYTES_MAX + 1) - (ZONE.len() + 1);

/// Where a site lies in the hierarchy of sites; the empty path is the whole network.
///
/// Its text is what DNS writes between service and zone, the innermost tier first: `rack1.paris`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SitePath {
    /// From the outermost tier inwards, so that an ancestor's path is a slice's beginning.
    tiers: Vec<SiteName>,
}

/// Why a text is no site path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SitePathError {
    /// A tier is no label.
    #[error(transparent)]
    Tier(#[from] LabelError),
    /// Too long for a DNS name with a service before it.
    #[error("`{0}` is longer than {SITE_PATH_BYTES_MAX} characters; use shorter site names")]
    TooLong(String),
}

impl SitePath {
    /// The whole network: no site at all.
    pub const fn everywhere() -> Self {
        SitePath { tiers: Vec::new() }
    }

    /// Its tiers, the outermost first.
    pub fn tiers(&self) -> &[SiteName] {
        &self.tiers
    }
}

impl FromStr for SitePath {
    type Err = SitePathError;
    fn from_str(text: &str) -> Result<Self, SitePathError> {
        if text.is_empty() {
            return Ok(SitePath::everywhere());
        }
        if text.len() > SITE_PATH_BYTES_MAX {
            return Err(SitePathError::TooLong(text.to_owned()));
        }
        let tiers: Result<_, LabelError> = text.rsplit('.').map(str::parse).collect();
        Ok(SitePath { tiers: tiers? })
    }
}

impl TryFrom<String> for SitePath {
    type Error = SitePathError;
    fn try_from(text: String) -> Result<Self, SitePathError> {
        text.parse()
    }
}

impl From<SitePath> for String {
    fn from(path: SitePath) -> String {
        path.to_string()
    }
}

impl fmt::Display for SitePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, tier) in self.tiers.iter().rev().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{tier}")?;
        }
        Ok(())
    }
}

/// An instance's name: its ordinal, counted from 1, and its automaton: `2.web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName {
    /// Of which automaton.
    pub automaton: AutomatonName,
    /// Which one, from 1.
    pub ordinal: u32,
}

/// Why a text names no instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstanceNameError {
    /// Not `NUMBER.AUTOMATON`.
    #[error("`{0}` is no instance; write NUMBER.AUTOMATON, for example `2.web`")]
    Form(String),
    /// The automaton's part is no label.
    #[error(transparent)]
    Automaton(#[from] LabelError),
}

impl FromStr for InstanceName {
    type Err = InstanceNameError;
    fn from_str(text: &str) -> Result<Self, InstanceNameError> {
        let form = || InstanceNameError::Form(text.to_owned());
        let (ordinal, automaton) = text.split_once('.').ok_or_else(form)?;
        // `parse` alone would take `+2` and `02`, and two names would mean one instance.
        let canonical = ordinal.starts_with(|c: char| matches!(c, '1'..='9'));
        let ordinal = ordinal.parse().ok().filter(|_| canonical);
        let ordinal = ordinal.ok_or_else(form)?;
        Ok(InstanceName {
            automaton: automaton.parse()?,
            ordinal,
        })
    }
}

impl TryFrom<String> for InstanceName {
    type Error = InstanceNameError;
    fn try_from(text: String) -> Result<Self, InstanceNameError> {
        text.parse()
    }
}

impl From<InstanceName> for String {
    fn from(name: InstanceName) -> String {
        name.to_string()
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ordinal, self.automaton)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn label_errors_say_what_is_wrong() {
        let error = |text: &str| text.parse::<AutomatonName>().unwrap_err();
        let long = "a".repeat(LABEL_BYTES_MAX + 1);
        assert_eq!(error(""), LabelError::Empty);
        assert_eq!(error(&long), LabelError::TooLong(long.clone()));
        assert_eq!(error("007"), LabelError::AllDigits("007".into()));
        for text in ["Web", "a_b", "-a", "a-", "a.b", "é", "a b"] {
            assert_eq!(error(text), LabelError::BadCharacter(text.into()));
        }
    }

    #[test]
    fn instance_names_count_from_one() {
        let name: InstanceName = "2.web".parse().unwrap();
        assert_eq!((name.ordinal, name.automaton.as_str()), (2, "web"));
        assert_eq!(name.to_string(), "2.web");
        for text in [
            "web",
            "0.web",
            "+2.web",
            "02.web",
            "2.",
            "web.2",
            "4294967296.web",
        ] {
            assert!(text.parse::<InstanceName>().is_err(), "{text}");
        }
    }

    #[test]
    fn site_path_is_written_innermost_first_and_kept_outermost_first() {
        let path: SitePath = "rack1.paris".parse().unwrap();
        let tiers: Vec<_> = path.tiers().iter().map(SiteName::as_str).collect();
        assert_eq!(tiers, ["paris", "rack1"]);
        assert_eq!("".parse(), Ok(SitePath::everywhere()));
        for text in [".", "a.", ".a", "a..b", "1.a", &"a.".repeat(90)] {
            assert!(text.parse::<SitePath>().is_err(), "{text}");
        }
    }

    #[test]
    fn longest_scoped_instance_name_is_a_dns_name() {
        let site = "s".repeat(SITE_PATH_BYTES_MAX);
        let web = "w".repeat(LABEL_BYTES_MAX);
        assert_eq!(format!("{}.{web}.{site}.{ZONE}", u32::MAX).len(), 253);
    }

    proptest! {
        #[test]
        fn every_accepted_name_reads_back(text in "[a-z0-9.-]{0,12}") {
            if let Ok(name) = text.parse::<AutomatonName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            if let Ok(name) = text.parse::<InstanceName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            if let Ok(path) = text.parse::<SitePath>() {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }
}
