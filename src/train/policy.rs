use super::{Decay, DecayTable, FactorDecay, TrainingOptions};
use crate::layers::{Parameters, Role};

/// Decides how each trained parameter is decayed.
///
/// | parameter | decay |
/// | --- | --- |
/// | factors | on the product (`frobenius`), on each factor (`weight`), or none |
/// | dense weights | weight decay |
/// | biases and normalizations | none, or weight decay with `decay_all` |
#[must_use]
pub fn decay_table(parameters: &Parameters, options: &TrainingOptions) -> DecayTable {
    let weight = match options.weight_decay {
        0.0 => Decay::None,
        lambda => Decay::Weight(lambda),
    };
    let factors = match (options.factor_decay, options.frobenius_decay()) {
        (FactorDecay::None, _) | (_, 0.0) => Decay::None,
        (FactorDecay::Frobenius, lambda) => Decay::Frobenius(lambda),
        (FactorDecay::Weight, lambda) => Decay::Weight(lambda),
    };
    let decay = |role: Role| match role {
        Role::Factor => factors,
        Role::Weight => weight,
        Role::Bias | Role::Normalization if options.decay_all => weight,
        _ => Decay::None,
    };
    parameters.trained().map(|(name, parameter)| (name.to_owned(), decay(parameter.role()))).collect()
}
