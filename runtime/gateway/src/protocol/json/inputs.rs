//! The inputs of a function in the two forms that several protocols share: columns, a tensor for each name, and rows, an object for
//! each index of the first dimension. A function with one input takes its values without a name, too.

use super::{
    values::Values,
    walk::{array, begun, object},
};
use crate::protocol::{Malformed, shown};
use torpor_tensor::{NamedTensor, Shape, Signature, Tensor, TensorSpec};

/// Reads `{"name": values, …}`, or the values of the only input, at the beginning of `text`, and returns what follows it. `key` is where
/// the caller has written them.
pub(in crate::protocol) fn columns<'t>(
    text: &'t str,
    key: &str,
    signature: &Signature,
) -> Result<(Vec<NamedTensor>, &'t str), Malformed> {
    let specs = &signature.inputs;
    if !is_named(text, specs) {
        let spec = only(specs, key, "an object with the values of each")?;
        let (tensor, rest) = value(spec, text)?;
        return Ok((vec![(spec.name.clone(), tensor)], rest));
    }
    let mut inputs: Vec<NamedTensor> = Vec::new();
    let rest = object(text, |name, text| {
        let spec = named(specs, &name)?;
        if inputs.iter().any(|(name, _)| *name == spec.name) {
            return Err(Malformed(format!("input `{}` is given twice", spec.name)));
        }
        let (tensor, rest) = value(spec, text)?;
        inputs.push((spec.name.clone(), tensor));
        Ok(rest)
    })?;
    Ok((inputs, rest))
}

/// Reads an array of objects `{"name": value, …}`, or of the rows of the only input; see [`columns`].
pub(in crate::protocol) fn rows<'t>(
    text: &'t str,
    key: &str,
    signature: &Signature,
) -> Result<(Vec<NamedTensor>, &'t str), Malformed> {
    let specs = &signature.inputs;
    let Some(inside) = begun(text).strip_prefix('[') else {
        return Err(Malformed(format!("`{key}` must be an array")));
    };
    if !is_named(begun(inside), specs) && (specs.len() == 1 || !begun(inside).starts_with(']')) {
        let spec = only(specs, key, "an array of objects, each with a value of each")?;
        let (tensor, rest) = value(spec, text)?;
        return Ok((vec![(spec.name.clone(), tensor)], rest));
    }
    let mut table = Table::new(specs);
    let rest = array(text, |row| table.row(row, key, &[]))?;
    Ok((table.finish()?, rest))
}

/// One value of the input `spec` at the beginning of `text`, and what follows it.
pub(in crate::protocol) fn value<'t>(spec: &TensorSpec, text: &'t str) -> Result<(Tensor, &'t str), Malformed> {
    let malformed = |what: String| Malformed(format!("input `{}`: {what}", spec.name));
    let mut values = Values::new(spec.dtype);
    let rest = values.push(text).map_err(malformed)?;
    Ok((values.one().map_err(malformed)?, rest))
}

/// The input that a caller calls `name`.
pub(in crate::protocol) fn named<'s>(specs: &'s [TensorSpec], name: &str) -> Result<&'s TensorSpec, Malformed> {
    let found = specs.iter().find(|spec| spec.name == name);
    found.ok_or_else(|| Malformed(format!("there is no input `{}`; expected {}", shown(name), names(specs))))
}

/// The names of inputs or outputs, for a message.
pub(in crate::protocol) fn names(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", ")
}

/// The only input, which needs no name.
fn only<'s>(specs: &'s [TensorSpec], key: &str, expected: &str) -> Result<&'s TensorSpec, Malformed> {
    match specs {
        [spec] => Ok(spec),
        specs => Err(Malformed(format!("`{key}` must be {expected} of the inputs {}", names(specs)))),
    }
}

/// Whether `text` is an object of named values, and not one element of `BYTES` as base64.
fn is_named(text: &str, specs: &[TensorSpec]) -> bool {
    let Some(inside) = begun(text).strip_prefix('{') else { return false };
    !begun(inside).starts_with("\"b64\"") || specs.iter().any(|spec| spec.name == "b64")
}

/// Inputs that are read row by row.
pub(in crate::protocol) struct Table<'s> {
    specs: &'s [TensorSpec],
    columns: Vec<Values>,
    rows: u64,
}

