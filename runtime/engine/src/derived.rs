//! Files that this host made from verified ones: compiled modules (`compiled/`) and optimized models (`optimized/`), of which each
//! may be a folder of files.
//!
//! Whoever can change them changes what runs here, yet no publisher signed them. So each has beside it a keyed hash whose key
//! only this host has (`keys/host.key`); one whose hash does not fit is treated as missing, and made again.

use crate::error::{Error, chain};
use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};
use tempfile::NamedTempFile;
use torpor_bundle::Stamp;

/// How the names of half-written files end.
const TEMPORARY: &str = ".tmp";

/// How the names of keyed hashes end.
const TAG: &str = ".tag";

/// The key of this host.
pub(crate) type HostKey = [u8; blake3::KEY_LEN];

/// One folder of derived files. Lives as long as the engine.
pub(crate) struct Derived {
    folder: PathBuf,
    key: HostKey,
    /// How each looked when its hash was last found right, so that a wake does not read it only to hash it.
    seen: Mutex<HashMap<String, Looks>>,
    /// Whether the folder could not be written when that was last tried, so that this is said once and not at every wake.
    failing: AtomicBool,
}

/// The files of which one derived thing consists, by their names in its folder, and how they look. A file has one, without a name.
pub(crate) type Looks = Vec<(OsString, Stamp)>;

