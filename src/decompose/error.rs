use crate::linalg::LinalgError;

/// Why a weight could not be factored or collapsed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecomposeError {
    /// The scheme does not apply to weights of this layout and shape.
    #[error("scheme `{scheme}` does not apply to a {layout} weight of shape {shape:?}")]
    Scheme {
        /// The scheme asked for.
        scheme: &'static str,
        /// The weight's layout.
        layout: &'static str,
        /// The weight's shape.
        shape: Vec<usize>,
    },
    /// The number of groups does not divide the output channels.
    #[error("{groups} groups do not divide {out_channels} output channels")]
    Groups {
        /// The number of groups asked for.
        groups: usize,
        /// The weight's output channels.
        out_channels: usize,
    },
    /// Tensors are of kernels in one group.
    #[error("scheme `{scheme}` is for convolutions of one group, found {groups} groups")]
    GroupedTensor {
        /// The scheme asked for.
        scheme: &'static str,
        /// The weight's groups.
        groups: usize,
    },
    /// Other than one rank for each mode that is cut.
    #[error("found {found} ranks, expected {}", expected_ranks(*expected, modes))]
    RankCount {
        /// How many there are for this weight.
        expected: usize,
        /// The tensor's modes; a matrix's two sides.
        modes: Vec<usize>,
        /// How many were given.
        found: usize,
    },
    /// No ranks, or more than any tensor has.
    #[error("found {found} ranks, expected 1 to {most}")]
    TooManyRanks {
        /// How many there can be.
        most: usize,
        /// How many were given.
        found: usize,
    },
    /// More pairs of modes than a tensor can have, or so few that it is one mode, with nothing to cut.
    #[error("number of pairs: found {count}, expected {least} to {most}")]
    PairCount {
        /// How many were asked for.
        count: usize,
        /// How few there can be: one beside a kernel's taps, two of a matrix.
        least: usize,
        /// How many there can be.
        most: usize,
    },
    /// A tensor's factors for the same weight stored the other way round.
    #[error(
        "a tensor of a {layout} weight has no factors for the same weight as {other}: outputs and inputs change places"
    )]
    TransposedTensor {
        /// The layout asked for.
        layout: &'static str,
        /// The factors' own.
        other: &'static str,
    },
    /// Pairs of modes that do not make up the weight's outputs and inputs.
    #[error(
        "pairs {found:?} do not make up {out} outputs and {inner} inputs: expected pairs [outputs, inputs] whose products those are"
    )]
    Pairs {
        /// The weight's outputs.
        out: usize,
        /// The weight's inputs, of one tap.
        inner: usize,
        /// The pairs asked for.
        found: Vec<[usize; 2]>,
    },
    /// A factor's shape is not the one that its place in the chain asks for.
    #[error("factor {index} has shape {found:?}, expected {expected:?}")]
    FactorShape {
        /// Which link of the chain.
        index: usize,
        /// The shape that the layer's shape and rank ask for.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A buffer's length is not the product of its shape.
    #[error("{found} elements, expected {expected} for shape {shape:?}")]
    Length {
        /// The shape.
        shape: Vec<usize>,
        /// Its number of elements.
        expected: usize,
        /// The number of elements found.
        found: usize,
    },
    /// A weight holds NaN or an infinity.
    #[error("element {index:?} of the weight is {value}")]
    NotFinite {
        /// The element's index in the stored tensor, axis by axis.
        index: Vec<usize>,
        /// What stands there.
        value: f64,
    },
    /// A metric is of another size than the weight.
    #[error("statistics of {} outputs and {} inputs do not fit a matrix of shape {expected:?}", found[0], found[1])]
    Metric {
        /// The matrix.
        expected: [usize; 2],
        /// Outputs and inputs that are known of; 0 where all count the same.
        found: [usize; 2],
    },
    /// The decomposition itself failed.
    #[error(transparent)]
    Linalg(#[from] LinalgError),
}

fn expected_ranks(count: usize, modes: &[usize]) -> String {
    if count == 1 { "1".to_owned() } else { format!("1, or {count} for a tensor of the modes {modes:?}") }
}
