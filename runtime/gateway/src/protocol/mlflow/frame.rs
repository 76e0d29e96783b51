//! Tables in JSON to the inputs of a function.
//!
//! A function with one input of more than one dimension takes all columns in their order: the rows of its tensor are the rows of the
//! table. Else each input takes the column of its name, and the only one takes the only column, whatever its name. A column is a tensor
//! of shape [rows], or [rows, 1] where the input is declared so; one whose cells are arrays has their dimensions, too.

use crate::protocol::{
    Malformed,
    json::{
        inputs::{Table, fitted, named, names},
        values::Values,
        walk::{array, begun, behind, object},
    },
    shown,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use torpor_tensor::{DType, NamedTensor, Signature, TensorSpec};

/// Columns of one table.
const MAX_COLUMNS: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(expecting = "a table, which is an object with `columns` and `data`")]
pub(super) struct Split<'a> {
    #[serde(borrow)]
    columns: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Reads `{"columns": [name, …], "data": [[cell, …], …]}`.
pub(super) fn split(raw: &Split<'_>, signature: &Signature) -> Result<Vec<NamedTensor>, Malformed> {
    let key = "dataframe_split";
    if !raw.data.get().starts_with('[') {
        return Err(Malformed(format!("`{key}`: its `data` must be an array of rows")));
    }
    let Some(columns) = &raw.columns else {
        return Err(Malformed(format!("`{key}` has no `columns`")));
    };
    let columns: Vec<String> = columns.iter().map(|column| column_name(column.get())).collect();
    let first = begun(&raw.data.get()[1..]);
    let arrays = first.strip_prefix('[').is_some_and(|row| begun(row).starts_with('['));
    let mut frame = Frame::new(&columns, arrays, key, signature)?;
    array(raw.data.get(), |row| {
        if !row.starts_with('[') {
            return Err(frame.no_row("an array of cells"));
        }
        if let Cells::All(_) = frame.cells {
            return frame.whole_row(row);
        }
        let rest = array(row, |cell| frame.cell(cell))?;
        frame.end_row()?;
        Ok(rest)
    })?;
    frame.finish()
}

/// Names are texts, or the numbers that columns without a name have.
fn column_name(text: &str) -> String {
    serde_json::from_str(text).unwrap_or_else(|_| text.to_owned())
}

/// Reads `[{"name": cell, …}, …]`.
pub(super) fn records(text: &str, signature: &Signature) -> Result<Vec<NamedTensor>, Malformed> {
    let key = "dataframe_records";
    let Some(first) = text.strip_prefix('[').map(begun) else {
        return Err(Malformed(format!("`{key}` must be an array of objects")));
    };
    let mut columns = Vec::new();
    let mut arrays = false;
    if first.starts_with('{') {
        object(first, |name, cell| {
            arrays |= columns.is_empty() && cell.starts_with('[');
            columns.push(name.into_owned());
            behind(cell)
        })?;
    }
    if !takes_all(columns.len(), arrays, &signature.inputs) {
        // An only column feeds the only input, whatever its name.
        let renamed = match (&signature.inputs[..], &columns[..]) {
            ([spec], [column]) => Some(TensorSpec { name: column.clone(), ..spec.clone() }),
            _ => None,
        };
        let specs = renamed.as_ref().map_or(&signature.inputs[..], std::slice::from_ref);
        let mut table = Table::new(specs);
        array(text, |row| table.row(row, key, &[]))?;
        let inputs = table.finish()?.into_iter().zip(&signature.inputs);
        return Ok(inputs.map(|((_, tensor), spec)| (spec.name.clone(), fitted(tensor, spec))).collect());
    }
    let mut frame = Frame::new(&columns, arrays, key, signature)?;
    let mut cells: Vec<Option<&str>> = Vec::new();
    array(text, |row| {
        if !row.starts_with('{') {
            return Err(frame.no_row("an object"));
        }
        cells.clear();
        cells.resize(columns.len(), None);
        // Most writers keep their order, so the place to look first is behind the one before.
        let mut next = 0;
        let rest = object(row, |name, cell| {
            let found = match columns.get(next) {
                Some(column) if *column == name => Some(next),
                _ => columns.iter().position(|column| *column == name),
            };
            let Some(index) = found else { return Err(frame.unknown(&name)) };
            if cells[index].replace(cell).is_some() {
                return Err(frame.twice(&name));
            }
            next = index + 1;
            behind(cell)
        })?;
        for (cell, column) in cells.iter().zip(&columns) {
            let Some(cell) = cell else { return Err(frame.missing(column)) };
            frame.cell(cell)?;
        }
        frame.end_row()?;
        Ok(rest)
    })?;
    frame.finish()
}