impl Derived {
    /// Opens the folder, and clears away what a crash left half-written. A folder that cannot be had is one in which nothing is
    /// found and nothing can be made, and whoever wants something from it does without.
    pub(crate) fn open(folder: PathBuf, key: HostKey) -> Self {
        let derived = Derived { folder, key, seen: Mutex::default(), failing: AtomicBool::new(false) };
        let folder = &derived.folder;
        let entries = fs::create_dir_all(folder).and_then(|()| fs::read_dir(folder)).map_err(io_at("open", folder));
        let entries = entries.inspect_err(|error| derived.failed(error));
        for entry in entries.into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().ends_with(TEMPORARY.as_bytes()) {
                // A leftover that cannot be removed is in nobody's way.
                let _ = remove(&entry.path());
            }
        }
        derived
    }

    /// Tells the operator that something could not be kept here, once until something can.
    pub(crate) fn failed(&self, error: &Error) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                folder = %self.folder.display(),
                error = chain(error),
                "what is made here cannot be kept, so wakes take longer; make room, or make the folder writable"
            );
        }
    }

    /// Whether the last attempt to make something here failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// What is called `name`, if it is there and this host made it. Reads it only when it looks different than before.
    pub(crate) fn authentic(&self, name: &str) -> Option<PathBuf> {
        self.authentic_looks(name).map(|_| self.folder.join(name))
    }

    /// How that looks, under the same conditions.
    pub(crate) fn authentic_looks(&self, name: &str) -> Option<Looks> {
        let path = self.folder.join(name);
        // The looks are taken first, so that a change while it is read shows the next time.
        let looks = looks(&path).ok()?;
        if self.seen().get(name) == Some(&looks) {
            return Some(looks);
        }
        let expected: [u8; blake3::OUT_LEN] = fs::read(tag_path(&path)).ok()?.try_into().ok()?;
        // `blake3::Hash` compares in constant time.
        if self.tag(name, &path, &looks).ok()? != blake3::Hash::from_bytes(expected) {
            return None;
        }
        self.seen().insert(name.to_owned(), looks.clone());
        Some(looks)
    }

    /// Makes the file called `name`: `write` writes it under a temporary name, and a crash leaves the old one or the new one.
    pub(crate) fn make<E: From<Error>>(&self, name: &str, write: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
        let temporary = temporary(&self.folder).map_err(io_at("write", &self.folder.join(name)))?;
        write(temporary.path())?;
        self.publish(name, temporary.path())?;
        // It has another name now.
        let _ = temporary.into_temp_path().keep();
        Ok(())
    }

    /// Makes the folder called `name`: `fill` gets an empty one, in which it makes files. A crash leaves none, or the new one.
    pub(crate) fn make_folder<T, E: From<Error>>(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<T, E> {
        let temporary = tempfile::Builder::new().suffix(TEMPORARY).tempdir_in(&self.folder);
        let temporary = temporary.map_err(io_at("create", &self.folder.join(name)))?;
        let made = fill(temporary.path())?;
        self.publish(name, temporary.path())?;
        // It has another name now.
        let _ = temporary.keep();
        Ok(made)
    }

    /// Gives what was made under a temporary name, a file or a folder of files, its own one, with its keyed hash beside it.
    fn publish(&self, name: &str, temporary: &Path) -> Result<(), Error> {
        let path = self.folder.join(name);
        let steps = || -> io::Result<()> {
            let looks = looks(temporary)?;
            for (file, _) in &looks {
                File::open(part(temporary, file))?.sync_all()?;
            }
            File::open(temporary)?.sync_all()?;
            // The hash goes first: a crash between the two leaves a hash without its file, which is as good as nothing.
            write_whole(&tag_path(&path), self.tag(name, temporary, &looks)?.as_bytes())?;
            // Only a file takes the place of another in one step. Whoever has mapped the files of an old folder keeps them.
            if temporary.is_dir() || path.is_dir() {
                remove(&path)
                    .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
            }
            fs::rename(temporary, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        steps().map_err(io_at("write", &path))?;
        self.failing.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Looks>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes all, with their hashes, of whose names `keep` says no, and returns how many those were.
    pub(crate) fn collect(&self, keep: impl Fn(&str) -> bool) -> usize {
        let Ok(entries) = fs::read_dir(&self.folder) else { return 0 };
        let mut removed = 0;
        for entry in entries.flatten() {
            let name = entry.file_name();
            // What is being written is its writer's.
            let Some(name) = name.to_str().filter(|name| !name.ends_with(TEMPORARY)) else { continue };
            if !keep(name.strip_suffix(TAG).unwrap_or(name)) && remove(&entry.path()).is_ok() {
                removed += usize::from(!name.ends_with(TAG));
                self.seen().remove(name);
            }
        }
        removed
    }

    /// Notes on disk that it is used now: its keyed hash is as old as its last use.
    pub(crate) fn touch(&self, name: &str) {
        let tag = File::options().write(true).open(tag_path(&self.folder.join(name)));
        // All that depends on it is what is removed first when room is needed.
        let _ = tag.and_then(|tag| tag.set_modified(now()));
    }

    /// Removes those that were not used for longest, with their hashes, until all together have no more than `limit` bytes, and
    /// returns their names. `used` tells when one was last used, where that is better known than on disk. `newest` stays.
    pub(crate) fn shrink(
        &self,
        limit: u64,
        newest: Option<&str>,
        used: impl Fn(&str) -> Option<SystemTime>,
    ) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let look = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            // What is being written is its writer's. What others remove meanwhile has no size.
            let counts = !name.ends_with(TEMPORARY) && !name.ends_with(TAG);
            let size = counts.then(|| size(&entry.path()).ok()).flatten()?;
            // One without a hash is of no use.
            let on_disk = || tag_path(&entry.path()).metadata().and_then(|tag| tag.modified());
            let last = used(&name).or_else(|| on_disk().ok()).unwrap_or(SystemTime::UNIX_EPOCH);
            Some((last, name, size))
        };
        let mut all: Vec<_> = entries.flatten().filter_map(look).collect();
        all.sort();
        let mut total = all.iter().fold(0, |sum: u64, (_, _, size)| sum.saturating_add(*size));
        let mut removed = Vec::new();
        for (_, name, size) in all {
            if total <= limit {
                break;
            }
            let path = self.folder.join(&name);
            // Whoever has mapped its files keeps them.
            if newest != Some(&*name) && remove(&path).is_ok() {
                let _ = remove(&tag_path(&path));
                self.seen().remove(&name);
                total -= size;
                removed.push(name);
            }
        }
        removed
    }

    /// The hash covers the name too, so that one cannot stand in for another, and the names and lengths of the files in a folder.
    fn tag(&self, name: &str, path: &Path, looks: &Looks) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&name.len().to_le_bytes()).update(name.as_bytes());
        for (file, _) in looks {
            if file.is_empty() {
                hasher.update_reader(File::open(path)?)?;
                continue;
            }
            let content = File::open(part(path, file))?;
            let file = file.as_encoded_bytes();
            hasher.update(&file.len().to_le_bytes()).update(file).update(&content.metadata()?.len().to_le_bytes());
            hasher.update_reader(content)?;
        }
        Ok(hasher.finalize())
    }
}

