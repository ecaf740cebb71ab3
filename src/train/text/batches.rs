//! Batches of sequences that are run once, without gradients: several at the same time, each of them by one thread.

use crate::data::{token_batches, token_batches_within};
use crate::layers::Parameters;
use crate::models::Tokens;
use candle_core::Result;
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
    let mut batches = if on_cpu { token_batches_within(sequences, TOKENS) } else { token_batches(sequences) };
    // The longest first, so that no thread has one to itself at the end.
    batches.reverse();
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
    let mut found: Vec<Option<Result<T>>> = (0..count).map(|_| None).collect();
    if threads > 1 && count >= threads.div_ceil(2) {
        side_by_side(&mut found, threads, &work, &mut done);
    }
    let mut all = Vec::with_capacity(count);
    for (index, one) in found.into_iter().enumerate() {
        if let Some(one) = one {
            all.push(one?);
        } else {
            // too few pieces, or a system without a thread to spare
            all.push(work(index)?);
            done(index);
        }
    }
    Ok(all)
}

/// Fills in what pieces give, as far as threads can be had and until one fails; those before it are filled in.
fn side_by_side<T: Send>(
    found: &mut [Option<Result<T>>],
    threads: usize,
    work: &(impl Fn(usize) -> Result<T> + Sync),
    done: &mut impl FnMut(usize),
) {
    let count = found.len();
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let Ok(pool) = ThreadPoolBuilder::new().num_threads(1).build() else { break };
            let (sender, next) = (sender.clone(), &next);
            let run = move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    let one = pool.install(|| work(index));
                    if one.is_err() {
                        next.store(count, Ordering::Relaxed);
                    }
                    if sender.send((index, one)).is_err() {
                        break;
                    }
                }
            };
            if thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        drop(sender);
        for (index, one) in receiver {
            if one.is_ok() {
                done(index);
            }
            found[index] = Some(one);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Error;

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
            assert_eq!(each(1, threads, Ok, |_| ()).unwrap(), [0]);
        }
    }
}
