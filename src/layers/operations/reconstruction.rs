use crate::decompose::{Format, Unfolding};
use crate::layers::matrices::{Matrices, product_of, weight_of};
use crate::layers::tensors::Factors;
use crate::layers::{Operation, View};
use candle_core::{Device, Result, Tensor};

/// The dense weight that factors stand for: their product, in the weight's own layout.
///
/// Inputs are the factors as they are stored, of the shapes that [`Format::factor_shapes`] says.
#[derive(Clone, Debug)]
pub struct Reconstruction(Format);

impl Reconstruction {
    /// The weight in this format.
    #[must_use]
    pub fn new(format: &Format) -> Self {
        Self(format.clone())
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
        match &self.0 {
            Format::Matrix(unfolding) => weight_of(unfolding, &Matrices::of(unfolding, inputs)?.product()?),
            Format::Tensor(of) => Factors::new(of, inputs)?.weight(),
        }
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
        let stored = match &self.0 {
            Format::Matrix(unfolding) => of_matrices(unfolding, &factors, &tensor(&gradient)?)?,
            Format::Tensor(of) => Factors::new(of, &factors)?.gradients(&tensor(&gradient)?)?,
        };
        stored.iter().zip(wanted).map(|(found, &wanted)| wanted.then(|| data(found)).transpose()).collect()
    }

    fn multiply_adds(&self, inputs: &[&[usize]]) -> u64 {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|shape| shape.to_vec()).collect();
        self.0.ranks_of(&shapes).map_or(0, |ranks| self.0.reconstruction_multiply_adds(&ranks))
    }
}

/// The gradients of the factors of matrices, from the weight's.
fn of_matrices(unfolding: &Unfolding, factors: &[Tensor], gradient: &Tensor) -> Result<Vec<Tensor>> {
    let Matrices { a, m, b } = Matrices::of(unfolding, factors)?;
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let g = product_of(unfolding, gradient)?;
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
    found.factors(unfolding)
}