/// How a file, or each file in a folder, looks.
pub(crate) fn looks(path: &Path) -> io::Result<Looks> {
    let metadata = path.metadata()?;
    if !metadata.is_dir() {
        return Ok(vec![(OsString::new(), Stamp::of(&metadata))]);
    }
    let mut looks = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        looks.push((entry.file_name(), Stamp::of(&entry.path().metadata()?)));
    }
    looks.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(looks)
}

/// The file of that name in a folder. What is a file itself has one, without a name.
fn part(path: &Path, file: &OsStr) -> PathBuf {
    if file.is_empty() { path.to_owned() } else { path.join(file) }
}

/// Bytes of a file, or of all files in a folder.
pub(crate) fn size(path: &Path) -> io::Result<u64> {
    let metadata = path.metadata()?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.try_fold(0, |sum: u64, entry| Ok(sum.saturating_add(entry?.path().metadata()?.len())))
}

/// Removes a file, or a folder with all in it.
fn remove(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn tag_path(path: &Path) -> PathBuf {
    path.with_added_extension(&TAG[1..])
}

/// A file beside those of `folder`, which goes away unless it is persisted. Only this user can read it.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().suffix(TEMPORARY).tempfile_in(folder)
}

/// Gives a written file its name, such that a crash leaves the old one or the new one.
fn persist(temporary: NamedTempFile, path: &Path) -> io::Result<()> {
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// The time on the wall, in which the ages of files are told. A wrong clock makes the wrong form go first, and no more than that.
#[expect(clippy::disallowed_methods, reason = "another process of this host may have written the file")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Says what was tried with `path`, for `map_err`.
pub(crate) fn io_at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { action, path: path.to_owned(), source }
}

/// Writes a file that only this user can read, such that a crash leaves the old one or the new one.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = temporary(path.parent().unwrap_or(Path::new(".")))?;
    temporary.write_all(content)?;
    persist(temporary, path)
}

