use super::statistics::{LayerMoments, Moments};
use crate::layers::{Geometry, LayerEntry, Observer, Weight};
use crate::linalg::{Team, wide_gram};
use candle_core::{DType, Result, Tensor, TensorId};
use faer::{Mat, MatRef};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Sums up what goes into a network's dense linear layers, and the gradients of what comes out.
pub(super) struct Collector {
    names: HashMap<TensorId, String>,
    team: Team,
    sums: RefCell<Sums>,
}

#[derive(Default)]
struct Sums {
    inputs: Vec<Moments>,
    layers: BTreeMap<String, LayerMoments>,
    /// Inputs of this batch, and where they were summed up.
    seen: HashMap<TensorId, usize>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("layers", &self.names.len()).finish_non_exhaustive()
    }
}

impl Collector {
    /// For those of a network's layers that are wanted, with sums by so many threads.
    pub(super) fn new(layers: &[LayerEntry], wanted: &dyn Fn(&str) -> bool, threads: usize) -> Self {
        let name = |layer: &LayerEntry| match &layer.weight {
            Weight::Dense(weight) if wanted(&layer.name) => Some((weight.id(), layer.name.clone())),
            _ => None,
        };
        let names = layers.iter().filter_map(name).collect();
        Self { names, team: Team::new(threads), sums: RefCell::default() }
    }

    /// Forgets which inputs were seen: another batch follows.
    pub(super) fn next_batch(&self) {
        self.sums.borrow_mut().seen.clear();
    }

    /// The sums.
    pub(super) fn finish(&self) -> (Vec<Moments>, BTreeMap<String, LayerMoments>) {
        let sums = self.sums.take();
        (sums.inputs, sums.layers)
    }

    /// Adds rows `(..., n)` to second moments and magnitudes.
    fn add(&self, to: &mut Moments, rows: &Tensor) -> Result<()> {
        let width = to.second.ncols();
        let rows = rows.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let count = rows.len() / width.max(1);
        let matrix = MatRef::from_row_major_slice(&rows, count, width);
        to.second += wide_gram(&self.team, matrix);
        for row in rows.chunks_exact(width.max(1)) {
            to.magnitude.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x.abs()));
        }
        to.rows += count as u64;
        Ok(())
    }
}

impl Observer for Collector {
    fn input(&self, weight: TensorId, input: &Tensor, geometry: Option<&Geometry>) -> Result<()> {
        let (Some(name), None) = (self.names.get(&weight), geometry) else { return Ok(()) };
        let mut sums = self.sums.borrow_mut();
        let known = sums.layers.get(name).map(|layer| layer.input);
        if let Some(&at) = sums.seen.get(&input.id()) {
            match known {
                // A layer whose input others have, and always had.
                Some(own) if own == at => return Ok(()),
                None => {
                    sums.layers.insert(name.clone(), LayerMoments::new(at));
                    return Ok(());
                }
                Some(_) => {}
            }
        }
        let width = input.dims().last().copied().unwrap_or(0);
        let at = known.unwrap_or(sums.inputs.len());
        if known.is_none() {
            sums.inputs.push(Moments::new(width));
            sums.layers.insert(name.clone(), LayerMoments::new(at));
        }
        sums.seen.insert(input.id(), at);
        let mut moments = std::mem::replace(&mut sums.inputs[at], Moments::new(0));
        let added = self.add(&mut moments, input);
        sums.inputs[at] = moments;
        added
    }

    fn gradient(&self, weight: TensorId, gradient: &Tensor) -> Result<()> {
        let Some(name) = self.names.get(&weight) else { return Ok(()) };
        let mut sums = self.sums.borrow_mut();
        let Some(layer) = sums.layers.get_mut(name) else { return Ok(()) };
        let width = gradient.dims().last().copied().unwrap_or(0);
        let mut moments = layer.outputs.take().unwrap_or_else(|| Moments::new(width));
        self.add(&mut moments, gradient)?;
        layer.outputs = Some(moments);
        Ok(())
    }
}

impl Moments {
    pub(super) fn new(width: usize) -> Self {
        Self { second: Mat::zeros(width, width), magnitude: vec![0.0; width], rows: 0 }
    }
}
