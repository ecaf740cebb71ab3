use crate::layers::operations::Attention;
use crate::layers::{Builder, HeadProductKind, HeadWeight, Linear, Node, Sequences, Tape};
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
        let part = |name: &str, axis: usize| HeadWeight::new(&format!("{name}.weight"), axis);
        let usual = width / heads.max(1);
        // Heads that were narrowed keep the scale of those that they were.
        let each = vb.head_width("q_proj", 0, heads, usual);
        let of_value = vb.head_width("v_proj", 0, heads, usual);
        // three matrices side by side are one of three times the rows, which starts smaller
        let narrow = vb.with_balanced_start(std::f64::consts::FRAC_1_SQRT_2);
        let query = narrow.linear("q_proj", width, heads * each, true)?;
        let key = narrow.linear("k_proj", width, heads * each, true)?;
        let value = narrow.linear("v_proj", width, heads * of_value, true)?;
        let output = vb.linear("out_proj", heads * of_value, width, true)?;
        let query_key = [part("q_proj", 0), part("k_proj", 0)];
        vb.head_product(HeadProductKind::QueryKey, query_key, [heads; 2], each);
        let output_value = [part("out_proj", 1), part("v_proj", 0)];
        vb.head_product(HeadProductKind::OutputValue, output_value, [heads; 2], of_value);
        Ok(Self { query, key, value, output, heads, scale: 1.0 / ((width / heads) as f64).sqrt() })
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
