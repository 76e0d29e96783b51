//! Builds the guests' workspace to Wasm, with whichever toolchain this machine has or can get, and puts each `cdylib` into
//! `target/modules`, where `torpor pack` takes it from. A module is written only when it changes, so that what depends on it rests.

use crate::{console, run, setup::Assets, stamp, tree, tree::Tree};
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// No adapter is needed: guests import only what their WIT world names.
const TARGET: &str = "wasm32-unknown-unknown";

/// What the projects that `torpor new` makes are built for.
const PROJECTS: [&str; 2] = [TARGET, "wasm32-wasip1"];

/// What brings a Rust compiler with a standard library for Wasm to a Debian machine that rustup cannot help.
const DEBIAN: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc"];

/// What builds for Wasm.
enum Toolchain {
    /// The developer's own, with the target installed.
    Own,
    /// Debian's, which builds the standard library from source, with the linker that was found.
    Debian { linker: Option<PathBuf> },
}

/// Builds all guests.
pub(crate) fn build(tree: &Tree, assets: &Assets) -> Result<()> {
    let libraries = libraries(&tree.guest_manifest())?;
    let toolchain = toolchain()?;
    console::step("build", format!("guests ({})", toolchain.name()));
    let mut command = toolchain.cargo();
    command.args(["build", "--release", "--target", TARGET]);
    command.arg("--manifest-path").arg(tree.guest_manifest());
    for library in &libraries {
        command.args(["--package", &library.package]);
    }
    run::run(
        command
            .env("CARGO_TARGET_DIR", tree.guest_target())
            .env("TORPOR_ASSETS", &assets.dir)
            // Flags for this machine's processor would not fit Wasm.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    )?;
    for library in &libraries {
        keep(tree, &library.file)?;
    }
    Ok(())
}

/// A package of the guests' workspace and the stem of the Wasm file it builds.
struct Library {
    package: String,
    file: String,
}

fn libraries(manifest: &Path) -> Result<Vec<Library>> {
    let metadata = tree::metadata(manifest)?;
    let libraries = metadata.workspace_packages().into_iter().flat_map(|package| {
        let dynamic = package.targets.iter().filter(|target| target.is_cdylib());
        dynamic.map(|target| Library { package: package.name.to_string(), file: target.name.replace('-', "_") })
    });
    Ok(libraries.collect())
}

/// Puts a module where it is taken from. `torpor pack` makes it a component, as it does for everybody.
fn keep(tree: &Tree, file: &str) -> Result<()> {
    let from = tree.guest_target().join(TARGET).join("release").join(file).with_extension("wasm");
    let module = fs::read(&from).with_context(|| format!("`{}` was not built", from.display()))?;
    let to = tree.modules().join(file).with_extension("wasm");
    if fs::read(&to).is_ok_and(|present| present == module) {
        return Ok(());
    }
    console::step("module", tree.short(&to).display());
    stamp::replace(&to, &module)
}

/// The first that works: what is there already, before what has to be fetched.
fn toolchain() -> Result<Toolchain> {
    if own(TARGET) {
        return Ok(Toolchain::Own);
    }
    if let Some(debian) = debian() {
        return Ok(debian);
    }
    if installed(TARGET) {
        return Ok(Toolchain::Own);
    }
    if rustix::process::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists() {
        console::step("install", format!("{} by apt-get", DEBIAN.join(" ")));
        let apt = |arguments: &[&str]| {
            run::quiet(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
        };
        let install = [&["install", "--yes", "--no-install-recommends"], &DEBIAN[..]].concat();
        if (apt(&install) || (apt(&["update"]) && apt(&install)))
            && let Some(debian) = debian()
        {
            return Ok(debian);
        }
        console::note("apt-get cannot install them");
    }
    bail!(
        "no Rust toolchain here builds for {TARGET}: install the target (`rustup target add {TARGET}`), or on Debian, as root, \
         `apt-get install {}`",
        DEBIAN.join(" ")
    )
}

/// Whether the developer's own compiler has the target.
fn own(target: &str) -> bool {
    let library = run::output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
    library.is_ok_and(|path| Path::new(path.trim()).exists())
}

/// Has rustup install the target. False where it cannot, or is not there.
fn installed(target: &str) -> bool {
    if !run::quiet(Command::new("rustup").arg("--version")) {
        return false;
    }
    console::step("install", format!("the target {target} by rustup"));
    let installed = run::quiet(Command::new("rustup").args(["target", "add", target])) && own(target);
    if !installed {
        console::note("rustup cannot install it");
    }
    installed
}

/// Sees to it that the developer's own compiler has the targets of the projects that `torpor new` makes, where that can be done. Debian's
/// builds its standard library itself, which those projects do not ask for.
pub(crate) fn has_targets_of_projects() -> bool {
    PROJECTS.iter().all(|target| own(target) || installed(target))
}

/// Debian's compiler, if it is there with the source of its standard library.
fn debian() -> Option<Toolchain> {
    let there = ["/usr/bin/rustc", "/usr/bin/cargo", "/usr/lib/rustlib/src/rust/library/std"];
    if !there.into_iter().all(|path| Path::new(path).exists()) {
        return None;
    }
    // It has no linker for Wasm of its own; rustup's toolchains and LLVM's packages do.
    let beside = || {
        let sysroot = run::output(Command::new("rustc").args(["--print", "sysroot"])).ok()?;
        let version = run::output(Command::new("rustc").arg("-vV")).ok()?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "))?;
        Some(Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin/rust-lld"))
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let mut linkers = beside().into_iter().chain(env::split_paths(&path).map(|folder| folder.join("wasm-ld")));
    Some(Toolchain::Debian { linker: linkers.find(|linker| linker.exists()) })
}

impl Toolchain {
    fn name(&self) -> &'static str {
        match self {
            Toolchain::Own => "Rust's own target",
            Toolchain::Debian { .. } => "Debian's toolchain, which builds std at its first run",
        }
    }

    fn cargo(&self) -> Command {
        let Toolchain::Debian { linker } = self else { return run::cargo() };
        let mut command = Command::new("/usr/bin/cargo");
        // What the Cargo that runs this command has set here is for its own compiler.
        command.env_remove("LD_LIBRARY_PATH");
        // `build-std` is not stable, but it is what Debian's source package is for.
        command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc").arg("-Zbuild-std=std,panic_abort");
        if let Some(linker) = linker {
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        command
    }
}
