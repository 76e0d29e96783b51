//! MLflow's scoring protocol and SageMaker's containers: what they answer, and how they refuse.

use crate::fixture::{Reply, TestHost};
use http::{Method, Request};
use serde_json::json;

fn send(host: &TestHost, content_type: &str, body: impl Into<Vec<u8>>) -> Reply {
    let request = Request::post("/invocations").header("content-type", content_type);
    host.send(request.body(body.into()).expect("a request"))
}

#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str, words: &[&str]) {
    assert_eq!(reply.status, status, "{}", reply.text());
    let error = reply.json();
    assert_eq!(error["error_code"], code, "{error}");
    let text = error["message"].as_str().expect("a text");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

#[test]
fn a_table_is_a_matrix() {
    let host = TestHost::builder().function("species", |manifest| manifest.set("model.model.backend", "openvino"));
    if crate::fixture::skipped_without_openvino() {
        return;
    }
    let host = host.start();
    let csv = "sepal length,sepal width,petal length,petal width\n5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n";
    let expected = send(&host, "text/csv", csv).status(200).json();
    let rows = expected["predictions"].as_array().expect("rows");
    assert_eq!((rows.len(), rows[0].as_array().map(Vec::len)), (2, Some(3)), "{expected}");
    let bare = csv.split_once('\n').expect("a header").1;
    assert_eq!(send(&host, "text/csv; header=absent", bare).status(200).json(), expected);
    let split = json!({ "dataframe_split": {
        "columns": ["a", "b", "c", "d"], "index": [0, 1], "data": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]],
    } });
    assert_eq!(send(&host, "application/json", split.to_string()).status(200).json(), expected);
    let records = json!({ "dataframe_records": [
        { "a": 5.1, "b": 3.5, "c": 1.4, "d": 0.2 }, { "d": 2.3, "c": 5.2, "b": 3.0, "a": 6.7 },
    ] });
    assert_eq!(send(&host, "application/json; charset=utf-8", records.to_string()).status(200).json(), expected);
    for key in ["instances", "inputs"] {
        let body = json!({ key: [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]] });
        assert_eq!(send(&host, "application/json", body.to_string()).status(200).json(), expected);
    }
}

#[test]
fn columns_are_inputs_by_their_names() {
    let host = TestHost::builder().function("types", |manifest| manifest).start();
    let header = "bool,uint8,uint16,uint32,uint64,int8,int16,int32,int64,fp16,bf16,fp32,fp64,bytes";
    let csv = format!("{header}\nTrue,1,2,3,4,-5,-6,-7,-8,0.5,0.25,1.5,2.5,\"a,b\"\nfalse,0,0,0,0,0,0,0,0,0,0,0,0,\n");
    let answer = send(&host, "text/csv", csv.as_str()).status(200).json();
    assert_eq!(answer["predictions"].as_array().map(Vec::len), Some(2), "{answer}");
    let data = json!([true, 1, 2, 3, 4, -5, -6, -7, -8, 0.5, 0.25, 1.5, 2.5, "a,b"]);
    let zeros = json!([false, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ""]);
    let columns = header.split(',').collect::<Vec<_>>();
    let split = json!({ "dataframe_split": { "columns": columns, "data": [data, zeros] } });
    assert_eq!(send(&host, "application/json", split.to_string()).status(200).json(), answer);
    let bad = "BAD_REQUEST";
    refused(&send(&host, "text/csv", csv.replace("True", "yes")), 400, bad, &["`bool`", "row 0", "yes", "BOOL"]);
    refused(&send(&host, "text/csv", csv.replace(",1,2,", ",256,2,")), 400, bad, &["`uint8`", "256", "UINT8"]);
    refused(&send(&host, "text/csv", csv.replace("1.5", "nan")), 400, bad, &["`fp32`", "nan", "FP32"]);
    refused(&send(&host, "text/csv", csv.replace(",bytes\n", ",texts\n")), 400, bad, &["`texts`", "`bytes`"]);
    let short = csv.replace(",\"a,b\"\n", "\n");
    refused(&send(&host, "text/csv", short), 400, bad, &["row 0", "13 cells", "14 columns"]);
}

