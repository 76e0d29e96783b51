//! The tar of a bundle: one canonical way to write it, and a reader that refuses every other way.
//!
//! Tar leaves freedoms (order, times, owners, padding, trailing bytes), and each would be a place where a file could be changed
//! unseen. So the reader writes every header anew and compares. What the entries mean is the business of `layout`.

use crate::{
    Digest, Error, Progress,
    digest::{self, CopyError, Piece},
    error::io_at,
    progress::Counted,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// The unit of tar.
const BLOCK: u64 = 512;

/// A block of nothing.
const ZEROS: [u8; 512] = [0; 512];

/// What a tar ends with.
const END: [u8; 1024] = [0; 1024];

/// More entries than any bundle has; keeps a hostile file from filling memory.
const MAX_ENTRIES: usize = 1024;

/// The longest index, manifest, config or envelope, in bytes. These are the parts that are held in memory.
pub(crate) const MAX_DOCUMENT: u64 = 1 << 20;

const BLOBS: &str = "blobs/sha256/";
const INDEX: &str = "index.json";
const MARKER: &str = "oci-layout";
const MARKER_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Where the content of a blob to write comes from.
pub(crate) enum Content<'a> {
    /// It is in memory.
    Bytes(Vec<u8>),
    /// A file of this size, which must still have the digest that it had when it was hashed.
    File(PathBuf, u64),
    /// The blob of that digest and this size of another archive.
    Archive(&'a Archive, u64),
}

/// Writes a whole archive such that a crash leaves the old file or the new one.
pub(crate) fn write(
    path: &Path,
    blobs: &BTreeMap<Digest, Content<'_>>,
    index: &[u8],
    progress: &dyn Progress,
) -> Result<(), Error> {
    let folder = folder_of(path);
    let temporary = new_file(folder).map_err(io_at("create a file in", folder))?;
    let mut out = BufWriter::new(temporary.as_file());
    for (digest, content) in blobs {
        blob(&mut out, path, *digest, content, progress)?;
    }
    let mut end = || -> io::Result<()> {
        entry(&mut out, INDEX, index)?;
        entry(&mut out, MARKER, MARKER_CONTENT)?;
        out.write_all(&END)?;
        out.flush()
    };
    end().map_err(io_at("write", path))?;
    drop(out);
    let keep = || -> io::Result<()> {
        temporary.as_file().sync_all()?;
        temporary.persist(path)?;
        File::open(folder)?.sync_all()
    };
    keep().map_err(io_at("write", path))
}

fn blob(
    out: &mut impl Write,
    path: &Path,
    digest: Digest,
    content: &Content<'_>,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let name = format!("{BLOBS}{}", digest.hex());
    let size = match content {
        Content::Bytes(bytes) => return entry(out, &name, bytes).map_err(io_at("write", path)),
        Content::File(_, size) | Content::Archive(_, size) => *size,
    };
    let piece = Piece { digest, size };
    out.write_all(header(&name, size).as_bytes()).map_err(io_at("write", path))?;
    match content {
        Content::File(source, _) => {
            let file = File::open(source).map_err(io_at("read", source))?;
            // One byte more than expected is enough to see that the file has grown.
            let copied =
                digest::copy(file.take(size.saturating_add(1)), Counted(&mut *out, progress)).map_err(|error| {
                    match error {
                        CopyError::Read(error) => io_at("read", source)(error),
                        CopyError::Write(error) => io_at("write", path)(error),
                    }
                })?;
            if copied != piece {
                let why = "the file changed while it was packed".to_owned();
                let help = "pack again when nothing writes to it".to_owned();
                return Err(Error::Pack { path: source.clone(), why, help });
            }
        }
        Content::Archive(archive, _) => archive.copy(piece, Counted(&mut *out, progress), path)?,
        Content::Bytes(_) => {}
    }
    out.write_all(padding(size)).map_err(io_at("write", path))
}

fn entry(out: &mut impl Write, name: &str, content: &[u8]) -> io::Result<()> {
    let size = content.len() as u64;
    out.write_all(header(name, size).as_bytes())?;
    out.write_all(content)?;
    out.write_all(padding(size))
}

/// The zeros that follow content of this size.
fn padding(size: u64) -> &'static [u8] {
    let over = usize::try_from(size % BLOCK).unwrap_or_default();
    if over == 0 { &[] } else { &ZEROS[over..] }
}

