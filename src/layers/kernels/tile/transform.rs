//! Patches of 4 x 4 outputs, for eight channels at once: one in each lane.
//!
//! With patches `d` of 6 x 6 inputs, `B' d B`; with the products `m`, `A' m A`; with gradients `y` of 4 x 4 outputs, `A y A'`. The matrices
//! evaluate polynomials at 0, `NEAR`, `-NEAR`, `FAR`, `-FAR` and infinity.

use super::super::machine::Machine;
use super::vector::{Eight, Vector};

/// Where polynomials are evaluated, beside 0 and infinity. With 1 and 2, results would be twice as far off.
pub(in super::super) const NEAR: f32 = 0.75;
pub(in super::super) const FAR: f32 = 1.5;

/// Patches of a plane, and the plane of eight channels side by side that they are taken from or put into.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Grid {
    /// Patches down and across.
    pub patches: [usize; 2],
    /// Pixels from one row of the plane to the next.
    pub width: usize,
    /// Elements from one patch to the next, among the transformed.
    pub patch: usize,
    /// Elements from one of a patch's 36 places to the next.
    pub place: usize,
}

impl Grid {
    /// Checks that planes and transformed patches hold what the loops touch, with patches of `side` pixels.
    fn check(&self, side: usize, plane: usize, transformed: usize) {
        let [down, across] = self.patches;
        assert!(down > 0 && across > 0);
        assert!(plane >= ((4 * down - 4 + side - 1) * self.width + 4 * across - 4 + side) * 8);
        assert!(transformed >= 35 * self.place + (down * across - 1) * self.patch + 8);
    }
}

/// Calls a function compiled for the machine's registers of eight floats.
macro_rules! compiled {
    ($machine:expr, $all:ident, $avx2:ident, $($argument:expr),*) => {
        match $machine {
            #[cfg(target_arch = "x86_64")]
            Machine::Avx512 | Machine::Avx2 => $avx2($($argument),*),
            Machine::Portable => $all::<[f32; 8]>($($argument),*),
        }
    };
}

