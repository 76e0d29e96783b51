//! The names of functions, models and shared caches. They become URL segments, metric labels and file names, so their alphabet
//! is small.

use crate::{Error, schema::Text};
use std::{borrow::Borrow, fmt, str::FromStr};

/// How many characters a name may have, as in a DNS label.
const MAX: usize = 63;

/// Gives a checked name the traits of a string-like newtype.
macro_rules! name {
    ($type:ident) => {
        impl $type {
            /// The name as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        /// Lets a map keyed by names be asked with a plain `&str`.
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::check(text).map(|()| $type(text.to_owned()))
            }
        }

        impl TryFrom<&str> for $type {
            type Error = Error;

            fn try_from(text: &str) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                Self::check(&text).map(|()| $type(text))
            }
        }
    };
}

/// The name of a function: 1 to 63 of `a`-`z`, `0`-`9` and `-`; it begins with a letter and does not end with `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionName(String);
name!(FunctionName);

impl FunctionName {
    pub(crate) const TEXT: Text = Text { noun: "name", pattern: LABEL };

    fn check(text: &str) -> Result<(), Error> {
        check_label("a function name", text)
    }
}

/// The name under which functions share what a cache holds. It is made as a [`FunctionName`] is, and is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareName(String);
name!(ShareName);

impl ShareName {
    pub(crate) const TEXT: Text = Text { noun: "name", pattern: LABEL };

    fn check(text: &str) -> Result<(), Error> {
        check_label("a name for a shared cache", text)
    }
}

/// The name under which a module loads a model: 1 to 63 of `a`-`z`, `0`-`9`, `.`, `_` and `-`; it begins with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(String);
name!(ModelName);

impl ModelName {
    pub(crate) const TEXT: Text = Text { noun: "name", pattern: "^[a-z0-9][a-z0-9._-]{0,62}$" };

    fn check(text: &str) -> Result<(), Error> {
        let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let Some(why) = fault(text, first, "._-", "a letter from `a` to `z` or a digit") else { return Ok(()) };
        let help = format!("use at most {MAX} of `a`-`z`, `0`-`9`, `.`, `_` and `-`; begin with a letter or digit");
        Err(Error::new("a model name", text, why, help))
    }
}

/// What every label matches, as a function name is one.
const LABEL: &str = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$";

fn check_label(noun: &'static str, text: &str) -> Result<(), Error> {
    let Some(why) = label_fault(text) else { return Ok(()) };
    let meant = slug(text).filter(|slug| label_fault(slug).is_none());
    let meant = meant.map_or_else(String::new, |slug| format!(", for example `{slug}`"));
    let help =
        format!("use at most {MAX} of `a`-`z`, `0`-`9` and `-`; begin with a letter and do not end with `-`{meant}");
    Err(Error::new(noun, text, why, help))
}

fn label_fault(text: &str) -> Option<String> {
    let first = |c: char| c.is_ascii_lowercase();
    fault(text, first, "-", "a letter from `a` to `z`")
        .or_else(|| text.ends_with('-').then(|| "it ends with `-`".to_owned()))
}

/// The first thing wrong with a name that begins with `first` and holds no punctuation but this.
fn fault(text: &str, first: impl Fn(char) -> bool, punctuation: &str, first_text: &str) -> Option<String> {
    let Some(start) = text.chars().next() else { return Some("it is empty".into()) };
    if !first(start) {
        return Some(format!("it must begin with {first_text}"));
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || punctuation.contains(c);
    if let Some(stranger) = text.chars().find(|&c| !allowed(c)) {
        let stranger = crate::suggest::shown(stranger.encode_utf8(&mut [0; 4]));
        return Some(format!("it holds `{stranger}`"));
    }
    (text.len() > MAX).then(|| format!("it is longer than {MAX} characters"))
}

/// The function name that `text` was probably meant to be: `File_Type` → `file-type`.
fn slug(text: &str) -> Option<String> {
    let lower = text[..text.floor_char_boundary(MAX)].to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refused(text: &str, why: &str) {
        assert_eq!(FunctionName::from_str(text).unwrap_err().why(), why);
    }

    #[test]
    fn each_fault_of_a_function_name_is_told() {
        refused("", "it is empty");
        refused("1st", "it must begin with a letter from `a` to `z`");
        refused("-a", "it must begin with a letter from `a` to `z`");
        refused("a_b", "it holds `_`");
        refused("aé", "it holds `é`");
        refused("a\u{1b}", "it holds `?`");
        refused("a-", "it ends with `-`");
        refused(&"a".repeat(64), "it is longer than 63 characters");
    }

    #[test]
    fn the_help_guesses_a_good_name() {
        let help = |text| FunctionName::from_str(text).unwrap_err().help().to_owned();
        assert!(help("File Type!").ends_with("for example `file-type`"));
        assert!(help("42").ends_with("do not end with `-`"));
    }

    #[test]
    fn a_model_name_may_hold_dots() {
        for good in ["standard", "v3.3_int8", "0", "a-"] {
            assert_eq!(ModelName::from_str(good).unwrap().to_string(), good);
        }
        for bad in ["", ".hidden", "A", "a/b", "a b"] {
            assert!(ModelName::from_str(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn function_names_round_trip(text in "[a-z]([a-z0-9-]{0,61}[a-z0-9])?") {
            let name: FunctionName = text.parse().unwrap();
            prop_assert_eq!(name.as_str(), &text);
            prop_assert_eq!(name.to_string().parse::<FunctionName>().unwrap(), name);
        }

        #[test]
        fn model_names_round_trip(text in "[a-z0-9][a-z0-9._-]{0,62}") {
            let name: ModelName = text.parse().unwrap();
            prop_assert_eq!(name.to_string().parse::<ModelName>().unwrap(), name);
        }

        #[test]
        fn any_text_is_judged(text in any::<String>()) {
            if let Ok(name) = FunctionName::try_from(text.as_str()) {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!(ModelName::try_from(text).is_ok());
            }
        }
    }
}
