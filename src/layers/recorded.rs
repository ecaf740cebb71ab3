use crate::checkpoint::ModuleRecord;
use crate::decompose::{Format, Layout, Pairs, Ranks, Scheme};

/// Elements of a weight at most: more than any memory holds, and few enough for the square of a weight's size.
const MOST_ELEMENTS: usize = 1 << 40;

/// The format and the ranks of a module, as its record says them; or what is wrong with it.
pub(crate) fn recorded(module: &ModuleRecord) -> Result<(Format, Ranks), String> {
    let layout = Layout::from_name(&module.kind)
        .ok_or_else(|| format!("kind `{}` is not known to this version", module.kind))?;
    let format = format_of(module, layout, &module.shape, module.groups.unwrap_or(1))?;
    let ranks = ranks_in(module, &format)?;
    Ok((format, ranks))
}

/// The format that a record says, of a weight that is known from elsewhere.
pub(super) fn format_of(
    module: &ModuleRecord,
    layout: Layout,
    shape: &[usize],
    groups: usize,
) -> Result<Format, String> {
    // Products of sizes are taken for granted from here on.
    let within = |sizes: &[usize]| {
        let product = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size.max(1)));
        product.is_some_and(|all| all <= MOST_ELEMENTS)
    };
    if !within(shape) || !within(module.pairs.as_flattened()) {
        return Err(format!("shape {shape:?}, pairs {:?}: no weight is as large", module.pairs));
    }
    let scheme = Scheme::from_name(&module.scheme)
        .ok_or_else(|| format!("scheme `{}` is not known to this version", module.scheme))?;
    let pairs = if module.pairs.is_empty() { Pairs::default() } else { Pairs::Sizes(module.pairs.clone()) };
    Format::new(layout, scheme, shape, groups, &pairs).map_err(|error| error.to_string())
}

/// The ranks that a record says, which are those of its format.
pub(super) fn ranks_in(module: &ModuleRecord, format: &Format) -> Result<Ranks, String> {
    let expected = format.max_ranks().values().len();
    let ranks = if module.ranks.is_empty() {
        Ok(Ranks::from(module.rank))
    } else {
        Ranks::new(&module.ranks).map_err(|error| error.to_string())
    };
    let ranks = ranks?;
    let too_large = ranks.values().iter().any(|&rank| rank > MOST_ELEMENTS);
    if ranks.values().len() != expected || ranks.values().contains(&0) || too_large {
        return Err(format!("recorded ranks are {ranks}, expected {expected} of at least 1"));
    }
    Ok(ranks)
}

/// What a record says of a format and its ranks.
pub(crate) fn record_of(format: &Format, ranks: &Ranks) -> ModuleRecord {
    let several = if ranks.is_one() { Vec::new() } else { ranks.values().to_vec() };
    ModuleRecord {
        kind: format.layout().name().to_owned(),
        scheme: format.scheme().name().to_owned(),
        rank: ranks.largest(),
        ranks: several,
        pairs: format.pairs().unwrap_or_default().to_vec(),
        shape: format.shape().to_vec(),
        ..ModuleRecord::default()
    }
}
