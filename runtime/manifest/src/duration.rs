//! Durations as people write them: `500ms`, `1h 30m`. The library reads them; here is what it leaves open.

use crate::{
    Error,
    suggest::{nearest, shown},
};
use humantime::DurationError;
use std::time::Duration;

/// Units that a misspelled one may have been meant to be, of all that the library knows.
const UNITS: [&str; 18] = [
    "ns", "us", "ms", "s", "sec", "second", "seconds", "m", "min", "minute", "minutes", "h", "hour", "hours", "day",
    "days", "week", "weeks",
];

/// A duration too large to be held counts as the largest, so that a range check refuses it with a fitting text.
pub(crate) fn read(text: &str) -> Result<Duration, Error> {
    // humantime 2.4 panics when the seconds are exactly `u64::MAX` and the fractions add up to one more. Such a text has at
    // least 15 digits (12 for the largest unit, 3 for the fractions), and no duration in any range needs as many.
    if text.bytes().filter(u8::is_ascii_digit).count() > 14 {
        return Ok(Duration::MAX);
    }
    let error = |why: String, help: Option<String>| {
        let help = help.unwrap_or_else(|| "write, for example, `500ms`, `30s`, `10m` or `1h`".to_owned());
        Err(Error::new("a duration", text, why, help))
    };
    match humantime::parse_duration(text) {
        Ok(duration) => Ok(duration),
        Err(DurationError::NumberOverflow) => Ok(Duration::MAX),
        Err(DurationError::UnknownUnit { unit, .. }) if unit.is_empty() => {
            let number = shown(text.trim());
            error("it has no unit".to_owned(), Some(format!("write, for example, `{number}s` or `{number}ms`")))
        }
        Err(DurationError::UnknownUnit { unit, start, .. }) => {
            // Of a few letters anything is near: the help must not make minutes of `MiB`.
            let near = nearest(&unit, UNITS).filter(|_| unit.len() > 3).map(|near| {
                let rest = &text[start + unit.len()..];
                format!("did you mean `{}`?", shown(&format!("{}{near}{rest}", &text[..start])))
            });
            error(format!("`{}` is no unit of time", shown(&unit)), near)
        }
        Err(_) => error("a duration is a number and a unit".to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refused(text: &str, why: &str, help: &str) {
        let error = read(text).unwrap_err();
        assert_eq!((error.why(), error.help()), (why, help), "{text}");
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(read("500us").unwrap(), Duration::from_micros(500));
        assert_eq!(read("1h 30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(read("3600000000000ns").unwrap(), Duration::from_secs(3600));
        // Overflows inside the library.
        assert_eq!(read("18446744073709551615s 1000ms").unwrap(), Duration::MAX);
        assert_eq!(read("999999999999years").unwrap(), Duration::MAX);
    }

    #[test]
    fn each_fault_is_told() {
        let example = "write, for example, `500ms`, `30s`, `10m` or `1h`";
        refused("soon", "a duration is a number and a unit", example);
        refused("-5s", "a duration is a number and a unit", example);
        refused("", "a duration is a number and a unit", example);
        refused("500", "it has no unit", "write, for example, `500s` or `500ms`");
        refused("30 secnds", "`secnds` is no unit of time", "did you mean `30 seconds`?");
        refused("1hr 5minuts", "`minuts` is no unit of time", "did you mean `1hr 5minutes`?");
        refused("1.5", "it has no unit", "write, for example, `1.5s` or `1.5ms`");
        refused("64MiB", "`MiB` is no unit of time", example);
        refused("5 parsecs", "`parsecs` is no unit of time", example);
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in "([0-9]{0,20}\\.?[0-9]{0,9}[a-zµ ]{0,3}){0,4}") {
            let _ = read(&text);
        }
    }
}
