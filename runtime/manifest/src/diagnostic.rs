//! Mistakes as people and scripts see them: drawn with the text around them, or serialised with stable field names.
//!
//! Only this file and `source` know the drawing library. `check` and `together` make diagnostics; the binary shows them.

use crate::source::{Excerpt, Framed, Source};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, Severity, SourceCode};
use serde::Serialize;
use std::{fmt, ops::Range};

/// How wide help texts and messages may grow before they are wrapped.
const WIDTH: usize = 110;

/// One mistake. Its fields, serialised, are what `--json` prints; they keep their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file, under the name given to `parse`.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What is wrong with the marked text in particular.
    pub label: String,
    /// What to do about it.
    pub help: String,
    /// Other places that take part, such as the one that was there first.
    pub also: Vec<Place>,
    #[serde(skip)]
    excerpt: Excerpt,
}

/// Another place that takes part in a mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file, under the name given to `parse`.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What the marked text has to do with the mistake.
    pub label: String,
    #[serde(skip)]
    excerpt: Excerpt,
}

impl Place {
    pub(crate) fn new(source: &Source<'_>, span: &Range<usize>, label: String) -> Self {
        let (line, column) = source.position(span.start);
        Place { file: source.file.to_owned(), line, column, label, excerpt: source.excerpt(span) }
    }
}

impl Diagnostic {
    pub(crate) fn new(place: Place, message: String, help: String) -> Self {
        let Place { file, line, column, label, excerpt } = place;
        Diagnostic { file, line, column, message, label, help, also: Vec::new(), excerpt }
    }

    pub(crate) fn with_also(mut self, place: Place) -> Self {
        self.also.push(place);
        self
    }

    /// Draws the mistake with the lines around it, the wrong text underlined: with colour and box characters for a terminal,
    /// or in plain ASCII (but for the manifest's own text).
    pub fn render(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
        let handler = GraphicalReportHandler::new_themed(theme)
            .without_syntax_highlighting()
            // The frame's title says line and column already, from the whole file and not from the excerpt.
            .without_primary_span_start()
            .with_width(WIDTH);
        let help = |last: bool| last.then_some(self.help.as_str());
        let framed = |file: &str, line, column, excerpt| Framed { excerpt, place: format!("{file}:{line}:{column}") };
        let mut views = vec![View {
            severity: Severity::Error,
            message: &self.message,
            label: &self.label,
            help: help(self.also.is_empty()),
            source: framed(&self.file, self.line, self.column, &self.excerpt),
        }];
        views.extend(self.also.iter().enumerate().map(|(index, place)| View {
            severity: Severity::Advice,
            message: "the other place",
            label: &place.label,
            help: help(index + 1 == self.also.len()),
            source: framed(&place.file, place.line, place.column, &place.excerpt),
        }));
        let mut drawing = String::new();
        for view in views {
            if handler.render_report(&mut drawing, &view).is_err() {
                // Drawing fails only if an excerpt cannot be read; the text alone must still get through.
                drawing.push_str(&format!("{}: {}\n", view.source.place, view.message));
            }
        }
        drawing
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// All mistakes of one run, in the order of the files and of the lines in them. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
#[error("{}", self.render(false))]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// The caller gives at least one mistake.
    pub(crate) fn new(mistakes: Vec<Diagnostic>) -> Self {
        debug_assert!(!mistakes.is_empty(), "diagnostics without a mistake");
        Diagnostics(mistakes)
    }

    /// The mistakes of several runs as one; `None` if there was no run with mistakes.
    pub fn merge(runs: impl IntoIterator<Item = Diagnostics>) -> Option<Self> {
        let mistakes: Vec<Diagnostic> = runs.into_iter().flatten().collect();
        (!mistakes.is_empty()).then(|| Self::new(mistakes))
    }

    /// The mistakes.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// How many there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Draws every mistake, with an empty line between two; see [`Diagnostic::render`].
    pub fn render(&self, colour: bool) -> String {
        self.0.iter().map(|mistake| mistake.render(colour)).collect::<Vec<_>>().join("\n")
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One frame of a drawing.
#[derive(Debug)]
struct View<'a> {
    severity: Severity,
    message: &'a str,
    label: &'a str,
    help: Option<&'a str>,
    source: Framed<'a>,
}

impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl std::error::Error for View<'_> {}

impl miette::Diagnostic for View<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.source.excerpt.span.clone();
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some(self.label.to_owned()), span))))
    }
}
