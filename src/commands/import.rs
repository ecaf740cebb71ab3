use super::CommandError;
use super::weights;
use crate::checkpoint::{GgufFile, OutputOptions, OutputTensor, Staging, dtype_bits, natural_order, numeric};
use crate::data::{GgufTokenizer, TextTokenizer};
use crate::models::{GgufModel, TextConfig};
use crate::plan::OutputDtype;
use crate::report::{ImportReport, ImportedTokenizer};
use crate::train::TrainingProgress;
use indexmap::IndexMap;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a folder's tokenizer may consist of, its `tokenizer.json` first.
const TOKENIZER_FILES: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

/// What [`import`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImportOptions {
    /// The GGUF file.
    pub source: PathBuf,
    /// The folder to write.
    pub output: PathBuf,
    /// The type of elements written; `Keep` is F32, in which blocks are multiplied out exactly.
    pub dtype: OutputDtype,
    /// A folder with `tokenizer.json`, instead of the file's own tokenizer.
    pub tokenizer: Option<PathBuf>,
    /// The most bytes of tensors in one file.
    pub max_shard_bytes: u64,
    /// Whether a checkpoint of this name is replaced.
    pub overwrite: bool,
}

impl ImportOptions {
    /// Options for one file and folder.
    #[must_use]
    pub fn new(source: PathBuf, output: PathBuf) -> Self {
        let defaults = OutputOptions::directory(&output);
        Self {
            source,
            output,
            dtype: OutputDtype::F32,
            tokenizer: None,
            max_shard_bytes: defaults.max_shard_bytes,
            overwrite: defaults.overwrite,
        }
    }
}

/// Writes the model of a GGUF file as a Hugging Face folder: weights with its names and shapes, `config.json`,
/// `generation_config.json`, `tokenizer.json` and `tokenizer_config.json`.
///
/// Weights go through memory one tensor at a time.
///
/// # Dtypes
///
/// Blocks are multiplied out in `f32`, exactly, and rounded once to F16 or BF16 where that is asked for.
///
/// # Errors
///
/// - [`CommandError::Gguf`], [`CommandError::GgufModel`], [`CommandError::GgufTokenizer`] when the file is broken or of a kind
///   that is not known here;
/// - [`CommandError::Text`] when `tokenizer` has no usable `tokenizer.json`;
/// - [`CommandError::Output`] when the output cannot be written; [`CommandError::Numeric`] when elements are too large for F16
pub fn import(
    options: &ImportOptions,
    progress: &dyn TrainingProgress,
) -> Result<ImportReport, CommandError> {
    let start = Instant::now();
    let file = GgufFile::open(&options.source)?;
    let mut model = GgufModel::of(&file)?;
    let config = TextConfig::from_json(&model.config)?;
    let (side_files, tokenizer) = match &options.tokenizer {
        Some(folder) => taken(folder, config.longest())?,
        None => made(&file)?,
    };
    if tokenizer.tokens > config.vocabulary() {
        let rows = config.vocabulary();
        let problem = format!("the tokenizer has {} tokens, and the embedding {rows} rows", tokenizer.tokens);
        return Err(CommandError::Unfit { problems: vec![problem] });
    }
    let (dtype, name) = match options.dtype {
        OutputDtype::F16 => (crate::checkpoint::Dtype::F16, "float16"),
        OutputDtype::Bf16 => (crate::checkpoint::Dtype::BF16, "bfloat16"),
        OutputDtype::Keep | OutputDtype::F32 => (crate::checkpoint::Dtype::F32, "float32"),
    };
    let mut tensors: Vec<OutputTensor> = model
        .tensors
        .iter()
        .map(|tensor| OutputTensor { name: tensor.name.clone(), dtype, shape: tensor.shape.clone() })
        .collect();
    tensors.sort_by(|one, other| natural_order(&one.name, &other.name));
    let mut output = OutputOptions::directory(&options.output);
    output.max_shard_bytes = options.max_shard_bytes;
    output.overwrite = options.overwrite;
    let names = side_files.iter().map(|(name, _)| Path::new(name).to_path_buf());
    output.side_files = names.chain(["generation_config.json".into()]).collect();
    Staging::check(&output, std::slice::from_ref(&options.source), &tensors)?;
    let staging = Staging::create(&output, &tensors)?;
    progress.pass("importing", model.tensors.len());
    let (mut parameters, mut blocks) = (0, IndexMap::new());
    for tensor in &model.tensors {
        // what is missing was refused with the model
        let Some(source) = file.tensor(&tensor.source) else { continue };
        let elements = tensor.arrangement.apply(file.read(source)?, &tensor.shape);
        let bytes = numeric::narrow_f32(&elements, dtype).map_err(weights::numeric_error(&tensor.name))?;
        staging.write(&tensor.name, &bytes)?;
        parameters += elements.len() as u64;
        *blocks.entry(source.block.to_string()).or_insert(0) += 1;
        progress.seen(1);
    }
    progress.passed();
    if let Value::Object(fields) = &mut model.config {
        fields.insert("dtype".to_owned(), json!(name));
    }
    staging.add_file(Path::new("config.json"), &pretty(&model.config))?;
    staging.add_file(Path::new("generation_config.json"), &pretty(&model.generation))?;
    for (name, contents) in side_files {
        staging.add_file(Path::new(name), &contents)?;
    }
    staging.publish(None)?;
    Ok(ImportReport {
        schema_version: crate::report::SCHEMA_VERSION,
        tool: crate::TOOL.to_owned(),
        command: "import",
        input: options.source.display().to_string(),
        output: options.output.display().to_string(),
        model_type: model.config["model_type"].as_str().unwrap_or_default().to_owned(),
        tensors: model.tensors.len(),
        parameters,
        longest: config.longest(),
        blocks,
        tokenizer,
        dtype: crate::checkpoint::dtype_name(dtype),
        bytes_before: file.size_bytes(),
        bytes_after: parameters * dtype_bits(dtype) as u64 / 8,
        elapsed_secs: start.elapsed().as_secs_f64(),
    })
}

