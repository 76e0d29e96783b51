//! A guest that does what a test asks, good or bad: as a function of HTTP requests by the last part of the path, and as a
//! function of tensors by the input `command`.

mod contract;
mod environment;
mod models;

use std::{
    io::{self, Write},
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use torpor_guest::{
    Datatype, Error, Inputs, Model, ModelErrorKind, Outputs, Predict, PredictError, Tensor,
    http::{self, Method, Request, Response},
};

struct Probe;

impl http::Handler for Probe {
    fn handle(request: Request) -> Result<Response, http::Error> {
        match request.path().rsplit('/').next().unwrap_or_default() {
            "echo" => Ok(echo(request)),
            "spin" => spin(),
            "trap" => trap(),
            "alloc" => alloc(number(&request, "bytes")?),
            "stream" => stream(&request, || Ok(())),
            "break" => stream(&request, || Err(io::Error::other("the probe was asked to break off"))),
            "trap-late" => stream(&request, || trap()),
            "fetch" => fetch(&text(&request, "url")?),
            "env" => Ok(Response::text(environment::lines())),
            "load" => load(&text(&request, "model")?),
            "table" => Ok(table()),
            "sum" => Ok(sum(request)),
            "say" => say(&request, || Ok(())),
            "say-and-break" => say(&request, || Err(io::Error::other("the probe was asked to break off"))),
            "fail" => Err(http::Error::internal("the probe was asked to fail")),
            other => {
                let other = other.to_owned();
                let answer = models::act(&other, request.into_body().read_to_limit(1 << 20)?);
                answer.unwrap_or_else(|| Err(http::Error::new(404, format!("the probe has no `{other}`"))))
            }
        }
    }
}

impl Predict for Probe {
    fn predict(mut inputs: Inputs) -> Result<Outputs, PredictError> {
        let commands = inputs.take("command")?.to_strings().map_err(|error| PredictError::invalid("command", error))?;
        match commands.first().map_or("", String::as_str) {
            "echo" => inputs.into_iter().map(|(name, tensor)| Ok((name, remade(&tensor)?))).collect(),
            "pass" => Ok(inputs.into_iter().collect()),
            "spin" => spin(),
            "trap" => trap(),
            "fail" => Err(PredictError::Failed("the probe was asked to fail".to_owned())),
            "invalid" => Err(PredictError::invalid("command", "the probe was asked to refuse it")),
            "bad-output" => Ok(Outputs::from([("x", Tensor::bytes(&[1], &["not what the signature says"])?)])),
            "no-output" => Ok(Outputs::default()),
            other => Err(PredictError::invalid("command", format!("the probe has no `{other}`"))),
        }
    }
}

torpor_guest::export_http!(Probe);
torpor_guest::export_predict!(Probe);
torpor_guest::export_initializer!(SQUARES);

/// How often the table was made, in this instance and in the one whose memory it began with.
static MADE: AtomicUsize = AtomicUsize::new(0);

static SQUARES: LazyLock<Vec<u32>> = LazyLock::new(|| {
    MADE.fetch_add(1, Ordering::Relaxed);
    (0..1000).map(|number| number * number).collect()
});

/// How often the table was made before it is used, and after, and what is in it.
fn table() -> Response {
    let before = MADE.load(Ordering::Relaxed);
    let last = SQUARES.last().copied().unwrap_or_default();
    Response::text(format!("{before} {} {last}", MADE.load(Ordering::Relaxed)))
}

/// The same tensor, made anew from what it says of itself.
fn remade(tensor: &Tensor) -> Result<Tensor, PredictError> {
    let shape: Vec<usize> = tensor.shape().into_iter().filter_map(|dim| usize::try_from(dim).ok()).collect();
    Ok(match tensor.datatype() {
        Datatype::Bytes => Tensor::bytes(&shape, &tensor.to_byte_strings()?)?,
        Datatype::Bool => Tensor::new(&shape, &tensor.to_vec::<bool>()?)?,
        Datatype::Fp32 => Tensor::new(&shape, &tensor.to_vec::<f32>()?)?,
        datatype => Tensor::from_raw(datatype, &shape, &tensor.to_raw())?,
    })
}

fn echo(request: Request) -> Response {
    let content_type = request.header("content-type").unwrap_or_else(|| b"application/octet-stream".to_vec());
    let response = Response::stream(move |out| {
        let mut body = request.into_body();
        while let Some(chunk) = body.next_chunk()? {
            out.write_all(&chunk)?;
        }
        Ok(())
    });
    response.header("content-type", content_type)
}

/// Echoes the body, with the sum of its bytes behind it.
fn sum(request: Request) -> Response {
    let response = Response::stream(move |out| {
        let (mut body, mut sum) = (request.into_body(), 0_u64);
        while let Some(chunk) = body.next_chunk()? {
            sum += chunk.iter().map(|&byte| u64::from(byte)).sum::<u64>();
            out.write_all(&chunk)?;
        }
        out.trailer("x-sum", sum.to_string());
        Ok(())
    });
    response.header("trailer", "x-sum")
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn trap() -> ! {
    panic!("the probe was asked to trap");
}

/// Fills so many bytes, unless the host refuses them.
fn alloc(bytes: usize) -> Result<Response, http::Error> {
    let mut memory: Vec<u8> = Vec::new();
    if memory.try_reserve_exact(bytes).is_err() {
        return Err(http::Error::new(507, format!("{bytes} bytes were refused")));
    }
    memory.resize(bytes, 1);
    let filled = std::hint::black_box(&memory).iter().filter(|&&byte| byte == 1).count();
    Ok(Response::text(filled.to_string()))
}

/// Answers `chunks` numbered lines, `delay` milliseconds apart, and ends as `end` does.
fn stream(request: &Request, end: fn() -> io::Result<()>) -> Result<Response, http::Error> {
    let (chunks, delay) = (number(request, "chunks")?, number(request, "delay")?);
    Ok(Response::stream(move |out| {
        for index in 0..chunks {
            if index > 0 {
                http::sleep(Duration::from_millis(delay as u64));
            }
            out.write_all(format!("chunk {index}\n").as_bytes())?;
            out.flush()?;
        }
        end()
    }))
}

fn fetch(url: &str) -> Result<Response, http::Error> {
    match http::fetch(Method::Get, url, &[], b"") {
        Ok(answer) => {
            let status = answer.status;
            Ok(Response::bytes(answer.body.read_to_limit(1 << 20)?).status(status))
        }
        Err(error @ http::FetchError::Denied(_)) => Err(http::Error::new(403, error.to_string())),
        Err(error @ http::FetchError::Address(_)) => Err(http::Error::bad_request(error.to_string())),
        Err(error) => Err(http::Error::new(502, error.to_string())),
    }
}

/// Answers with the headers in the lines of `headers`, and what the request's `x-say` has for a body: so many times, and
/// streamed if that is asked for, which ends as `end` does, `delay` milliseconds later.
fn say(request: &Request, end: fn() -> io::Result<()>) -> Result<Response, http::Error> {
    let body = request.header("x-say").unwrap_or_default().repeat(number(request, "times").unwrap_or(1));
    let delay = Duration::from_millis(number(request, "delay").unwrap_or_default() as u64);
    let response = match request.query("stream") {
        Some(_) => Response::stream(move |out| {
            out.write_all(&body)?;
            out.flush()?;
            if !delay.is_zero() {
                http::sleep(delay);
            }
            end()
        }),
        None => Response::bytes(body),
    };
    let status = number(request, "status").unwrap_or(200);
    let response = response.status(u16::try_from(status).map_err(|_| http::Error::bad_request("no status"))?);
    let headers = text(request, "headers")?;
    let lines = headers.lines().filter_map(|line| line.split_once(": "));
    Ok(lines.fold(response, |response, (name, value)| response.header(name, value)))
}

fn load(name: &str) -> Result<Response, http::Error> {
    match Model::load(name) {
        Ok(_) => Ok(Response::text("loaded")),
        Err(Error::Model { kind: ModelErrorKind::NotFound, text, .. }) => Err(http::Error::new(404, text)),
        Err(error) => Err(error.into()),
    }
}

fn text(request: &Request, name: &str) -> Result<String, http::Error> {
    request.query(name).ok_or_else(|| http::Error::bad_request(format!("the query lacks `{name}`")))
}

fn number(request: &Request, name: &str) -> Result<usize, http::Error> {
    let text = text(request, name)?;
    text.parse().map_err(|_| http::Error::bad_request(format!("`{name}` is no number: `{text}`")))
}
