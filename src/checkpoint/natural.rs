//! The order in which names are listed: runs of digits compare as numbers.

use std::cmp::Ordering;

/// Compares two names so that `layer.2` comes before `layer.10`.
///
/// Names that differ only in leading zeros are told apart by their bytes, so the order is total.
///
/// ```
/// use fnl::checkpoint::natural_order;
/// let mut names = ["layer.10.weight", "layer.2.weight", "head.weight"];
/// names.sort_by(|a, b| natural_order(a, b));
/// assert_eq!(names, ["head.weight", "layer.2.weight", "layer.10.weight"]);
/// ```
#[must_use]
pub fn natural_order(left: &str, right: &str) -> Ordering {
    let (mut a, mut b) = (left.as_bytes(), right.as_bytes());
    while let (Some(&x), Some(&y)) = (a.first(), b.first()) {
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (number_a, rest_a) = split_number(a);
            let (number_b, rest_b) = split_number(b);
            // Without leading zeros the longer number is the larger one.
            let order = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (rest_a, rest_b);
        } else if x == y {
            (a, b) = (&a[1..], &b[1..]);
        } else {
            return x.cmp(&y);
        }
    }
    a.len().cmp(&b.len()).then_with(|| left.cmp(right))
}

/// Splits the digits at the front off, without their leading zeros.
fn split_number(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    let (digits, rest) = bytes.split_at(end);
    let zeros = digits.iter().position(|&byte| byte != b'0').unwrap_or(digits.len());
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_as_numbers_and_the_order_is_total() {
        assert_eq!(natural_order("h.9.a", "h.10.a"), Ordering::Less);
        assert_eq!(natural_order("h.99999999999999999999999", "h.100000000000000000000000"), Ordering::Less);
        assert_eq!(natural_order("a.01", "a.1"), Ordering::Less);
        assert_eq!(natural_order("a.1", "a.01"), Ordering::Greater);
        assert_eq!(natural_order("a.1", "a.1.b"), Ordering::Less);
        assert_eq!(natural_order("a", "a"), Ordering::Equal);
    }
}
