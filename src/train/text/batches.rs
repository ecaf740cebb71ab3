//! Batches of sequences that are run once, without gradients: several at the same time, each of them by one thread.

use crate::data::{token_batches, token_batches_within};
use crate::layers::Parameters;
use crate::models::Tokens;
use candle_core::{Error, Result};
use rayon::ThreadPoolBuilder;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Tokens of a batch on the CPU, unless one sequence has more: what layers make of them stays in a core's caches.
const TOKENS: usize = 512;

/// What each batch of sequences gives, with the sequences' indices; `seen` hears how many there were.
///
/// On a processor each thread runs batches of its own where there are enough of them; what they give does not depend on that.
pub(super) fn each_batch<T: Send>(
    parameters: &Parameters,
    sequences: &[Vec<u32>],
    run: impl Fn(&Tokens) -> Result<T> + Sync,
    mut seen: impl FnMut(usize),
) -> Result<Vec<(Vec<usize>, T)>> {
    let on_cpu = parameters.iter().all(|(_, parameter)| parameter.var().device().is_cpu());
    let batches = if on_cpu { token_batches_within(sequences, TOKENS) } else { token_batches(sequences) };
    let found = each(
        batches.len(),
        if on_cpu { rayon::current_num_threads() } else { 1 },
        |index| {
            let batch = &batches[index];
            let tokens = batch.iter().map(|&sequence| sequences[sequence].clone()).collect::<Vec<_>>();
            run(&Tokens::new(&tokens)?)
        },
        |index| seen(batches[index].len()),
    )?;
    Ok(batches.into_iter().zip(found).collect())
}

/// What independent pieces of work give, in order; `done` hears of each when it is. A thread runs whole pieces, and the
/// loops within a piece stay on it; too few pieces for that run one after the other.
fn each<T: Send>(
    count: usize,
    threads: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
    mut done: impl FnMut(usize),
) -> Result<Vec<T>> {
    if threads == 1 || count < 2 * threads {
        let one = |index| {
            let found = work(index)?;
            done(index);
            Ok(found)
        };
        return (0..count).map(one).collect();
    }
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut found: Vec<Option<Result<T>>> = (0..count).map(|_| None).collect();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                let pool = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    let found = match &pool {
                        Ok(pool) => pool.install(|| work(index)),
                        Err(error) => Err(Error::Msg(error.to_string())),
                    };
                    if found.is_err() {
                        next.store(count, Ordering::Relaxed);
                    }
                    if sender.send((index, found)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (index, one) in receiver {
            if one.is_ok() {
                done(index);
            }
            found[index] = Some(one);
        }
    });
    // Pieces begin in order, so that what comes before a failure was run.
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_from_any_number_of_threads_and_the_first_failure_ends_them() {
        for threads in [1, 2, 5] {
            let mut heard = 0;
            let found = each(23, threads, |index| Ok(index * index), |_| heard += 1).unwrap();
            assert_eq!((found, heard), ((0..23).map(|index| index * index).collect::<Vec<_>>(), 23));
            let fails = |index| if index >= 3 { Err(Error::Msg(format!("piece {index}"))) } else { Ok(()) };
            assert_eq!(each(23, threads, fails, |_| ()).unwrap_err().to_string(), "piece 3");
            // loops within a piece stay on its thread
            let inner = each(23, threads, |_| Ok(rayon::current_num_threads()), |_| ()).unwrap();
            assert!(threads == 1 || inner.iter().all(|&inner| inner == 1), "{inner:?}");
        }
    }
}
