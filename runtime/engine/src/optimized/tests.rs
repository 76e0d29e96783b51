//! On a library that is none: its form of a model is the model's own bytes, which it opens again.

use super::*;
use crate::derived::host_key;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tempfile::TempDir;
use torpor_nn::{BackendKind, Cancel, Device, Error as Failure, ModelFormat, Precision, Session};
use torpor_tensor::{NamedTensor, Signature};

/// Counts what it has optimized.
struct Library {
    kind: BackendKind,
    version: &'static str,
    tiers: &'static [Tier],
    made: AtomicUsize,
    /// What it does once it has written a form.
    meanwhile: Box<dyn Fn(&Path) + Send + Sync>,
}

impl Library {
    fn new(version: &'static str) -> Self {
        let (kind, made) = (BackendKind::Tract, AtomicUsize::new(0));
        Library { kind, version, tiers: &[Tier::Optimized], made, meanwhile: Box::new(|_| {}) }
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }
}

impl Backend for Library {
    fn kind(&self) -> BackendKind {
        self.kind
    }

    fn version(&self) -> &str {
        self.version
    }

    fn opens(&self, _format: ModelFormat) -> bool {
        true
    }

    fn open(&self, _files: &ModelFiles, _options: &OpenOptions) -> Result<Arc<dyn Session>, Failure> {
        Ok(Arc::new(Nothing(Signature { inputs: Vec::new(), outputs: Vec::new() })))
    }

    fn optimize(&self, files: &ModelFiles, _options: &OpenOptions, folder: &Path) -> Result<&'static [Tier], Failure> {
        self.made.fetch_add(1, Ordering::SeqCst);
        if !self.tiers.is_empty() {
            fs::copy(&files.model, folder.join("graph")).expect("the model is there");
        }
        (self.meanwhile)(folder);
        Ok(self.tiers)
    }
}

/// A model that takes nothing and gives nothing.
struct Nothing(Signature);

impl Session for Nothing {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn run(&self, _inputs: &[NamedTensor], _cancel: &Cancel) -> Result<Vec<NamedTensor>, Failure> {
        Ok(Vec::new())
    }
}

/// A state directory, with models of a thousand bytes each.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    /// The store as a process finds it that starts now.
    fn store(&self, limit: u64) -> Optimized {
        let key = host_key(&self.0.path().join("keys")).unwrap();
        Optimized::new(Derived::open(self.forms(), key), limit)
    }

    fn forms(&self) -> PathBuf {
        self.0.path().join("optimized")
    }

    fn model(&self, name: &str) -> (ModelFiles, Digest) {
        let path = self.0.path().join(name);
        let content = name.repeat(1000);
        fs::write(&path, &content).unwrap();
        (ModelFiles::one(ModelFormat::Onnx, path), Digest::of(content.as_bytes()))
    }

    /// The names of the forms that are on disk, whole or not.
    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.forms()).unwrap().map(|entry| entry.unwrap());
        let folders = entries.filter(|entry| entry.path().is_dir());
        folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

impl Optimized {
    fn of(&self, library: &Library, (files, digest): &(ModelFiles, Digest), occasion: Occasion) -> Option<PathBuf> {
        let found = self.get(library, files, *digest, None, &OpenOptions::default(), occasion);
        found.map(|(files, _)| files.model)
    }
}

const NO_LIMIT: u64 = u64::MAX;

#[test]
fn whatever_a_form_depends_on_is_in_its_name() {
    let place = Place::new();
    let store = place.store(NO_LIMIT);
    let [model, other] = [b"a", b"b"].map(|content| Digest::of(content));
    let (library, options) = (Library::new("1"), OpenOptions::default());
    let name = |library: &Library, options| store.name(library, model, None, &options);
    let two = std::num::NonZeroUsize::new(2).unwrap();
    let elsewhere = Optimized { processor: store.processor ^ 1, ..place.store(NO_LIMIT) };
    let names = [
        name(&library, options),
        store.name(&library, other, None, &options),
        store.name(&library, model, Some(other), &options),
        store.name(&library, model, Some(model), &options),
        name(&Library::new("2"), options),
        name(&Library { kind: BackendKind::OpenVino, ..Library::new("1") }, options),
        name(&library, OpenOptions { device: Device::Gpu, ..options }),
        name(&library, OpenOptions { precision: Precision::Bf16, ..options }),
        name(&library, OpenOptions { threads: two, ..options }),
        name(&library, OpenOptions { parallel: two, ..options }),
        elsewhere.name(&library, model, None, &options),
    ];
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "two of {names:#?} are one");
    // The tier is chosen by the plan in it.
    assert_eq!(name(&library, OpenOptions { tier: Tier::Optimized, ..options }), names[0]);
    assert_eq!(place.store(NO_LIMIT).name(&library, model, None, &options), names[0], "a restart finds it again");
}