impl<'s> Table<'s> {
    pub(in crate::protocol) fn new(specs: &'s [TensorSpec]) -> Self {
        Table { specs, columns: specs.iter().map(|spec| Values::new(spec.dtype)).collect(), rows: 0 }
    }

    /// Reads the object at the beginning of `text` as the next row, and returns what follows it. The values of `common`, each with the
    /// index of its input, belong to every row, and must not be in the object. `key` is where the caller has written the rows.
    pub(in crate::protocol) fn row<'t>(
        &mut self,
        text: &'t str,
        key: &str,
        common: &[(usize, &str)],
    ) -> Result<&'t str, Malformed> {
        let row = self.rows;
        if !text.starts_with('{') {
            let expected = names(self.specs);
            return Err(Malformed(format!("row {row} of `{key}` must be an object with the inputs {expected}")));
        }
        let rest = object(text, |name, text| {
            let index = self.specs.iter().position(|spec| spec.name == name);
            let Some(index) = index else {
                named(self.specs, &name)?;
                return Err(Malformed(format!("row {row} of `{key}` is wrong")));
            };
            self.cell(index, text, key)
        })?;
        for &(index, text) in common {
            self.cell(index, text, key)?;
        }
        self.end_row(key)?;
        Ok(rest)
    }

    /// Reads a value of the input at `index` for the next row, and returns what follows it.
    pub(in crate::protocol) fn cell<'t>(
        &mut self,
        index: usize,
        text: &'t str,
        key: &str,
    ) -> Result<&'t str, Malformed> {
        self.free(index, key)?;
        self.columns[index].push(text).map_err(|what| self.misfit(index, key, &what))
    }

    /// Adds an element of `BYTES` as the value of the input at `index` for the next row.
    pub(in crate::protocol) fn bytes(&mut self, index: usize, element: &[u8], key: &str) -> Result<(), Malformed> {
        self.free(index, key)?;
        self.columns[index].push_bytes(element).map_err(|what| self.misfit(index, key, &what))
    }

    /// Ends a row, which must have a value of every input.
    pub(in crate::protocol) fn end_row(&mut self, key: &str) -> Result<(), Malformed> {
        let row = self.rows;
        if let Some(missing) = self.columns.iter().position(|column| column.count() == row) {
            return Err(Malformed(format!("row {row} of `{key}` has no `{}`", self.specs[missing].name)));
        }
        self.rows += 1;
        Ok(())
    }

    /// All rows as tensors.
    pub(in crate::protocol) fn finish(self) -> Result<Vec<NamedTensor>, Malformed> {
        let named = |(spec, column): (&TensorSpec, Values)| {
            let tensor = column.rows().map_err(|what| Malformed(format!("input `{}`: {what}", spec.name)))?;
            Ok((spec.name.clone(), tensor))
        };
        self.specs.iter().zip(self.columns).map(named).collect()
    }

    fn free(&self, index: usize, key: &str) -> Result<(), Malformed> {
        if self.columns[index].count() > self.rows {
            let (row, name) = (self.rows, &self.specs[index].name);
            return Err(Malformed(format!("row {row} of `{key}` has the input `{name}` twice")));
        }
        Ok(())
    }

    fn misfit(&self, index: usize, key: &str, what: &str) -> Malformed {
        let (row, name) = (self.rows, &self.specs[index].name);
        Malformed(format!("input `{name}`, row {row} of `{key}`: {what}"))
    }
}

