//! The `parameters` of a request, of its inputs, and of the outputs that it asks for.
//!
//! Source: the protocol's `$parameters_object`, and Triton's extensions for binary data and classification. Values are booleans,
//! numbers or strings. Those that mean nothing here are passed over, as Triton does with what its backends do not ask for.

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{fmt, num::NonZeroUsize};

/// The parameters that mean something here.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Parameters {
    /// Of a request: whether outputs of which it says nothing else come as bytes.
    binary_data_output: Option<Scalar>,
    /// Of an output: whether it comes as bytes.
    binary_data: Option<Scalar>,
    /// Of an input: how many of the bytes behind the JSON are its data.
    binary_data_size: Option<Scalar>,
    /// Of an output: how many of its largest elements to name.
    classification: Option<Scalar>,
    /// Of an input or an output: where its data is, on a machine that caller and server share.
    shared_memory_region: Option<Scalar>,
}

/// A value, as far as anybody here looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scalar {
    Flag(bool),
    Whole(u64),
    /// Of another type, or out of range.
    Other,
}

impl Parameters {
    /// Reads an object; nothing where there is none.
    pub(super) fn read(text: Option<&RawValue>) -> Result<Self, String> {
        let read = text.map_or(Ok(Parameters::default()), |text| serde_json::from_str(text.get()));
        read.map_err(|_| "`parameters` must be an object whose values are booleans, numbers or strings".to_owned())
    }

    pub(super) fn binary_output(&self) -> Result<bool, String> {
        flag("binary_data_output", self.binary_data_output).map(Option::unwrap_or_default)
    }

    pub(super) fn binary(&self) -> Result<Option<bool>, String> {
        flag("binary_data", self.binary_data)
    }

    pub(super) fn size(&self) -> Result<Option<usize>, String> {
        whole("binary_data_size", self.binary_data_size)
    }

    /// How many classes are wanted; `None` for the tensor itself, which 0 stands for, too.
    pub(super) fn classes(&self) -> Result<Option<NonZeroUsize>, String> {
        whole("classification", self.classification).map(|count| NonZeroUsize::new(count?))
    }

    /// Whether the data of an input is where the parameters say and not behind the JSON.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.shared_memory_region.is_some()
    }

    /// Whether an input has anything but JSON.
    pub(super) fn is_plain(&self) -> bool {
        self.binary_data_size.is_none() && !self.is_elsewhere()
    }
}

fn flag(name: &str, value: Option<Scalar>) -> Result<Option<bool>, String> {
    match value {
        None => Ok(None),
        Some(Scalar::Flag(flag)) => Ok(Some(flag)),
        Some(_) => Err(format!("its parameter `{name}` must be true or false")),
    }
}

fn whole(name: &str, value: Option<Scalar>) -> Result<Option<usize>, String> {
    let wrong = || format!("its parameter `{name}` must be a whole number that is not negative");
    match value {
        None => Ok(None),
        Some(Scalar::Whole(number)) => usize::try_from(number).map(Some).map_err(|_| wrong()),
        Some(_) => Err(wrong()),
    }
}

/// The names of [`Parameters`].
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    BinaryDataOutput,
    BinaryData,
    BinaryDataSize,
    Classification,
    SharedMemoryRegion,
    #[serde(other)]
    Unknown,
}

// By hand, since values of unknown names are looked at, too, and nothing is kept of them.
impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Parameters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
                let mut parameters = Parameters::default();
                while let Some((name, value)) = map.next_entry::<Name, Scalar>()? {
                    let place = match name {
                        Name::BinaryDataOutput => &mut parameters.binary_data_output,
                        Name::BinaryData => &mut parameters.binary_data,
                        Name::BinaryDataSize => &mut parameters.binary_data_size,
                        Name::Classification => &mut parameters.classification,
                        Name::SharedMemoryRegion => &mut parameters.shared_memory_region,
                        Name::Unknown => continue,
                    };
                    if place.replace(value).is_some() {
                        return Err(A::Error::custom("a parameter is given twice"));
                    }
                }
                Ok(parameters)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;

        impl Visitor<'_> for Value {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean, a number or a string")
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Scalar, E> {
                Ok(Scalar::Flag(flag))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Whole(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(u64::try_from(number).map_or(Scalar::Other, Scalar::Whole))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_str<E>(self, _: &str) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }
        }

        deserializer.deserialize_any(Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Parameters, String> {
        Parameters::read(Some(&RawValue::from_string(text.to_owned()).unwrap()))
    }

    #[test]
    fn what_is_known_is_read_and_the_rest_is_passed_over() {
        let text = r#"{"binary_data_size":12,"priority":-1,"timeout":1.5,"who":"me","sequence_start":true}"#;
        assert_eq!(read(text).unwrap().size(), Ok(Some(12)));
        let all = read(r#"{"binary_data":false,"classification":3,"binary_data_output":true}"#).unwrap();
        assert_eq!((all.binary(), all.binary_output()), (Ok(Some(false)), Ok(true)));
        assert_eq!(all.classes().unwrap().map(NonZeroUsize::get), Some(3));
        assert!(all.is_plain() && !read(r#"{"shared_memory_region":"r"}"#).unwrap().is_plain());
        assert_eq!(read(r#"{"classification":0}"#).unwrap().classes(), Ok(None));
        assert_eq!(Parameters::read(None), Ok(Parameters::default()));
    }

    #[test]
    fn wrong_types_are_refused() {
        for text in
            ["[]", "1", r#"{"x":[]}"#, r#"{"x":{}}"#, r#"{"x":null}"#, r#"{"binary_data":true,"binary_data":true}"#]
        {
            assert!(read(text).unwrap_err().starts_with("`parameters` must be an object"), "{text}");
        }
        for wrong in ["-1", "1.5", "true", "\"4\"", "18446744073709551616"] {
            let error = read(&format!(r#"{{"binary_data_size":{wrong}}}"#)).unwrap().size().unwrap_err();
            assert_eq!(error, "its parameter `binary_data_size` must be a whole number that is not negative");
        }
        let error = read(r#"{"binary_data":1}"#).unwrap().binary().unwrap_err();
        assert_eq!(error, "its parameter `binary_data` must be true or false");
    }
}