/// Whether the only input takes all columns.
fn takes_all(columns: usize, arrays: bool, specs: &[TensorSpec]) -> bool {
    let [spec] = specs else { return false };
    let rank = spec.shape.as_ref().map_or(2, Vec::len);
    rank > 1 && !(columns == 1 && arrays)
}

/// A table while its cells are read, row by row, each row in the order of the columns.
pub(super) struct Frame<'a> {
    columns: &'a [String],
    specs: &'a [TensorSpec],
    key: &'static str,
    cells: Cells<'a>,
    row: u64,
    /// The column of the next cell.
    column: usize,
}

enum Cells<'a> {
    /// All of one input, one after another.
    All(Values),
    /// Those of each input, and which input each column has.
    Named(Table<'a>, Vec<usize>),
}

impl<'a> Frame<'a> {
    /// `arrays` says whether the cells of the first column are arrays.
    pub(super) fn new(
        columns: &'a [String],
        arrays: bool,
        key: &'static str,
        signature: &'a Signature,
    ) -> Result<Self, Malformed> {
        let specs = &signature.inputs[..];
        if columns.len() > MAX_COLUMNS {
            return Err(Malformed(format!("`{key}` has {} columns; at most {MAX_COLUMNS} are read", columns.len())));
        }
        let cells = match specs {
            [spec] if takes_all(columns.len(), arrays, specs) => Cells::All(Values::new(spec.dtype)),
            [_] if columns.len() == 1 => Cells::Named(Table::new(specs), vec![0]),
            _ => {
                let index = |column: &String| {
                    let spec = named(specs, column).map_err(|_| {
                        let expected = names(specs);
                        Malformed(format!(
                            "`{key}`: no input takes the column `{}`; expected {expected}",
                            shown(column)
                        ))
                    })?;
                    Ok(specs.iter().position(|known| known.name == spec.name).unwrap_or_default())
                };
                Cells::Named(Table::new(specs), columns.iter().map(index).collect::<Result<_, Malformed>>()?)
            }
        };
        Ok(Frame { columns, specs, key, cells, row: 0, column: 0 })
    }