#[test]
fn a_form_is_made_once_and_found_by_the_next_process() {
    let (place, library) = (Place::new(), Library::new("1"));
    let model = place.model("a");
    let form = place.store(NO_LIMIT).of(&library, &model, Occasion::Deploy).expect("it is made");
    assert_eq!(fs::read(form.join("graph")).unwrap(), fs::read(&model.0.model).unwrap());
    assert_eq!(place.store(NO_LIMIT).of(&library, &model, Occasion::Wake), Some(form));
    assert_eq!(library.made(), 1);
}

#[test]
fn a_form_that_is_damaged_or_gone_is_made_anew_by_the_next_wake() {
    let (place, library) = (Place::new(), Library::new("1"));
    let (store, model) = (place.store(NO_LIMIT), place.model("a"));
    let form = store.of(&library, &model, Occasion::Deploy).expect("it is made");
    let (graph, plan) = (form.join("graph"), form.join(PLAN));
    let good = fs::read(&plan).unwrap();
    let damages: [&dyn Fn(); 4] = [
        &|| fs::write(&plan, b"{}").unwrap(),
        &|| fs::remove_file(&plan).unwrap(),
        &|| fs::write(&graph, b"another graph").unwrap(),
        &|| fs::remove_dir_all(&form).unwrap(),
    ];
    for (index, damage) in damages.iter().enumerate() {
        damage();
        assert_eq!(store.of(&library, &model, Occasion::Wake), Some(form.clone()), "damage {index}");
        assert_eq!(library.made(), index + 2, "damage {index} was not noticed");
        assert_eq!(fs::read(&graph).unwrap(), fs::read(&model.0.model).unwrap());
    }
    assert_eq!(read_plan(&form), Some(Plan { first: Tier::Optimized, upgrade_after: None }));
    assert_eq!(fs::read(&plan).unwrap(), good);
}

#[test]
fn a_plan_is_read_as_it_was_written_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let plans = [(Tier::Baseline, Some(Duration::from_micros(1500))), (Tier::Optimized, None)];
    for (first, upgrade_after) in plans {
        let plan = Plan { first, upgrade_after };
        write_plan(folder.path(), plan).unwrap();
        assert_eq!(read_plan(folder.path()), Some(plan));
    }
    let wrong = [
        "",
        "{}",
        r#"{"first": "original", "upgrade_after_us": null}"#,
        r#"{"first": "fastest", "upgrade_after_us": null}"#,
        r#"{"first": "baseline", "upgrade_after_us": -1}"#,
        r#"{"first": "baseline", "upgrade_after_us": null, "more": 1}"#,
    ];
    for text in wrong {
        fs::write(folder.path().join(PLAN), text).unwrap();
        assert_eq!(read_plan(folder.path()), None, "{text}");
    }
}

#[test]
fn an_authentic_form_whose_plan_nobody_can_read_is_made_anew() {
    let (place, library) = (Place::new(), Library::new("1"));
    let (store, model) = (place.store(NO_LIMIT), place.model("a"));
    // As an older version would have left it.
    let name = store.name(&library, model.1, None, &OpenOptions::default());
    let old = |folder: &Path| fs::write(folder.join(PLAN), b"version 0").map_err(io_at("write", folder));
    store.files.make_folder::<_, Error>(&name, old).unwrap();
    assert!(store.of(&library, &model, Occasion::Wake).is_some());
    assert_eq!(library.made(), 1);
}

#[test]
fn a_library_without_forms_is_asked_once() {
    let place = Place::new();
    let library = Library { tiers: &[], ..Library::new("1") };
    let (store, model) = (place.store(NO_LIMIT), place.model("a"));
    for occasion in [Occasion::Deploy, Occasion::Wake, Occasion::Deploy] {
        assert_eq!(store.of(&library, &model, occasion), None);
    }
    assert_eq!((library.made(), place.names().len()), (1, 0));
}

#[test]
fn where_nothing_may_be_kept_nothing_is_made() {
    let (place, library) = (Place::new(), Library::new("1"));
    assert_eq!(place.store(0).of(&library, &place.model("a"), Occasion::Deploy), None);
    let too_small = place.store(500);
    for occasion in [Occasion::Deploy, Occasion::Deploy, Occasion::Wake] {
        assert_eq!(too_small.of(&library, &place.model("a"), occasion), None, "it alone has 1000 bytes");
    }
    assert_eq!((library.made(), place.names().len()), (1, 0));
}

