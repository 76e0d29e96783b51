//! The outputs of a function in the forms of `inputs`: a value without a name where there is one, else an object of columns or an array
//! of rows.

use super::{Binary, Data};
use crate::protocol::Malformed;
use serde::{Serialize, Serializer, ser::SerializeMap};
use torpor_tensor::{NamedTensor, Tensor};

/// `{"key": value}` or `{"key": {"name": value, …}}`.
///
/// # Errors
/// When JSON cannot carry a tensor.
pub(in crate::protocol) fn columns(key: &str, outputs: &[NamedTensor]) -> Result<Vec<u8>, serde_json::Error> {
    match outputs {
        [output] => document(key, &whole(output), outputs),
        _ => {
            document(key, &Members(outputs.iter().map(|output| (output.0.as_str(), whole(output))).collect()), outputs)
        }
    }
}

/// `{"key": [value, …]}` or `{"key": [{"name": value, …}, …]}`.
///
/// # Errors
/// When JSON cannot carry a tensor. Whether several outputs have rows is asked before: [`count`].
pub(in crate::protocol) fn rows(key: &str, outputs: &[NamedTensor]) -> Result<Vec<u8>, serde_json::Error> {
    match (outputs, count(outputs)) {
        ([(_, tensor)], _) => document(key, &Data::nested(tensor, binary(&outputs[0].0)), outputs),
        (_, Ok(rows)) => {
            let members = Members(outputs.iter().filter_map(row).collect());
            document(key, &Repeat(rows, |_| &members), outputs)
        }
        (_, Err(malformed)) => Err(serde::ser::Error::custom(malformed)),
    }
}

fn whole((name, tensor): &NamedTensor) -> Data<'_> {
    Data::nested(tensor, binary(name))
}

fn row((name, tensor): &NamedTensor) -> Option<(&str, Data<'_>)> {
    Some((name, Data::rows(tensor, binary(name))?))
}

/// How many rows all outputs have.
pub(in crate::protocol) fn count(outputs: &[NamedTensor]) -> Result<usize, Malformed> {
    let rows = |tensor: &Tensor| tensor.shape().dims().first().copied();
    let first = outputs.first().and_then(|(_, tensor)| rows(tensor));
    match outputs.iter().find(|(_, tensor)| rows(tensor).is_none() || rows(tensor) != first) {
        None => Ok(first.and_then(|rows| usize::try_from(rows).ok()).unwrap_or_default()),
        Some((name, tensor)) => {
            let shape = tensor.shape();
            Err(Malformed(format!("output `{name}` has the shape {shape}, and not a row for each row of the others")))
        }
    }
}

/// TF Serving's rule, by which a name says that `BYTES` are no text; what is none without saying so is written like that, too.
fn binary(name: &str) -> Binary {
    if name.ends_with("_bytes") { Binary::Always } else { Binary::WhereNeeded }
}

/// An object with one member.
pub(in crate::protocol) fn document(
    key: &str,
    value: &impl Serialize,
    outputs: &[NamedTensor],
) -> Result<Vec<u8>, serde_json::Error> {
    let mut body = Vec::with_capacity(super::size(outputs));
    serde_json::to_writer(&mut body, &Member(key, value))?;
    Ok(body)
}

struct Member<'a, T>(&'a str, &'a T);

impl<T: Serialize> Serialize for Member<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(1))?;
        object.serialize_entry(self.0, self.1)?;
        object.end()
    }
}

/// An object with a member for each name.
pub(in crate::protocol) struct Members<'a>(pub(in crate::protocol) Vec<(&'a str, Data<'a>)>);

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, data)| (name, data)))
    }
}

/// An array of so many values, each made of its index.
pub(in crate::protocol) struct Repeat<F>(pub(in crate::protocol) usize, pub(in crate::protocol) F);

impl<T: Serialize, F: Fn(usize) -> T> Serialize for Repeat<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..self.0).map(&self.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use torpor_tensor::{DType, Shape};

    fn numbers(name: &str, dims: &[u64]) -> NamedTensor {
        let shape = Shape::from(dims);
        let data = (0..shape.elements().unwrap()).map(|n| u8::try_from(n).unwrap()).collect::<Vec<_>>();
        (name.to_owned(), Tensor::new(DType::U8, shape, data.into()).unwrap())
    }

    fn text(body: Result<Vec<u8>, serde_json::Error>) -> String {
        body.map_or_else(|error| error.to_string(), |body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn one_output_has_no_name() {
        let outputs = [numbers("a", &[2, 2])];
        assert_eq!(text(columns("outputs", &outputs)), r#"{"outputs":[[0,1],[2,3]]}"#);
        assert_eq!(text(rows("predictions", &outputs)), r#"{"predictions":[[0,1],[2,3]]}"#);
        assert_eq!(text(rows("predictions", &[numbers("a", &[])])), r#"{"predictions":0}"#);
    }

    #[test]
    fn several_outputs_are_objects() {
        let bytes = Tensor::from_elements([2].into(), &[b"x", b"y"]).unwrap();
        let outputs = [numbers("a", &[2, 2]), ("b_bytes".to_owned(), bytes)];
        let expected = r#"{"o":{"a":[[0,1],[2,3]],"b_bytes":[{"b64":"eA=="},{"b64":"eQ=="}]}}"#;
        assert_eq!(text(columns("o", &outputs)), expected);
        let expected = r#"{"p":[{"a":[0,1],"b_bytes":{"b64":"eA=="}},{"a":[2,3],"b_bytes":{"b64":"eQ=="}}]}"#;
        assert_eq!(text(rows("p", &outputs)), expected);
    }

    #[test]
    fn outputs_without_rows_are_told() {
        let error = count(&[numbers("a", &[2]), numbers("b", &[3])]).unwrap_err().to_string();
        assert_eq!(error, "output `b` has the shape [3], and not a row for each row of the others");
        assert!(count(&[numbers("a", &[]), numbers("b", &[])]).is_err());
        assert_eq!(count(&[numbers("a", &[2]), numbers("b", &[2, 5])]), Ok(2));
    }
}
