//! Scaled dot-product attention within sequences that lie behind each other, and its gradient.

use super::machine::Machine;
use super::smooth::{softmax, softmax_backward};
use super::tile::{Matrix, MatrixMut, multiply, turn};
use rayon::prelude::*;
use std::ops::Range;

/// Queries whose scores are held at once.
const QUERIES: usize = 128;

/// Columns that tiles need for so many.
fn padded(columns: usize) -> usize {
    columns.next_multiple_of(8)
}

/// Which queries meet which keys, and how wide heads are.
///
/// Rows are tokens, `heads` times `width` elements each; keys and values have `shared` heads, each for as many heads of the
/// queries as go into it.
#[derive(Clone, Debug)]
pub(crate) struct AttentionShape {
    /// Rows of queries and of keys of each sequence.
    pub sequences: Vec<(Range<usize>, Range<usize>)>,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub shared: usize,
    /// Elements of a head's query and key, and of its value.
    pub widths: [usize; 2],
    /// What scores are multiplied by.
    pub scale: f32,
    /// Whether the last query meets all keys, the one before it all but the last, and so on.
    pub causal: bool,
}

/// What is used again from head to head.
struct Scratch {
    machine: Machine,
    factor: Vec<f32>,
    weights: Vec<f32>,
    slopes: Vec<f32>,
}

impl Scratch {
    fn new() -> Self {
        Self { machine: Machine::best(), factor: Vec::new(), weights: Vec::new(), slopes: Vec::new() }
    }
}

/// Rows of one head, in a matrix whose rows hold all heads.
#[derive(Clone, Copy)]
struct Head<'a> {
    /// From the first element on.
    values: &'a [f32],
    rows: usize,
    width: usize,
    /// Elements from one row to the next.
    stride: usize,
}

impl<'a> Head<'a> {
    fn of(data: &'a [f32], rows: Range<usize>, heads: usize, width: usize, index: usize) -> Self {
        let stride = heads * width;
        Self { values: &data[rows.start * stride + index * width..], rows: rows.len(), width, stride }
    }

    fn matrix(self) -> Matrix<'a> {
        Matrix::rows(self.values, self.stride)
    }

    /// As the second factor of a product, its columns padded: in place where they need no padding, or in `scratch`.
    fn padded<'b>(self, scratch: &'b mut Vec<f32>) -> Matrix<'b>
    where
        'a: 'b,
    {
        let columns = padded(self.width);
        if columns == self.width {
            return self.matrix();
        }
        scratch.clear();
        scratch.resize(self.rows * columns, 0.0);
        for (row, to) in scratch.chunks_exact_mut(columns.max(1)).enumerate() {
            to[..self.width].copy_from_slice(&self.values[row * self.stride..][..self.width]);
        }
        Matrix::rows(scratch, columns)
    }

    /// The same transposed and times `scale`, in `scratch`: shape `(width, rows)`.
    fn turned(self, machine: Machine, scale: f32, scratch: &mut Vec<f32>) -> Matrix<'_> {
        let columns = padded(self.rows);
        scratch.clear();
        scratch.resize(self.width * columns, 0.0);
        let mut to = MatrixMut { values: scratch, row: columns };
        turn(machine, [self.rows, self.width], self.matrix(), scale, &mut to);
        Matrix::rows(scratch, columns)
    }
}

/// Puts a head's rows, whose columns are padded, into a matrix whose rows hold all heads.
fn scatter(to: &mut [f32], from: &[f32], rows: &Range<usize>, heads: usize, width: usize, index: usize) {
    for (row, from) in rows.clone().zip(from.chunks_exact(padded(width).max(1))) {
        to[(row * heads + index) * width..][..width].copy_from_slice(&from[..width]);
    }
}

