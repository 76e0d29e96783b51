//! A worker process, as the host sees it: its channel, its end, and why it ended.

use crate::{channel::Channel, sandbox::Places};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{
    ffi::OsString,
    io,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use torpor_nn::BackendKind;

/// How long a worker that has closed its channel may take to end by itself, as one that crashed does.
const ENDING: Duration = Duration::from_millis(100);
/// How long it may take until the end of a worker that was killed is known.
const REAPED: Duration = Duration::from_secs(5);

/// The program that is a worker: the host's own, started in another way.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its file.
    pub file: PathBuf,
    /// The environment variables that it gets, and no others.
    pub environment: Vec<(OsString, OsString)>,
    /// Where the files are that it may need.
    pub places: Places,
}

/// A worker process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) control: Channel,
    ends: Arc<Ends>,
}

/// What becomes of a worker. Shared with the thread that waits for it.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) pidfd: OwnedFd,
    pid: u32,
    /// Why the host killed it.
    killed: OnceLock<&'static str>,
    /// How it ended, once that is known.
    how: OnceLock<String>,
    /// Held while that becomes known.
    knowing: Mutex<()>,
    known: Condvar,
}

impl Process {
    /// Starts a worker. Only the keeper's thread may call it, since the worker ends with the thread that started it.
    pub(crate) fn start(
        keeper: &mut crate::keeper::Keeper,
        program: &Program,
        backend: BackendKind,
        library: Option<&std::path::Path>,
    ) -> io::Result<Self> {
        let (control, other) = Channel::pair()?;
        let mut command = Command::new(&program.file);
        command.arg0("torpor").arg("worker").arg("--backend").arg(backend.name());
        if let Some(library) = library {
            command.arg("--library").arg(library);
        }
        for (flag, folder) in program.places.flags() {
            command.arg(flag).arg(folder);
        }
        command.env_clear().envs(program.environment.iter().map(|(name, value)| (name, value))).current_dir("/");
        command.stdin(other.into_socket()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        // The child has not been waited for, so its id is its own.
        let pidfd = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error.into());
            }
        };
        let ends = Arc::new(Ends {
            pidfd,
            pid: child.id(),
            killed: OnceLock::new(),
            how: OnceLock::new(),
            knowing: Mutex::default(),
            known: Condvar::new(),
        });
        keeper.keep(child, Arc::clone(&ends));
        Ok(Process { control, ends })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.ends.pid
    }

    /// How it ended, if it is known to have.
    pub(crate) fn ended(&self) -> Option<&str> {
        self.ends.how.get().map(String::as_str)
    }

    /// What becomes of it, for somebody who does not keep it alive.
    pub(crate) fn ends(&self) -> &Arc<Ends> {
        &self.ends
    }

    /// Ends it, and waits until the system has its memory back.
    pub(crate) fn close(&self) {
        self.ends.kill("the host has no more use for it");
        let _ = self.end();
    }

    /// Why it ended, of a worker that has closed its channel or was killed. Waits until that is known.
    pub(crate) fn end(&self) -> String {
        self.ends.wait(ENDING);
        if self.ended().is_none() {
            self.ends.kill("it closed its channel, and was killed");
            self.ends.wait(REAPED);
        }
        self.ended().unwrap_or("it does not end").to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.ends.kill("the host has no more use for it");
    }
}

impl Ends {
    /// Ends it for this reason, which is for the operator. The first reason is the one that counts.
    pub(crate) fn kill(&self, why: &'static str) {
        let _ = self.killed.set(why);
        // It fails only when the worker has ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits until its end is known, for no longer than `patience`.
    fn wait(&self, patience: Duration) {
        let knowing = self.knowing.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.known.wait_timeout_while(knowing, patience, |()| self.how.get().is_none()));
    }

    /// It has ended, and been waited for.
    pub(crate) fn ended(&self, status: Option<ExitStatus>) {
        let how = match (self.killed.get(), status) {
            (Some(why), _) => (*why).to_owned(),
            (None, Some(status)) => described(status),
            (None, None) => "nobody knows how".to_owned(),
        };
        let knowing = self.knowing.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.how.set(how);
        drop(knowing);
        self.known.notify_all();
    }
}

fn described(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => match signal_name(signal) {
            Some(name) => format!("it was killed by {name}"),
            None => format!("it was killed by the signal {signal}"),
        },
        (None, Some(code)) => format!("it exited with the code {code}"),
        (None, None) => status.to_string(),
    }
}

/// The names of those that a crash, a limit, the system or an operator sends.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGILL => "SIGILL, an illegal instruction",
        libc::SIGABRT => "SIGABRT, an abort; often a limit of memory",
        libc::SIGBUS => "SIGBUS, a bad address",
        libc::SIGFPE => "SIGFPE, an arithmetic error",
        libc::SIGSEGV => "SIGSEGV, an invalid access to memory",
        libc::SIGSYS => "SIGSYS, a forbidden system call",
        libc::SIGKILL => "SIGKILL; by the system where memory is short, or by hand",
        libc::SIGTERM => "SIGTERM",
        _ => return None,
    })
}
