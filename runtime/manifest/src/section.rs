//! One table of a manifest while it is read: its keys are taken by type, and everything wrong is noted with its place.
//! Derived deserialisation would stop at the first mistake, so the parsed TOML itself is read.
//!
//! A value that is missing and a value that is wrong both read as `None`; a wrong one has been noted in the [`Report`], so the
//! caller goes on with a default and the whole file is judged in one run. Texts come with their environment variables put in.

use crate::{
    ByteSize, Error,
    choice::Choice,
    diagnostic::{Diagnostic, Diagnostics, Place},
    duration,
    environment::{Lookup, expand},
    manifest::MODEL,
    schema::{FILES, Keys, ROOT, Settings, TRIGGER_INFERENCE, Table, tables},
    source::Source,
    suggest::{listed, nearest, quoted, shown},
};
use std::{
    borrow::Cow,
    fmt,
    ops::{Range, RangeInclusive},
    str::FromStr,
    time::Duration,
};
use toml::{
    Spanned,
    de::{DeArray, DeString, DeTable, DeValue},
};

/// After so many mistakes of one file the rest is only counted as "more": the file is not a manifest at all.
const MAX_MISTAKES: usize = 1000;

/// The type that a number written in another way is corrected to.
const AN_INTEGER: &str = "an integer";

/// Texts of an array, each with its place.
pub(crate) type Texts<'a> = Vec<(Cow<'a, str>, Range<usize>)>;

/// The mistakes found so far in one file.
pub(crate) struct Report<'a> {
    source: &'a Source<'a>,
    variables: &'a Lookup<'a>,
    /// Each with the offset it stands at.
    mistakes: Vec<(usize, Diagnostic)>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(source: &'a Source<'a>, variables: &'a Lookup<'a>) -> Self {
        Report { source, variables, mistakes: Vec::new() }
    }

    /// `text`, which stands at `span`, with its variables put in; or notes of those that have no value.
    pub(crate) fn expanded<'t>(&mut self, text: &'t str, span: &Range<usize>) -> Option<Cow<'t, str>> {
        match expand(text, self.variables) {
            Ok(expanded) => Some(expanded),
            Err(faults) => {
                for fault in faults {
                    // More would not be kept, and each costs a search.
                    if self.mistakes.len() > MAX_MISTAKES {
                        break;
                    }
                    // With escapes of TOML in it the reference may stand otherwise in the file; then all of the text is shown.
                    let span = self.source.find(span, fault.written).unwrap_or_else(|| span.clone());
                    self.mistake(&span, fault.message, fault.label, fault.help);
                }
                None
            }
        }
    }

    pub(crate) fn mistake(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.mistakes.len() > MAX_MISTAKES {
            return;
        }
        let (message, help, label) = if self.mistakes.len() == MAX_MISTAKES {
            let label = "one of those that are left".to_owned();
            (format!("there are more than {MAX_MISTAKES} mistakes"), "correct the others first".to_owned(), label)
        } else {
            (message.into(), help.into(), label.into())
        };
        self.mistakes.push((span.start, Diagnostic::new(Place::new(self.source, span, label), message, help)));
    }

    /// Notes that `value`, which is named `full`, has another type than `expected`.
    pub(crate) fn wrong_type(&mut self, full: &str, value: &Spanned<DeValue<'_>>, expected: &str, example: &str) {
        let actual = kind(value.get_ref());
        let key = example.split_once(" = ").map_or(example, |(key, _)| key);
        let help = match whole_number(value.get_ref()).filter(|_| expected == AN_INTEGER) {
            Some(number) => format!("write `{key} = {number}`"),
            None => format!("write, for example, `{example}`"),
        };
        self.mistake(
            &value.span(),
            format!("`{full}` must be {expected}, but it is {actual}"),
            format!("not {expected}"),
            help,
        );
    }

    /// `value` if nothing was noted; otherwise everything noted, in the order of the text. Whoever has no value has noted why.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<T, Diagnostics> {
        match value {
            Some(value) if self.mistakes.is_empty() => Ok(value),
            _ => {
                self.mistakes.sort_by_key(|(offset, _)| *offset);
                Err(Diagnostics::new(self.mistakes.into_iter().map(|(_, mistake)| mistake).collect()))
            }
        }
    }
}