/// The same elements with or without a last dimension of size 1, where the input is declared so: a column of a table may be either.
pub(in crate::protocol) fn fitted(tensor: Tensor, spec: &TensorSpec) -> Tensor {
    let Some(declared) = &spec.shape else { return tensor };
    let dims = tensor.shape().dims();
    let dims = match dims.split_last() {
        Some((1, rest)) if dims.len() == declared.len() + 1 => rest.to_vec(),
        _ if dims.len() + 1 == declared.len() => [dims, &[1]].concat(),
        _ => return tensor,
    };
    Tensor::new(tensor.dtype(), Shape::from(dims), tensor.data().clone()).unwrap_or(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use torpor_tensor::{DType, Dim};

    fn spec(name: &str, dtype: DType, rank: usize) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: Some(vec![Dim::Any; rank]) }
    }

    fn two() -> Signature {
        Signature { inputs: vec![spec("x", DType::I32, 2), spec("t", DType::Bytes, 1)], outputs: vec![] }
    }

    fn one() -> Signature {
        Signature { inputs: vec![spec("t", DType::Bytes, 1)], outputs: vec![] }
    }

    fn shapes(inputs: Result<(Vec<NamedTensor>, &str), Malformed>) -> String {
        inputs.map_or_else(
            |malformed| malformed.to_string(),
            |(inputs, _)| {
                inputs.iter().map(|(name, tensor)| format!("{name} {}", tensor.shape())).collect::<Vec<_>>().join("; ")
            },
        )
    }

    #[test]
    fn rows_and_columns_say_the_same() {
        let by_rows = rows(r#"[{"x":[1,2],"t":"a"},{"t":{"b64":"Yg=="},"x":[3,4]}]"#, "instances", &two()).unwrap().0;
        let by_columns = columns(r#"{"t":["a","b"],"x":[[1,2],[3,4]]}"#, "inputs", &two()).unwrap().0;
        assert_eq!(by_rows[0], by_columns[1]);
        assert_eq!(by_rows[1], by_columns[0]);
        assert_eq!(rows(r#"["a","b"]"#, "instances", &one()), columns(r#"["a",{"b64":"Yg=="}]"#, "inputs", &one()));
        assert!(rows(r#"[{"b64":"YQ=="},{"t":"b"}]"#, "instances", &one()).is_err());
        assert_eq!(shapes(rows("[]", "instances", &one())), "t [0]");
        assert_eq!(shapes(rows("[]", "instances", &two())), "x [0]; t [0]");
        assert_eq!(shapes(columns(r#"{"b64":"YQ=="}"#, "inputs", &one())), "t []");
    }

    #[test]
    fn what_is_wrong_names_row_and_input() {
        let check = |text: &str, expected: &str| assert_eq!(shapes(rows(text, "instances", &two())), expected);
        check("7", "`instances` must be an array");
        check("[7]", "`instances` must be an array of objects, each with a value of each of the inputs `x`, `t`");
        check(r#"[{"x":[1],"t":"a"},7]"#, "row 1 of `instances` must be an object with the inputs `x`, `t`");
        check(r#"[{"x":[1],"t":"a"},{"x":[1]}]"#, "row 1 of `instances` has no `t`");
        check(r#"[{"x":[1],"x":[1]}]"#, "row 0 of `instances` has the input `x` twice");
        check(r#"[{"y":[1]}]"#, "there is no input `y`; expected `x`, `t`");
        check(r#"[{"x":[1.5]}]"#, "input `x`, row 0 of `instances`: element 0 is 1.5, which is no INT32");
        check(
            r#"[{"x":[1],"t":"a"},{"x":[1,2],"t":"b"}]"#,
            "input `x`, row 1 of `instances`: a row of dimension 0 has 2 elements, but those before it have 1",
        );
        let check = |text: &str, expected: &str| assert_eq!(shapes(columns(text, "inputs", &two())), expected);
        check("[7]", "`inputs` must be an object with the values of each of the inputs `x`, `t`");
        check(r#"{"x":[1],"x":[1]}"#, "input `x` is given twice");
        check(r#"{"x":[[1],[1,2]]}"#, "input `x`: a row of dimension 1 has 2 elements, but those before it have 1");
        check(r#"{"q":1}"#, "there is no input `q`; expected `x`, `t`");
    }

    #[test]
    fn columns_fit_with_or_without_a_dimension() {
        let tensor = |dims: &[u64]| {
            let shape = Shape::from(dims);
            let length = shape.elements().unwrap();
            Tensor::new(DType::U8, shape, vec![0; length].into()).unwrap()
        };
        let check = |dims: &[u64], rank: usize, expected: &[u64]| {
            assert_eq!(fitted(tensor(dims), &spec("x", DType::U8, rank)).shape().dims(), expected);
        };
        check(&[3], 2, &[3, 1]);
        check(&[3, 1], 1, &[3]);
        check(&[3, 2], 1, &[3, 2]);
        check(&[3, 1], 2, &[3, 1]);
        check(&[3], 3, &[3]);
    }
}
