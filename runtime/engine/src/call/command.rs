//! Calls of core modules: a request's body on standard input, the answer on standard output.
//!
//! Both are whole. A program says by its exit code, after its last byte, whether what it wrote is an answer; and a program
//! that waited for a slow caller would hold an instance for nothing.

use super::{
    Answer, Record, Timing,
    http::{RequestBody, ResponseBody},
    instance::instance,
    was_tried,
};
use crate::{
    CallError, Function,
    command::{self, Output},
    function::{Inner, Lease},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::sync::Arc;
use wasmtime_wasi::{I32Exit, p2::pipe::MemoryInputPipe};

impl Function {
    /// Runs the program once, from the first byte of its input to its end. Dropping the future ends it.
    pub(super) async fn command(&self, body: RequestBody) -> Result<Answer<http::Response<ResponseBody>>, CallError> {
        let function = self.inner();
        let mut record = Record::new(function);
        let deadline = record.deadline();
        let result = tokio::time::timeout_at(deadline.into(), call(function, &record, body)).await;
        let result = result.unwrap_or_else(|_| Err(record.late()));
        record.note(&result);
        result
    }
}

async fn call(
    function: &Arc<Inner>,
    record: &Record,
    body: RequestBody,
) -> Result<Answer<http::Response<ResponseBody>>, CallError> {
    let input = read(function, body).await?;
    let mut lease = function.acquire(record.deadline(), &record.lacked_memory).await?;
    record.marks.admitted(lease.wake.clone());
    let output = run(&lease, record, input).await;
    lease.ended = was_tried(&output);
    let output = output.map_err(|error| lease.explained(error))?;
    record.marks.answered(lease.first_run());
    let timing = Timing::of(&record.marks, record.arrived, None);
    Ok(Answer { value: command::response(&output).map(ResponseBody::whole), timing, labels: None })
}

/// Reads the whole body, within the function's limit.
async fn read(function: &Inner, mut body: RequestBody) -> Result<Bytes, CallError> {
    let limit = function.manifest.limits.body;
    let mut input = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| CallError::InvalidInput("the request's body broke off".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        if (input.len() + data.len()) as u64 > limit.as_u64() {
            return Err(CallError::InvalidInput(format!("the body is larger than {limit}")));
        }
        input.extend_from_slice(&data);
    }
    Ok(input.freeze())
}

async fn run(lease: &Lease, record: &Record, input: Bytes) -> Result<Bytes, CallError> {
    let function = &lease.function;
    // Deploying has looked at the same bytes that the wake has compiled.
    let Some(program) = &lease.warm().code.command else { return Err(function.failed("it is no program")) };
    let mut instance = instance(lease, record, function.http_caller(record.deadline()))
        .await
        .map_err(|error| function.failed(&format!("{error:#}")))?;
    record.marks.ready();
    let output = Output::new(function.capabilities.memory());
    instance.store.data_mut().connect(MemoryInputPipe::new(input), output.clone());
    match program.run(&mut instance.store).await {
        Ok(()) => Ok(output.take()),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(0)) => Ok(output.take()),
            _ if instance.store.data().is_late => Err(function.too_busy()),
            Some(I32Exit(code)) => Err(function.failed(&format!("it exited with code {code}"))),
            None => Err(function.failed(&format!("{error:#}"))),
        },
    }
}