#[test]
fn the_form_that_no_wake_used_for_longest_goes_and_no_wake_makes_it_again() {
    let (place, library) = (Place::new(), Library::new("1"));
    let models = ["a", "b", "c"].map(|name| place.model(name));
    // Two fit, with their plans, and a third does not.
    let store = place.store(2500);
    let [a, b] = [0, 1].map(|index| store.of(&library, &models[index], Occasion::Deploy).expect("it is made"));
    assert_eq!(store.of(&library, &models[1], Occasion::Wake).as_ref(), Some(&b));
    assert_eq!(store.of(&library, &models[0], Occasion::Wake).as_ref(), Some(&a));
    // A deployment is no use of it.
    assert_eq!(store.of(&library, &models[1], Occasion::Deploy).as_ref(), Some(&b));
    let c = store.of(&library, &models[2], Occasion::Deploy).expect("it is made");
    assert!(a.exists() && !b.exists() && c.exists(), "{:?}", place.names());

    assert_eq!(store.of(&library, &models[1], Occasion::Wake), None, "what went is not made while callers wait");
    assert_eq!(library.made(), 3);
    assert_eq!(store.of(&library, &models[1], Occasion::Deploy), Some(b));
    assert_eq!(store.of(&library, &models[0], Occasion::Wake), None, "and now the other one went");
    assert_eq!(place.names().len(), 2);
}

#[test]
fn a_smaller_limit_holds_from_the_start() {
    let (place, library) = (Place::new(), Library::new("1"));
    let models = ["a", "b", "c"].map(|name| place.model(name));
    let digests = models.iter().map(|(_, digest)| *digest).collect();
    let store = place.store(NO_LIMIT);
    models.iter().for_each(|model| drop(store.of(&library, model, Occasion::Deploy)));
    assert_eq!(store.collect(&digests, &Backends::default()), 0);
    assert_eq!(place.store(1500).collect(&digests, &Backends::default()), 2);
    assert_eq!(place.names().len(), 1);
}

#[test]
fn forms_of_models_and_versions_that_nobody_has_go() {
    let place = Place::new();
    let (old, new, absent) =
        (Library::new("1"), Library::new("2"), Library { kind: BackendKind::OpenVino, ..Library::new("1") });
    let (kept, gone) = (place.model("a"), place.model("b"));
    let store = place.store(NO_LIMIT);
    let of = |library| store.of(library, &kept, Occasion::Deploy).expect("it is made");
    let forms = [of(&old), of(&new), of(&absent)];
    let gone = store.of(&new, &gone, Occasion::Deploy).expect("it is made");
    let mut here = Backends::default();
    here.add(Arc::new(new));
    assert_eq!(store.collect(&HashSet::from([kept.1]), &here), 2);
    // A library that is missing may only be missing for now.
    assert_eq!(forms.map(|form| form.exists()), [false, true, true]);
    assert!(!gone.exists());
}

#[test]
fn a_form_in_the_making_is_its_makers() {
    let place = Place::new();
    let other = Arc::new(place.store(NO_LIMIT));
    let seen = Arc::new(AtomicUsize::new(0));
    let meanwhile = {
        let (other, seen) = (Arc::clone(&other), Arc::clone(&seen));
        move |folder: &Path| {
            // Whoever clears away or makes room meanwhile, of this process.
            assert_eq!(other.collect(&HashSet::new(), &Backends::default()), 0);
            assert!(other.files.shrink(0, None, |_| None).is_empty());
            seen.fetch_add(usize::from(folder.join("graph").exists()), Ordering::SeqCst);
        }
    };
    let library = Library { meanwhile: Box::new(meanwhile), ..Library::new("1") };
    assert!(other.of(&library, &place.model("a"), Occasion::Deploy).is_some());
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert_eq!(other.collect(&HashSet::new(), &Backends::default()), 1, "once it is made it is like any other");
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_counting_of_uses() {
    let (place, library) = (Place::new(), Library::new("1"));
    let (store, model) = (place.store(NO_LIMIT), place.model("a"));
    let form = store.of(&library, &model, Occasion::Deploy).expect("it is made");
    let name = form.file_name().unwrap().to_str().unwrap().to_owned();
    // As if the clock had been a year ahead when it was used last, long ago.
    let ahead = now() + Duration::from_secs(365 * 24 * 3600);
    let tag = File::options().write(true).open(form.with_added_extension("tag")).unwrap();
    tag.set_modified(ahead).unwrap();
    store.known().used.insert(name.clone(), Use { last: ahead, noted: None });
    assert!(store.of(&library, &model, Occasion::Wake).is_some());
    assert!(store.known().used[&name].last < ahead);
    assert!(tag.metadata().unwrap().modified().unwrap() < ahead, "a restart would find it in use for a year");
}
