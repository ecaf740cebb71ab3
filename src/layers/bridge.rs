use super::operation::{Operation, View};
use super::recording::{view, with_views};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use std::sync::Arc;

/// An operation as candle knows custom ones.
pub(super) struct Bridge(pub(super) Arc<dyn Operation>);

impl Bridge {
    fn forward(&self, inputs: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        let views: Vec<View<'_>> =
            inputs.iter().map(|(storage, layout)| view(storage, layout)).collect::<Result<_>>()?;
        let (data, shape) = self.0.forward(&views)?;
        Ok((CpuStorage::F32(data), Shape::from(shape)))
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        output: &Tensor,
        gradient: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let mut tensors: Vec<Tensor> = inputs.iter().map(|x| x.contiguous()).collect::<Result<_>>()?;
        tensors.extend([output.contiguous()?, gradient.contiguous()?]);
        let count = inputs.len();
        let wanted: Vec<bool> = inputs.iter().map(|input| input.track_op()).collect();
        let found = with_views(&tensors, |views| {
            self.0.backward(&views[..count], views[count], views[count + 1], &wanted)
        })?;
        let tensor = |(data, input): (Option<Vec<f32>>, &&Tensor)| {
            data.map(|data| Tensor::from_vec(data, input.shape(), input.device())).transpose()
        };
        found.into_iter().zip(inputs).map(tensor).collect()
    }
}

impl CustomOp1 for Bridge {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(storage, layout)])
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.backward(&[x], y, gradient)?.pop().flatten())
    }
}

impl CustomOp2 for Bridge {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(s1, l1), (s2, l2)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        z: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut found = self.backward(&[x, z], y, gradient)?.into_iter();
        Ok((found.next().flatten(), found.next().flatten()))
    }
}

impl CustomOp3 for Bridge {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(s1, l1), (s2, l2), (s3, l3)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        z: &Tensor,
        w: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut found = self.backward(&[x, z, w], y, gradient)?.into_iter();
        Ok((found.next().flatten(), found.next().flatten(), found.next().flatten()))
    }
}
