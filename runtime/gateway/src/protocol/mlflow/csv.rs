//! Tables in CSV (RFC 4180) to the inputs of a function; see `frame`.

use super::frame::Frame;
use crate::protocol::Malformed;
use csv::{ByteRecord, ReaderBuilder};
use torpor_tensor::{NamedTensor, Signature};

/// How a table is named in a message.
const KEY: &str = "text/csv";

/// Reads a table. Without a `header` its columns are those of the only input, or the inputs in their order.
pub(super) fn read(body: &[u8], header: bool, signature: &Signature) -> Result<Vec<NamedTensor>, Malformed> {
    let broken = |error: csv::Error| Malformed(format!("the body is no table in CSV: {error}"));
    // Rows of other lengths are told by the frame, which knows how many columns there are.
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(body);
    let mut record = ByteRecord::new();
    let mut more = reader.read_byte_record(&mut record).map_err(broken)?;
    let columns: Vec<String> = match (header, &signature.inputs[..]) {
        (true, _) => record.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
        (false, [_]) => (0..record.len()).map(|column| column.to_string()).collect(),
        (false, specs) => specs.iter().map(|spec| spec.name.clone()).collect(),
    };
    if !more {
        return Err(Malformed("the body is an empty table in CSV".to_owned()));
    }
    let mut frame = Frame::new(&columns, false, KEY, signature)?;
    if header {
        more = reader.read_byte_record(&mut record).map_err(broken)?;
    }
    while more {
        record.iter().try_for_each(|cell| frame.text(cell))?;
        frame.end_row()?;
        more = reader.read_byte_record(&mut record).map_err(broken)?;
    }
    frame.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use torpor_tensor::{DType, Dim, TensorSpec};

    fn signature(specs: &[(&str, DType, usize)]) -> Signature {
        let spec = |&(name, dtype, rank): &(&str, DType, usize)| TensorSpec {
            name: name.into(),
            dtype,
            shape: Some(vec![Dim::Any; rank]),
        };
        Signature { inputs: specs.iter().map(spec).collect(), outputs: vec![] }
    }

    fn check(body: &str, header: bool, specs: &[(&str, DType, usize)], expected: &str) {
        let input = |(name, tensor): &NamedTensor| format!("{name} {} {:?}", tensor.shape(), &tensor.data()[..]);
        let read = read(body.as_bytes(), header, &signature(specs));
        let found = read
            .map_or_else(|error| error.to_string(), |inputs| inputs.iter().map(input).collect::<Vec<_>>().join("; "));
        assert_eq!(found, expected);
    }

    const MATRIX: [(&str, DType, usize); 1] = [("x", DType::U8, 2)];
    const TWO: [(&str, DType, usize); 2] = [("b", DType::Bool, 1), ("t", DType::Bytes, 2)];

    #[test]
    fn columns_are_inputs() {
        check("a,b\r\n1,2\r\n3,4\r\n", true, &MATRIX, "x [2, 2] [1, 2, 3, 4]");
        check("1, 2\n3,4", false, &MATRIX, "x [2, 2] [1, 2, 3, 4]");
        check("a,b\n", true, &MATRIX, "x [0, 2] []");
        check("t,b\n\"a,\"\"\",True\n", true, &TWO, "b [1] [1]; t [1, 1] [3, 0, 0, 0, 97, 44, 34]");
        check("FALSE,é", false, &TWO, "b [1] [0]; t [1, 1] [2, 0, 0, 0, 195, 169]");
    }

    #[test]
    fn wrong_cells_have_their_place() {
        check("", true, &MATRIX, "the body is an empty table in CSV");
        check("a,b\n1,\n", true, &MATRIX, "column `b`, row 0 of `text/csv`: it is empty, which is no UINT8");
        check("a\n[1]\n", true, &MATRIX, "column `a`, row 0 of `text/csv`: it is [1], which is no UINT8");
        check("a\nnan\n", true, &MATRIX, "column `a`, row 0 of `text/csv`: it is nan, which is no UINT8");
        check("a\n\"1,2\"\n", true, &MATRIX, "column `a`, row 0 of `text/csv`: it is 1,2, which is no UINT8");
        check("b,t\nyes,\n", true, &TWO, "column `b`, row 0 of `text/csv`: it is yes, which is no BOOL");
        check("a,b\n1\n", true, &MATRIX, "row 0 of `text/csv` has 1 cells, but there are 2 columns");
        check("a\n1,2\n", true, &MATRIX, "row 0 of `text/csv` has more cells than the 1 columns");
        check("b\nTrue\n", true, &TWO, "row 0 of `text/csv` has no `t`");
        check("b,c\n", true, &TWO, "`text/csv`: no input takes the column `c`; expected `b`, `t`");
    }
}
