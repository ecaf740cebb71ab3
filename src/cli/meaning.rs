//! What the typed arguments mean: a recipe and options.

use super::arguments::{CalibrationArguments, CompressArguments, SelectionArguments};
use super::output::Failure;
use super::values::SchemeValue;
use crate::checkpoint::{Checkpoint, RECORD_KEY, Source};
use crate::commands::{CalibrationOptions, CompressOptions, RunFile};
use crate::data::Material;
use crate::decompose::Method;
use crate::plan::{CalibrationRule, Effect, Pattern, RankRule, Recipe, Rule, Selector};
use crate::report::Check;
use crate::train::TrainingOptions;
use anyhow::Context as _;
use clap::ArgMatches;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

pub(super) fn compress_options(
    arguments: &CompressArguments,
    matches: &ArgMatches,
) -> Result<CompressOptions, Failure> {
    let Some(source) = arguments.checkpoint.clone() else {
        return Err(Failure::usage("no checkpoint is named".to_owned()));
    };
    let mut options = CompressOptions::new(source, recipe(arguments, matches)?);
    options.output.clone_from(&arguments.out);
    let slash = arguments
        .out
        .as_ref()
        .is_some_and(|out| out.as_os_str().to_string_lossy().ends_with(std::path::MAIN_SEPARATOR));
    let is_file = matches!(&options.source, Source::Path(path) if path.is_file()) && !slash;
    if arguments.max_shard_size.is_some() && is_file {
        let problem =
            "--max-shard-size splits a folder's weights: a file stays one, unless the output ends in a slash";
        return Err(Failure::usage(problem.to_owned()));
    }
    options.limits = arguments.machine.limits();
    options.overwrite = arguments.overwrite;
    options.recalibrate.clone_from(&arguments.recalibrate);
    options.architecture = arguments.arch;
    let on_pictures = matches!(arguments.calibration.calibrate, Some(Material::Images(_)))
        || arguments.recalibrate.is_some();
    if arguments.arch.is_some() && !on_pictures {
        let problem = "--arch is for a network that is run over pictures, by --calibrate or --recalibrate";
        return Err(Failure::usage(problem.to_owned()));
    }
    options.calibration = calibration(&arguments.calibration, arguments.overwrite);
    options.dry_run = arguments.dry_run;
    // A dry run measures no error: what the spectra promise stands in for it.
    options.spectra = arguments.report.is_some() || (arguments.dry_run && arguments.max_error.is_some());
    options.checks.extend(arguments.max_error.map(Check::MaxError));
    options.checks.extend(arguments.max_keep.map(Check::MaxKeep));
    options.checks.extend(arguments.fail_if_unchanged.then_some(Check::FailIfUnchanged));
    Ok(options)
}

fn recipe(arguments: &CompressArguments, matches: &ArgMatches) -> Result<Recipe, Failure> {
    let mut recipe = match &arguments.selection.recipe {
        Some(path) => read_recipe(path)?,
        None => Recipe::default(),
    };
    if let Some(save) = arguments.save {
        recipe.save = save.into();
    }
    if let Some(dtype) = arguments.dtype {
        recipe.dtype = dtype.into();
    }
    let given = calibration(&arguments.calibration, arguments.overwrite);
    calibrate(&mut recipe, &arguments.calibration, &given)?;
    recipe.max_shard_bytes = arguments.max_shard_size.map(|size| size.0).or(recipe.max_shard_bytes);
    select(&mut recipe, &arguments.selection, matches)?;
    Ok(recipe)
}

/// Where what a model does with data is taken from.
pub(super) fn calibration(arguments: &CalibrationArguments, overwrite: bool) -> CalibrationOptions {
    let mut options = CalibrationOptions::default();
    options.data.clone_from(&arguments.calibrate);
    options.statistics.clone_from(&arguments.statistics);
    options.save.clone_from(&arguments.save_statistics);
    options.overwrite = overwrite;
    options
}

