//! The text of a manifest: where a byte stands, and the few lines around it that a diagnostic shows.

use crate::suggest::is_unprintable;
use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};
use std::ops::Range;

/// How many bytes of a line an excerpt keeps, on either side of the mistake. Keeps a report small where lines are huge.
const KEPT: usize = 160;

/// A manifest's text under its name.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) file: &'a str,
    text: &'a str,
    /// The offset at which each line begins, in order.
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        // A byte order mark, which some editors write, is no part of the first line.
        let first = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let lines = std::iter::once(first).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Source { file, text, lines }
    }

    /// The line and column of a byte, both from 1; columns count characters.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.floor(offset);
        let line = self.line_of(offset);
        (line + 1, self.text[self.lines[line]..offset].chars().count() + 1)
    }

    /// Where `part` stands in `span`, if it does.
    pub(crate) fn find(&self, span: &Range<usize>, part: &str) -> Option<Range<usize>> {
        let begin = span.start + self.text.get(span.clone())?.find(part)?;
        Some(begin..begin + part.len())
    }

    /// The line that `span` begins on, its neighbours, and where in them the span lies; cut at the end of its first line.
    pub(crate) fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let start = self.floor(span.start);
        let line = self.line_of(start);
        let first = line.saturating_sub(1);
        let mut text = String::new();
        if first < line {
            text.push_str(&tame(clip(self.line(first), 0).1));
            text.push('\n');
        }
        let content = self.line(line);
        let column = (start - self.lines[line]).min(content.len());
        let (cut, kept) = clip(content, column);
        let begin = text.len() + column - cut;
        text.push_str(&tame(kept));
        let end = self.text.floor_char_boundary(span.end).max(start);
        let length = (end - start).min(text.len() - begin);
        text.push('\n');
        if line + 1 < self.lines.len() && !self.line(line + 1).is_empty() {
            text.push_str(&tame(clip(self.line(line + 1), 0).1));
            text.push('\n');
        }
        Excerpt { text, first, span: begin..begin + length }
    }

    /// The nearest offset, not after this one if possible, at which a character of some line begins.
    fn floor(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset).max(self.lines[0])
    }

    /// The index of the line that an offset given by `floor` is in.
    fn line_of(&self, offset: usize) -> usize {
        // It is not before the first line, so there is always one that begins at or before it.
        self.lines.partition_point(|&begin| begin <= offset) - 1
    }

    /// A line without its end.
    fn line(&self, index: usize) -> &'a str {
        let rest = &self.text[self.lines[index]..];
        let line = rest.find('\n').map_or(rest, |end| &rest[..end]);
        line.strip_suffix('\r').unwrap_or(line)
    }
}

/// The part of `line` around `column`, and the offset at which it begins.
fn clip(line: &str, column: usize) -> (usize, &str) {
    let begin = line.floor_char_boundary(column.saturating_sub(KEPT));
    let end = line.floor_char_boundary(column.saturating_add(KEPT));
    (begin, &line[begin..end])
}

/// The same number of bytes without any that could steer a terminal.
fn tame(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for c in line.chars() {
        if c != '\t' && is_unprintable(c) {
            text.extend(std::iter::repeat_n('?', c.len_utf8()));
        } else {
            text.push(c);
        }
    }
    text
}

/// Up to three lines of a manifest. A diagnostic keeps them, so that it can be shown when the text is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    text: String,
    /// The number of its first line in the file, from 0.
    first: usize,
    /// What is marked, as an offset into `text`.
    pub(crate) span: Range<usize>,
}

/// An excerpt under the place that its frame names, for the renderer.
#[derive(Debug)]
pub(crate) struct Framed<'a> {
    pub(crate) excerpt: &'a Excerpt,
    pub(crate) place: String,
}

impl SourceCode for Framed<'_> {
    fn read_span<'s>(
        &'s self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'s> + 's>, MietteError> {
        let contents = self.excerpt.text.as_str().read_span(span, before, after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.place.clone(),
            contents.data(),
            *contents.span(),
            contents.line() + self.excerpt.first,
            contents.column(),
            contents.line_count(),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marked(text: &str, span: Range<usize>) -> String {
        let excerpt = Source::new("f", text).excerpt(&span);
        excerpt.text[excerpt.span].to_owned()
    }

    #[test]
    fn positions_count_characters() {
        let source = Source::new("f", "é = 1\r\nb = \"é\"\n");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(2), (1, 2));
        assert_eq!(source.position(8), (2, 1));
        assert_eq!(source.position(usize::MAX), (3, 1));
    }

    #[test]
    fn a_span_of_many_lines_is_cut_at_the_first() {
        assert_eq!(marked("a = [\r\n1,\r\n]\r\n", 4..12), "[");
    }

    #[test]
    fn a_huge_line_is_clipped_around_the_mistake() {
        let text = format!("{}HERE{}", "é".repeat(1000), "x".repeat(1000));
        let excerpt = Source::new("f", &text).excerpt(&(2000..2004));
        assert_eq!(&excerpt.text[excerpt.span.clone()], "HERE");
        assert!(excerpt.text.len() < 3 * KEPT);
    }

    #[test]
    fn control_characters_keep_their_width_only() {
        let excerpt = Source::new("f", "a\u{1b}[2J\u{202e}HERE").excerpt(&(8..12));
        assert_eq!(excerpt.text, "a?[2J???HERE\n");
        assert_eq!(&excerpt.text[excerpt.span.clone()], "HERE");
    }

    proptest! {
        #[test]
        fn any_span_of_any_text_has_an_excerpt(
            text in "\u{feff}?[a-bé\n\r\t\u{1b}]{0,400}",
            start in 0_usize..1000,
            length in 0_usize..1000,
        ) {
            let source = Source::new("f", &text);
            let excerpt = source.excerpt(&(start..start + length));
            prop_assert!(excerpt.text.get(excerpt.span.clone()).is_some());
            let (line, column) = source.position(start);
            prop_assert!(line >= 1 && column >= 1);
        }
    }
}
