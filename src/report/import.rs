use super::compress::plural;
use super::units;
use indexmap::IndexMap;
use serde::Serialize;
use std::fmt::Write as _;

/// What an import made of a GGUF file.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// The version of the schema.
    pub schema_version: u32,
    /// Name and version of the program.
    pub tool: String,
    /// `import`.
    pub command: &'static str,
    /// The file.
    pub input: String,
    /// The folder.
    pub output: String,
    /// The kind of network, as `config.json` says it.
    pub model_type: String,
    /// Tensors written.
    pub tensors: usize,
    /// Their elements.
    pub parameters: u64,
    /// Tokens that the network takes at most.
    pub longest: usize,
    /// How many tensors were stored in blocks of which type.
    pub blocks: IndexMap<String, usize>,
    /// Its tokenizer.
    pub tokenizer: ImportedTokenizer,
    /// The type of elements written.
    pub dtype: &'static str,
    /// Bytes of the file.
    pub bytes_before: u64,
    /// Bytes of the tensors written.
    pub bytes_after: u64,
    /// How long it took.
    pub elapsed_secs: f64,
}

/// The tokenizer of an [`ImportReport`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ImportedTokenizer {
    /// The file's kind of tokenizer, or the folder that it was taken from.
    pub from: String,
    /// How many tokens it has.
    pub tokens: usize,
    /// Whether it says how conversations are written.
    pub chat_template: bool,
}

impl ImportReport {
    /// One JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// A few lines for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let blocks: Vec<String> = self.blocks.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let mut text = String::new();
        let _ = writeln!(
            text,
            "network        {}, {} parameters, at most {}",
            self.model_type,
            units::count(self.parameters),
            plural(self.longest, "token")
        );
        let _ = writeln!(
            text,
            "blocks         {} tensors, {}",
            blocks.join(", "),
            units::size(self.bytes_before)
        );
        let template = if self.tokenizer.chat_template { ", with a chat template" } else { "" };
        let _ = writeln!(
            text,
            "tokenizer      {}, {} tokens{template}",
            self.tokenizer.from, self.tokenizer.tokens
        );
        let _ = writeln!(
            text,
            "written to {} as {}, {}, in {}",
            self.output,
            self.dtype,
            units::size(self.bytes_after),
            units::seconds(self.elapsed_secs)
        );
        text
    }
}
