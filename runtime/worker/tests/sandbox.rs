//! What a worker cannot do. One test, which has a process of its own, since there is no way out of the sandbox.
#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    io::{Error, ErrorKind},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    process::Command,
    thread,
};
use torpor_worker::{Confinement, fuzzing};

const MEMORY: u64 = 64 << 20;

#[track_caller]
fn refused<T>(what: &str, result: Result<T, Error>) {
    let error = result.err().unwrap_or_else(|| panic!("{what} is possible"));
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
}

#[test]
fn a_worker_reads_its_model_and_reaches_nothing_else() {
    let confinement = Confinement::of_this_machine();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let [model, secret] = ["model.onnx", "secret"].map(|name| folder.path().join(name));
    fs::write(&model, "a model").unwrap();
    fs::write(&secret, "a secret").unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // What could not be done anyway would prove nothing.
    drop(TcpStream::connect(address).unwrap());
    assert!(Command::new("/bin/true").status().unwrap().success());

    // On a thread of its own: the one that the test harness waits on needs what this one gives away.
    let shut_in = move || {
        fuzzing::enter(&model, MEMORY).unwrap();
        assert_eq!(fs::read(&model).unwrap(), b"a model");
        if confinement.landlock {
            refused("reading another file", fs::read(&secret));
            refused("reading the machine's users", fs::read("/etc/passwd"));
            refused("listing a folder", fs::read_dir(folder.path()));
            refused("writing to the model", File::options().append(true).open(&model));
            refused("making a file", File::create(folder.path().join("new")));
        }
        if confinement.seccomp {
            refused("a connection", TcpStream::connect(address));
            refused("a datagram", UdpSocket::bind(("127.0.0.1", 0)));
            refused("a socket", UnixStream::pair());
            refused("another program", Command::new("/bin/true").spawn());
            refused("removing a file", fs::remove_file(&secret));
            refused("a new name", fs::rename(&secret, folder.path().join("new")));
            let parent = rustix::process::getppid().unwrap();
            refused(
                "a signal",
                rustix::process::kill_process(parent, rustix::process::Signal::CONT).map_err(Error::from),
            );
        }
        let mut large = Vec::<u8>::new();
        let reserved = large.try_reserve_exact(4 * usize::try_from(MEMORY).unwrap());
        // The compiler leaves out memory that nobody uses.
        std::hint::black_box(&mut large);
        assert!(reserved.is_err(), "memory has no bound");
        assert_eq!(thread::spawn(|| 7).join().unwrap(), 7, "threads are what libraries compute with");

        fuzzing::close_files().unwrap();
        if confinement.seccomp {
            refused("reading the model again", fs::read(&model));
            refused("reading on another thread", thread::spawn(move || fs::read(&model)).join().unwrap());
        }
    };
    thread::spawn(shut_in).join().unwrap();
}
