//! Polls a connection again at once when it has woken itself.
//!
//! A request's body travels to its handler within the connection's own task, which wakes itself for that. The runtime takes
//! such a wake as a wish to let others go first: it puts the task at the end of its queue and calls another thread for help,
//! which costs more than a small request does.

use futures::task::AtomicWaker;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// How often in a row, before others get their turn after all.
const LIMIT: usize = 8;

pin_project_lite::pin_project! {
    /// A future that does not go to the end of the queue for having woken itself.
    pub(super) struct Again<F> {
        #[pin]
        future: F,
        flag: Arc<Flag>,
        waker: Waker,
    }
}

/// What the inner future's wakers share.
#[derive(Default)]
struct Flag {
    /// Whether the inner future is to be polled again.
    woken: AtomicBool,
    /// The task to wake. There is none while it polls, when setting `woken` is enough.
    task: AtomicWaker,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F> Again<F> {
    pub(super) fn new(future: F) -> Self {
        let flag = Arc::new(Flag::default());
        Again { future, waker: Waker::from(Arc::clone(&flag)), flag }
    }
}

impl<F: Future> Future for Again<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        this.flag.task.take();
        for _ in 0..LIMIT {
            this.flag.woken.store(false, Ordering::Release);
            if let Poll::Ready(output) = this.future.as_mut().poll(&mut Context::from_waker(this.waker)) {
                return Poll::Ready(output);
            }
            if this.flag.woken.load(Ordering::Acquire) {
                continue;
            }
            this.flag.task.register(context.waker());
            // A wake between the look above and the line above has found no task to wake.
            if !this.flag.woken.load(Ordering::Acquire) {
                return Poll::Pending;
            }
            this.flag.task.take();
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls once a future that wakes itself `times` times. Returns whether it ended, and how often its task was woken.
    fn polled(times: usize) -> (bool, usize) {
        let mut left = times;
        let future = poll_fn(move |context| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        });
        let wakes = Arc::new(Wakes::default());
        let ended = std::pin::pin!(Again::new(future)).poll(&mut Context::from_waker(&Arc::clone(&wakes).into()));
        (ended.is_ready(), wakes.0.load(Ordering::SeqCst))
    }

    #[test]
    fn who_wakes_itself_goes_on_at_once_and_yields_in_the_end() {
        assert_eq!(polled(0), (true, 0));
        assert_eq!(polled(LIMIT - 1), (true, 0));
        assert_eq!(polled(LIMIT), (false, 1));
    }

    #[tokio::test]
    async fn who_is_woken_from_outside_is_polled() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(Again::new(receiver));
        tokio::task::yield_now().await;
        sender.send(1).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(1));
    }
}
