//! What a rank costs, and from where on it doesn't pay.

use fnl::decompose::{Layout, Scheme, Unfolding};

#[test]
fn the_costs_are_those_of_the_table() {
    // layout, scheme, shape, groups; rows, columns, parameters a rank, break-even, multiply-adds a rank at stride 2
    type Case = (Layout, Scheme, &'static [usize], usize, [usize; 5]);
    let cases: [Case; 8] = [
        (Layout::Linear, Scheme::Matrix, &[384, 1536], 1, [384, 1536, 1920, 307, 1920]),
        (Layout::TransposedLinear, Scheme::Matrix, &[48, 144], 1, [144, 48, 192, 35, 192]),
        // A lookup costs nothing, the linear layer after it `d r`.
        (Layout::Embedding, Scheme::Matrix, &[1000, 32], 1, [1000, 32, 1032, 31, 32]),
        (Layout::Conv1d, Scheme::Channel, &[64, 128, 3], 1, [64, 384, 448, 54, 448]),
        // r (o kh + i kw): the columns run at twice as many rows as the output has.
        (Layout::Conv2d, Scheme::Spatial, &[16, 8, 3, 3], 1, [48, 24, 72, 15, 96]),
        (Layout::Conv2d, Scheme::Channel, &[16, 8, 3, 3], 1, [16, 72, 88, 13, 88]),
        (Layout::Conv2d, Scheme::Spatial, &[32, 8, 3, 3], 4, [24, 24, 192, 11, 288]),
        (Layout::Conv2d, Scheme::Channel, &[32, 8, 3, 3], 4, [8, 72, 320, 7, 320]),
    ];
    for (layout, scheme, shape, groups, [rows, cols, per_rank, break_even, adds]) in cases {
        let unfolding = Unfolding::new(layout, scheme, shape, groups).unwrap();
        let found = [
            unfolding.rows(),
            unfolding.cols(),
            unfolding.parameters_per_rank(),
            unfolding.break_even_rank(),
            unfolding.multiply_adds_per_rank(2),
        ];
        assert_eq!(found, [rows, cols, per_rank, break_even, adds], "{layout:?} {scheme} {shape:?} {groups}");
        assert_eq!(unfolding.max_rank(), rows.min(cols));
    }
}

#[test]
fn break_even_is_the_last_rank_that_saves_and_shapes_add_up_to_the_cost() {
    for groups in [1, 2, 4] {
        for o in [4, 8, 12] {
            for (i, kh, kw) in [(1, 1, 1), (3, 3, 3), (5, 1, 4), (2, 5, 1), (16, 2, 2)] {
                for scheme in [Scheme::Spatial, Scheme::Channel] {
                    let unfolding = Unfolding::new(Layout::Conv2d, scheme, &[o, i, kh, kw], groups).unwrap();
                    let dense = o * i * kh * kw;
                    let cost = |rank: usize| -> usize {
                        unfolding
                            .factor_shapes(rank)
                            .iter()
                            .map(|shape| shape.iter().product::<usize>())
                            .sum()
                    };
                    let last =
                        (1..=unfolding.max_rank()).filter(|&rank| cost(rank) < dense).max().unwrap_or(0);
                    assert_eq!(unfolding.break_even_rank(), last, "{scheme} {o} {i} {kh} {kw} {groups}");
                    for rank in 1..=unfolding.max_rank() {
                        assert_eq!(cost(rank), rank * unfolding.parameters_per_rank());
                        assert_eq!(unfolding.rank_of(&unfolding.factor_shapes(rank)[0]), Some(rank));
                    }
                }
            }
        }
    }
}

#[test]
fn a_kernel_of_one_tap_is_the_linear_layer_under_both_schemes() {
    let weight: Vec<f64> = (0..48).map(|i| f64::from(i * 7 % 11) - 4.5).collect();
    let options = fnl::linalg::SvdOptions::default();
    let linear = Unfolding::new(Layout::Linear, Scheme::Matrix, &[8, 6], 1).unwrap();
    let expected = fnl::decompose::factor(&weight, &linear, 3, &options).unwrap().factors;
    for scheme in [Scheme::Spatial, Scheme::Channel] {
        let unfolding = Unfolding::new(Layout::Conv2d, scheme, &[8, 6, 1, 1], 1).unwrap();
        let found = fnl::decompose::factor(&weight, &unfolding, 3, &options).unwrap().factors;
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.shape[..2], expected.shape);
            // The same matrix may lie in memory differently, which may change the last bits.
            let apart = crate::reference::distance(&found.data, &expected.data);
            assert!(apart <= 1e-13 * crate::reference::norm(&weight), "{scheme}: {apart:e}");
        }
    }
}