    /// Reads the next cell of the row, which is JSON at the beginning of `text`, and returns what follows it.
    pub(super) fn cell<'t>(&mut self, text: &'t str) -> Result<&'t str, Malformed> {
        let column = self.next()?;
        match &mut self.cells {
            Cells::All(values) => {
                if text.starts_with('[') {
                    return Err(self.misfit(column, "it is an array, and the input takes a number of each column"));
                }
                values.push(text).map_err(|what| self.misfit(column, &what))
            }
            Cells::Named(table, inputs) => table.cell(inputs[column], text, self.key),
        }
    }

    /// Reads the cells of all columns at once, and returns what follows their array, where one input takes them all.
    fn whole_row<'t>(&mut self, text: &'t str) -> Result<&'t str, Malformed> {
        let (row, key, columns) = (self.row, self.key, self.columns.len());
        let Cells::All(values) = &mut self.cells else { return Err(self.no_row("an array of numbers")) };
        let misfit = |what| Malformed(format!("input `{}`, row {row} of `{key}`: {what}", self.specs[0].name));
        let rest = values.push(text).map_err(misfit)?;
        match values.dims() {
            Some([count]) if *count == columns as u64 => {}
            Some([count]) => {
                let text = format!("row {row} of `{key}` has {count} cells, but there are {columns} columns");
                return Err(Malformed(text));
            }
            _ => return Err(misfit("its cells are arrays, and the input takes a number of each column".to_owned())),
        }
        self.row += 1;
        Ok(rest)
    }

    /// Reads the next cell of the row, which is a text that is not quoted.
    pub(super) fn text(&mut self, cell: &[u8]) -> Result<(), Malformed> {
        let column = self.next()?;
        let input = match &self.cells {
            Cells::All(_) => 0,
            Cells::Named(_, inputs) => inputs[column],
        };
        let dtype = self.specs[input].dtype;
        match (dtype, &mut self.cells) {
            (DType::Bytes, Cells::All(values)) => values.push_bytes(cell).map_err(|what| self.misfit(column, &what)),
            (DType::Bytes, Cells::Named(table, _)) => table.bytes(input, cell, self.key),
            (dtype, cells) => {
                let word = std::str::from_utf8(cell).unwrap_or_default().trim_matches([' ', '\t']);
                let word = if dtype == DType::Bool { word.to_ascii_lowercase().into() } else { Cow::from(word) };
                // Numbers are written in a table as they are in JSON, and nothing else of JSON is.
                let rest = match cells {
                    _ if word.starts_with(['[', '"', '{']) => Err(()),
                    Cells::All(values) => values.push(&word).map_err(drop),
                    Cells::Named(table, _) => table.cell(input, &word, self.key).map_err(drop),
                };
                if rest == Ok("") {
                    return Ok(());
                }
                let what = match &*word {
                    "" => "it is empty".to_owned(),
                    word => format!("it is {}", shown(word)),
                };
                Err(self.misfit(column, &format!("{what}, which is no {dtype}")))
            }
        }
    }

    /// The column of the next cell.
    fn next(&mut self) -> Result<usize, Malformed> {
        let column = self.column;
        if column == self.columns.len() {
            let (row, key) = (self.row, self.key);
            return Err(Malformed(format!("row {row} of `{key}` has more cells than the {column} columns")));
        }
        self.column += 1;
        Ok(column)
    }

    /// Ends a row.
    pub(super) fn end_row(&mut self) -> Result<(), Malformed> {
        let (row, count, key) = (self.row, self.column, self.key);
        if count != self.columns.len() {
            let columns = self.columns.len();
            return Err(Malformed(format!("row {row} of `{key}` has {count} cells, but there are {columns} columns")));
        }
        if let Cells::Named(table, _) = &mut self.cells {
            table.end_row(key)?;
        }
        (self.row, self.column) = (row + 1, 0);
        Ok(())
    }

    /// All cells as tensors.
    pub(super) fn finish(self) -> Result<Vec<NamedTensor>, Malformed> {
        match self.cells {
            Cells::All(values) => {
                let spec = &self.specs[0];
                let shape = [self.row, self.columns.len() as u64].into();
                let tensor = values.into_shape(shape);
                let tensor = tensor.map_err(|what| Malformed(format!("input `{}`: {what}", spec.name)))?;
                Ok(vec![(spec.name.clone(), tensor)])
            }
            Cells::Named(table, _) => {
                let inputs = table.finish()?.into_iter().zip(self.specs);
                Ok(inputs.map(|((name, tensor), spec)| (name, fitted(tensor, spec))).collect())
            }
        }
    }

    fn no_row(&self, expected: &str) -> Malformed {
        Malformed(format!("row {} of `{}` must be {expected}", self.row, self.key))
    }

    fn unknown(&self, column: &str) -> Malformed {
        let column = shown(column);
        Malformed(format!(
            "row {} of `{}` has a column `{column}` that the first row does not have",
            self.row, self.key
        ))
    }

    fn twice(&self, column: &str) -> Malformed {
        Malformed(format!("row {} of `{}` has the column `{}` twice", self.row, self.key, shown(column)))
    }

    fn missing(&self, column: &str) -> Malformed {
        Malformed(format!("row {} of `{}` has no column `{}`", self.row, self.key, shown(column)))
    }

    fn misfit(&self, column: usize, what: &str) -> Malformed {
        let (row, key) = (self.row, self.key);
        let column = self.columns.get(column).map(|column| shown(column)).unwrap_or_default();
        Malformed(format!("column `{column}`, row {row} of `{key}`: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use torpor_tensor::Dim;

    fn signature(specs: &[(&str, DType, usize)]) -> Signature {
        let spec = |&(name, dtype, rank): &(&str, DType, usize)| TensorSpec {
            name: name.into(),
            dtype,
            shape: Some(vec![Dim::Any; rank]),
        };
        Signature { inputs: specs.iter().map(spec).collect(), outputs: vec![] }
    }

    fn split(text: &str, signature: &Signature) -> Result<Vec<NamedTensor>, Malformed> {
        super::split(&serde_json::from_str(text).map_err(|error| Malformed(error.to_string()))?, signature)
    }

    fn shown_inputs(inputs: Result<Vec<NamedTensor>, Malformed>) -> String {
        let input = |(name, tensor): &NamedTensor| format!("{name} {} {:?}", tensor.shape(), &tensor.data()[..]);
        inputs.map_or_else(|error| error.to_string(), |inputs| inputs.iter().map(input).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn one_matrix_takes_all_columns() {
        let matrix = signature(&[("x", DType::U8, 2)]);
        let expected = "x [2, 3] [1, 2, 3, 4, 5, 6]";
        let text = r#"{"columns":["a",1,"c"],"data":[[1,2,3],[4,5,6]]}"#;
        assert_eq!(shown_inputs(split(text, &matrix)), expected);
        let text = r#"[{"a":1,"b":2,"c":3},{"c":6,"a":4,"b":5}]"#;
        assert_eq!(shown_inputs(records(text, &matrix)), expected);
        assert_eq!(shown_inputs(split(r#"{"columns":["a"],"data":[[1],[2]]}"#, &matrix)), "x [2, 1] [1, 2]");
        assert_eq!(shown_inputs(split(r#"{"columns":["a","b"],"data":[]}"#, &matrix)), "x [0, 2] []");
        // One column of arrays is the matrix itself.
        assert_eq!(
            shown_inputs(split(r#"{"columns":["a"],"data":[[[1,2]],[[3,4]]]}"#, &matrix)),
            "x [2, 2] [1, 2, 3, 4]"
        );
        assert_eq!(shown_inputs(records(r#"[{"a":[1,2]},{"a":[3,4]}]"#, &matrix)), "x [2, 2] [1, 2, 3, 4]");
    }

    #[test]
    fn inputs_take_the_columns_of_their_names() {
        let inputs = signature(&[("x", DType::U8, 1), ("y", DType::U8, 2)]);
        let expected = "x [2] [1, 2]; y [2, 1] [3, 4]";
        assert_eq!(shown_inputs(split(r#"{"columns":["y","x"],"data":[[3,1],[4,2]]}"#, &inputs)), expected);
        assert_eq!(shown_inputs(records(r#"[{"x":1,"y":3},{"y":4,"x":2}]"#, &inputs)), expected);
        assert_eq!(shown_inputs(records(r#"[{"x":1,"y":[3,4]}]"#, &inputs)), "x [1] [1]; y [1, 2] [3, 4]");
        let one = signature(&[("x", DType::U8, 1)]);
        for text in [r#"[{"other":1},{"other":2}]"#, r#"[{"x":1},{"x":2}]"#] {
            assert_eq!(shown_inputs(records(text, &one)), "x [2] [1, 2]");
        }
        assert_eq!(shown_inputs(split(r#"{"columns":[0],"data":[[1],[2]]}"#, &one)), "x [2] [1, 2]");
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        let (matrix, two) = (signature(&[("x", DType::U8, 2)]), signature(&[("x", DType::U8, 1), ("y", DType::U8, 1)]));
        let check = |text: &str, signature: &Signature, expected: &str| {
            let found = shown_inputs(split(text, signature));
            assert!(found.starts_with(expected), "{found}");
        };
        check("7", &two, "invalid type: integer `7`, expected a table, which is");
        check(r#"{"columns":["x","y"]}"#, &two, "missing field `data`");
        check(r#"{"data":[]}"#, &two, "`dataframe_split` has no `columns`");
        check(r#"{"columns":["x"],"data":7}"#, &two, "`dataframe_split`: its `data` must be an array of rows");
        check(r#"{"columns":["x","y"],"data":[7]}"#, &two, "row 0 of `dataframe_split` must be an array of cells");
        check(r#"{"columns":["x"],"data":[[1]]}"#, &two, "row 0 of `dataframe_split` has no `y`");
        check(r#"{"columns":["x","x"],"data":[[1,2]]}"#, &two, "row 0 of `dataframe_split` has the input `x` twice");
        check(
            r#"{"columns":["x","z"],"data":[]}"#,
            &two,
            "`dataframe_split`: no input takes the column `z`; expected `x`, `y`",
        );
        check(
            r#"{"columns":["x","y"],"data":[[1]]}"#,
            &two,
            "row 0 of `dataframe_split` has 1 cells, but there are 2 columns",
        );
        check(
            r#"{"columns":["x","y"],"data":[[1,2,3]]}"#,
            &two,
            "row 0 of `dataframe_split` has more cells than the 2",
        );
        check(
            r#"{"columns":["x","y"],"data":[[1,null]]}"#,
            &two,
            "input `y`, row 0 of `dataframe_split`: it is null, which is no",
        );
        check(
            r#"{"columns":["a","b"],"data":[[1,256]]}"#,
            &matrix,
            "input `x`, row 0 of `dataframe_split`: element 1 is 256, which is no",
        );
        check(
            r#"{"columns":["a","b"],"data":[[1,[2]]]}"#,
            &matrix,
            "input `x`, row 0 of `dataframe_split`: element 1 is an array",
        );
        let check = |text: &str, expected: &str| assert_eq!(shown_inputs(records(text, &matrix)), expected);
        check("7", "`dataframe_records` must be an array of objects");
        check("[7]", "row 0 of `dataframe_records` must be an object");
        check(r#"[{"a":1},{"b":1}]"#, "row 1 of `dataframe_records` has a column `b` that the first row does not have");
        check(r#"[{"a":1,"b":1},{"b":1}]"#, "row 1 of `dataframe_records` has no column `a`");
        check(r#"[{"a":1,"b":1},{"b":1,"b":1}]"#, "row 1 of `dataframe_records` has the column `b` twice");
    }
}