impl AttentionShape {
    /// Blocks of queries of one sequence: those queries' rows, and how many keys the last of them meets.
    fn blocks(&self, sequence: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
        let (queries, keys) = self.sequences[sequence].clone();
        let causal = self.causal;
        queries.clone().step_by(QUERIES).map(move |start| {
            let end = (start + QUERIES).min(queries.end);
            let met = if causal { (keys.len() + end).saturating_sub(queries.end) } else { keys.len() };
            (start..end, met)
        })
    }

    /// Probabilities of a block of queries of one head over the keys that they meet, the columns padded.
    fn probabilities(
        &self,
        sequence: usize,
        index: usize,
        block: &Range<usize>,
        met: usize,
        [q, k]: [&[f32]; 2],
        scratch: &mut Scratch,
    ) {
        let keys = &self.sequences[sequence].1;
        let (group, inner) = (self.heads / self.shared, self.widths[0]);
        let queries = Head::of(q, block.clone(), self.heads, inner, index);
        let keys = Head::of(k, keys.start..keys.start + met, self.shared, inner, index / group);
        let (rows, columns) = (block.len(), padded(met));
        let Scratch { machine, factor, weights, .. } = scratch;
        let keys = keys.turned(*machine, self.scale, factor);
        weights.resize(rows * columns, 0.0);
        let to = MatrixMut { values: weights, row: columns };
        multiply(*machine, [rows, columns, inner], queries.matrix(), keys, to, false);
        softmax(weights, columns, |row| if self.causal { met + row + 1 - rows } else { met });
    }

    /// Writes what the queries of one head read, in rows so many elements apart.
    fn read(
        &self,
        sequence: usize,
        index: usize,
        [q, k, v]: [&[f32]; 3],
        to: &mut MatrixMut<'_>,
        scratch: &mut Scratch,
    ) {
        let width = self.widths[1];
        let (queries, keys) = &self.sequences[sequence];
        for (block, met) in self.blocks(sequence) {
            self.probabilities(sequence, index, &block, met, [q, k], scratch);
            let Scratch { machine, factor, weights, .. } = scratch;
            let keys = keys.start..keys.start + met;
            let values = Head::of(v, keys, self.shared, width, index * self.shared / self.heads);
            let values = values.padded(factor);
            let weights = Matrix::rows(weights, padded(met));
            let to =
                MatrixMut { values: &mut to.values[(block.start - queries.start) * to.row..], row: to.row };
            multiply(*machine, [block.len(), padded(width), met], weights, values, to, false);
        }
    }

    /// What each query reads.
    pub(crate) fn apply(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let [_, width] = self.widths;
        let rows = self.sequences.iter().map(|(queries, _)| queries.end).max().unwrap_or(0);
        let stride = self.heads * width;
        let mut ys = vec![0.0; rows * stride];
        // Each sequence has its rows.
        let (mut rest, mut at, mut parts) = (&mut ys[..], 0, Vec::with_capacity(self.sequences.len()));
        for (sequence, (queries, _)) in self.sequences.iter().enumerate() {
            assert_eq!(queries.start, at, "sequences lie behind each other");
            let part;
            (part, rest) = rest.split_at_mut(queries.len() * stride);
            parts.push((sequence, part));
            at = queries.end;
        }
        // Heads go one by one where sequences are work for all threads, and each then writes in place.
        let one_by_one = padded(width) == width && self.sequences.len() >= rayon::current_num_threads();
        parts.into_par_iter().for_each_init(Scratch::new, |scratch, (sequence, part)| {
            if one_by_one {
                for index in 0..self.heads {
                    let mut to = MatrixMut { values: &mut part[index * width..], row: stride };
                    self.read(sequence, index, [q, k, v], &mut to, scratch);
                }
                return;
            }
            let own = 0..self.sequences[sequence].0.len();
            let read = |scratch: &mut Scratch, index: usize| {
                let mut ys = vec![0.0; own.len() * padded(width)];
                let mut to = MatrixMut { values: &mut ys, row: padded(width) };
                self.read(sequence, index, [q, k, v], &mut to, scratch);
                ys
            };
            let found: Vec<Vec<f32>> = (0..self.heads).into_par_iter().map_init(Scratch::new, read).collect();
            for (index, found) in found.iter().enumerate() {
                scatter(part, found, &own, self.heads, width, index);
            }
        });
        ys
    }