/// A table of the manifest.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    schema: &'static Table,
    /// Its keys from the top, as in `model.standard`; empty at the top.
    path: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    /// Keys that an unknown one was probably meant to be, so that they are not called missing as well.
    meant: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole document. Notes its unknown keys.
    pub(crate) fn root(report: &mut Report<'_>, table: &'a DeTable<'a>) -> Self {
        Self::new(report, &ROOT, String::new(), 0..0, table)
    }

    fn new(
        report: &mut Report<'_>,
        schema: &'static Table,
        path: String,
        span: Range<usize>,
        table: &'a DeTable<'a>,
    ) -> Self {
        let mut section = Section { schema, path, span, table, meant: Vec::new() };
        if matches!(schema.keys, Keys::Fixed(_)) {
            section.note_unknown_keys(report);
        }
        section
    }

    /// `value` as the table at `path`, or a note that it is none.
    pub(crate) fn of(
        report: &mut Report<'_>,
        schema: &'static Table,
        path: String,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::new(report, schema, path, value.span(), table)),
            other => {
                let what = format!("`{path}` must be a table, but it is {}", kind(other));
                let help = if std::ptr::eq(schema, &FILES) {
                    "write, for example, `{ host = \"data/labels\", guest = \"/labels\" }`".to_owned()
                } else {
                    format!("write a header, `[{path}]`, and the keys below it")
                };
                report.mistake(&value.span(), what, "not a table", help);
                None
            }
        }
    }

    /// Where a mistake of the table as a whole is shown: its header, or where it is first mentioned.
    pub(crate) fn span(&self) -> &Range<usize> {
        &self.span
    }

    /// Where a mistake of the value under `key` is shown.
    pub(crate) fn place(&self, key: &str) -> Range<usize> {
        self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether an unknown key was probably meant to be `key`.
    pub(crate) fn meant(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }

    /// Its keys and values, for tables whose keys are free.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)> {
        self.table.iter()
    }

    /// The full name of a key, as TOML writes it: `limits.memory`.
    pub(crate) fn full(&self, key: &str) -> String {
        let key = quoted(key);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    /// `value`, or a note that the key is missing unless something was there.
    pub(crate) fn required<T>(&self, report: &mut Report<'_>, key: &'static str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.has(key) && !self.meant(key) {
            let label = format!("{} needs `{key}`", self.owner());
            let help = format!("write, for example, `{}`", self.example(key));
            report.mistake(&self.span, format!("`{}` is missing", self.full(key)), label, help);
        }
        value
    }

    /// The table under `key`.
    pub(crate) fn table(&self, report: &mut Report<'_>, key: &str, schema: &'static Table) -> Option<Section<'a>> {
        self.table.get(key).and_then(|value| Section::of(report, schema, self.full(key), value))
    }

    /// The items of the array under `key`, and the place of the array.
    pub(crate) fn array(&self, report: &mut Report<'_>, key: &str) -> Option<(&'a DeArray<'a>, Range<usize>)> {
        let value = self.table.get(key)?;
        match value.get_ref() {
            DeValue::Array(array) => Some((array, value.span())),
            _ => self.wrong_type(report, key, value, "an array"),
        }
    }

    /// The texts of the array under `key`, each with its place, and the place of the array.
    pub(crate) fn strings(&self, report: &mut Report<'_>, key: &str) -> Option<(Texts<'a>, Range<usize>)> {
        let (items, span) = self.array(report, key)?;
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item.get_ref() {
                DeValue::String(text) => {
                    texts.extend(report.expanded(text, &item.span()).map(|text| (text, item.span())));
                }
                _ => report.wrong_type(&format!("{}[{index}]", self.full(key)), item, "a string", &self.example(key)),
            }
        }
        Some((texts, span))
    }

    /// The text under `key`, with its place.
    pub(crate) fn string(&self, report: &mut Report<'_>, key: &str) -> Option<(Cow<'a, str>, Range<usize>)> {
        let value = self.table.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some((report.expanded(text, &value.span())?, value.span())),
            _ => self.wrong_type(report, key, value, "a string"),
        }
    }

    /// The text under `key` as a value that checks itself.
    pub(crate) fn parsed<T: FromStr<Err = Error>>(&self, report: &mut Report<'_>, key: &str) -> Option<T> {
        let (text, span) = self.string(report, key)?;
        parsed(report, &text, &span)
    }

    /// The word under `key`.
    pub(crate) fn word<T: Choice>(&self, report: &mut Report<'_>, key: &str) -> Option<T> {
        let (text, span) = self.string(report, key)?;
        choice(report, &self.full(key), &text, &span)
    }

    /// The number under `key`.
    pub(crate) fn integer<T: TryFrom<i128>>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        range: RangeInclusive<i128>,
    ) -> Option<T> {
        let value = self.table.get(key)?;
        let DeValue::Integer(written) = value.get_ref() else {
            return self.wrong_type(report, key, value, AN_INTEGER);
        };
        // A number that not even 128 bits hold is out of every range, too.
        let number =
            i128::from_str_radix(written.as_str(), written.radix()).ok().filter(|number| range.contains(number));
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => Some(number),
            None => self.out_of_range(report, key, &value.span(), &written.to_string(), range.start(), range.end()),
        }
    }

    /// The number under `key`, whose absence means something that is no number.
    pub(crate) fn number<T: TryFrom<i128>>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        range: RangeInclusive<i128>,
        _without: &str,
        _example: &str,
    ) -> Option<Option<T>> {
        self.integer(report, key, range).map(Some)
    }

    /// The name under `key`, whose absence means something too.
    pub(crate) fn name<T: FromStr<Err = Error>>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        _without: &str,
        _example: &str,
    ) -> Option<Option<T>> {
        self.parsed(report, key).map(Some)
    }

    /// The table under `key`, whose absence means something too.
    pub(crate) fn settings<T: Settings>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        _without: &str,
        _example: &str,
    ) -> Option<Option<T>> {
        let table = self.table(report, key, T::TABLE)?;
        Some(Some(T::read(report, &table)))
    }

    /// The duration under `key`.
    pub(crate) fn duration(
        &self,
        report: &mut Report<'_>,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let (text, span) = self.string(report, key)?;
        let duration = duration::read(&text).map_err(|error| note(report, &span, &error)).ok()?;
        if range.contains(&duration) {
            return Some(duration);
        }
        let show = humantime::format_duration;
        self.out_of_range(report, key, &span, &text, &show(*range.start()), &show(*range.end()))
    }

    /// The size under `key`.
    pub(crate) fn size(&self, report: &mut Report<'_>, key: &str, range: RangeInclusive<ByteSize>) -> Option<ByteSize> {
        let (text, span) = self.string(report, key)?;
        let size: ByteSize = parsed(report, &text, &span)?;
        if range.contains(&size) {
            return Some(size);
        }
        self.out_of_range(report, key, &span, &text, range.start(), range.end())
    }

    fn out_of_range<T>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        span: &Range<usize>,
        given: &str,
        least: &dyn fmt::Display,
        most: &dyn fmt::Display,
    ) -> Option<T> {
        report.mistake(
            span,
            format!("`{}` must be from {least} to {most}, but it is {}", self.full(key), shown(given)),
            "out of range",
            format!("write, for example, `{}`", self.example(key)),
        );
        None
    }

    fn wrong_type<T>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
    ) -> Option<T> {
        report.wrong_type(&self.full(key), value, expected, &self.example(key));
        None
    }

    /// A line that sets `key` to a right value.
    pub(crate) fn example(&self, key: &str) -> String {
        format!("{} = {}", quoted(key), self.schema.example(key))
    }

    /// The table as a text names it.
    fn owner(&self) -> String {
        match self.path.as_str() {
            "" => "the manifest".to_owned(),
            // An item of an array has no header of its own.
            path if path.ends_with(']') => format!("`{path}`"),
            path => format!("`[{path}]`"),
        }
    }

    fn note_unknown_keys(&mut self, report: &mut Report<'_>) {
        let owner = match self.path.as_str() {
            "" => "at the top of the manifest".to_owned(),
            _ => format!("in {}", self.owner()),
        };
        for (key, value) in self.table {
            let name = key.get_ref().as_ref();
            if self.schema.names().any(|known| known == name) {
                continue;
            }
            let near = nearest(name, self.schema.names());
            let home = tables().into_iter().find(|table| table.names().any(|known| known == name));
            let help = match (home, near) {
                (Some(home), _) if home.header.is_empty() => {
                    format!("`{name}` belongs at the top of the manifest, above the first `[header]`")
                }
                _ if std::ptr::eq(self.schema, &TRIGGER_INFERENCE) => {
                    "known here: `priority`; its path is always `/v2/models/` and the function's name".to_owned()
                }
                _ if std::ptr::eq(self.schema, &MODEL) && value.get_ref().is_table() => {
                    "if it is a part of the model's name, write the name in quotes, as in `[model.\"v3.3\"]`".to_owned()
                }
                (Some(home), _) => format!("`{name}` belongs in `{}`", home.header),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => format!("known here: {}", listed(self.schema.names())),
            };
            if home.is_none() {
                self.meant.extend(near);
            }
            report.mistake(&key.span(), format!("unknown key `{}` {owner}", shown(name)), "not a known key", help);
        }
    }
}