/// The one header that an entry may have. `name` is one of ours, so it fits into the 100 bytes that tar has for it.
pub(crate) fn header(name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    for (to, from) in header.as_old_mut().name.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

/// Why a header is not that of an entry of a bundle, for people; `None` if it is.
fn flaw(found: &tar::Header, name: &str, size: u64) -> Option<&'static str> {
    if header(name, size).as_bytes() == found.as_bytes() && !leads_out(name) {
        return None;
    }
    let mut summed = found.clone();
    summed.set_cksum();
    let kind = found.entry_type();
    Some(match () {
        () if found.as_ustar().is_none() && found.as_gnu().is_none() => "has no header of a tar",
        () if found.cksum().ok() != summed.cksum().ok() => "has a damaged header",
        () if kind.is_symlink() => "is a symbolic link",
        () if kind.is_hard_link() => "is a hard link",
        () if kind.is_dir() => "is a folder",
        () if kind.is_gnu_sparse() => "is a sparse file",
        () if !kind.is_file() => "is neither a file nor a folder",
        () if name.starts_with('/') => "has an absolute path",
        () if leads_out(name) => "has a path that leads out of the bundle",
        () => "has a header that is not in canonical form",
    })
}

/// Whether a path names something outside of the folder that it is relative to.
fn leads_out(name: &str) -> bool {
    name.starts_with('/') || name.split('/').any(|part| part == "..")
}

/// The folder that `path` is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary file with the permissions of an ordinary new file; a bundle is no secret.
fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // Its error has the name of the temporary file in it, which nobody gave and which differs each time.
    builder.prefix(".torpor-").tempfile_in(folder).map_err(|error| error.kind().into())
}

/// A bundle whose outer form is right: a file with canonical headers, padding and end, or what the content store kept of one.
/// The content of its blobs is checked when it is read.
pub(crate) struct Archive {
    path: PathBuf,
    source: Source,
    /// The content of `index.json`.
    pub(crate) index: Vec<u8>,
}

/// Where the blobs of a bundle are.
enum Source {
    /// In the bundle's file.
    File { file: File, blobs: BTreeMap<Digest, Span> },
    /// In the content store, each in a file beside the one that `path` names.
    Store,
}

/// Where some content stands in a file.
#[derive(Debug, Clone, Copy)]
struct Span {
    offset: u64,
    size: u64,
}

