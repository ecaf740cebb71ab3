//! Scaled dot-product attention within sequences that lie behind each other, and its gradient.

use super::smooth::softmax;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use std::ops::Range;

/// Queries whose scores are held at once.
const QUERIES: usize = 128;

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

/// One head of a matrix whose rows hold all heads.
fn head(data: &[f32], rows: Range<usize>, heads: usize, width: usize, index: usize) -> MatRef<'_, f32> {
    let stride = heads * width;
    let count = rows.len();
    if count == 0 || width == 0 {
        return MatRef::from_row_major_slice(&[], count, width);
    }
    let start = rows.start * stride + index * width;
    MatRef::from_row_major_slice_with_stride(
        &data[start..][..(count - 1) * stride + width],
        count,
        width,
        stride,
    )
}

/// `to = factor a b`, or `to += factor a b`, row-major.
fn multiply(to: &mut [f32], columns: usize, add: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>, factor: f32) {
    let rows = a.nrows();
    let to = MatMut::from_row_major_slice_mut(&mut to[..rows * columns], rows, columns);
    let accumulate = if add { Accum::Add } else { Accum::Replace };
    matmul(to, accumulate, a, b, factor, Par::Seq);
}

/// Puts a head's rows into a matrix whose rows hold all heads.
fn scatter(to: &mut [f32], from: &[f32], rows: &Range<usize>, heads: usize, width: usize, index: usize) {
    for (row, from) in rows.clone().zip(from.chunks_exact(width.max(1))) {
        to[(row * heads + index) * width..][..width].copy_from_slice(from);
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

    /// Probabilities of a block of queries of one head over the keys that they meet.
    fn probabilities(
        &self,
        sequence: usize,
        index: usize,
        block: &Range<usize>,
        met: usize,
        [q, k]: [&[f32]; 2],
    ) -> Vec<f32> {
        let keys = &self.sequences[sequence].1;
        let group = self.heads / self.shared;
        let queries = head(q, block.clone(), self.heads, self.widths[0], index);
        let keys = head(k, keys.start..keys.start + met, self.shared, self.widths[0], index / group);
        let mut scores = vec![0.0; block.len() * met];
        multiply(&mut scores, met, false, queries, keys.transpose(), self.scale);
        let hidden = block.len() - 1;
        softmax(&mut scores, met, |row| if self.causal { met + row - hidden } else { met });
        scores
    }

    /// What each query reads.
    pub(crate) fn apply(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let [_, width] = self.widths;
        let rows = self.sequences.iter().map(|(queries, _)| queries.end).max().unwrap_or(0);
        let group = self.heads / self.shared;
        let read = |sequence: usize, index: usize| {
            let (queries, keys) = &self.sequences[sequence];
            let mut ys = vec![0.0; queries.len() * width];
            for (block, met) in self.blocks(sequence) {
                let weights = self.probabilities(sequence, index, &block, met, [q, k]);
                let weights = MatRef::from_row_major_slice(&weights, block.len(), met);
                let values = head(v, keys.start..keys.start + met, self.shared, width, index / group);
                multiply(
                    &mut ys[(block.start - queries.start) * width..],
                    width,
                    false,
                    weights,
                    values,
                    1.0,
                );
            }
            ys
        };
        let mut ys = vec![0.0; rows * self.heads * width];
        // Each sequence has its rows.
        let (mut rest, mut at, mut parts) = (&mut ys[..], 0, Vec::with_capacity(self.sequences.len()));
        for (sequence, (queries, _)) in self.sequences.iter().enumerate() {
            assert_eq!(queries.start, at, "sequences lie behind each other");
            let part;
            (part, rest) = rest.split_at_mut(queries.len() * self.heads * width);
            parts.push((sequence, part));
            at = queries.end;
        }
        parts.into_par_iter().for_each(|(sequence, part)| {
            let found: Vec<Vec<f32>> =
                (0..self.heads).into_par_iter().map(|index| read(sequence, index)).collect();
            let own = 0..self.sequences[sequence].0.len();
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
        let (mut dk, mut dv) = (vec![0.0; keys.len() * inner], vec![0.0; keys.len() * width]);
        let mut dqs = Vec::new();
        for index in shared * group..(shared + 1) * group {
            let mut dq = vec![0.0; queries.len() * inner];
            for (block, met) in self.blocks(sequence) {
                let weights = self.probabilities(sequence, index, &block, met, [q, k]);
                let met_keys = keys.start..keys.start + met;
                let values = head(v, met_keys.clone(), self.shared, width, shared);
                let dy = head(dy, block.clone(), self.heads, width, index);
                let mut slopes = vec![0.0; block.len() * met];
                multiply(&mut slopes, met, false, dy, values.transpose(), 1.0);
                for (slopes, weights) in slopes.chunks_exact_mut(met).zip(weights.chunks_exact(met)) {
                    // ds = p (dp - sum p dp)
                    let mean: f32 = slopes.iter().zip(weights).map(|(slope, weight)| slope * weight).sum();
                    for (slope, weight) in slopes.iter_mut().zip(weights) {
                        *slope = weight * (*slope - mean);
                    }
                }
                let weights = MatRef::from_row_major_slice(&weights, block.len(), met);
                let slopes = MatRef::from_row_major_slice(&slopes, block.len(), met);
                multiply(&mut dv, width, true, weights.transpose(), dy, 1.0);
                let met_keys = head(k, met_keys, self.shared, inner, shared);
                let at = (block.start - queries.start) * inner;
                multiply(&mut dq[at..], inner, false, slopes, met_keys, self.scale);
                let queries = head(q, block, self.heads, inner, index);
                multiply(&mut dk, inner, true, slopes.transpose(), queries, self.scale);
            }
            dqs.push(dq);
        }
        (dqs, dk, dv)
    }
}