/// `text` as a value that checks itself, or a note of what is wrong with it.
pub(crate) fn parsed<T: FromStr<Err = Error>>(report: &mut Report<'_>, text: &str, span: &Range<usize>) -> Option<T> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            note(report, span, &error);
            None
        }
    }
}

fn note(report: &mut Report<'_>, span: &Range<usize>, error: &Error) {
    report.mistake(span, error.what(), error.why(), error.help());
}

/// `text` as one of a few words, or a note of which there are.
pub(crate) fn choice<T: Choice>(report: &mut Report<'_>, full: &str, text: &str, span: &Range<usize>) -> Option<T> {
    if let Some(choice) = T::ALL.iter().find(|choice| choice.word() == text) {
        return Some(*choice);
    }
    let words = || T::ALL.iter().map(|choice| choice.word());
    let help = match (T::hint(text), nearest(text, words())) {
        (Some(hint), _) => hint.to_owned(),
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) => format!("write one of {}", listed(words())),
    };
    report.mistake(span, format!("`{full}` cannot be `{}`", shown(text)), "not one of the known values", help);
    None
}

/// The noun for a value's type.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The whole number that a value of another type was probably meant to be.
fn whole_number(value: &DeValue<'_>) -> Option<i128> {
    match value {
        DeValue::String(text) => text.trim().parse().ok(),
        DeValue::Float(number) => {
            number.as_str().split_once('.').filter(|(_, fraction)| !fraction.contains(|c| c != '0'))?.0.parse().ok()
        }
        _ => None,
    }
}
