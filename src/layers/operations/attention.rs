use super::compose;
use crate::layers::kernels::AttentionShape;
use crate::layers::{Operation, Sequences, View};
use candle_core::{D, Result, Tensor, bail};
use std::ops::Range;

/// Scaled dot-product attention of several heads, within sequences that lie behind each other.
///
/// ```text
/// y_i = sum_j softmax_j(scale q_i . k_j) v_j
/// ```
///
/// # Shapes
///
/// | | shape |
/// | --- | --- |
/// | queries | `(tokens, heads * width)` |
/// | keys | `(tokens', shared_heads * width)` |
/// | values | `(tokens', shared_heads * value_width)` |
/// | output | `(tokens, heads * value_width)` |
///
/// Heads of keys and values may be shared by as many heads of queries as go into them. Queries and keys are of one token
/// each where nothing else is said; with [`Attention::with_keys`] keys are of other tokens, as in cross attention and where
/// earlier keys were kept. Where it is causal, the last query of a sequence meets all its keys, the one before it all but
/// the last, and so on.
///
/// # Reference
///
/// Vaswani et al., "Attention Is All You Need", 2017, section 3.2; Ainslie et al., "GQA", 2023.
#[derive(Clone, Debug)]
pub struct Attention {
    queries: Sequences,
    keys: Sequences,
    heads: usize,
    shared_heads: usize,
    scale: f64,
    causal: bool,
}

impl Attention {
    /// Attention within these sequences, of so many heads, its scores multiplied by `scale`.
    #[must_use]
    pub fn new(sequences: &Sequences, heads: usize, scale: f64) -> Self {
        let (queries, keys) = (sequences.clone(), sequences.clone());
        Self { queries, keys, heads, shared_heads: heads, scale, causal: false }
    }

    /// The same, its keys and values in other sequences.
    #[must_use]
    pub fn with_keys(self, keys: &Sequences) -> Self {
        Self { keys: keys.clone(), ..self }
    }

    /// The same, its keys and values of so many heads.
    #[must_use]
    pub fn with_shared_heads(self, shared_heads: usize) -> Self {
        Self { shared_heads, ..self }
    }

    /// The same, each query meeting only the keys that are not after it.
    #[must_use]
    pub fn causal(self) -> Self {
        Self { causal: true, ..self }
    }

    fn shape(&self, inputs: [&[usize]; 3]) -> Result<AttentionShape> {
        let Self { heads, shared_heads, .. } = *self;
        if heads == 0 || shared_heads == 0 || heads % shared_heads != 0 {
            bail!("{heads} heads of queries can't share {shared_heads} heads of keys");
        }
        let (tokens, others) = (self.queries.tokens(), self.keys.tokens());
        let [&[q_rows, q], &[k_rows, k], &[v_rows, v]] = inputs else {
            bail!("attention needs queries, keys and values (tokens, d), found {inputs:?}");
        };
        let width = q / heads;
        let fits = q == width * heads && k == width * shared_heads && v % shared_heads == 0;
        if [q_rows, k_rows, v_rows] != [tokens, others, others] || !fits || width == 0 {
            bail!(
                "queries, keys and values of {inputs:?} do not fit {heads} and {shared_heads} heads of {tokens} and {others} tokens"
            );
        }
        if self.queries.count() != self.keys.count() {
            bail!("{} sequences of queries, {} of keys", self.queries.count(), self.keys.count());
        }
        let sequences: Vec<(Range<usize>, Range<usize>)> =
            self.queries.ranges().zip(self.keys.ranges()).collect();
        if let Some(index) =
            sequences.iter().position(|(queries, keys)| self.causal && queries.len() > keys.len())
        {
            bail!("sequence {index} has fewer keys than queries");
        }
        let widths = [width, v / shared_heads];
        Ok(AttentionShape {
            sequences,
            heads,
            shared: shared_heads,
            widths,
            scale: self.scale as f32,
            causal: self.causal,
        })
    }

    /// What is added to scores, which hides keys that are padding, and where it is causal those after a query: `(b or 1, 1, l, l')`.
    fn mask(&self, scores: &Tensor) -> Result<Option<Tensor>> {
        let (longest, met) = (self.queries.longest(), self.keys.longest());
        let is_even = is_even(&self.queries) && is_even(&self.keys);
        if is_even && !self.causal {
            return Ok(None);
        }
        let lengths: Vec<(usize, usize)> =
            self.queries.ranges().zip(self.keys.ranges()).map(|(q, k)| (q.len(), k.len())).collect();
        let lengths = if is_even { &lengths[..1.min(lengths.len())] } else { &lengths[..] };
        let mut mask = vec![f32::MIN / 2.0; lengths.len() * longest * met];
        for (index, row) in mask.chunks_exact_mut(met.max(1)).enumerate() {
            let (queries, keys) = lengths[index / longest];
            let causal = (keys + index % longest + 1).saturating_sub(queries).clamp(1, met);
            row[..if self.causal { causal.min(keys) } else { keys }].fill(0.0);
        }
        let mask = Tensor::from_vec(mask, (lengths.len(), 1, longest, met), scores.device())?;
        mask.to_dtype(scores.dtype()).map(Some)
    }