/// Copies eight channels' planes, pixels of all eight side by side, from row `first` on counted with the padding above; zeros around them.
///
/// `to` has rows of `width` pixels.
pub(in super::super) fn spread(
    machine: Machine,
    planes: &[f32],
    [h, w]: [usize; 2],
    [above, left]: [usize; 2],
    first: usize,
    width: usize,
    to: &mut [f32],
) {
    assert!(planes.len() >= 8 * h * w && left + w <= width);
    for (r, row) in to.chunks_exact_mut(8 * width).enumerate() {
        let y = (first + r).wrapping_sub(above);
        if y >= h {
            row.fill(0.0);
            continue;
        }
        let (begin, row) = row.split_at_mut(8 * left);
        let (row, end) = row.split_at_mut(8 * w);
        begin.fill(0.0);
        end.fill(0.0);
        // SAFETY: eight planes hold row `y`, and `row` has eight floats for each of its pixels.
        unsafe { compiled!(machine, spread_row, spread_row_avx2, &planes[y * w..], h * w, w, row) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn spread_row_avx2(planes: &[f32], plane: usize, w: usize, to: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { spread_row::<std::arch::x86_64::__m256>(planes, plane, w, to) }
}

/// # Safety
/// Seven planes after the first `planes` holds `w` floats, and `to` eight times as many; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn spread_row<V: Eight>(planes: &[f32], plane: usize, w: usize, to: &mut [f32]) {
    let whole = w / 8 * 8;
    for x in (0..whole).step_by(8) {
        // SAFETY: `x + 8 <= w`.
        unsafe {
            let mut rows = [V::splat(0.0); 8];
            for c in 0..8 {
                rows[c] = V::load(planes.as_ptr().add(c * plane + x));
            }
            for (i, pixel) in V::transpose(rows).into_iter().enumerate() {
                pixel.store(to.as_mut_ptr().add(8 * (x + i)));
            }
        }
    }
    for x in whole..w {
        for c in 0..8 {
            to[8 * x + c] = planes[c * plane + x];
        }
    }
}

/// Writes eight channels' planes of `h` rows of `w` pixels, of which `plane` is the distance, from pixels side by side in rows of `width`, with a bias added.
pub(in super::super) fn gather(
    machine: Machine,
    from: &[f32],
    width: usize,
    [h, w]: [usize; 2],
    bias: [f32; 8],
    plane: usize,
    planes: &mut [f32],
) {
    assert!(w <= width && from.len() >= 8 * width * h && plane >= h * w);
    assert!(h * w == 0 || planes.len() >= 7 * plane + h * w);
    for y in 0..h {
        // SAFETY: `from` holds `w` pixels of this row, and each of the planes a row.
        unsafe {
            let (row, to) = (&from[8 * y * width..], &mut planes[y * w..]);
            compiled!(machine, gather_row, gather_row_avx2, row, w, bias, plane, to);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn gather_row_avx2(from: &[f32], w: usize, bias: [f32; 8], plane: usize, planes: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { gather_row::<std::arch::x86_64::__m256>(from, w, bias, plane, planes) }
}

/// # Safety
/// `from` holds `w` pixels, and `planes` as many floats seven planes after the first; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn gather_row<V: Eight>(from: &[f32], w: usize, bias: [f32; 8], plane: usize, planes: &mut [f32]) {
    let whole = w / 8 * 8;
    for x in (0..whole).step_by(8) {
        // SAFETY: `x + 8 <= w`.
        unsafe {
            let shift = V::load(bias.as_ptr());
            let mut pixels = [shift; 8];
            for i in 0..8 {
                pixels[i] = V::load(from.as_ptr().add(8 * (x + i))).add(shift);
            }
            for (c, row) in V::transpose(pixels).into_iter().enumerate() {
                row.store(planes.as_mut_ptr().add(c * plane + x));
            }
        }
    }
    for x in whole..w {
        for c in 0..8 {
            planes[c * plane + x] = from[8 * x + c] + bias[c];
        }
    }
}

/// Writes `B' d B` of the patches `d` of 6 x 6 pixels, 4 apart.
pub(in super::super) fn inputs(machine: Machine, grid: &Grid, plane: &[f32], to: &mut [f32]) {
    grid.check(6, plane.len(), to.len());
    // SAFETY: checked above.
    unsafe { compiled!(machine, inputs_all, inputs_avx2, grid, plane, to) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn inputs_avx2(grid: &Grid, plane: &[f32], to: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { inputs_all::<std::arch::x86_64::__m256>(grid, plane, to) }
}

/// # Safety
/// As [`Grid::check`]; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn inputs_all<V: Eight>(grid: &Grid, plane: &[f32], to: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { patches_in::<V, Input, 6>(grid, plane, to) }
}

/// Writes `A y A'` of the patches `y` of 4 x 4 pixels.
pub(in super::super) fn slopes(machine: Machine, grid: &Grid, plane: &[f32], to: &mut [f32]) {
    grid.check(4, plane.len(), to.len());
    // SAFETY: checked above.
    unsafe { compiled!(machine, slopes_all, slopes_avx2, grid, plane, to) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn slopes_avx2(grid: &Grid, plane: &[f32], to: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { slopes_all::<std::arch::x86_64::__m256>(grid, plane, to) }
}

/// # Safety
/// As [`Grid::check`]; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn slopes_all<V: Eight>(grid: &Grid, plane: &[f32], to: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { patches_in::<V, Slope, 4>(grid, plane, to) }
}

/// # Safety
/// As [`Grid::check`] with patches of `N` pixels; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn patches_in<V: Vector, T: Transform<N>, const N: usize>(grid: &Grid, plane: &[f32], to: &mut [f32]) {
    let [down, across] = grid.patches;
    for patch in 0..down * across {
        let corner = 8 * (4 * (patch / across) * grid.width + 4 * (patch % across));
        // SAFETY: the caller's.
        unsafe {
            let from = plane.as_ptr().add(corner);
            let to = to.as_mut_ptr().add(patch * grid.patch);
            let mut half = [[V::splat(0.0); 6]; N];
            for j in 0..N {
                let mut column = [V::splat(0.0); N];
                for i in 0..N {
                    column[i] = V::load(from.add(8 * (i * grid.width + j)));
                }
                half[j] = T::of(column);
            }
            for i in 0..6 {
                let mut row = [V::splat(0.0); N];
                for j in 0..N {
                    row[j] = half[j][i];
                }
                let row = T::of(row);
                for j in 0..6 {
                    row[j].store(to.add((6 * i + j) * grid.place));
                }
            }
        }
    }
}

/// Writes `A' m A`, patches of 4 x 4 pixels side by side, of the products `m`.
pub(in super::super) fn outputs(machine: Machine, grid: &Grid, products: &[f32], plane: &mut [f32]) {
    grid.check(4, plane.len(), products.len());
    // SAFETY: checked above.
    unsafe { compiled!(machine, outputs_all, outputs_avx2, grid, products, plane) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn outputs_avx2(grid: &Grid, products: &[f32], plane: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { outputs_all::<std::arch::x86_64::__m256>(grid, products, plane) }
}

/// # Safety
/// As [`Grid::check`]; inlined into a function with the instructions of `V`.
#[inline(always)]
unsafe fn outputs_all<V: Eight>(grid: &Grid, products: &[f32], plane: &mut [f32]) {
    let [down, across] = grid.patches;
    for patch in 0..down * across {
        let corner = 8 * (4 * (patch / across) * grid.width + 4 * (patch % across));
        // SAFETY: the caller's.
        unsafe {
            let from = products.as_ptr().add(patch * grid.patch);
            let to = plane.as_mut_ptr().add(corner);
            let mut half = [[V::splat(0.0); 4]; 6];
            for j in 0..6 {
                let mut column = [V::splat(0.0); 6];
                for i in 0..6 {
                    column[i] = V::load(from.add((6 * i + j) * grid.place));
                }
                half[j] = output(column);
            }
            for i in 0..4 {
                let mut row = [V::splat(0.0); 6];
                for j in 0..6 {
                    row[j] = half[j][i];
                }
                let row = output(row);
                for j in 0..4 {
                    row[j].store(to.add(8 * (i * grid.width + j)));
                }
            }
        }
    }
}

/// From `N` pixels in a line to the six places of a patch.
trait Transform<const N: usize> {
    fn of<V: Vector>(pixels: [V; N]) -> [V; 6];
}

/// `B' d`.
struct Input;

impl Transform<6> for Input {
    #[inline(always)]
    fn of<V: Vector>(d: [V; 6]) -> [V; 6] {
        let (product, sum) = (NEAR * NEAR * FAR * FAR, NEAR * NEAR + FAR * FAR);
        let (even, odd) = (times(-FAR * FAR, d[2], d[4]), times(-FAR * FAR, d[1], d[3]));
        let (even_far, odd_far) = (times(-NEAR * NEAR, d[2], d[4]), times(-NEAR * NEAR, d[1], d[3]));
        [
            times(product, d[0], times(-sum, d[2], d[4])),
            times(NEAR, odd, even),
            times(-NEAR, odd, even),
            times(FAR, odd_far, even_far),
            times(-FAR, odd_far, even_far),
            times(product, d[1], times(-sum, d[3], d[5])),
        ]
    }
}

/// `A y`.
struct Slope;

impl Transform<4> for Slope {
    #[inline(always)]
    fn of<V: Vector>(y: [V; 4]) -> [V; 6] {
        let (even, odd) = (times(NEAR * NEAR, y[2], y[0]), times(NEAR * NEAR, y[3], y[1]));
        let (even_far, odd_far) = (times(FAR * FAR, y[2], y[0]), times(FAR * FAR, y[3], y[1]));
        [
            y[0],
            times(NEAR, odd, even),
            times(-NEAR, odd, even),
            times(FAR, odd_far, even_far),
            times(-FAR, odd_far, even_far),
            y[3],
        ]
    }
}

/// `A' m`.
#[inline(always)]
fn output<V: Vector>(m: [V; 6]) -> [V; 4] {
    let (even, odd) = (m[1].add(m[2]), m[1].subtract(m[2]));
    let (even_far, odd_far) = (m[3].add(m[4]), m[3].subtract(m[4]));
    let zero = V::splat(0.0);
    [
        m[0].add(even).add(even_far),
        times(NEAR, odd, times(FAR, odd_far, zero)),
        times(NEAR * NEAR, even, times(FAR * FAR, even_far, zero)),
        times(NEAR * NEAR * NEAR, odd, times(FAR * FAR * FAR, odd_far, m[5])),
    ]
}

/// `factor * of + sum`.
#[inline(always)]
fn times<V: Vector>(factor: f32, of: V, sum: V) -> V {
    of.multiply_add(V::splat(factor), sum)
}