/// Adds to a recipe what the flags say of methods that know the data.
pub(super) fn calibrate(
    recipe: &mut Recipe,
    arguments: &CalibrationArguments,
    given: &CalibrationOptions,
) -> Result<(), Failure> {
    let calibrated = given.is_given();
    match arguments.method {
        Some(method) => recipe.method = method.into(),
        None if calibrated && recipe.method == Method::Plain => recipe.method = Method::Fisher,
        None => {}
    }
    let samples = arguments.calibration_tokens.or(arguments.calibration_images);
    if !calibrated {
        let stray = samples.is_some()
            || arguments.calibration_seed.is_some()
            || arguments.save_statistics.is_some()
            || arguments.calibration_inputs.is_some();
        let missing = "there is no calibration: --calibrate text:FILE or cifar10:DIR runs the model";
        return if stray { Err(Failure::usage(missing.to_owned())) } else { Ok(()) };
    }
    let pictures = matches!(given.data, Some(Material::Images(_)));
    match (&given.data, arguments.calibration_tokens, arguments.calibration_images) {
        (Some(Material::Images(_)), Some(_), _) => {
            return Err(Failure::usage("--calibration-tokens says nothing of pictures".to_owned()));
        }
        (Some(Material::Text(_) | Material::Parallel(_)), _, Some(_)) => {
            return Err(Failure::usage("--calibration-images says nothing of texts".to_owned()));
        }
        _ => {}
    }
    let fresh = if pictures { CalibrationRule::for_images() } else { CalibrationRule::default() };
    let rule = recipe.calibration.get_or_insert(fresh);
    if samples.is_some() || arguments.calibration_seed.is_some() {
        // Another choice of samples than the recipe's.
        rule.data = None;
    }
    rule.inputs = arguments.calibration_inputs.map_or(rule.inputs, Into::into);
    rule.samples = samples.unwrap_or(rule.samples);
    rule.seed = arguments.calibration_seed.unwrap_or(rule.seed);
    Ok(())
}

/// Adds to a recipe what the flags say of layers and ranks.
pub(super) fn select(
    recipe: &mut Recipe,
    selection: &SelectionArguments,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    recipe.conv_scheme =
        selection.scheme.and_then(SchemeValue::of_convolutions).unwrap_or(recipe.conv_scheme);
    if let Some(allocate) = selection.allocate {
        recipe.allocate = allocate.into();
    }
    if let Some(svd) = selection.svd {
        recipe.svd = svd.into();
    }
    recipe.round_to = selection.round_to.or(recipe.round_to);
    let rule = flag_rule(selection, matches)?;
    match &rule {
        Some(rule) if rule.rank.is_none() && (!selection.target.is_empty() || recipe.rules.is_empty()) => {
            return Err(Failure::usage(no_rank("the selected layers get no rank")));
        }
        None if recipe.rules.is_empty() && selection.recipe.is_none() => {
            return Err(Failure::usage(no_rank("no rank is given")));
        }
        _ => {}
    }
    if let Some(rule) = rule {
        recipe.rules.insert(0, rule);
    }
    if recipe.rules.is_empty() {
        return Err(Failure::new("the recipe has no rule".to_owned()));
    }
    recipe.check().map_err(|error| Failure::usage(error.to_string()))
}

pub(super) fn no_rank(what: &str) -> String {
    format!("{what}: one of --rank, --rank-ratio, --energy, --keep, --layer-keep is needed")
}

/// The rule that the flags describe, if they do: selectors in the order in which they were written.
fn flag_rule(arguments: &SelectionArguments, matches: &ArgMatches) -> Result<Option<Rule>, Failure> {
    let mut selectors: Vec<(usize, Selector)> = Vec::new();
    for (flag, texts, effect) in
        [("target", &arguments.target, Effect::Target), ("ignore", &arguments.ignore, Effect::Ignore)]
    {
        let places = matches.indices_of(flag).into_iter().flatten();
        for (place, text) in places.zip(texts) {
            let pattern = Pattern::parse(text).map_err(|error| Failure::usage(error.to_string()))?;
            selectors.push((place, Selector { pattern, effect }));
        }
    }
    selectors.sort_by_key(|(place, _)| *place);
    let rank = arguments
        .rank
        .map(|ranks| if ranks.is_one() { RankRule::Rank(ranks.largest()) } else { RankRule::Ranks(ranks) })
        .or(arguments.rank_ratio.map(RankRule::RankRatio))
        .or(arguments.energy.map(RankRule::Energy))
        .or(arguments.keep.map(RankRule::Keep))
        .or(arguments.layer_keep.map(RankRule::LayerKeep))
        // Three factors are of full rank unless they are told not to be.
        .or((arguments.scheme == Some(SchemeValue::Deep)).then_some(RankRule::RankRatio(1.0)));
    let scheme = arguments.scheme.and_then(SchemeValue::of_rule);
    if selectors.is_empty() && rank.is_none() {
        if scheme.is_some() || arguments.objective.is_some() || arguments.pairs.is_some() {
            return Err(Failure::usage(no_rank("--scheme, --objective and --pairs go with a rank")));
        }
        return Ok(None);
    }
    let selectors = selectors.into_iter().map(|(_, selector)| selector).collect();
    let (objective, pairs) = (arguments.objective.map(Into::into), arguments.pairs.clone());
    Ok(Some(Rule { selectors, scheme, objective, pairs, rank, ..Rule::default() }))
}

