//! What a worker may do, which is little: it reads its libraries' files and its model, and computes.
//!
//! A worker shuts itself in three times: when it starts, since a library may begin threads as soon as it is loaded, and rules for
//! files hold only for threads that begin after them; before it opens the model, so that the model's file cannot make the library
//! reach for anything else; and when the model is open, from when on it opens no file at all. What the kernel lacks is left out; [`Confinement`]
//! says what it has.

#![allow(unsafe_code, reason = "one call of the system that has no safe wrapper")]

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope,
};
use rustix::process::{Resource, Rlimit, Signal, getpid, getppid, set_parent_process_death_signal, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The newest interface of Landlock that this version knows. An older kernel does what it can of it.
const LANDLOCK: ABI = ABI::V6;

/// Where libraries and what they load are, and what they look up about the machine.
const READABLE: [&str; 13] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system",
    "/dev/null",
];

/// Descriptors that a worker may have, besides two for each lane.
const FILES: u64 = 256;
/// What one thread may have of its own: its stack, as the C library makes it, and as Rust makes it for a lane.
const STACK: u64 = 8 * 1024 * 1024 + 2 * 1024 * 1024;

/// What confines workers on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// Whether files are.
    pub landlock: bool,
}

impl Confinement {
    /// Asks the kernel.
    pub fn of_this_machine() -> Self {
        let seccomp = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
        let seccomp = seccomp.is_ok_and(|actions| actions.contains("errno")) && architecture().is_some();
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let landlock = ruleset.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create).is_ok();
        Confinement { seccomp, landlock }
    }

    /// What is missing, for the operator; `None` where nothing is.
    pub fn lacks(self) -> Option<&'static str> {
        match (self.seccomp, self.landlock) {
            (true, true) => None,
            (true, false) => Some(
                "the kernel has no Landlock: a worker process can read what the host can read until its model is open",
            ),
            (false, true) => Some("the kernel has no seccomp: a worker process can use the network"),
            (false, false) => {
                Some("the kernel has neither seccomp nor Landlock: a worker process can do what the host can")
            }
        }
    }
}

/// Where the files are that any worker of this host may need.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Folders that it may read: those of models, and those of libraries that are not where the system keeps its own.
    pub readable: Vec<PathBuf>,
    /// The folder that optimized models are written to.
    pub writable: Option<PathBuf>,
}

impl Places {
    /// As the flags of the worker's command.
    pub(crate) fn flags(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let readable = self.readable.iter().map(|folder| ("--readable", folder.as_path()));
        readable.chain(self.writable.iter().map(|folder| ("--writable", folder.as_path())))
    }
}

/// Where a model is, and what it may take.
#[derive(Debug)]
pub(crate) struct Limits<'a> {
    /// A file, or the folder of an optimized form.
    pub(crate) model: &'a Path,
    pub(crate) weights: Option<&'a Path>,
    /// The folder to write an optimized form into.
    pub(crate) out: Option<&'a Path>,
    pub(crate) library: Option<&'a Path>,
    pub(crate) memory: u64,
    pub(crate) lanes: usize,
    /// Threads that the library may start.
    pub(crate) threads: usize,
}

/// Makes this process one that dies with its host, leaves nothing behind, has no descriptor but the one it was started with, and
/// reaches no file outside of `places` and those of the system's libraries. Comes before anything begins a thread.
pub(crate) fn begin(places: &Places, library: Option<&Path>) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Had the host died before the call above, the channel would say so.
    if getppid().is_none() {
        return Err(io::Error::other("the host is gone"));
    }
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let _ = rustix::thread::set_name(c"torpor-worker");
    // SAFETY: nothing in this process has opened a descriptor yet that it would use; the first three stay.
    if unsafe { libc::close_range(3, libc::c_uint::MAX, 0) } != 0 {
        tracing::debug!("descriptors that were inherited, if any, stay open");
    }
    let readable = places.readable.iter().map(|folder| (folder.as_path(), read()));
    let all: Vec<_> = readable.chain(places.writable.iter().map(|folder| (folder.as_path(), writing()))).collect();
    confine_files(library, &all).map_err(io::Error::other)
}

/// Shuts this process in with one model.
pub(crate) fn enter(limits: &Limits<'_>) -> Result<(), String> {
    let failed =
        |what: &'static str| move |error: &dyn std::fmt::Display| format!("the worker's {what} cannot be set: {error}");
    bound(limits).map_err(|error| failed("limits")(&error))?;
    let read = std::iter::once(limits.model).chain(limits.weights).map(|path| (path, AccessFs::ReadFile.into()));
    let files: Vec<_> = read.chain(limits.out.map(|out| (out, writing()))).collect();
    confine_files(limits.library, &files).map_err(|error| failed("view of files")(&error))?;
    match architecture() {
        None => Ok(()),
        Some(_) => forbid().map_err(|error| failed("filter of system calls")(&error)),
    }
}

/// The model is open: no file is opened from now on, by any thread.
pub(crate) fn close_files() -> Result<(), String> {
    if architecture().is_none() {
        return Ok(());
    }
    let denied = OPENING.iter().map(|&call| (call, Vec::new())).collect();
    apply(denied, SeccompAction::Allow, SeccompAction::Errno(errno(libc::EACCES))).map_err(|error| error.to_string())
}

