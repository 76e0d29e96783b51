//! Values whose shape nobody has told: it is how their arrays nest.

use super::{
    super::MAX_RANK,
    element::Blob,
    elements::{Form, Reader},
    text::spaces,
};
use torpor_tensor::{DType, Shape, Tensor};

/// The elements of values that have one element type and one shape, which nobody has told: it is how the first of them nests. Those of
/// `BYTES` are strings, or objects such as `{"b64": "aGk="}` for bytes that are no text.
#[derive(Debug)]
pub(in crate::protocol) struct Values {
    dtype: DType,
    /// The size of each dimension of a value; `None` before the first one.
    dims: Option<Vec<u64>>,
    count: u64,
    bytes: Vec<u8>,
}

impl Values {
    pub(in crate::protocol) fn new(dtype: DType) -> Self {
        Values { dtype, dims: None, count: 0, bytes: Vec::new() }
    }

    /// Reads the value at the beginning of `text`, and returns what follows it.
    pub(in crate::protocol) fn push<'t>(&mut self, text: &'t str) -> Result<&'t str, String> {
        let (depth, inside) = opened(text.as_bytes())?;
        if let Some(dims) = &self.dims
            && dims.len() != depth
        {
            let rank = dims.len();
            return Err(format!("its arrays nest {depth} deep, but those of the values before it {rank} deep"));
        }
        let dims =
            self.dims.as_ref().map_or_else(|| vec![None; depth], |dims| dims.iter().copied().map(Some).collect());
        let mut reader = Reader {
            rest: inside,
            dtype: self.dtype,
            form: Form::Found(dims),
            expected: usize::MAX,
            depth,
            count: 0,
            bytes: std::mem::take(&mut self.bytes),
        };
        reader.elements::<Blob>()?;
        let Reader { rest, form, bytes, .. } = reader;
        if let Form::Found(dims) = form {
            // Each level has had an array that ended.
            self.dims = Some(dims.into_iter().map(Option::unwrap_or_default).collect());
        }
        (self.count, self.bytes) = (self.count + 1, bytes);
        Ok(&text[text.len() - rest.len()..])
    }

    /// Adds a value that is one element of `BYTES`.
    pub(in crate::protocol) fn push_bytes(&mut self, element: &[u8]) -> Result<(), String> {
        let length = u32::try_from(element.len()).map_err(|_| torpor_tensor::Error::ElementTooLong.to_string())?;
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(element);
        (self.count, self.dims) = (self.count + 1, Some(Vec::new()));
        Ok(())
    }

    /// The size of each dimension of a value; `None` before the first one.
    pub(in crate::protocol) fn dims(&self) -> Option<&[u64]> {
        self.dims.as_deref()
    }

    /// How many there are.
    pub(in crate::protocol) fn count(&self) -> u64 {
        self.count
    }

    /// The only value as a tensor.
    pub(in crate::protocol) fn one(mut self) -> Result<Tensor, String> {
        let dims = self.dims.take().unwrap_or_default();
        self.into_shape(Shape::from(dims))
    }

    /// All values as one tensor, whose first dimension counts them.
    pub(in crate::protocol) fn rows(self) -> Result<Tensor, String> {
        let dims: Vec<u64> = std::iter::once(self.count).chain(self.dims.iter().flatten().copied()).collect();
        self.into_shape(Shape::from(dims))
    }

    /// All elements in another shape, which must have as many.
    pub(in crate::protocol) fn into_shape(self, shape: Shape) -> Result<Tensor, String> {
        Tensor::new(self.dtype, shape, self.bytes.into()).map_err(|error| error.to_string())
    }
}

/// How many arrays begin at the beginning of `text`, and what is inside all of them but the last.
fn opened(text: &[u8]) -> Result<(usize, &[u8]), String> {
    let mut depth = 0;
    let mut rest = spaces(text);
    let first = rest.strip_prefix(b"[").unwrap_or(rest);
    while let Some(inside) = rest.strip_prefix(b"[") {
        depth += 1;
        if depth > MAX_RANK {
            return Err(format!("its arrays nest more than {MAX_RANK} deep"));
        }
        rest = spaces(inside);
    }
    Ok((depth, first))
}

#[cfg(test)]
mod tests {
    use super::super::elements::read;
    use super::*;
    use proptest::prelude::*;

    fn one(dtype: DType, text: &str) -> Result<Tensor, String> {
        let mut values = Values::new(dtype);
        let rest = values.push(text)?;
        assert_eq!(rest.trim_start_matches([' ', ',', ']', '}']), "", "`{text}` is not read to its end");
        values.one()
    }

    #[track_caller]
    fn shape(text: &str, expected: &[u64]) {
        assert_eq!(one(DType::I32, text).unwrap().shape().dims(), expected, "{text}");
    }

    #[track_caller]
    fn wrong(dtype: DType, text: &str, expected: &str) {
        assert_eq!(one(dtype, text).unwrap_err(), expected);
    }

