use super::{Decay, DecayTable, FactorDecay, TrainingOptions};
use crate::layers::{HeadProduct, HeadProductKind, Parameters, Role};

/// Decides how each trained parameter is decayed.
///
/// | parameter | decay |
/// | --- | --- |
/// | factors | on the product (`frobenius`), on each factor (`weight`), or none |
/// | dense weights | weight decay |
/// | dense weights of attention | on each head's product, on the weights, or none: queries and keys, outputs and values |
/// | biases and normalizations | none, or weight decay with `decay_all` |
#[must_use]
pub fn decay_table(
    parameters: &Parameters,
    products: &[HeadProduct],
    options: &TrainingOptions,
) -> DecayTable {
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
    let of_head = |name: &str| {
        let product = products.iter().find(|product| {
            [&product.left, &product.right].iter().any(|part| part.name == name)
                && product_decay(product, options) != FactorDecay::Weight
        })?;
        Some(match (product_decay(product, options), options.frobenius_decay()) {
            (FactorDecay::None, _) | (_, 0.0) => Decay::None,
            (_, lambda) => Decay::Frobenius(lambda),
        })
    };
    let of = |(name, parameter): (&str, &crate::layers::Parameter)| {
        (name.to_owned(), of_head(name).unwrap_or_else(|| decay(parameter.role())))
    };
    parameters.trained().map(of).collect()
}

/// What is punished in the weights of a product of heads.
pub(super) fn product_decay(product: &HeadProduct, options: &TrainingOptions) -> FactorDecay {
    match product.kind {
        HeadProductKind::QueryKey => options.query_key_decay,
        _ => options.output_value_decay,
    }
}
