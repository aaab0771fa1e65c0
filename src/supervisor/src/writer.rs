//! Changes on their way to the store: put down one batch after the other, beside the task that decides.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::daemon::render;
use crate::log::tell;
use crate::store::{Change, Store};

/// Changes, and who waits for them.
type Batch = (Vec<Change>, Option<oneshot::Sender<Result<(), String>>>);

/// The way to the store.
#[derive(Debug, Clone)]
pub struct Writer {
    batches: mpsc::UnboundedSender<Batch>,
    store: Arc<Mutex<Store>>,
}

/// Takes the store. A panic ends the program, so none can leave it locked.
pub fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Begins to write; within a runtime of tokio.
    #[must_use]
    pub fn new(store: Store) -> Writer {
        let (batches, waiting) = mpsc::unbounded_channel();
        let store = Arc::new(Mutex::new(store));
        tokio::spawn(write(Arc::clone(&store), waiting));
        Writer { batches, store }
    }

    /// The store, for readers.
    #[must_use]
    pub fn store(&self) -> Arc<Mutex<Store>> {
        Arc::clone(&self.store)
    }

    /// Has changes put down; where that fails it is told, and nobody waits.
    pub fn put(&self, changes: Vec<Change>) {
        // The writer ends with the last of these.
        drop(self.batches.send((changes, None)));
    }

    /// Has changes put down, and waits until they are on disk.
    ///
    /// # Errors
    /// Why they are not: nothing was changed.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), String> {
        let (done, said) = oneshot::channel();
        drop(self.batches.send((changes, Some(done))));
        said.await.map_err(|_| "the writer has ended".to_owned())?
    }

    /// Waits until all that was put is on disk, or was told not to be.
    pub async fn flush(&self) {
        if let Err(error) = self.commit(Vec::new()).await {
            tell(&format!("error: {error}"));
        }
    }
}

async fn write(store: Arc<Mutex<Store>>, mut waiting: mpsc::UnboundedReceiver<Batch>) {
    let mut batches = Vec::new();
    // Whether the last write has failed: the same is not told again and again.
    let mut failed = false;
    while waiting.recv_many(&mut batches, 1000).await > 0 {
        let mut changes = Vec::new();
        let mut waiters = Vec::new();
        for (more, waiter) in batches.drain(..) {
            changes.extend(more);
            waiters.extend(waiter);
        }
        let store = Arc::clone(&store);
        let done = tokio::task::spawn_blocking(move || lock(&store).commit(&changes).map_err(|error| render(&error)));
        let done = done.await.unwrap_or_else(|error| Err(error.to_string()));
        if let Err(error) = &done
            && !failed
        {
            tell(&format!("error: what happens is not kept: {error}"));
        }
        failed = done.is_err();
        // Who has gone needs no answer.
        waiters.into_iter().for_each(|waiter| drop(waiter.send(done.clone())));
    }
}
