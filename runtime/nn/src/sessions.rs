//! Models that are open, for whoever opens the same one again: functions and revisions with one model share its session, its threads
//! and its line.

use crate::Model;
use std::{
    collections::HashMap,
    hash::Hash,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::OnceCell;

/// All open models that can be shared, by what they are and how they are opened. Keeps none of them open.
pub struct Sessions<K>(Mutex<HashMap<K, Weak<Entry>>>);

/// An open model, for one who uses it. It is closed with the last of these, or better with [`SharedModel::close`] of the last.
#[derive(Clone)]
pub struct SharedModel {
    entry: Arc<Entry>,
}

/// An open model, and what it takes.
struct Entry {
    open: OnceCell<(Model, Option<u64>)>,
}

impl<K> Default for Sessions<K> {
    fn default() -> Self {
        Sessions(Mutex::default())
    }
}

impl<K: Eq + Hash> Sessions<K> {
    /// The model under `key` if it is open and runs, and else what `open` opens, with the memory that it took. Several who ask at the same time
    /// wait for one of them, and for the next one's try if that one gives up or fails.
    ///
    /// # Errors
    /// What `open` says.
    pub async fn get<E>(
        &self,
        key: K,
        open: impl Future<Output = Result<(Model, Option<u64>), E>>,
    ) -> Result<SharedModel, E> {
        let entry = {
            let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.retain(|_, entry| entry.strong_count() > 0);
            let known = sessions.get(&key).and_then(Weak::upgrade).filter(|entry| !entry.has_ended());
            known.unwrap_or_else(|| {
                let entry = Arc::new(Entry { open: OnceCell::new() });
                sessions.insert(key, Arc::downgrade(&entry));
                entry
            })
        };
        entry.open.get_or_try_init(|| open).await?;
        Ok(SharedModel { entry })
    }
}

impl Entry {
    /// Whether it was open, and runs no more.
    fn has_ended(&self) -> bool {
        self.open.get().is_some_and(|(model, _)| model.ended().is_some())
    }
}

impl SharedModel {
    /// A model that nobody else opens, with the memory that it took.
    pub fn alone(model: Model, memory: Option<u64>) -> Self {
        SharedModel { entry: Arc::new(Entry { open: OnceCell::new_with(Some((model, memory))) }) }
    }

    /// What the process grew by when it was opened, where that is known.
    pub fn memory(&self) -> Option<u64> {
        self.entry.open.get().and_then(|(_, memory)| *memory)
    }

    /// Closes the model if nobody else uses it. Blocks until that is done, which includes a run that is under way.
    pub fn close(self) {
        if let Some((model, _)) = Arc::into_inner(self.entry).and_then(|entry| entry.open.into_inner()) {
            model.close();
        }
    }
}

impl Deref for SharedModel {
    type Target = Model;

    fn deref(&self) -> &Model {
        let (model, _) = self.entry.open.get().expect("whoever has one has opened it");
        model
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Error, ModelFiles, ModelFormat, OpenOptions,
        fake::{FakeBackend, FakeModel},
    };

    async fn open(model: FakeModel) -> Result<(Model, Option<u64>), Error> {
        let backend = Arc::new(FakeBackend::new(model));
        let files = ModelFiles::one(ModelFormat::Onnx, "fake");
        Ok((Model::open(backend, files, OpenOptions::default(), None, None).await?, Some(7)))
    }

    async fn close(model: SharedModel) {
        tokio::task::spawn_blocking(move || model.close()).await.unwrap();
    }

    #[tokio::test]
    async fn one_session_serves_all_who_ask_and_ends_with_the_last() {
        let sessions = Sessions::default();
        let fake = FakeModel::echo();
        let held = fake.last_thread();
        let get = async |key: &'static str| sessions.get(key, open(fake.clone())).await.unwrap();
        let (one, two) = tokio::join!(get("a"), get("a"));
        assert!(std::ptr::eq::<Model>(&*one, &*two) && one.memory() == Some(7));
        let other = get("b").await;
        assert!(!std::ptr::eq::<Model>(&*one, &*other));
        // One is here, one in the model that is copied, and one in each backend and each session.
        assert_eq!(Arc::strong_count(&held), 4);
        close(other).await;
        close(one).await;
        assert_eq!(Arc::strong_count(&held), 3);
        close(two).await;
        assert_eq!(Arc::strong_count(&held), 2);
        let again = get("a").await;
        assert_eq!(Arc::strong_count(&held), 3);
        drop(again);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let sessions = Sessions::default();
        let failed = sessions.get((), open(FakeModel::unopenable("not today"))).await;
        assert!(matches!(failed.err(), Some(Error::Open { reason, .. }) if reason == "not today"));
        assert!(sessions.get((), open(FakeModel::echo())).await.is_ok());
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_opening_to_the_next() {
        let sessions = Sessions::default();
        let never = sessions.get((), std::future::pending::<Result<_, Error>>());
        assert!(tokio::time::timeout(std::time::Duration::from_millis(5), never).await.is_err());
        assert!(sessions.get((), open(FakeModel::echo())).await.is_ok());
    }
}
