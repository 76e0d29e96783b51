//! What one instance holds on the host's side: its resources, its limits, and the capabilities that its manifest grants.
//!
//! Lives for one request. Nothing is granted by default: no file, no variable, no network, no clock finer than WASI's.

use std::{io, path::PathBuf, sync::Arc};
use torpor_manifest::{Allow, Command, FunctionName, HostPort, Manifest};
use torpor_nn::Caller;
use wasmtime::{ResourceLimiter, component::ResourceTable};
use wasmtime_wasi::{
    FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    cli::{StdinStream, StdoutStream},
    p1::WasiP1Ctx,
};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::{
    console::Console,
    load::{Loader, Loads},
    trace::Marks,
    warm::Models,
};

/// Resources that one instance may hold at the same time: tensors, graphs, errors, streams.
const MAX_RESOURCES: usize = 10_000;
/// Elements of all tables of one instance. Compilers make one entry a function whose address is taken.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 100_000;

/// What the manifest grants, checked at deploy. Lives as long as the function.
pub(crate) struct Capabilities {
    pub(crate) function: FunctionName,
    memory: usize,
    command: Command,
    allow: Allow,
    /// The folder of the bundle's files, and where the module sees it, if the manifest grants that.
    bundle_files: Option<(PathBuf, String)>,
    /// There where the manifest lets instances load models of their own.
    loader: Option<Loader>,
}

impl Capabilities {
    /// # Errors
    /// When a granted folder of the host cannot be opened; its path comes with the error.
    pub(crate) fn new(
        manifest: &Manifest,
        loader: Option<Loader>,
        bundle_files: Option<PathBuf>,
    ) -> Result<Self, (PathBuf, io::Error)> {
        for grant in &manifest.allow.files {
            std::fs::read_dir(&grant.host).map_err(|error| (grant.host.clone(), error))?;
        }
        Ok(Capabilities {
            function: manifest.name.clone(),
            memory: usize::try_from(manifest.limits.memory.as_u64()).unwrap_or(usize::MAX),
            command: manifest.command.clone(),
            allow: manifest.allow.clone(),
            bundle_files: bundle_files.zip(manifest.allow.bundle_files.clone()),
            loader,
        })
    }

    /// The limit on an instance's memory; on the host's side so much again may be tensors, and an answer as large.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    pub(crate) fn loader(&self) -> Option<&Loader> {
        self.loader.as_ref()
    }

    fn wasi(&self) -> WasiCtxBuilder {
        let mut builder = WasiCtxBuilder::new();
        let console = Console::new(self.function.clone());
        builder.stdout(console.clone()).stderr(console);
        for (name, value) in &self.allow.env {
            builder.env(name, value);
        }
        let own = self.bundle_files.iter().map(|(host, guest)| (host, guest));
        for (host, guest) in own.chain(self.allow.files.iter().map(|grant| (&grant.host, &grant.guest))) {
            // The folder was there at deploy; if it went away since, the guest finds it missing, as any program would.
            if let Err(error) = builder.preopened_dir(host, guest, FsPerms::ReadOnly) {
                tracing::warn!(function = %self.function, folder = %host.display(), %error, "a granted folder is gone");
            }
        }
        builder
    }
}

/// The data of a wasmtime `Store`.
pub(crate) struct Guest {
    pub(crate) table: ResourceTable,
    pub(crate) models: Arc<Models>,
    pub(crate) limiter: Limiter,
    /// Bytes of tensors that the guest may still make.
    pub(crate) tensor_budget: usize,
    /// Models that the guest has loaded from bytes of its own.
    pub(crate) loads: Loads,
    pub(crate) capabilities: Arc<Capabilities>,
    /// For whom the instance asks for runs.
    pub(crate) caller: Caller,
    /// Whether a run was not tried, since it would have come too late.
    pub(crate) is_late: bool,
    /// Where the call notes what became of it.
    pub(crate) marks: Marks,
    /// WASI as core modules know it; only theirs is used.
    preview1: Option<WasiP1Ctx>,
    /// Made at first use, since most functions never ask for WASI and making it costs as much as making the instance.
    wasi: Option<WasiCtx>,
    http: WasiHttpCtx,
    hooks: Outbound,
}

impl Guest {
    pub(crate) fn new(capabilities: &Arc<Capabilities>, models: &Arc<Models>, caller: Caller, marks: Marks) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Guest {
            table,
            models: Arc::clone(models),
            limiter: Limiter { memory: capabilities.memory, table_elements: MAX_TABLE_ELEMENTS },
            tensor_budget: capabilities.memory,
            loads: Loads::default(),
            preview1: None,
            capabilities: Arc::clone(capabilities),
            caller,
            is_late: false,
            marks,
            wasi: None,
            http: WasiHttpCtx::new(),
            hooks: Outbound(Arc::clone(capabilities)),
        }
    }

    pub(crate) fn function(&self) -> &FunctionName {
        &self.capabilities.function
    }

    /// Gives a program its arguments and its standard input and output, before it starts.
    pub(crate) fn connect(&mut self, input: impl StdinStream + 'static, output: impl StdoutStream + 'static) {
        let mut builder = self.capabilities.wasi();
        // As a shell would, the host passes the program's name first.
        builder.arg(self.capabilities.function.as_str()).args(&self.capabilities.command.args);
        self.preview1 = Some(bounded(builder.stdin(input).stdout(output).build_p1()));
    }

    pub(crate) fn preview1(&mut self) -> &mut WasiP1Ctx {
        self.preview1.get_or_insert_with(|| bounded(self.capabilities.wasi().build_p1()))
    }
}

/// Keeps a program from opening more files than other instances may.
fn bounded(mut preview1: WasiP1Ctx) -> WasiP1Ctx {
    preview1.ctx().table.set_max_capacity(MAX_RESOURCES);
    preview1
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| self.capabilities.wasi().build());
        WasiCtxView { ctx, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Bounds the memory of one instance over all its linear memories together.
pub(crate) struct Limiter {
    memory: usize,
    table_elements: usize,
}

impl Limiter {
    /// Takes the growth from what is left. A guest whose growth is refused sees a failed `memory.grow`, not a trap.
    fn grow(left: &mut usize, current: usize, desired: usize) -> bool {
        match left.checked_sub(desired.saturating_sub(current)) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(allowed && Self::grow(&mut self.memory, current, desired))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(allowed && Self::grow(&mut self.table_elements, current, desired))
    }
}

/// Lets a guest call only the hosts that its manifest names.
struct Outbound(Arc<Capabilities>);

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = wasmtime_wasi_http::Result<SentRequest>> + Send> {
        let allowed = target(request.uri()).is_some_and(|(host, port)| {
            self.0.allow.outbound.iter().any(|granted: &HostPort| granted.allows(host, port))
        });
        if !allowed {
            tracing::info!(function = %self.0.function, to = ?request.uri().authority(), "an outbound request was refused");
            return Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)));
        }
        Box::new(async move {
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            let response = response.map(http_body_util::BodyExt::boxed_unsync);
            Ok((response, Box::new(io) as Box<dyn Future<Output = Result<(), HttpError>> + Send>))
        })
    }
}

type SentRequest = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>);

/// Where a request would go.
fn target(uri: &http::Uri) -> Option<(&str, u16)> {
    let default = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return None,
    };
    Some((uri.host()?, uri.port_u16().unwrap_or(default)))
}
