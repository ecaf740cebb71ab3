use std::{
    any::Any,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread::{Builder, JoinHandle},
};

use super::error::DataError;

/// Finished parts that wait for each worker's batch to be taken; one more is being made.
const WAITING: usize = 2;

/// What makes one part of a batch.
pub(super) trait Job: Send + Sync + 'static {
    /// What a part is.
    type Part: Send + 'static;

    /// Makes part `part` of `parts` of a batch. Where `stop` is set, nobody wants it any more.
    fn make(
        &self,
        batch: usize,
        part: usize,
        parts: usize,
        stop: &AtomicBool,
    ) -> Result<Self::Part, DataError>;
}

/// Threads that each make the same part of every batch, in order: what is made doesn't depend on which is
/// faster, the next batch is always the first to be finished, and at most `WAITING + 1` batches are held,
/// however many threads there are.
pub(super) struct Workers<J: Job> {
    job: Arc<J>,
    stop: Arc<AtomicBool>,
    threads: Vec<(Receiver<Result<J::Part, DataError>>, JoinHandle<()>)>,
}

impl<J: Job> Workers<J> {
    /// Starts threads that make these batches; without any, batches are made when they are asked for.
    pub(super) fn start(job: J, count: usize, batches: &Range<usize>) -> Result<Self, DataError> {
        let mut workers =
            Self { job: Arc::new(job), stop: Arc::default(), threads: Vec::with_capacity(count) };
        for part in 0..count {
            let (sender, receiver) = sync_channel(WAITING);
            let (job, stop, mut batches) =
                (Arc::clone(&workers.job), Arc::clone(&workers.stop), batches.clone());
            let work = move || {
                // ends as soon as nobody listens
                let _ = batches.try_for_each(|batch| sender.send(attempt(&*job, batch, part, count, &stop)));
            };
            let thread = Builder::new().name(format!("data-{part}")).spawn(work);
            workers.threads.push((receiver, thread.map_err(|source| DataError::Start { source })?));
        }
        Ok(workers)
    }

    /// Waits for the next batch: its parts, or the first error in the order of parts.
    pub(super) fn next(&self, batch: usize) -> Result<Vec<J::Part>, DataError> {
        if self.threads.is_empty() {
            return attempt(&*self.job, batch, 0, 1, &self.stop).map(|part| vec![part]);
        }
        let gone = |_| Err(DataError::Panicked { batch, message: "the thread ended".to_owned() });
        // all are received even where one failed, so that the next batch starts with its own parts
        let parts: Vec<_> =
            self.threads.iter().map(|(receiver, _)| receiver.recv().unwrap_or_else(gone)).collect();
        parts.into_iter().collect()
    }
}

impl<J: Job> Drop for Workers<J> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (receiver, thread) in self.threads.drain(..) {
            drop(receiver);
            // a panic has been delivered as an error
            let _ = thread.join();
        }
    }
}

/// Makes a part, and turns a panic into an error.
fn attempt<J: Job>(
    job: &J,
    batch: usize,
    part: usize,
    parts: usize,
    stop: &AtomicBool,
) -> Result<J::Part, DataError> {
    // a job keeps no state that a panic could leave half-changed
    catch_unwind(AssertUnwindSafe(|| job.make(batch, part, parts, stop)))
        .unwrap_or_else(|payload| Err(DataError::Panicked { batch, message: message(&*payload) }))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use super::{DataError, Job, WAITING, Workers};

    /// Numbers its parts; panics and fails where it is told to.
    struct Numbered {
        made: Arc<AtomicUsize>,
    }

    impl Job for Numbered {
        type Part = (usize, usize);

        fn make(
            &self,
            batch: usize,
            part: usize,
            parts: usize,
            _: &AtomicBool,
        ) -> Result<Self::Part, DataError> {
            self.made.fetch_add(1, Ordering::SeqCst);
            assert!(!(batch == 2 && part == parts - 1), "no batch {batch}");
            if batch == 4 {
                return Err(DataError::Options { problems: vec![format!("part {part}")] });
            }
            Ok((batch, part))
        }
    }

    #[test]
    fn panics_and_errors_belong_to_their_batch() {
        for count in [0, 1, 3] {
            let workers = Workers::start(Numbered { made: Arc::default() }, count, &(1..7)).unwrap();
            for batch in 1..7 {
                let parts = workers.next(batch).map_err(|error| error.to_string());
                let expected = match batch {
                    2 => Err("a worker panicked at batch 2: no batch 2".to_owned()),
                    4 => Err("part 0".to_owned()),
                    _ => Ok((0..count.max(1)).map(|part| (batch, part)).collect()),
                };
                assert_eq!(parts, expected, "{count} workers");
            }
        }
    }

    #[test]
    fn few_batches_are_held_and_dropping_ends_the_threads() {
        let made = Arc::new(AtomicUsize::new(0));
        let workers = Workers::start(Numbered { made: Arc::clone(&made) }, 2, &(5..1_000_000)).unwrap();
        assert_eq!(workers.next(5).unwrap(), [(5, 0), (5, 1)]);
        drop(workers);
        // each thread: the one taken, those that waited, and one whose receiver was gone
        assert!(made.load(Ordering::SeqCst) <= 2 * (1 + WAITING + 1), "{made:?}");
        assert_eq!(Arc::strong_count(&made), 1, "a thread holds its job");
    }
}