    #[test]
    fn nesting_is_the_shape() {
        shape("7", &[]);
        shape("[]", &[0]);
        shape(" [ 1 , 2 ] ", &[2]);
        shape("[[1],[2],[3]]", &[3, 1]);
        shape("[[], []]", &[2, 0]);
        shape("[[[]]]", &[1, 1, 0]);
        shape("7,", &[]);
        assert_eq!(
            one(DType::I32, "[[1,2],[3,-4]]").unwrap().data(),
            &[1_i32, 2, 3, -4].map(i32::to_le_bytes).concat()
        );
    }

    #[test]
    fn what_has_no_shape_is_refused() {
        wrong(DType::I32, "[[1,2],[3]]", "a row of dimension 1 has 1 elements, but those before it have 2");
        wrong(DType::I32, "[[1],2]", "element 1 is 2 where an array of dimension 1 belongs");
        wrong(DType::I32, "[1,[2]]", "element 1 is an array, which is no INT32");
        wrong(DType::I32, "[[],[1]]", "a row of dimension 1 has 1 elements, but those before it have 0");
        let deep = "[".repeat(200_000);
        wrong(DType::I32, &deep, "its arrays nest more than 32 deep");
        let expected = format!("element 0 is 1{}…, which is no INT32", "[".repeat(39));
        wrong(DType::I32, &format!("[1{deep}"), &expected);
        wrong(DType::F32, "NaN", "it is NaN, which is no FP32");
        wrong(DType::F32, "[1,NaN]", "element 1 is NaN, which is no FP32");
        wrong(DType::I64, "1.5", "it is 1.5, which is no INT64");
        wrong(DType::I64, "", "it is nothing, which is no INT64");
        wrong(DType::F32, "null", "it is null, which is no FP32");
        wrong(DType::F32, r#"{"x":1}"#, "it is an object, which is no FP32");
    }

    #[test]
    fn bytes_are_texts_or_base64() {
        let read = |text: &str| {
            let tensor = one(DType::Bytes, text).unwrap();
            let elements: Vec<Vec<u8>> = tensor.bytes_elements().unwrap().map(<[u8]>::to_vec).collect();
            (tensor.shape().dims().to_vec(), elements)
        };
        assert_eq!(
            read(r#"["hi", { "b64" : "/wA=" }, {"b64":"\/wA"}]"#),
            (vec![3], vec![b"hi".to_vec(), vec![255, 0], vec![255, 0]])
        );
        assert_eq!(read(r#"{"b64":""}"#), (vec![], vec![vec![]]));
        let object = "an object without base64 in `b64` alone, which is no BYTES";
        for text in [r#"{"b64":"!"}"#, r#"{"b64":7}"#, r#"{"b64":"","x":1}"#, r#"{"x":""}"#, "{}", r#"{"b64":"/wB="}"#]
        {
            wrong(DType::Bytes, text, &format!("it is {object}"));
            wrong(DType::Bytes, &format!("[{text}]"), &format!("element 0 is {object}"));
        }
    }

    #[test]
    fn values_have_one_shape() {
        let mut values = Values::new(DType::U8);
        assert_eq!(values.push("[1,2], [3"), Ok(", [3"));
        assert_eq!(values.push("[3]").unwrap_err(), "a row of dimension 0 has 1 elements, but those before it have 2");
        let mut values = Values::new(DType::U8);
        values.push("[1,2]").unwrap();
        assert_eq!(values.push("3").unwrap_err(), "its arrays nest 0 deep, but those of the values before it 1 deep");
        let mut values = Values::new(DType::U8);
        values.push("[1,2]").unwrap();
        values.push("[3,4]").unwrap();
        let tensor = values.rows().unwrap();
        assert_eq!((tensor.shape().dims(), &tensor.data()[..]), (&[2, 2][..], &[1, 2, 3, 4][..]));
        assert_eq!(Values::new(DType::U8).rows().unwrap().shape().dims(), [0]);
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(text in r#"[\[\]\{\},0-9a-z.\-"+ :]{0,40}"#, dtype in 0..DType::ALL.len()) {
            let mut values = Values::new(DType::ALL[dtype]);
            if values.push(&text).is_ok() {
                let _ = values.push(&text);
                let _ = values.rows();
            }
        }

        #[test]
        fn a_told_and_a_found_shape_read_the_same(rows in 1_u64..5, columns in 1_u64..5, number in any::<i32>()) {
            let row = format!("[{}]", vec![number.to_string(); usize::try_from(columns).unwrap()].join(","));
            let text = format!("[{}]", vec![row; usize::try_from(rows).unwrap()].join(", "));
            let (told, _) = read(DType::I32, Shape::from([rows, columns]), &text).unwrap();
            prop_assert_eq!(one(DType::I32, &text).unwrap(), told);
        }
    }
}
