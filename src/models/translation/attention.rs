use crate::layers::operations::Attention;
use crate::layers::{Builder, Linear, Node, Sequences, Tape};
use candle_core::Result;

/// The four linear layers around an attention.
#[derive(Debug)]
pub(super) struct Projections {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    scale: f64,
}

impl Projections {
    pub(super) fn new(vb: &Builder<'_>, width: usize, heads: usize) -> Result<Self> {
        // three matrices side by side are one of three times the rows, which starts smaller
        let narrow = vb.with_balanced_start(std::f64::consts::FRAC_1_SQRT_2);
        Ok(Self {
            query: narrow.linear("q_proj", width, width, true)?,
            key: narrow.linear("k_proj", width, width, true)?,
            value: narrow.linear("v_proj", width, width, true)?,
            output: vb.linear("out_proj", width, width, true)?,
            heads,
            scale: 1.0 / ((width / heads) as f64).sqrt(),
        })
    }

    /// Keys and values of tokens.
    pub(super) fn keys(&self, tape: &Tape, xs: &Node) -> Result<[Node; 2]> {
        Ok([self.key.forward_on(tape, xs)?, self.value.forward_on(tape, xs)?])
    }

    /// What the tokens of these sequences read from keys and values of those.
    pub(super) fn read(
        &self,
        tape: &Tape,
        xs: &Node,
        [queries, others]: [&Sequences; 2],
        [keys, values]: [&Node; 2],
        causal: bool,
    ) -> Result<Node> {
        let attention = Attention::new(queries, self.heads, self.scale).with_keys(others);
        let attention = if causal { attention.causal() } else { attention };
        let ys = tape.apply(attention, &[&self.query.forward_on(tape, xs)?, keys, values])?;
        self.output.forward_on(tape, &ys)
    }
}