/// Memory, files and their length.
fn bound(limits: &Limits<'_>) -> io::Result<()> {
    let threads = limits.lanes.saturating_add(limits.threads) as u64;
    let memory = taken()?.saturating_add(limits.memory).saturating_add(threads.saturating_mul(STACK));
    let same = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Data, same(memory))?;
    setrlimit(Resource::Fsize, same(limits.memory))?;
    setrlimit(Resource::Nofile, same(FILES.saturating_add(2 * limits.lanes as u64)))?;
    Ok(())
}

/// What this process has of the memory that the limit counts, in bytes.
fn taken() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| io::Error::other("the system does not tell its memory"))
}

/// What a library does with its files and its plugins.
fn read() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute
}

/// Making files in a folder, and writing and reading them.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg
}

/// Allows what libraries need and `files`, and nothing else, to this thread and to those that it begins.
fn confine_files(library: Option<&Path>, files: &[(&Path, BitFlags<AccessFs>)]) -> Result<(), landlock::RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    // The plugins of a library lie beside it.
    let beside = library.and_then(Path::parent).filter(|folder| folder.is_absolute());
    for path in READABLE.iter().map(Path::new).chain(beside) {
        rules = allow(rules, path, read())?;
    }
    for (path, access) in files {
        rules = allow(rules, path, *access)?;
    }
    rules.restrict_self().map(drop)
}

/// Allows `access` to what is at `path`, if anything is.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    let Ok(opened) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(LANDLOCK) };
    rules.add_rule(PathBeneath::new(opened, access))
}

fn architecture() -> Option<seccompiler::TargetArch> {
    std::env::consts::ARCH.try_into().ok()
}

fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}

/// System calls that open files by their names.
const OPENING: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    libc::SYS_openat,
    libc::SYS_openat2,
];

/// What a library needs to compute, and this crate to talk with the host. Whatever else is asked of the system is refused.
#[rustfmt::skip]
const ALLOWED: &[i64] = &[
    // Files, and what is known of them.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_lseek,
    libc::SYS_close, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_faccessat,
    libc::SYS_faccessat2, libc::SYS_readlinkat, libc::SYS_getdents64, libc::SYS_getcwd, libc::SYS_openat, libc::SYS_fadvise64,
    libc::SYS_ftruncate, libc::SYS_dup, libc::SYS_dup3, libc::SYS_fcntl, libc::SYS_fsync, libc::SYS_fdatasync,
    // The channels that are there.
    libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_ppoll,
    // Memory.
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_mincore,
    libc::SYS_membarrier, libc::SYS_get_mempolicy, libc::SYS_mlock, libc::SYS_munlock,
    // Threads and time.
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_rseq, libc::SYS_set_tid_address,
    libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam, libc::SYS_sched_getscheduler, libc::SYS_getcpu, libc::SYS_nanosleep, libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_gettimeofday, libc::SYS_exit, libc::SYS_exit_group,
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack, libc::SYS_restart_syscall,
    // What the machine is.
    libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getrusage, libc::SYS_getrandom, libc::SYS_getuid, libc::SYS_geteuid,
    libc::SYS_getgid, libc::SYS_getegid,
    // More filters, which only ever forbid.
    libc::SYS_seccomp,
    // Refused in another way, below.
    libc::SYS_clone3,
];

/// Those that only older architectures have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[i64] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_dup2, libc::SYS_poll,
    libc::SYS_time, libc::SYS_arch_prctl, libc::SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[i64] = &[];

/// No network, no program, no other process, no change of anything outside: all that is not needed is refused with `EPERM`.
fn forbid() -> Result<(), seccompiler::Error> {
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|&call| (call, Vec::new())).collect();
    let equal = |argument, length, value| SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value);
    let (int, long) = (SeccompCmpArgLen::Dword, SeccompCmpArgLen::Qword);
    let rule = |conditions| SeccompRule::new(vec![conditions]);
    let own = u64::from(getpid().as_raw_nonzero().get().unsigned_abs());
    // Signals to this process alone, which is how it aborts.
    allowed.insert(libc::SYS_tgkill, vec![rule(equal(0, int.clone(), own)?)?]);
    allowed.insert(libc::SYS_kill, vec![rule(equal(0, int.clone(), own)?)?]);
    // Threads, and no processes.
    let threads = errno(libc::CLONE_THREAD).into();
    let of_thread = SeccompCondition::new(0, long.clone(), SeccompCmpOp::MaskedEq(threads), threads)?;
    allowed.insert(libc::SYS_clone, vec![rule(of_thread)?]);
    // Limits are looked at, and not set.
    allowed.insert(libc::SYS_prlimit64, vec![rule(equal(2, long, 0)?)?]);
    // Names of threads and of memory, and to forbid more.
    let option = |option: i32| rule(equal(0, int.clone(), errno(option).into())?);
    let options = [libc::PR_SET_NAME, libc::PR_SET_VMA, libc::PR_SET_NO_NEW_PRIVS].map(option);
    allowed.insert(libc::SYS_prctl, options.into_iter().collect::<Result<_, _>>()?);
    apply(allowed, SeccompAction::Errno(errno(libc::EPERM)), SeccompAction::Allow)?;
    // Its flags cannot be looked at. The C library takes `clone` where the kernel seems not to have this.
    let newer = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply(newer, SeccompAction::Allow, SeccompAction::Errno(errno(libc::ENOSYS)))
}

/// Adds a filter to all threads of this process.
fn apply(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    other: SeccompAction,
    these: SeccompAction,
) -> Result<(), seccompiler::Error> {
    let Some(architecture) = architecture() else { return Ok(()) };
    let program: BpfProgram = SeccompFilter::new(rules, other, these, architecture)?.try_into()?;
    seccompiler::apply_filter_all_threads(&program)
}
