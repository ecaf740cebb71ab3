//! Layers side by side: each on one thread, largest first, as many at once as threads and memory allow.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, PoisonError};

/// How much of the machine is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Layers at once.
    pub threads: usize,
    /// Bytes of working memory at once, without a limit if none.
    pub memory_bytes: Option<u64>,
}

impl Limits {
    /// These limits; at least one thread.
    #[must_use]
    pub fn new(threads: usize, memory_bytes: Option<u64>) -> Self {
        Self { threads: threads.max(1), memory_bytes }
    }
}

impl Default for Limits {
    /// Every core, and no limit of memory.
    fn default() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get), None)
    }
}

/// A piece of work and what it takes.
#[derive(Clone, Copy, Debug)]
pub struct Job<T> {
    /// What is to be done.
    pub item: T,
    /// Its share of the time; the largest goes first.
    pub work: u64,
    /// Bytes that it holds while it runs.
    pub memory_bytes: u64,
}

struct State<'a, T, R, E> {
    waiting: Vec<(usize, &'a Job<T>)>,
    running: usize,
    held: u64,
    done: Vec<Option<R>>,
    failed: Option<(usize, E)>,
    panicked: Option<Box<dyn Any + Send>>,
}

/// Runs every job and returns the results in the jobs' order, or the error of the first job, in that order,
/// among those that failed before all stopped.
///
/// A job that alone exceeds the memory limit runs when nothing else does.
///
/// # Determinism
///
/// Which job runs when depends on the machine; results must not, so jobs share nothing.
///
/// # Errors
///
/// - what a job returns; jobs that had not begun by then are not run.
///
/// # Panics
///
/// When a job does.
pub fn run_jobs<T: Sync, R: Send, E: Send>(
    jobs: &[Job<T>],
    limits: Limits,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let mut waiting: Vec<(usize, &Job<T>)> = jobs.iter().enumerate().collect();
    waiting.sort_by(|(i, a), (j, b)| a.work.cmp(&b.work).then(j.cmp(i))); // popped from the end
    let state = Mutex::new(State {
        waiting,
        running: 0,
        held: 0,
        done: jobs.iter().map(|_| None).collect(),
        failed: None,
        panicked: None,
    });
    let changed = Condvar::new();
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = || {
        let mut now = lock();
        loop {
            if now.failed.is_some() || now.waiting.is_empty() {
                break;
            }
            let room = |held: u64, job: &Job<T>| {
                limits.memory_bytes.is_none_or(|limit| held + job.memory_bytes <= limit)
            };
            let next = now.waiting.iter().rposition(|(_, job)| now.running == 0 || room(now.held, job));
            let Some(position) = next else {
                now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (index, job) = now.waiting.remove(position);
            now.running += 1;
            now.held += job.memory_bytes;
            drop(now);
            // A job that panics ends what waits for it too; the panic is passed on once all have ended.
            let result = catch_unwind(AssertUnwindSafe(|| work(&job.item)));
            now = lock();
            now.running -= 1;
            now.held -= job.memory_bytes;
            match result {
                Err(panic) => {
                    now.panicked.get_or_insert(panic);
                    now.waiting.clear();
                }
                Ok(Ok(value)) => now.done[index] = Some(value),
                Ok(Err(error)) => {
                    if now.failed.as_ref().is_none_or(|(first, _)| index < *first) {
                        now.failed = Some((index, error));
                    }
                }
            }
            changed.notify_all();
        }
        drop(now);
        changed.notify_all();
    };
    std::thread::scope(|scope| {
        for _ in 1..limits.threads.min(jobs.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(panic) = state.panicked {
        resume_unwind(panic);
    }
    match state.failed {
        Some((_, error)) => Err(error),
        None => Ok(state.done.into_iter().flatten().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn results_keep_their_order_and_memory_its_limit() {
        let jobs: Vec<Job<u64>> =
            (0..40).map(|i| Job { item: i, work: (i * 7) % 11, memory_bytes: 1 + i % 5 }).collect();
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let run = |i: &u64| {
            let bytes = 1 + i % 5;
            let now = held.fetch_add(bytes, Ordering::SeqCst) + bytes;
            most.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_micros(300));
            held.fetch_sub(bytes, Ordering::SeqCst);
            Ok::<u64, ()>(i * i)
        };
        let squares = run_jobs(&jobs, Limits::new(4, Some(6)), run).unwrap();
        assert_eq!(squares, (0..40).map(|i| i * i).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 6);
    }

    #[test]
    fn a_panic_is_passed_on_and_nothing_waits_for_ever() {
        let jobs: Vec<Job<u64>> = (0..8).map(|i| Job { item: i, work: i, memory_bytes: 10 }).collect();
        let run =
            || {
                run_jobs(&jobs, Limits::new(3, Some(10)), |&i| {
                    if i == 5 { panic!("five") } else { Ok::<_, ()>(i) }
                })
            };
        let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"five"));
    }

    #[test]
    fn a_failure_stops_what_has_not_begun() {
        let jobs: Vec<Job<u64>> = (0..100).map(|i| Job { item: i, work: 100 - i, memory_bytes: 0 }).collect();
        let begun = AtomicU64::new(0);
        let result = run_jobs(&jobs, Limits::new(2, None), |&i| {
            begun.fetch_add(1, Ordering::SeqCst);
            if i == 3 { Err(i) } else { Ok(i) }
        });
        assert_eq!(result, Err(3));
        assert!(begun.load(Ordering::SeqCst) < 100);
    }

    #[test]
    fn one_job_beyond_the_limit_runs_alone() {
        let jobs = [Job { item: 1, work: 1, memory_bytes: 10 }, Job { item: 2, work: 2, memory_bytes: 1 }];
        assert_eq!(run_jobs(&jobs, Limits::new(2, Some(5)), |&i| Ok::<_, ()>(i)), Ok(vec![1, 2]));
    }
}
