//! Code that outlives its sleep: of the modules that were used last it stays mapped and linked, so that their next wake decodes
//! nothing. One for all functions of a module.
//!
//! It is a cache and no authority: whoever wants code looks first whether the file is what this host made, and gets what was mapped
//! from that very file or nothing.

use crate::{derived::Looks, engine::UseOfModule, warm::Code};
use lru::LruCache;
use std::{
    collections::HashSet,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use torpor_bundle::Digest;

/// Modules of which the code is kept. Decision 37 says what one costs.
const MODULES: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// Lives as long as the engine. `C` is [`Code`] but in tests.
pub(crate) struct Kept<C = Code> {
    /// Locked at wakes, never by calls. Nothing is dropped under it, since dropping code unmaps it.
    codes: Mutex<LruCache<UseOfModule, Mapped<C>>>,
}

/// Code, and how the file looked from which it was mapped.
struct Mapped<C> {
    looks: Looks,
    code: Arc<C>,
}

impl<C> Kept<C> {
    pub(crate) fn new() -> Self {
        Kept { codes: Mutex::new(LruCache::new(MODULES)) }
    }

    /// The code of a module for these triggers, if it is kept and was mapped from the file that looks like this. It is the last one
    /// to go now.
    pub(crate) fn get(&self, module: &UseOfModule, looks: &Looks) -> Option<Arc<C>> {
        let mut codes = self.codes();
        let mapped = codes.get(module).filter(|mapped| mapped.looks == *looks);
        mapped.map(|mapped| Arc::clone(&mapped.code))
    }

    /// Keeps the code of a module, in the place of what was kept of it. Where too many are kept, that which was not used for longest
    /// goes. Functions that have it hold on to it.
    pub(crate) fn put(&self, module: UseOfModule, looks: Looks, code: Arc<C>) {
        let gone = self.codes().push(module, Mapped { looks, code });
        drop(gone);
    }

    /// Keeps only code of modules that `keep` names.
    pub(crate) fn collect(&self, keep: &HashSet<Digest>) {
        let mut codes = self.codes();
        let modules = codes.iter().map(|(module, _)| *module);
        let gone: Vec<_> = modules.filter(|(digest, ..)| !keep.contains(digest)).collect();
        let gone: Vec<_> = gone.iter().filter_map(|module| codes.pop(module)).collect();
        drop(codes);
        drop(gone);
    }

    fn codes(&self) -> MutexGuard<'_, LruCache<UseOfModule, Mapped<C>>> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derived::looks;
    use std::fs;

    fn module(number: usize) -> UseOfModule {
        (Digest::of(&number.to_le_bytes()), true, false)
    }

    /// How a file looks that has so many bytes.
    fn file(bytes: usize) -> Looks {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), vec![0; bytes]).unwrap();
        looks(file.path()).unwrap()
    }

    #[test]
    fn no_more_than_a_few_are_kept_and_those_that_are_used_stay() {
        let (kept, file) = (Kept::new(), file(1));
        let codes: Vec<_> = (0..MODULES.get() * 3).map(Arc::new).collect();
        for (number, code) in codes.iter().enumerate() {
            kept.put(module(number), file.clone(), Arc::clone(code));
            assert!(kept.get(&module(0), &file).is_some(), "the one that is used went when {number} came");
        }
        let held: Vec<_> = codes.iter().filter(|code| Arc::strong_count(code) > 1).map(|code| **code).collect();
        let last = codes.len() - (MODULES.get() - 1)..codes.len();
        assert_eq!(held, std::iter::once(0).chain(last).collect::<Vec<_>>());
    }

    #[test]
    fn code_is_shared_by_those_who_found_the_same_file() {
        let (kept, before, after) = (Kept::new(), file(1), file(2));
        let code = Arc::new(1);
        kept.put(module(1), before.clone(), Arc::clone(&code));
        assert!(kept.get(&module(1), &before).is_some_and(|got| Arc::ptr_eq(&got, &code)));
        assert!(kept.get(&(module(1).0, true, true), &before).is_none(), "other triggers are linked for themselves");
        assert!(kept.get(&module(1), &after).is_none(), "the file is another one now");
        kept.put(module(1), after, Arc::new(2));
        assert_eq!(Arc::strong_count(&code), 1, "nobody gets it any more");
    }

    #[test]
    fn code_goes_with_its_module() {
        let (kept, file) = (Kept::new(), file(1));
        kept.put(module(1), file.clone(), Arc::new(1));
        kept.put(module(2), file.clone(), Arc::new(2));
        kept.collect(&HashSet::from([module(2).0]));
        assert!(kept.get(&module(1), &file).is_none() && kept.get(&module(2), &file).is_some());
    }
}