impl Archive {
    /// Opens the file and reads its headers.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(io_at("read", path))?;
        if !metadata.is_file() {
            return Err(Error::Damaged { path: path.to_owned(), why: "it is no file".to_owned() });
        }
        let file = File::open(path).map_err(io_at("read", path))?;
        // Of what was opened, which may be another file by now.
        let length = file.metadata().map_err(io_at("read", path))?.len();
        let mut archive = Archive { path: path.to_owned(), source: Source::Store, index: Vec::new() };
        let (mut index, mut marker, mut blobs) = (None, None, BTreeMap::new());
        let mut last = String::new();
        let mut offset = 0;
        while let Some((name, span)) = archive.next(&file, length, offset)? {
            let twice = match name.strip_prefix(BLOBS).map(Digest::from_hex) {
                Some(Some(digest)) => blobs.insert(digest, span),
                None if name == INDEX => index.replace(span),
                None if name == MARKER => marker.replace(span),
                _ => return Err(archive.damaged(format!("the entry at byte {offset} is none that a bundle has"))),
            };
            if twice.is_some() {
                return Err(archive.damaged(format!("`{name}` is in it twice")));
            }
            if name <= last {
                return Err(archive.damaged("its entries are not in order"));
            }
            if blobs.len() > MAX_ENTRIES {
                return Err(archive.damaged(format!("it has more than {MAX_ENTRIES} entries")));
            }
            (last, offset) = (name, span.offset + span.size + padding(span.size).len() as u64);
        }
        archive.check_end(&file, length, offset)?;
        let (Some(index), Some(marker)) = (index, marker) else {
            return Err(archive.damaged(format!("`{INDEX}` or `{MARKER}` is missing")));
        };
        if archive.document(MARKER, &file, marker)? != MARKER_CONTENT {
            return Err(archive.damaged(format!("`{MARKER}` does not hold what it should")));
        }
        archive.index = archive.document(INDEX, &file, index)?;
        archive.source = Source::File { file, blobs };
        Ok(archive)
    }

    /// What the content store in `folder` kept of a bundle whose `index.json` has the digest `index`.
    pub(crate) fn stored(folder: &Path, index: Digest) -> Result<Self, Error> {
        let path = folder.join(index.hex());
        let size = fs::metadata(&path).map_err(io_at("read", &path))?.len();
        let mut archive = Archive { path, source: Source::Store, index: Vec::new() };
        archive.index = archive.read(Piece { digest: index, size })?;
        Ok(archive)
    }

    /// Whether its blobs are in the content store already.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self.source, Source::Store)
    }

    /// The file's path, as it was given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a file holds these blobs and no others. A store holds those of other bundles too, which nothing here refers to.
    pub(crate) fn holds_only(&self, digests: &BTreeSet<Digest>) -> bool {
        match &self.source {
            Source::File { blobs, .. } => blobs.keys().eq(digests),
            Source::Store => true,
        }
    }

    /// A whole document, which must be what `piece` says.
    pub(crate) fn read(&self, piece: Piece) -> Result<Vec<u8>, Error> {
        let (file, span) = self.find(piece)?;
        let content = self.document(&piece.digest.to_string(), &file, span)?;
        self.agree(piece, Piece::of(&content))?;
        Ok(content)
    }

    /// Checks that a blob of this length is there, without reading it.
    pub(crate) fn has(&self, piece: Piece) -> Result<(), Error> {
        self.find(piece).map(drop)
    }

    /// Copies a blob of any length to `out`, and fails afterwards where it was not what `piece` says. `target` is for messages.
    pub(crate) fn copy(&self, piece: Piece, out: impl Write, target: &Path) -> Result<(), Error> {
        let (mut file, span) = self.find(piece)?;
        file.seek(SeekFrom::Start(span.offset)).map_err(io_at("read", &self.path))?;
        let copied = digest::copy(file.take(span.size), out).map_err(|error| match error {
            CopyError::Read(error) => io_at("read", &self.path)(error),
            CopyError::Write(error) => io_at("write", target)(error),
        })?;
        self.agree(piece, copied)
    }

    /// Checks that a blob is what `piece` says.
    pub(crate) fn check(&self, piece: Piece, progress: &dyn Progress) -> Result<(), Error> {
        self.copy(piece, Counted(io::sink(), progress), &self.path)
    }

    /// The error for a file that is not as it was packed.
    pub(crate) fn damaged(&self, why: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), why: why.into() }
    }

    /// The name and place of the entry whose header is at `offset` of a file of this length; `None` at the end.
    fn next(&self, file: &File, length: u64, offset: u64) -> Result<Option<(String, Span)>, Error> {
        let mut block = ZEROS;
        self.fill(file, offset, &mut block)?;
        if block == ZEROS {
            return Ok(None);
        }
        let read = tar::Header::from_byte_slice(&block);
        let name = std::str::from_utf8(&read.path_bytes()).unwrap_or_default().to_owned();
        let size = read.entry_size().unwrap_or_default();
        if let Some(flaw) = flaw(read, &name, size) {
            return Err(self.damaged(format!("the entry at byte {offset} {flaw}")));
        }
        let start = offset + BLOCK;
        let Some(end) = start.checked_add(size).filter(|end| *end <= length) else {
            return Err(self.damaged(format!("the entry at byte {offset} says that it is longer than the whole file")));
        };
        let expected = padding(size);
        let mut found = ZEROS;
        let found = &mut found[..expected.len()];
        self.fill(file, end, found)?;
        if found != expected {
            return Err(self.damaged("it has bytes between its entries"));
        }
        Ok(Some((name, Span { offset: start, size })))
    }

    /// The end is two blocks of zeros, and then nothing.
    fn check_end(&self, file: &File, length: u64, offset: u64) -> Result<(), Error> {
        let mut end = END;
        self.fill(file, offset, &mut end)?;
        if end != END || length != offset + END.len() as u64 {
            return Err(self.damaged("it has bytes after its end"));
        }
        Ok(())
    }

    fn document(&self, name: &str, file: &File, span: Span) -> Result<Vec<u8>, Error> {
        if span.size > MAX_DOCUMENT {
            return Err(self.damaged(format!("the document `{name}` is longer than {MAX_DOCUMENT} bytes")));
        }
        let mut content = vec![0; usize::try_from(span.size).unwrap_or_default()];
        self.fill(file, span.offset, &mut content)?;
        Ok(content)
    }

    /// The file that a blob is in, and where. A missing blob, or one of another length, is refused.
    fn find(&self, piece: Piece) -> Result<(File, Span), Error> {
        let missing = || self.damaged(format!("blob `{}` is missing", piece.digest));
        let (file, span) = match &self.source {
            Source::File { file, blobs } => {
                let span = *blobs.get(&piece.digest).ok_or_else(missing)?;
                (file.try_clone().map_err(io_at("read", &self.path))?, span)
            }
            Source::Store => {
                let path = self.path.with_file_name(piece.digest.hex());
                let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
                let (size, file) = opened.map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => missing(),
                    _ => io_at("read", path)(error),
                })?;
                (file, Span { offset: 0, size })
            }
        };
        if span.size != piece.size {
            return Err(self.damaged(format!("blob `{}` has another length than it should have", piece.digest)));
        }
        Ok((file, span))
    }

    fn agree(&self, expected: Piece, found: Piece) -> Result<(), Error> {
        if found != expected {
            return Err(self.damaged(format!("the content of blob `{}` has changed", expected.digest)));
        }
        Ok(())
    }

    fn fill(&self, mut file: &File, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(buffer)).map_err(|error| match error.kind() {
            // An offset beyond what the system can seek to is one that no file has.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => self.damaged("it is cut short"),
            _ => io_at("read", &self.path)(error),
        })
    }
}
