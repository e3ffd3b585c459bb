//! Fill first.

/// The first of `count` that may be chosen, in the order of the file: the others stay idle until it
/// cannot take more.
pub fn first(count: usize, may: impl Fn(usize) -> bool) -> Option<usize> {
    (0..count).find(|&at| may(at))
}
