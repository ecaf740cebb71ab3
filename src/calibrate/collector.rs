use super::patches::Positions;
use super::statistics::{LayerMoments, Moments};
use crate::layers::{Geometry, LayerEntry, Observer, Weight};
use crate::linalg::{Team, gram, wide_gram};
use candle_core::{DType, Result, Tensor, TensorId};
use faer::{Mat, MatRef};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Rows of patches whose squares are summed in f32, before these sums are in f64.
const BLOCK: usize = 1024;
/// Elements of a row up to which blocks are summed side by side, each in a matrix of its own.
const NARROW: usize = 640;

/// Sums up what goes into a network's dense layers, and the gradients of what comes out.
///
/// The inputs of a convolution are its patches, at some of a picture's positions, which stand for all of them. Convolutions in
/// groups are left out.
pub(super) struct Collector {
    names: HashMap<TensorId, String>,
    team: Team,
    sums: RefCell<Sums>,
    random: RefCell<ChaCha8Rng>,
}

#[derive(Default)]
struct Sums {
    inputs: Vec<Moments>,
    layers: BTreeMap<String, LayerMoments>,
    /// Inputs of this batch with how they are cut into patches, and where they were summed up.
    seen: HashMap<(TensorId, Option<Geometry>), usize>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("layers", &self.names.len()).finish_non_exhaustive()
    }
}

impl Collector {
    /// For those of a network's layers that are wanted, with sums by so many threads, and positions drawn from a seed.
    pub(super) fn new(
        layers: &[LayerEntry],
        wanted: &dyn Fn(&str) -> bool,
        seed: u64,
        threads: usize,
    ) -> Self {
        let name = |layer: &LayerEntry| match &layer.weight {
            Weight::Dense(weight) if wanted(&layer.name) => Some((weight.id(), layer.name.clone())),
            _ => None,
        };
        let names = layers.iter().filter_map(name).collect();
        let random = RefCell::new(ChaCha8Rng::seed_from_u64(seed));
        Self { names, team: Team::new(threads), sums: RefCell::default(), random }
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

    /// Adds the patches of pictures `(b, c, h, w)`.
    fn add_patches(&self, to: &mut Moments, input: &Tensor, geometry: &Geometry) -> Result<()> {
        let xs = input.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let count = geometry.output.iter().product();
        let positions = Positions::draw(geometry.batch, count, &mut self.random.borrow_mut());
        let rows = positions.patches(&self.team, &xs, geometry);
        self.add_estimate(to, &rows, positions.stands_for);
        to.rows += (geometry.batch * count) as u64;
        Ok(())
    }

    /// Adds the channels of gradients `(b, c, h, w)`, of so many pictures and positions.
    fn add_channels(&self, to: &mut Moments, gradient: &Tensor, [pictures, count]: [usize; 2]) -> Result<()> {
        let xs = gradient.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let positions = Positions::draw(pictures, count, &mut self.random.borrow_mut());
        let rows = positions.channels(&xs, to.width(), count);
        self.add_estimate(to, &rows, positions.stands_for);
        to.rows += (pictures * count) as u64;
        Ok(())
    }

    /// Adds rows, each of which stands for several.
    fn add_estimate(&self, to: &mut Moments, rows: &[f32], stands_for: f64) {
        let width = to.width();
        if width == 0 {
            return;
        }
        let blocks: Vec<&[f32]> = rows.chunks(BLOCK * width).collect();
        let alone = Team::new(1);
        let add = |to: &mut Moments, part: &Mat<f32>| {
            for j in 0..width {
                let from = part.col(j).subrows(j, width - j);
                let to = to.second.col_mut(j).subrows_mut(j, width - j);
                to.iter_mut().zip(from.iter()).for_each(|(to, &from)| *to += stands_for * f64::from(from));
            }
        };
        if width <= NARROW {
            let square = |index: usize| {
                let block = blocks[index];
                gram(&alone, matrix(block, width))
            };
            self.team.map(blocks.len(), square).iter().for_each(|part| add(to, part));
        } else {
            for &block in &blocks {
                add(to, &gram(&self.team, matrix(block, width)));
            }
        }
        for row in rows.chunks_exact(width) {
            let sums = to.magnitude.iter_mut().zip(row);
            sums.for_each(|(sum, &x)| *sum += stands_for * f64::from(x.abs()));
        }
    }
}

fn matrix(rows: &[f32], width: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(rows, rows.len() / width, width)
}

impl Observer for Collector {
    fn input(&self, weight: TensorId, input: &Tensor, geometry: Option<&Geometry>) -> Result<()> {
        let Some(name) = self.names.get(&weight) else { return Ok(()) };
        if geometry.is_some_and(|geometry| geometry.groups > 1) {
            return Ok(());
        }
        // What comes out has no part in how an input is cut.
        let key = (input.id(), geometry.map(|geometry| Geometry { out_channels: 0, ..*geometry }));
        let mut sums = self.sums.borrow_mut();
        let known = sums.layers.get(name).map(|layer| layer.input);
        if let Some(&at) = sums.seen.get(&key) {
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
        let width = match geometry {
            Some(geometry) => geometry.kernel_shape()[1..].iter().product(),
            None => input.dims().last().copied().unwrap_or(0),
        };
        let at = known.unwrap_or(sums.inputs.len());
        if known.is_none() {
            sums.inputs.push(Moments::new(width));
            sums.layers.insert(name.clone(), LayerMoments::new(at));
        }
        sums.seen.insert(key, at);
        let mut moments = std::mem::replace(&mut sums.inputs[at], Moments::new(0));
        let added = match geometry {
            Some(geometry) => self.add_patches(&mut moments, input, geometry),
            None => self.add(&mut moments, input),
        };
        sums.inputs[at] = moments;
        added
    }

    fn gradient(&self, weight: TensorId, gradient: &Tensor) -> Result<()> {
        let Some(name) = self.names.get(&weight) else { return Ok(()) };
        let mut sums = self.sums.borrow_mut();
        let Some(layer) = sums.layers.get_mut(name) else { return Ok(()) };
        let width = match gradient.dims() {
            &[_, channels, _, _] => channels,
            dims => dims.last().copied().unwrap_or(0),
        };
        let mut moments = layer.outputs.take().unwrap_or_else(|| Moments::new(width));
        match gradient.dims() {
            &[b, _, h, w] => self.add_channels(&mut moments, gradient, [b, h * w])?,
            _ => self.add(&mut moments, gradient)?,
        }
        layer.outputs = Some(moments);
        Ok(())
    }
}

impl Moments {
    pub(super) fn new(width: usize) -> Self {
        Self { second: Mat::zeros(width, width), magnitude: vec![0.0; width], rows: 0 }
    }
}
