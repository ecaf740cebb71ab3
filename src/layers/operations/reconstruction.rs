use crate::decompose::Unfolding;
use crate::layers::matrices::{Matrices, product_of, weight_of};
use crate::layers::{Operation, View};
use candle_core::{Device, Result, Tensor};

/// The dense weight that factors stand for: their product, in the weight's own layout.
///
/// Inputs are the weights of a chain, two or three, as [`Unfolding::factor_shapes`] says.
#[derive(Clone, Debug)]
pub struct Reconstruction(Unfolding);

impl Reconstruction {
    /// The weight of this unfolding.
    #[must_use]
    pub fn new(unfolding: &Unfolding) -> Self {
        Self(unfolding.clone())
    }
}

fn tensor(view: &View<'_>) -> Result<Tensor> {
    Tensor::from_slice(view.data, view.shape, &Device::Cpu)
}

fn data(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1::<f32>()
}

// Weights are small beside activations: the loops here are candle's, on copies.
impl Operation for Reconstruction {
    fn name(&self) -> &'static str {
        "reconstruction"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        weight_of(&self.0, &Matrices::of(&self.0, inputs)?.product()?)
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let factors: Vec<Tensor> = inputs.iter().map(tensor).collect::<Result<_>>()?;
        Ok((data(&self.compose(&factors)?)?, self.0.shape().to_vec()))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let factors: Vec<Tensor> = inputs.iter().map(tensor).collect::<Result<_>>()?;
        let Matrices { a, m, b } = Matrices::of(&self.0, &factors)?;
        let (a, b) = (a.contiguous()?, b.contiguous()?);
        let g = product_of(&self.0, &tensor(&gradient)?)?;
        let found = match m {
            // dA = G Bt, dB = At G
            None => Matrices { a: g.matmul(&b.t()?)?, m: None, b: a.t()?.matmul(&g)? },
            // dA = G Bt Mt, dM = At G Bt, dB = Mt At G
            Some(m) => {
                let m = m.contiguous()?;
                let (gb, ag) = (g.matmul(&b.t()?)?, a.t()?.matmul(&g)?);
                Matrices { a: gb.matmul(&m.t()?)?, m: Some(a.t()?.matmul(&gb)?), b: m.t()?.matmul(&ag)? }
            }
        };
        let stored = found.factors(&self.0)?;
        stored.iter().zip(wanted).map(|(found, &wanted)| wanted.then(|| data(found)).transpose()).collect()
    }

    fn multiply_adds(&self, inputs: &[&[usize]]) -> u64 {
        let rank = self.0.rank_of(inputs[0]).unwrap_or(0);
        let last = self.0.groups() * self.0.rows() * self.0.cols() * rank;
        let middle = if inputs.len() == 3 { self.0.groups() * self.0.rows() * rank * rank } else { 0 };
        (last + middle) as u64
    }
}
