//! The server: accept, read, run, write.

use crate::{Run, model::Model};
use anyhow::{Context, Result};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    io::{Write, stdout},
    net::Ipv4Addr,
    sync::Arc,
    thread,
};
use tokio::{net::TcpListener, sync::oneshot};

/// Bytes of a body, as a function's manifest has it by default.
const MAX_BODY: usize = 1024 * 1024;
/// Jobs that may wait, far more than there are connections.
const QUEUE: usize = 4096;

struct Server {
    name: String,
    path: String,
    models: Models,
}

enum Models {
    /// Whoever has a request takes a model out, and puts it back.
    Inline {
        give: Sender<Model>,
        take: Receiver<Model>,
    },
    Threads(Sender<Job>),
}

struct Job {
    body: Bytes,
    reply: oneshot::Sender<Result<Vec<u8>>>,
}

/// Serves until the process is ended.
pub(crate) fn serve(models: Vec<Model>, name: String, run: Run) -> Result<()> {
    let path = format!("/v2/models/{name}/infer");
    let models = match run {
        Run::Inline => inline(models)?,
        Run::Threads => threads(models, &name),
    };
    let server = Arc::new(Server { name, path, models });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut stdout = stdout();
        writeln!(stdout, "{}", listener.local_addr()?)?;
        stdout.flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let service = service_fn(|request| server.answer(request));
                // A connection that breaks is its client's doing.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

fn inline(models: Vec<Model>) -> Result<Models> {
    let (give, take) = bounded(models.len());
    for model in models {
        give.send(model).ok().context("the channel has room for all models")?;
    }
    Ok(Models::Inline { give, take })
}

fn threads(models: Vec<Model>, name: &str) -> Models {
    let (jobs, queue) = bounded::<Job>(QUEUE);
    for mut model in models {
        let (queue, name) = (queue.clone(), name.to_owned());
        thread::spawn(move || {
            for Job { body, reply } in queue {
                // Nobody listens when the client has gone.
                let _ = reply.send(model.answer(&name, &body));
            }
        });
    }
    Models::Threads(jobs)
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "the body is limited")]
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        if request.method() != Method::POST || request.uri().path() != self.path {
            return Ok(response(StatusCode::NOT_FOUND, error("there is only one model here")));
        }
        Ok(match Limited::new(request.into_body(), MAX_BODY).collect().await {
            Ok(body) => match self.run(body.to_bytes()).await {
                Ok(answer) => response(StatusCode::OK, answer),
                Err(reason) => response(StatusCode::BAD_REQUEST, error(&format!("{reason:#}"))),
            },
            Err(reason) => response(StatusCode::BAD_REQUEST, error(&reason.to_string())),
        })
    }

    async fn run(&self, body: Bytes) -> Result<Vec<u8>> {
        match &self.models {
            Models::Inline { give, take } => {
                let mut model = take.recv()?;
                let answer = model.answer(&self.name, &body);
                give.send(model).ok().context("nobody takes models back")?;
                answer
            }
            Models::Threads(jobs) => {
                let (reply, answer) = oneshot::channel();
                jobs.send(Job { body, reply }).ok().context("the threads have ended")?;
                answer.await?
            }
        }
    }
}

fn error(text: &str) -> Vec<u8> {
    serde_json::json!({ "error": text }).to_string().into_bytes()
}

fn response(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