/// Reads the host's key from `folder`, and makes one where there is none.
pub(crate) fn host_key(folder: &Path) -> Result<HostKey, Error> {
    fs::create_dir_all(folder).map_err(io_at("create", folder))?;
    let path = folder.join("host.key");
    match fs::read(&path) {
        Ok(key) => {
            if let Ok(key) = HostKey::try_from(key) {
                return Ok(key);
            }
            // Nothing is lost with the key but derived files, which are made again.
            tracing::warn!(path = %path.display(), "the host's key is damaged, and a new one is made");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::Io { action: "read", path, source }),
    }
    let mut key = HostKey::default();
    let random = Path::new("/dev/urandom");
    File::open(random).and_then(|mut file| file.read_exact(&mut key)).map_err(io_at("read", random))?;
    write_whole(&path, &key).map_err(io_at("write", &path))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn store(folder: &Path) -> Derived {
        Derived::open(folder.join("derived"), host_key(&folder.join("keys")).unwrap())
    }

    fn make(store: &Derived, name: &str, content: &[u8]) {
        store.make::<Error>(name, |path| fs::write(path, content).map_err(io_at("write", path))).unwrap();
    }

    #[test]
    fn only_what_this_host_made_is_authentic() {
        let folder = tempfile::tempdir().unwrap();
        make(&store(folder.path()), "a", b"code");
        let again = store(folder.path());
        let path = again.authentic("a").expect("another process of the same host finds it");
        assert_eq!(fs::read(&path).unwrap(), b"code");
        assert_eq!(again.authentic("b"), None);

        fs::write(&path, b"c0de").unwrap();
        assert_eq!(again.authentic("a"), None, "a file that changed is noticed, though it was authentic before");
        make(&again, "a", b"code");
        assert!(again.authentic("a").is_some(), "and can be made again");

        fs::copy(&path, path.with_file_name("b")).unwrap();
        fs::copy(tag_path(&path), tag_path(&path.with_file_name("b"))).unwrap();
        assert_eq!(again.authentic("b"), None, "one file cannot stand in for another");

        make(&again, "c", b"code");
        assert_eq!(again.collect(|name| name == "a"), 2, "`b` and `c` go, each with its hash");
        assert!(again.authentic("a").is_some() && again.authentic("c").is_none());
        assert_eq!(fs::read_dir(folder.path().join("derived")).unwrap().count(), 2);

        fs::write(folder.path().join("keys/host.key"), b"short").unwrap();
        assert_eq!(store(folder.path()).authentic("a"), None, "a host with another key did not make it");
    }

    /// Every byte and every length of the file and of its hash. Each look is that of a new process, which remembers none before.
    #[test]
    fn no_changed_or_cut_file_is_authentic() {
        let folder = tempfile::tempdir().unwrap();
        make(&store(folder.path()), "a", b"compiled code");
        let file = store(folder.path()).authentic("a").unwrap();
        for path in [tag_path(&file), file] {
            let good = fs::read(&path).unwrap();
            let flipped = (0..good.len()).map(|at| {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                bad
            });
            let cut = (0..good.len()).map(|length| good[..length].to_vec());
            for bad in flipped.chain(cut).chain([[&good[..], &[0]].concat()]) {
                fs::write(&path, &bad).unwrap();
                assert_eq!(store(folder.path()).authentic("a"), None, "{bad:?} in `{}`", path.display());
            }
            fs::remove_file(&path).unwrap();
            assert_eq!(store(folder.path()).authentic("a"), None, "without `{}`", path.display());
            fs::write(&path, &good).unwrap();
            assert!(store(folder.path()).authentic("a").is_some());
        }
    }

    #[test]
    fn two_files_cannot_change_places() {
        let folder = tempfile::tempdir().unwrap();
        make(&store(folder.path()), "a", b"the code of a");
        make(&store(folder.path()), "b", b"the code of b");
        let path = |name| store(folder.path()).authentic(name).unwrap();
        let (a, b) = (path("a"), path("b"));
        for (a, b) in [(tag_path(&a), tag_path(&b)), (a, b)] {
            let away = folder.path().join("away");
            fs::rename(&a, &away).and_then(|()| fs::rename(&b, &a)).and_then(|()| fs::rename(&away, &b)).unwrap();
            assert_eq!((store(folder.path()).authentic("a"), store(folder.path()).authentic("b")), (None, None));
        }
    }

    #[test]
    fn what_was_made_with_another_key_is_not_authentic() {
        let folder = tempfile::tempdir().unwrap();
        make(&store(folder.path()), "a", b"code");
        let key = folder.path().join("keys/host.key");
        let good = fs::read(&key).unwrap();
        let mut other = good.clone();
        other[31] ^= 1;
        fs::write(&key, &other).unwrap();
        assert_eq!(store(folder.path()).authentic("a"), None);
        fs::write(&key, &good).unwrap();
        assert!(store(folder.path()).authentic("a").is_some());
        // One that is gone or of another length is made anew, and is another.
        for bad in [None, Some(&good[..31]), Some(&[good[0]; 33][..])] {
            fs::remove_file(&key).unwrap();
            if let Some(bad) = bad {
                fs::write(&key, bad).unwrap();
            }
            assert_eq!(store(folder.path()).authentic("a"), None);
            assert_eq!(fs::read(&key).unwrap().len(), good.len());
        }
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions());
            assert_eq!(mode & 0o077, 0, "others may read the key");
        }
    }

    #[test]
    fn a_failed_attempt_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let failed = store.make("a", |path| {
            fs::write(path, b"half").unwrap();
            Err(Error::Engine("out of luck".into()))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(folder.path().join("derived")).unwrap().count(), 0);
    }

    fn make_folder(store: &Derived, name: &str, files: &[(&str, &[u8])]) {
        let fill = |folder: &Path| {
            files
                .iter()
                .try_for_each(|(file, content)| fs::write(folder.join(file), content).map_err(io_at("write", folder)))
        };
        store.make_folder::<_, Error>(name, fill).unwrap();
    }

    #[test]
    fn a_folder_is_authentic_with_all_its_files_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 2] = [("graph", b"a graph"), ("weights", b"weights")];
        make_folder(&store(folder.path()), "a", &files);
        let authentic = || store(folder.path()).authentic("a");
        let path = authentic().expect("another process of the same host finds it");

        type Damage = fn(&Path) -> io::Result<()>;
        let damages: [Damage; 5] = [
            |path| fs::write(path.join("weights"), b"weightz"),
            |path| fs::remove_file(path.join("weights")),
            |path| fs::write(path.join("more"), b""),
            |path| fs::rename(path.join("graph"), path.join("graf")),
            // What one file loses at its end the next one gets.
            |path| fs::write(path.join("graph"), b"a grap").and_then(|()| fs::write(path.join("weights"), b"hweights")),
        ];
        for (index, damage) in damages.iter().enumerate() {
            damage(&path).unwrap();
            assert_eq!(authentic(), None, "damage {index}");
            make_folder(&store(folder.path()), "a", &files);
            assert!(authentic().is_some(), "it is made again over what was there");
        }
        let kept = store(folder.path());
        assert_eq!(kept.collect(|_| false), 1);
        assert_eq!(fs::read_dir(folder.path().join("derived")).unwrap().count(), 0);
    }

    #[test]
    fn the_least_recently_used_go_until_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        for (age, name) in ["c", "a", "b", "d"].into_iter().enumerate() {
            make_folder(&store, name, &[("graph", &[0; 40]), ("weights", &[0; 60])]);
            let tag = File::options().write(true).open(tag_path(&store.folder.join(name))).unwrap();
            tag.set_modified(now() - Duration::from_secs(3600 * (10 - age as u64))).unwrap();
        }
        let nobody_knows = |_: &str| None;
        assert_eq!(store.shrink(400, None, nobody_knows), [""; 0], "they fit");
        assert_eq!(store.shrink(399, None, nobody_knows), ["c"], "the one whose hash is oldest");
        assert!(store.authentic("c").is_none() && !tag_path(&store.folder.join("c")).exists());
        // `a` was used since, and the process knows; `b` was, and the disk knows.
        store.touch("b");
        let known = |name: &str| (name == "a").then(now);
        assert_eq!(store.shrink(299, None, known), ["d"]);
        assert_eq!(store.shrink(50, Some("b"), nobody_knows), ["a"], "the newest stays, whatever its size");
        assert!(store.authentic("b").is_some());
    }

    #[test]
    fn a_folder_that_cannot_be_had_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("derived"), b"in the way").unwrap();
        let store = store(folder.path());
        let made = store.make::<Error>("a", |path| fs::write(path, b"code").map_err(io_at("write", path)));
        assert!(made.is_err() && store.authentic("a").is_none());
        assert_eq!((store.collect(|_| false), store.shrink(0, None, |_| None).len()), (0, 0));
        // Once it is out of the way all is well.
        fs::remove_file(folder.path().join("derived")).unwrap();
        fs::create_dir(folder.path().join("derived")).unwrap();
        make(&store, "a", b"code");
        assert!(store.authentic("a").is_some());
    }
}