#[test]
fn what_answers_is_chosen() {
    let two = || TestHost::builder().function("add", |manifest| manifest).another("sum", "add", |manifest| manifest);
    let body = r#"{"inputs":{"x":[[1,2,3,4]],"y":[[1,1,1,1]]}}"#;
    let sum = json!({ "predictions": [[2.0, 3.0, 4.0, 5.0]] });
    let host = two().start();
    refused(&host.post("/invocations", body), 400, "BAD_REQUEST", &["2 models", "--default-model"]);
    let target = |name: &str| {
        let request = Request::post("/invocations").header("x-amzn-sagemaker-target-model", name);
        let request = request.header("x-amzn-sagemaker-custom-attributes", "trace=7");
        host.send(request.body(body.as_bytes().to_vec()).expect("a request"))
    };
    let reply = target("sum").status(200);
    assert_eq!((reply.json(), reply.header("x-amzn-sagemaker-custom-attributes")), (sum.clone(), "trace=7"));
    refused(&target("other"), 404, "RESOURCE_DOES_NOT_EXIST", &["no model `other`"]);
    assert_eq!(host.post("/models/add/invoke", body).status(200).json(), sum);
    let host = two().flag("--default-model").flag("sum").start();
    assert_eq!(host.post("/invocations", body).status(200).json(), sum);
    assert_eq!((&host.status("sum")["calls"], &host.status("add")["calls"]), (&json!(1), &json!(0)));
    let host = two().flag("--default-model").flag("other").start();
    refused(&host.post("/invocations", body), 404, "RESOURCE_DOES_NOT_EXIST", &["no model `other`"]);
}

#[test]
fn what_is_wrong_is_told_in_its_form() {
    let host = TestHost::builder().function("add", |manifest| manifest.set("limits.body", "1MiB")).start();
    let right = r#"{"dataframe_split":{"columns":["x","y"],"data":[[[1,2,3,4],[1,1,1,1]]]}}"#;
    assert_eq!(
        send(&host, "application/json", right).status(200).json(),
        json!({ "predictions": [[2.0, 3.0, 4.0, 5.0]] })
    );
    let check = |body: &str, words: &[&str]| refused(&send(&host, "application/json", body), 400, "BAD_REQUEST", words);
    check("", &["JSON"]);
    check("{}", &["exactly one of `dataframe_split`"]);
    check(r#"{"dataframe_split":{"columns":["x"],"data":[[[1,2,3,4]]]}}"#, &["row 0", "no `y`"]);
    check(&right.replace("\"y\"", "\"q\""), &["column `q`", "`x`, `y`"]);
    check(&right.replace("4]", "null]"), &["`x`", "null", "FP32"]);
    check(&right.replace("4]", "NaN]"), &["JSON"]);
    check(&right.replace(",4]", "]"), &["`x`", "[1, 3]"]);
    check(&right.replace("}}", r#"},"params":{"t":1}}"#), &["`params`", "`t`"]);
    check(&format!(r#"{{"instances":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000)), &["`x`, `y`"]);
    refused(&send(&host, "image/png", right), 415, "BAD_REQUEST", &["image/png", "text/csv"]);
    refused(&send(&host, "text/csv", ""), 400, "BAD_REQUEST", &["empty"]);
    refused(&host.call(Method::DELETE, "/invocations", ""), 405, "ENDPOINT_NOT_FOUND", &["POST"]);
    send(&host, "application/json", right).status(200);
    assert_eq!(host.get("/health").status(200).text(), "\n");
    assert_eq!(host.get("/version").status(200).text(), env!("CARGO_PKG_VERSION"));
    host.get("/ping").status(200);
}