/// A recipe from a TOML file, or from what an earlier run wrote.
pub(super) fn read_recipe(path: &Path) -> anyhow::Result<Recipe> {
    let place = path.display();
    let is_checkpoint = path.is_dir() || path.extension().is_some_and(|extension| extension == "safetensors");
    let stored = if is_checkpoint {
        let checkpoint = Checkpoint::open_path(path)?;
        let report = path.join("report.json");
        match checkpoint.record() {
            Some(record) => record.recipe.clone(),
            // A collapsed one has no record, and the report of how it was made.
            None if report.is_file() => return read_recipe(&report),
            None => anyhow::bail!("`{place}` is not factored: it has no recipe"),
        }
    } else {
        let text = std::fs::read_to_string(path).with_context(|| format!("can't read `{place}`"))?;
        if path.extension().is_none_or(|extension| extension != "json") {
            // The options of a run have its recipe in a table of its own.
            let run = text.parse::<toml::Table>().ok().filter(|table| table.contains_key("recipe"));
            return match run {
                Some(_) => RunFile::parse(&text, &TrainingOptions::fine_tuning())
                    .map_err(anyhow::Error::from)
                    .and_then(|run| run.recipe.context("it has no recipe")),
                None => Recipe::parse_toml(&text).map_err(anyhow::Error::from),
            }
            .with_context(|| format!("recipe `{place}`"));
        }
        let value: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("`{place}` is not JSON"))?;
        let inside = |key: &str| value.get(key)?.get("recipe");
        let recipe = value.get("recipe").or_else(|| inside(RECORD_KEY)).or_else(|| inside("options"));
        recipe.with_context(|| format!("`{place}` holds no recipe: no key `recipe`"))?.clone()
    };
    Recipe::from_json(&stored).with_context(|| format!("`{place}`"))
}

/// Refuses a page that could not be written, or that would replace or lie in what is read or written, before
/// the work begins.
pub(super) fn refuse_page(
    page: &Path,
    recipe: Option<&Path>,
    source: &Source,
    output: Option<&Path>,
    overwrite: bool,
) -> Result<(), Failure> {
    let place = page.display();
    if page.is_dir() {
        return Err(Failure::new(format!("`{place}` is a folder, expected the name of a file")));
    }
    let in_output = || Failure::new(format!("the page `{place}` lies inside the output"));
    if output.is_some_and(|output| page.starts_with(output)) {
        return Err(in_output());
    }
    let folder = folder_of(page);
    let Ok(resolved) = folder.canonicalize() else {
        return Err(Failure::new(format!("the folder `{}` does not exist", folder.display())));
    };
    let page = page.canonicalize().unwrap_or_else(|_| resolved.join(page.file_name().unwrap_or_default()));
    if page.exists() && !page.is_file() {
        return Err(Failure::new(format!("the page `{place}` would replace what is no file")));
    }
    let inside = |other: &Path| {
        let parent = folder_of(other).canonicalize().unwrap_or_default();
        let other =
            other.canonicalize().unwrap_or_else(|_| parent.join(other.file_name().unwrap_or_default()));
        page.starts_with(other)
    };
    if output.is_some_and(inside) {
        return Err(in_output());
    }
    // Its files may lie elsewhere, behind links.
    let is_weights = |input: &Path| {
        let files =
            Checkpoint::open_path(input).map(|checkpoint| checkpoint.files().to_vec()).unwrap_or_default();
        files.iter().any(|file| same_file(&page, file) || file.canonicalize().is_ok_and(|file| file == page))
    };
    if let Source::Path(input) = source
        && (inside(input) || same_file(&page, input) || (page.exists() && is_weights(input)))
    {
        return Err(Failure::new(format!("the page `{place}` would change the input `{}`", input.display())));
    }
    if recipe.is_some_and(|recipe| inside(recipe) || same_file(&page, recipe)) {
        return Err(Failure::new(format!("the page `{place}` would replace the recipe")));
    }
    if !overwrite && page.exists() && !is_page(&page) {
        return Err(Failure::new(format!("the page `{place}` would replace a file that is no such page")));
    }
    let probe = tempfile::NamedTempFile::new_in(&resolved);
    probe
        .map(drop)
        .map_err(|error| Failure::new(format!("can't write to `{}`: {}", folder.display(), error.kind())))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two names are one file, by a hard link for instance.
#[cfg(unix)]
fn same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    identity(one).is_some() && identity(one) == identity(other)
}

#[cfg(not(unix))]
fn same_file(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok().is_some_and(|one| Some(one) == other.canonicalize().ok())
}

/// Whether a file is a page of an earlier run, which a new one replaces.
fn is_page(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(1024).read_to_end(&mut start));
    read.is_ok() && String::from_utf8_lossy(&start).contains(crate::report::GENERATOR)
}