    /// The gradients of queries, keys and values, from that of what was read.
    pub(crate) fn backward(&self, q: &[f32], k: &[f32], v: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
        let [inner, width] = self.widths;
        let group = self.heads / self.shared;
        let tasks: Vec<(usize, usize)> =
            (0..self.sequences.len()).flat_map(|s| (0..self.shared).map(move |h| (s, h))).collect();
        let found: Vec<(Vec<Vec<f32>>, Vec<f32>, Vec<f32>)> = tasks
            .par_iter()
            .map(|&(sequence, shared)| self.head_backward(sequence, shared, [q, k, v], dy))
            .collect();
        let mut grads = [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
        for ((sequence, shared), (dq, dk, dv)) in tasks.into_iter().zip(found) {
            let (queries, keys) = &self.sequences[sequence];
            for (of_group, dq) in dq.iter().enumerate() {
                scatter(&mut grads[0], dq, queries, self.heads, inner, shared * group + of_group);
            }
            scatter(&mut grads[1], &dk, keys, self.shared, inner, shared);
            scatter(&mut grads[2], &dv, keys, self.shared, width, shared);
        }
        grads
    }

    /// The gradients of one head of keys and values, and of the heads of queries that share it.
    fn head_backward(
        &self,
        sequence: usize,
        shared: usize,
        [q, k, v]: [&[f32]; 3],
        dy: &[f32],
    ) -> (Vec<Vec<f32>>, Vec<f32>, Vec<f32>) {
        let [inner, width] = self.widths;
        let group = self.heads / self.shared;
        let (queries, keys) = &self.sequences[sequence];
        let mut dk = vec![0.0; keys.len() * padded(inner)];
        let mut dv = vec![0.0; keys.len() * padded(width)];
        let mut dqs = Vec::new();
        let scratch = &mut Scratch::new();
        for index in shared * group..(shared + 1) * group {
            let mut dq = vec![0.0; queries.len() * padded(inner)];
            for (block, met) in self.blocks(sequence) {
                let (rows, columns) = (block.len(), padded(met));
                self.probabilities(sequence, index, &block, met, [q, k], scratch);
                let Scratch { machine, factor, weights, slopes } = scratch;
                let met_keys = keys.start..keys.start + met;
                let values = Head::of(v, met_keys.clone(), self.shared, width, shared);
                let dy = Head::of(dy, block.clone(), self.heads, width, index);
                slopes.resize(rows * columns, 0.0);
                let to = MatrixMut { values: slopes, row: columns };
                let values = values.turned(*machine, 1.0, factor);
                multiply(*machine, [rows, columns, width], dy.matrix(), values, to, false);
                softmax_backward(slopes, weights, columns, self.scale);
                let turned = |values| Matrix { values, row: 1, column: columns };
                let to = MatrixMut { values: &mut dv, row: padded(width) };
                multiply(*machine, [met, padded(width), rows], turned(weights), dy.padded(factor), to, true);
                let own = Head::of(q, block.clone(), self.heads, inner, index).padded(factor);
                let to = MatrixMut { values: &mut dk, row: padded(inner) };
                multiply(*machine, [met, padded(inner), rows], turned(slopes), own, to, true);
                let met_keys = Head::of(k, met_keys, self.shared, inner, shared).padded(factor);
                let at = (block.start - queries.start) * padded(inner);
                let to = MatrixMut { values: &mut dq[at..], row: padded(inner) };
                let slopes = Matrix::rows(slopes, columns);
                multiply(*machine, [rows, padded(inner), met], slopes, met_keys, to, false);
            }
            dqs.push(dq);
        }
        (dqs, dk, dv)
    }
}
