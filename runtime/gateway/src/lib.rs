//! The HTTP edge: listeners and their limits, the inference protocols, the HTTP trigger, and the admin interface.
//!
//! [`Gateway::bind`] takes both addresses and serves nothing yet; [`Gateway::run`] serves until it is told to stop, and then
//! drains. This crate never sees wasmtime, a backend or a bundle: to it a function is something that answers calls.

mod admin;
mod data;
mod deployments;
mod error;
mod functions;
mod listen;
mod protocol;
mod trigger;

pub use deployments::{
    Change, Deploy, Deployments, Done, ManifestText, Order, Outcome, Past, Refused, RefusedKind, Request,
};
pub use functions::{Answerer, Entry, Functions, Revision, RouteTaken, Table, check_routes};
pub use listen::Limits;
pub use protocol::{Carried, PROTOCOLS, Protocol};

/// The parsers that fuzz targets reach, and the test that replays their corpora; they are nobody else's business.
#[doc(hidden)]
pub mod fuzzing {
    use crate::protocol::{
        encoding::Coding, media::MediaType, mlflow, open_inference, open_inference_grpc, openai, proto, tf_serving,
        tf_serving_grpc, torchserve,
    };
    use prost::Message;
    use torpor_tensor::{DType, Dim, Signature, TensorSpec};

    /// Bytes that a tensor may have.
    const LIMIT: usize = 1 << 20;

    /// Functions that take what the interfaces tell apart: one tensor of texts, one matrix, and several of both.
    fn signatures() -> [Signature; 3] {
        let spec = |name: &str, dtype, rank| TensorSpec { name: name.into(), dtype, shape: Some(vec![Dim::Any; rank]) };
        let texts = || spec("text", DType::Bytes, 1);
        let inputs = [
            vec![texts()],
            vec![spec("x", DType::F32, 2)],
            vec![spec("x", DType::I32, 1), spec("flag", DType::Bool, 1), texts(), spec("y", DType::F64, 2)],
        ];
        inputs.map(|inputs| Signature { inputs, outputs: Vec::new() })
    }

    /// Reads requests of TF Serving.
    ///
    /// # Panics
    /// When the two ways in which a request may be read do not agree.
    pub fn tf_serving_request(body: &[u8]) {
        for signature in signatures() {
            let read = tf_serving::predict_request(body, &signature);
            assert_eq!(read, tf_serving::any_request(body, &signature), "the ways of reading a request differ");
            let _ = tf_serving::examples(body, &signature);
        }
    }

    /// Reads a request of TorchServe. The first line is its content type.
    pub fn torchserve_request(text: &[u8]) {
        let (media, body) = media(text);
        for signature in signatures() {
            let _ = torchserve::predict_request(&media, body, &signature);
        }
    }

    /// Reads a request of MLflow. The first line is its content type.
    pub fn mlflow_request(text: &[u8]) {
        let (media, body) = media(text);
        for signature in signatures() {
            let _ = mlflow::invocation(&media, body, &signature);
        }
    }

    /// Reads a request of OpenAI for embeddings.
    pub fn openai_request(body: &[u8]) {
        let _ = openai::embeddings_request(body);
    }

    fn media(text: &[u8]) -> (MediaType, &[u8]) {
        let end = text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len());
        (MediaType::parse(&String::from_utf8_lossy(&text[..end])), text.get(end + 1..).unwrap_or_default())
    }

    /// Reads a message of gRPC that asks for an inference.
    ///
    /// # Panics
    /// When it is read in another way than generated code reads it.
    pub fn grpc_infer_request(message: &[u8]) {
        let read = open_inference_grpc::InferRequest::read(&message.to_vec().into());
        let generated = proto::inference::ModelInferRequest::decode(message);
        let (Ok(read), Ok(generated)) = (read, generated) else { return };
        assert_eq!((&read.model, &read.id), (&generated.model_name, &generated.id), "the heads differ");
        if let Ok(wanted) = read.tensors(&Signature::default(), LIMIT) {
            let heads = generated.inputs.iter().map(|input| (&input.name, input.datatype.as_str(), input.shape.len()));
            let tensors =
                wanted.inputs.iter().map(|(name, tensor)| (name, tensor.dtype().name(), tensor.shape().rank()));
            assert!(heads.eq(tensors), "the tensors differ");
        }
    }

    /// Reads a message of gRPC that asks TF Serving for a prediction.
    ///
    /// # Panics
    /// When it is read in another way than generated code reads it.
    pub fn grpc_predict_request(message: &[u8]) {
        let read = tf_serving_grpc::PredictRequest::read(&message.to_vec().into());
        let generated = proto::tensorflow::serving::PredictRequest::decode(message);
        let (Ok(read), Ok(generated)) = (read, generated) else { return };
        let model = generated.model_spec.map(|spec| spec.name);
        assert_eq!(Some(&read.target.model), model.as_ref(), "the heads differ");
        if let Ok((tensors, _)) = read.tensors(&Signature::default(), LIMIT) {
            let known = |(name, _): &(String, _)| generated.inputs.contains_key(name);
            assert!(tensors.iter().all(known), "the tensors differ");
        }
    }

    /// Reads a request for a model that takes and gives nothing; its tensors are read all the same.
    ///
    /// # Panics
    /// When the two ways in which a request may be read do not agree.
    pub fn infer_request(body: &[u8]) {
        let signature = Signature::default();
        let read = open_inference::infer_request(body, &signature);
        assert_eq!(read, open_inference::in_two_passes(body, &signature), "the ways of reading a request differ");
    }

    /// Reads a request with binary tensors, of which the first two bytes say how long its JSON is.
    ///
    /// # Panics
    /// When a tensor has other bytes than the body.
    pub fn binary_request(data: &[u8]) {
        let Some((head, body)) = data.split_first_chunk::<2>() else { return };
        let (head, body) = (usize::from(u16::from_le_bytes(*head)), bytes::Bytes::copy_from_slice(body));
        let Ok(request) = open_inference::binary_request(&body, head, &Signature::default()) else {
            return;
        };
        let read: usize = request.inputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
        assert!(body.len() - head <= read, "bytes of the body are no tensor's");
    }

    /// Inflates a body both ways.
    ///
    /// # Panics
    /// When there is more of it than may be.
    pub fn encoded_body(body: &[u8]) {
        for coding in [Coding::Gzip, Coding::Deflate] {
            assert!(!coding.inflate(body, 1000).is_ok_and(|body| body.len() > 1000), "too much is inflated");
        }
    }
}

