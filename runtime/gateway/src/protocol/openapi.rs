//! What callers may send to the functions of a host, as a document of OpenAPI 3.1: made from the functions' signatures, so that it says
//! what is checked.
//!
//! Source: the OpenAPI Specification 3.1, whose schemas are those of JSON Schema 2020-12.

use serde_json::{Map, Value, json};
use torpor_tensor::{DType, Dim, Signature, TensorSpec};

/// One function.
#[derive(Debug, Clone)]
pub(crate) struct Described<'a> {
    pub(crate) name: &'a str,
    /// Its version: the number of its revision.
    pub(crate) version: u64,
    /// What it takes and gives, where the protocols for tensors serve it.
    pub(crate) signature: Option<&'a Signature>,
    /// The path of its HTTP trigger, and the methods that it takes; none of them for any.
    pub(crate) http: Option<(&'a str, Vec<&'a str>)>,
}

/// Methods that the document can have. One of another name is left out.
const METHODS: [&str; 8] = ["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"];

/// The document.
pub(crate) fn document<'a>(functions: impl IntoIterator<Item = Described<'a>>) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    schemas.insert("Error".to_owned(), error());
    schemas.insert("Parameters".to_owned(), parameters());
    for function in functions {
        if let Some(signature) = function.signature {
            let Described { name, version, .. } = function;
            schemas.insert(format!("{name}.Request"), request(signature));
            schemas.insert(format!("{name}.Response"), response(name, version, signature));
            paths.insert(format!("/v2/models/{name}"), read(name, "metadata", "What the model takes and gives"));
            paths.insert(format!("/v2/models/{name}/ready"), read(name, "ready", "Whether the model may be called"));
            paths.insert(format!("/v2/models/{name}/infer"), infer(name));
        }
        if let Some((path, methods)) = &function.http {
            let (path, rest) = match path.strip_suffix("/*") {
                Some(prefix) => (format!("{prefix}/{{rest}}"), true),
                None => ((*path).to_owned(), false),
            };
            paths.insert(path, plain(function.name, rest, methods));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Functions of a Torpor host", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn error() -> Value {
    json!({ "type": "object", "required": ["error"], "properties": { "error": { "type": "string" } } })
}

fn parameters() -> Value {
    json!({ "type": "object", "additionalProperties": { "type": ["boolean", "number", "string"] } })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn in_json(schema: Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

/// The answers of every operation, of which `ok` is the right one.
fn answers(ok: Value) -> Value {
    let error = |description: &str| json!({ "description": description, "content": in_json(reference("Error")) });
    json!({ "200": ok, "4XX": error("What is wrong with the request"), "5XX": error("The host or the function failed") })
}

fn read(name: &str, what: &str, summary: &str) -> Value {
    let ok = json!({ "description": summary, "content": in_json(json!({ "type": "object" })) });
    json!({ "get": { "operationId": format!("{name}.{what}"), "summary": summary, "tags": [name], "responses": answers(ok) } })
}

fn infer(name: &str) -> Value {
    let header = json!({ "name": "inference-header-content-length", "in": "header", "schema": { "type": "integer", "minimum": 0 } });
    let ok = json!({ "description": "The outputs", "content": {
        "application/json": { "schema": reference(&format!("{name}.Response")) },
        "application/octet-stream": {},
    } });
    json!({ "post": {
        "operationId": format!("{name}.infer"), "summary": "Runs the model", "tags": [name], "parameters": [header],
        "requestBody": { "required": true, "content": {
            "application/json": { "schema": reference(&format!("{name}.Request")) },
            "application/octet-stream": {},
        } },
        "responses": answers(ok),
    } })
}

fn plain(name: &str, rest: bool, methods: &[&str]) -> Value {
    let known = METHODS.iter().filter(|method| methods.is_empty() || methods.contains(method));
    let operation = |method: &&str| {
        let ok = json!({ "description": "What the function answers" });
        let operation = json!({ "operationId": format!("{name}.http.{}", method.to_lowercase()), "tags": [name], "responses": answers(ok) });
        (method.to_lowercase(), operation)
    };
    let mut item: Map<String, Value> = known.map(operation).collect();
    if rest {
        let schema = json!({ "type": "string" });
        item.insert(
            "parameters".to_owned(),
            json!([{ "name": "rest", "in": "path", "required": true, "schema": schema }]),
        );
    }
    item.into()
}

fn request(signature: &Signature) -> Value {
    let names: Vec<_> = signature.outputs.iter().map(|spec| spec.name.as_str()).collect();
    let output = json!({ "type": "object", "required": ["name"], "properties": {
        "name": { "enum": names }, "parameters": reference("Parameters"),
    } });
    json!({ "type": "object", "required": ["inputs"], "properties": {
        "id": { "type": "string" },
        "parameters": reference("Parameters"),
        "inputs": tensors(&signature.inputs, true),
        "outputs": { "type": "array", "items": output },
    } })
}

fn response(name: &str, version: u64, signature: &Signature) -> Value {
    json!({ "type": "object", "required": ["model_name", "model_version", "outputs"], "properties": {
        "model_name": { "const": name },
        "model_version": { "const": version.to_string() },
        "id": { "type": "string" },
        "outputs": tensors(&signature.outputs, false),
    } })
}

/// An array of these tensors in any order: each of them, or some.
fn tensors(specs: &[TensorSpec], each: bool) -> Value {
    let items: Vec<_> = specs.iter().map(tensor).collect();
    let mut array = json!({ "type": "array", "maxItems": specs.len() });
    if !items.is_empty() {
        array["items"] = json!({ "oneOf": items });
    }
    if each {
        array["minItems"] = specs.len().into();
    }
    array
}

fn tensor(spec: &TensorSpec) -> Value {
    json!({ "type": "object", "required": ["name", "datatype", "shape"], "properties": {
        "name": { "const": spec.name },
        "datatype": { "const": spec.dtype.name() },
        "shape": shape(spec),
        "parameters": reference("Parameters"),
        "data": { "type": "array", "description": "Flat, or nested as deep as the shape",
                  "items": { "anyOf": [element(spec.dtype), { "type": "array" }] } },
    } })
}

fn shape(spec: &TensorSpec) -> Value {
    let any = json!({ "type": "integer", "minimum": 0 });
    let Some(dims) = &spec.shape else { return json!({ "type": "array", "items": any }) };
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(size) => json!({ "const": size }),
        Dim::Named(name) => json!({ "type": "integer", "minimum": 0, "title": name.as_ref() }),
        Dim::Any => any.clone(),
    };
    let mut array = json!({ "type": "array", "minItems": dims.len(), "maxItems": dims.len() });
    if !dims.is_empty() {
        array["prefixItems"] = dims.iter().map(dim).collect();
    }
    array
}

fn element(dtype: DType) -> Value {
    let whole = |least: i64, most: u64| json!({ "type": "integer", "minimum": least, "maximum": most });
    let signed = |most: i64| whole(-most - 1, most.unsigned_abs());
    match dtype {
        DType::Bool => json!({ "type": "boolean" }),
        DType::U8 => whole(0, u8::MAX.into()),
        DType::U16 => whole(0, u16::MAX.into()),
        DType::U32 => whole(0, u32::MAX.into()),
        DType::U64 => whole(0, u64::MAX),
        DType::I8 => signed(i8::MAX.into()),
        DType::I16 => signed(i16::MAX.into()),
        DType::I32 => signed(i32::MAX.into()),
        DType::I64 => signed(i64::MAX),
        // In answers what is no number is `null`.
        DType::F16 | DType::Bf16 | DType::F32 | DType::F64 => json!({ "type": ["number", "null"] }),
        DType::Bytes => json!({ "type": "string" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference in a document, and every object with an `operationId`.
    fn walk<'a>(value: &'a Value, references: &mut Vec<&'a str>, operations: &mut Vec<&'a Value>) {
        if let Some(reference) = value["$ref"].as_str() {
            references.push(reference);
        }
        if value.get("operationId").is_some() {
            operations.push(value);
        }
        match value {
            Value::Object(map) => map.values().for_each(|value| walk(value, references, operations)),
            Value::Array(array) => array.iter().for_each(|value| walk(value, references, operations)),
            _ => {}
        }
    }

    #[test]
    fn the_document_holds_together() {
        let specs = |prefix: &str| -> Vec<_> {
            let spec = |dtype: DType| TensorSpec {
                name: format!("{prefix}{dtype}"),
                dtype,
                shape: Some(vec![Dim::Fixed(2), Dim::Any]),
            };
            DType::ALL.map(spec).to_vec()
        };
        let signature = Signature { inputs: specs("in"), outputs: specs("out") };
        let add = Described { name: "add", version: 3, signature: Some(&signature), http: None };
        let web =
            Described { name: "web", version: 1, signature: None, http: Some(("/fn/web/*", vec!["POST", "BREW"])) };
        let any = Described { name: "any", version: 1, signature: None, http: Some(("/fn/any", vec![])) };
        let document = document([add, web, any]);
        let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
        assert_eq!(
            paths,
            ["/fn/any", "/fn/web/{rest}", "/v2/models/add", "/v2/models/add/infer", "/v2/models/add/ready"]
        );
        let (mut references, mut operations) = (Vec::new(), Vec::new());
        walk(&document, &mut references, &mut operations);
        for reference in &references {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
        }
        let mut ids: Vec<_> = operations.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
        assert!(operations.iter().all(|operation| operation["responses"]["200"]["description"].is_string()));
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!((ids.len(), count), (12, 12), "{ids:?}");
        let input = &document["components"]["schemas"]["add.Request"]["properties"]["inputs"]["items"]["oneOf"][8];
        assert_eq!(input["properties"]["shape"]["prefixItems"][0], json!({ "const": 2 }));
        let element = &input["properties"]["data"]["items"]["anyOf"][0];
        assert_eq!(*element, json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX }));
    }
}
