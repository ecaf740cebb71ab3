use super::{Builder, Source};
use crate::layers::heads::{HeadProduct, HeadProductKind, HeadWeight};
use crate::layers::state::Stored;

impl Builder<'_> {
    /// Elements of a head, where so many heads lie behind each other along an axis of a layer's weight: as many as the
    /// checkpoint has, whose heads may be narrower than `usual`.
    #[must_use]
    pub fn head_width(&self, name: &str, axis: usize, heads: usize, usual: usize) -> usize {
        let path = self.path(name);
        let shared = self.shared.borrow();
        let Source::Checkpoint(state) = shared.source else { return usual };
        let factored = state.modules.get(&path).map(|module| module.shape.as_slice());
        let shape = factored.or_else(|| state.tensors.get(&format!("{path}.weight")).map(Stored::shape));
        match shape.and_then(|shape| shape.get(axis)) {
            Some(&size) if heads > 0 && size > 0 && size < heads * usual && size.is_multiple_of(heads) => {
                size / heads
            }
            _ => usual,
        }
    }

    /// Notes the product of two weights under this builder's name, unless one is factored itself.
    pub fn head_product(
        &self,
        kind: HeadProductKind,
        [left, right]: [HeadWeight; 2],
        heads: [usize; 2],
        width: usize,
    ) {
        let named = |part: HeadWeight| HeadWeight { name: self.path(&part.name), ..part };
        let (left, right) = (named(left), named(right));
        let mut shared = self.shared.borrow_mut();
        let parameters = &shared.built.parameters;
        if parameters.get(&left.name).is_some() && parameters.get(&right.name).is_some() {
            let name = self.prefix.trim_end_matches('.').to_owned();
            shared.built.products.push(HeadProduct { name, kind, left, right, heads, width });
        }
    }
}