    /// Queries, keys and values `(b, heads, length, width)`, each head's own, and the attention's weights, in f32 at least.
    fn padded(&self, inputs: &[Tensor]) -> Result<[Tensor; 4]> {
        self.shape([inputs[0].dims(), inputs[1].dims(), inputs[2].dims()])?;
        let group = self.heads / self.shared_heads;
        let shared = |xs: Tensor| {
            if group == 1 {
                return Ok(xs);
            }
            let (b, heads, length, width) = xs.dims4()?;
            let xs = xs.unsqueeze(2)?.broadcast_as((b, heads, group, length, width))?;
            xs.contiguous()?.reshape((b, heads * group, length, width))
        };
        let q = split(&inputs[0], &self.queries, self.heads)?;
        let k = shared(split(&inputs[1], &self.keys, self.shared_heads)?)?;
        let v = shared(split(&inputs[2], &self.keys, self.shared_heads)?)?;
        let scores = (q.matmul(&k.t()?)? * self.scale)?;
        // few bits would overflow
        let scores = compose::wide(&scores)?;
        let scores = match self.mask(&scores)? {
            Some(mask) => scores.broadcast_add(&mask)?,
            None => scores,
        };
        // What is subtracted cancels, so that it needs no gradient.
        let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        Ok([q, k, v, weights])
    }
}

/// Whether sequences are of one length, so that nothing pads them.
fn is_even(sequences: &Sequences) -> bool {
    let longest = sequences.longest();
    sequences.ranges().all(|range| range.len() == longest)
}

/// `(tokens, heads * width) -> (b, heads, length, width)`, sequences padded to one length with anything.
fn split(xs: &Tensor, sequences: &Sequences, heads: usize) -> Result<Tensor> {
    let (b, longest) = (sequences.count(), sequences.longest());
    let mut xs = xs.contiguous()?;
    if !is_even(sequences) {
        let padded = |range: Range<usize>| {
            let pads = longest - range.len();
            range.map(|row| row as u32).chain(std::iter::repeat_n(0, pads))
        };
        let rows: Vec<u32> = sequences.ranges().flat_map(padded).collect();
        xs = xs.index_select(&Tensor::new(rows, xs.device())?, 0)?;
    }
    xs.reshape((b, longest, heads, ()))?.transpose(1, 2)?.contiguous()
}

/// The other way, without what pads.
fn join(xs: &Tensor, sequences: &Sequences) -> Result<Tensor> {
    let (b, heads, longest, width) = xs.dims4()?;
    let xs = xs.transpose(1, 2)?.contiguous()?.reshape((b * longest, heads * width))?;
    if is_even(sequences) {
        return Ok(xs);
    }
    let rows: Vec<u32> = (sequences.ranges().enumerate())
        .flat_map(|(index, range)| (0..range.len()).map(move |row| (index * longest + row) as u32))
        .collect();
    xs.index_select(&Tensor::new(rows, xs.device())?, 0)
}

impl Operation for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let [_, _, v, weights] = self.padded(inputs)?;
        join(&weights.to_dtype(v.dtype())?.matmul(&v)?, &self.queries)
    }

    fn compose_backward(
        &self,
        inputs: &[Tensor],
        _output: &Tensor,
        gradient: &Tensor,
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let [q, k, v, weights] = self.padded(inputs)?;
        let mut dy = split(gradient, &self.queries, self.heads)?;
        if !is_even(&self.queries) {
            // Queries that are padding have no gradient.
            let longest = self.queries.longest();
            let real = |range: Range<usize>| (0..longest).map(move |row| f32::from(row < range.len()));
            let real: Vec<f32> = self.queries.ranges().flat_map(real).collect();
            let real = Tensor::from_vec(real, (self.queries.count(), 1, longest, 1), dy.device())?;
            dy = dy.broadcast_mul(&real.to_dtype(dy.dtype())?)?;
        }
        // the gradient of what heads share is the sum of theirs
        let shared =
            |xs: Tensor| {
                let (b, heads, length, width) = xs.dims4()?;
                if heads == self.shared_heads {
                    return Ok(xs);
                }
                xs.reshape((b, self.shared_heads, heads / self.shared_heads, length * width))?
                    .sum(2)?
                    .reshape((b, self.shared_heads, length, width))
            };
        let dv = weights.t()?.to_dtype(dy.dtype())?.matmul(&dy)?;
        // ds = scale p (dp - sum p dp)
        let dp = (compose::wide(&dy.matmul(&v.t()?)?)? * &weights)?;
        let ds = (&dp - weights.broadcast_mul(&dp.sum_keepdim(D::Minus1)?)?)?;
        let ds = (ds * self.scale)?.to_dtype(q.dtype())?;
        let gradients: [&dyn Fn() -> Result<Tensor>; 3] = [
            &|| join(&ds.matmul(&k)?, &self.queries),
            &|| join(&shared(ds.t()?.matmul(&q)?)?, &self.keys),
            &|| join(&shared(dv.clone())?, &self.keys),
        ];
        gradients.iter().zip(wanted).map(|(find, wanted)| wanted.then(find).transpose()).collect()
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let shape = self.shape([inputs[0].shape, inputs[1].shape, inputs[2].shape])?;
        let ys = shape.apply(inputs[0].data, inputs[1].data, inputs[2].data);
        Ok((ys, vec![self.queries.tokens(), self.heads * shape.widths[1]]))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let shape = self.shape([inputs[0].shape, inputs[1].shape, inputs[2].shape])?;
        let found = shape.backward(inputs[0].data, inputs[1].data, inputs[2].data, gradient.data);
        Ok(wanted.iter().zip(found).map(|(wanted, found)| wanted.then_some(found)).collect())
    }

    fn multiply_adds(&self, inputs: &[&[usize]]) -> u64 {
        let &[q, _, v] = inputs else { return 0 };
        let widths = q.get(1).unwrap_or(&0) + v.get(1).unwrap_or(&0) * self.heads / self.shared_heads.max(1);
        let meetings: usize = self
            .queries
            .ranges()
            .zip(self.keys.ranges())
            .map(|(queries, keys)| {
                if self.causal {
                    queries.len() * (2 * keys.len() + 1).saturating_sub(queries.len()) / 2
                } else {
                    queries.len() * keys.len()
                }
            })
            .sum();
        (meetings * widths) as u64
    }
}
