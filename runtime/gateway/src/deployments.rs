//! How the admin interface asks the host to change what it serves. The gateway only passes on: it knows no bundle and no state
//! directory. Whoever builds the gateway keeps the receiving end, and answers one order after another.

use crate::functions::Revision;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tokio::sync::{mpsc, oneshot};
use torpor_manifest::FunctionName;

/// Orders that may wait for the one under way. More wait in their connections.
const WAITING: usize = 16;

/// What the operator wants.
#[derive(Debug)]
pub enum Order {
    /// Deploy manifests: all of them, or none where one is refused.
    Deploy(Deploy),
    /// Take away a function.
    Undeploy(FunctionName),
    /// Deploy an earlier revision of a function again: this one, or the one before the current.
    Rollback(FunctionName, Option<u64>),
}

/// Manifests to deploy, as the admin interface takes them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// The manifests, each of another function.
    pub manifests: Vec<ManifestText>,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// Wake every function before it takes its place, also those that may be cold.
    #[serde(default)]
    pub wait: bool,
}

/// A manifest as it was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestText {
    /// The absolute path of its file, to which the paths in it are relative. The host does not read it.
    pub file: PathBuf,
    /// Its content.
    pub text: String,
}

/// What became of one function.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The function.
    pub function: String,
    /// What was done.
    pub outcome: Done,
    /// The revision that is served now, or would be; `None` for one that was taken away.
    pub revision: Option<u64>,
    /// The revision that was served before; `None` where there was none.
    pub before: Option<u64>,
    /// What differs between the two, key by key.
    pub changes: Vec<Change>,
    /// What the operator should know besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What was done with a function, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// A new revision is served.
    Deployed,
    /// The manifest and the bundle are those that are served already.
    Unchanged,
    /// It is served no more.
    Undeployed,
}

/// One difference between two revisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// A key of the manifest such as `scale.min`, or `(bundle digest)` and the like for what is not in its text.
    pub key: String,
    /// What it was, as TOML; `None` where it was not there.
    pub from: Option<String>,
    /// What it is, as TOML; `None` where it is not there.
    pub to: Option<String>,
}

/// A revision that the host remembers.
#[derive(Debug, Serialize)]
pub struct Past {
    /// Which it is, and when and by what it was deployed.
    #[serde(flatten)]
    pub revision: Revision,
    /// Whether it is the newest, which the host serves.
    pub current: bool,
    /// The manifest's file.
    pub manifest: PathBuf,
    /// The digest of its bundle.
    pub digest: String,
    /// The remembered revision before it; `None` for the oldest.
    pub before: Option<u64>,
    /// What differs between the two, key by key.
    pub changes: Vec<Change>,
}

/// An order was not carried out. Everything is as it was before. The texts are for the operator.
#[derive(Debug)]
pub struct Refused {
    /// What kind of reason there is.
    pub kind: RefusedKind,
    /// The reason.
    pub text: String,
    /// What to do.
    pub help: String,
}

/// The kinds of reasons to refuse an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedKind {
    /// The manifests have mistakes.
    Malformed,
    /// There is no such function, or no such revision.
    NotFound,
    /// The host cannot do it, or may not.
    Conflict,
}

/// What the admin interface asks, and where the answer goes. Who asked may have gone, which changes nothing.
#[derive(Debug)]
pub enum Request {
    /// To change what is served.
    Order(Order, oneshot::Sender<Result<Vec<Outcome>, Refused>>),
    /// The revisions of a function that are remembered, newest first.
    History(FunctionName, oneshot::Sender<Result<Vec<Past>, Refused>>),
}

/// Where the admin interface sends orders. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Deployments {
    requests: mpsc::Sender<Request>,
}

impl Deployments {
    /// A sender of orders, and where they arrive.
    pub fn channel() -> (Self, mpsc::Receiver<Request>) {
        let (requests, arrive) = mpsc::channel(WAITING);
        (Deployments { requests }, arrive)
    }

    /// Sends an order and waits for its answer; `None` where nobody takes orders any more, since the host is stopping.
    pub(crate) async fn order(&self, order: Order) -> Option<Result<Vec<Outcome>, Refused>> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Order(order, answer)).await.ok()?;
        answered.await.ok()
    }

    /// Asks for the revisions of a function; `None` as with [`Deployments::order`].
    pub(crate) async fn history(&self, name: FunctionName) -> Option<Result<Vec<Past>, Refused>> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::History(name, answer)).await.ok()?;
        answered.await.ok()
    }
}