type SideFiles = Vec<(&'static str, Vec<u8>)>;

/// The tokenizer's files, made from the GGUF file.
fn made(file: &GgufFile) -> Result<(SideFiles, ImportedTokenizer), CommandError> {
    let made = GgufTokenizer::of(file)?;
    let kind = ["model", "pre"]
        .into_iter()
        .filter_map(|key| file.text_if(&format!("tokenizer.ggml.{key}")).ok().flatten().map(str::to_owned));
    let tokenizer = ImportedTokenizer {
        from: kind.collect::<Vec<_>>().join(", "),
        tokens: made.tokens,
        chat_template: made.config.get("chat_template").is_some(),
    };
    let files =
        vec![("tokenizer.json", pretty(&made.tokenizer)), ("tokenizer_config.json", pretty(&made.config))];
    Ok((files, tokenizer))
}

/// The tokenizer's files, out of a folder.
fn taken(folder: &Path, longest: usize) -> Result<(SideFiles, ImportedTokenizer), CommandError> {
    let tokens = TextTokenizer::open(folder, longest)?.vocabulary();
    let mut files = SideFiles::new();
    for name in TOKENIZER_FILES {
        let path = folder.join(name);
        match std::fs::read(&path) {
            Ok(contents) => files.push((name, contents)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(CommandError::SideFile { what: "can't read", path, source }),
        }
    }
    let template = |(name, contents): &(&str, Vec<u8>)| match *name {
        "chat_template.jinja" => true,
        "tokenizer_config.json" => serde_json::from_slice::<Value>(contents)
            .is_ok_and(|config| config.get("chat_template").is_some_and(|template| !template.is_null())),
        _ => false,
    };
    let chat_template = files.iter().any(template);
    Ok((files, ImportedTokenizer { from: folder.display().to_string(), tokens, chat_template }))
}

fn pretty(value: &Value) -> Vec<u8> {
    (serde_json::to_string_pretty(value).unwrap_or_default() + "\n").into_bytes()
}