/// The way between JSON and tensors for the benchmark that measures it (`cargo xtask bench json`); it is nobody else's business.
#[doc(hidden)]
pub mod measuring {
    use crate::protocol::open_inference;
    use torpor_tensor::{NamedTensor, Signature};

    /// The tensors of a request; `None` where it is none.
    pub fn infer_request(body: &[u8]) -> Option<Vec<NamedTensor>> {
        open_inference::infer_request(body, &Signature::default()).ok().map(|request| request.inputs)
    }

    /// The body of an answer; `None` where JSON cannot carry the tensors.
    pub fn infer_response(outputs: &[NamedTensor]) -> Option<Vec<u8>> {
        let outputs: Vec<_> = outputs.iter().map(|(name, tensor)| open_inference::Output::json(name, tensor)).collect();
        open_inference::infer_response("bench", 1, None, &outputs).ok()
    }
}

use listen::Listener;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::watch;
use torpor_manifest::FunctionName;
use torpor_telemetry::Metrics;

/// Connections of the admin listener. Its users are the operator and one collector of metrics.
const ADMIN_CONNECTIONS: usize = 64;

/// How to build a [`Gateway`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Where callers connect.
    pub data: SocketAddr,
    /// Where the operator connects; a loopback address.
    pub admin: SocketAddr,
    /// What one client may take.
    pub limits: Limits,
    /// How long requests that run may still take once the host is told to stop.
    pub drain: Duration,
    /// The function that answers where a protocol's paths name none; the only one, where there is one, without it.
    pub default_model: Option<FunctionName>,
    /// Whether callers may load and unload functions.
    pub model_control: bool,
}

/// Why the gateway could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address could not be taken.
    #[error("cannot listen on `{address}`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The admin interface would be reachable from other machines.
    #[error("the admin address `{0}` is not on loopback, and its interface has no passwords")]
    AdminNotLoopback(SocketAddr),
}

impl Error {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Error::Bind { flag, .. } => format!("stop the program that has it, or choose another with `{flag}`"),
            Error::AdminNotLoopback(_) => "choose one such as `127.0.0.1:8081`".to_owned(),
        }
    }
}

/// Both listeners, bound.
pub struct Gateway {
    data: Listener,
    admin: Listener,
    drain: Duration,
    default_model: Option<FunctionName>,
    control: bool,
}

impl Gateway {
    /// Binds both addresses. Who connects now waits for [`Gateway::run`].
    ///
    /// # Errors
    /// When an address is taken, or the admin address is open to others.
    pub async fn bind(config: &Config) -> Result<Self, Error> {
        if !config.admin.ip().is_loopback() {
            return Err(Error::AdminNotLoopback(config.admin));
        }
        let bind = async |address, flag, limits| {
            Listener::bind(address, limits).await.map_err(|source| Error::Bind { address, flag, source })
        };
        let data = bind(config.data, "--listen", config.limits).await?;
        let admin = bind(config.admin, "--admin", Limits { connections: ADMIN_CONNECTIONS, ..config.limits }).await?;
        let (default_model, control) = (config.default_model.clone(), config.model_control);
        Ok(Gateway { data, admin, drain: config.drain, default_model, control })
    }

    /// Where callers connect; tells the port where 0 was asked for.
    pub fn data_address(&self) -> SocketAddr {
        self.data.address()
    }

    /// Where the operator connects.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Serves `functions` until `shutdown` is done, then lets the requests that run end, for as long as the drain limit allows. The admin
    /// interface stays until the data listener has drained; meanwhile it says that the host is not ready, and takes no orders.
    pub async fn run(
        self,
        functions: Functions,
        deployments: Deployments,
        metrics: Arc<Metrics>,
        shutdown: impl Future<Output = ()>,
    ) {
        let Gateway { data, admin, drain, default_model, control } = self;
        let (stop_data, data_stops) = watch::channel(false);
        let (stop_admin, admin_stops) = watch::channel(false);
        let connections = metrics.connections().clone();
        let router = data::router(functions.clone(), default_model, control, data_stops.clone());
        let mut data_task = tokio::spawn(data.run(router, connections, data_stops.clone(), drain));
        let admin_router = admin::router(functions, deployments, metrics, data_stops);
        let admin_task = tokio::spawn(admin.run(admin_router, Default::default(), admin_stops, Duration::from_secs(1)));

        tokio::select! {
            () = shutdown => {}
            ended = &mut data_task => {
                tracing::error!(?ended, "the data listener has ended on its own");
                return;
            }
        }
        // Both receivers live in tasks that end only when told to.
        stop_data.send_replace(true);
        if let Err(error) = data_task.await {
            tracing::error!(%error, "the data listener did not drain");
        }
        stop_admin.send_replace(true);
        if let Err(error) = admin_task.await {
            tracing::error!(%error, "the admin listener did not drain");
        }
    }
}
