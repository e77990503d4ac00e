//! A training set in the layout of a dataset on the Hugging Face Hub: a card and a file for each split.
//!
//! ```text
//! README.md                  the dataset card: what `datasets` must know in front, what people should know below
//! data/train.parquet         or .jsonl; calibration and test likewise
//! manifest.json              the `TrainingSet`, by which the set can be found again
//! ```
//!
//! Rows have TRL's conversational prompt-completion format: `prompt` and `completion` are lists of messages.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int32Type};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};
use serde_json::json;
use twin_domain::{Author, ChatMessage, Example, Role, Split, StoreError, TrainingSet};

use super::{MANIFEST, SPLITS, validate};
use crate::durable;
use crate::failure::{engine, invalid};

/// The form of an exported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// A column each, compressed.
    Parquet,
    /// A JSON object a line.
    Jsonl,
}

impl ExportFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Jsonl => "jsonl",
        }
    }
}

/// Writes a training set to `directory`, which must be empty or not there. Gives the files.
///
/// # Errors
/// [`StoreError::Invalid`] when the examples are not those of the manifest or something is in the directory;
/// [`StoreError::Engine`] when a file cannot be written.
pub fn export(
    set: &TrainingSet,
    examples: &[Example],
    author: &Author,
    format: ExportFormat,
    directory: &Path,
) -> Result<Vec<PathBuf>, StoreError> {
    validate(set, examples)?;
    let failed = |error: std::io::Error| engine("export the training set", error);
    let data = directory.join("data");
    fs::create_dir_all(directory).map_err(failed)?;
    if fs::read_dir(directory).map_err(failed)?.next().is_some() {
        return Err(invalid(format!("the export to `{}`", directory.display()), "the directory is not empty"));
    }
    fs::create_dir(&data).map_err(failed)?;
    let mut files = Vec::new();
    for split in SPLITS {
        let rows: Vec<Row<'_>> = rows(set, examples, split);
        let bytes = match format {
            ExportFormat::Parquet => parquet(&rows).map_err(|error| engine("encode the training set", error))?,
            ExportFormat::Jsonl => jsonl(&rows)?,
        };
        files.push(data.join(format!("{}.{}", split.as_str(), format.extension())));
        durable::write(&files[files.len() - 1], &bytes).map_err(failed)?;
    }
    let manifest = serde_json::to_vec_pretty(set).map_err(|error| engine("write JSON", error))?;
    for (name, bytes) in [(MANIFEST, manifest), ("README.md", card(set, examples, author, format).into_bytes())] {
        files.push(directory.join(name));
        durable::write(&files[files.len() - 1], &bytes).map_err(failed)?;
    }
    Ok(files)
}

/// A row of an exported file.
#[derive(Debug, Serialize)]
struct Row<'a> {
    prompt: &'a [ChatMessage],
    completion: [ChatMessage; 1],
    task: &'static str,
    /// The address of the post that the completion is a slice of.
    url: &'a str,
    document: String,
    /// Whether the completion ends its post or section.
    complete: bool,
    /// Byte ranges of the completion that are not the author's words.
    not_voice: Vec<[usize; 2]>,
}

fn rows<'a>(set: &'a TrainingSet, examples: &'a [Example], split: Split) -> Vec<Row<'a>> {
    let url = |example: &Example| {
        let document = set.documents.iter().find(|document| document.id == example.document);
        document.map_or("", |document| document.url.as_str())
    };
    let row = |example: &'a Example| Row {
        prompt: &example.prompt,
        completion: [ChatMessage::assistant(example.target.clone())],
        task: example.task.as_str(),
        url: url(example),
        document: example.document.to_string(),
        complete: example.complete,
        not_voice: example.not_voice.iter().map(|range| [range.start, range.end]).collect(),
    };
    examples.iter().filter(|example| example.split == split).map(row).collect()
}

fn jsonl(rows: &[Row<'_>]) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, row).map_err(|error| engine("write JSON", error))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Lists as Parquet has them (<https://parquet.apache.org/docs/file-format/types/logicaltypes/#lists>).
const SCHEMA: &str = "message example {
    REQUIRED GROUP prompt (LIST) { REPEATED GROUP list { REQUIRED GROUP element {
        REQUIRED BINARY role (UTF8); REQUIRED BINARY content (UTF8); } } }
    REQUIRED GROUP completion (LIST) { REPEATED GROUP list { REQUIRED GROUP element {
        REQUIRED BINARY role (UTF8); REQUIRED BINARY content (UTF8); } } }
    REQUIRED BINARY task (UTF8);
    REQUIRED BINARY url (UTF8);
    REQUIRED BINARY document (UTF8);
    REQUIRED BOOLEAN complete;
    REQUIRED GROUP not_voice (LIST) { REPEATED GROUP list { REQUIRED GROUP element (LIST) { REPEATED GROUP list {
        REQUIRED INT32 element; } } } }
}";

fn parquet(rows: &[Row<'_>]) -> ParquetResult<Vec<u8>> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties)?;
    let mut group = writer.next_row_group()?;

    // The order of the schema.
    let prompt = |row: &Row<'_>| row.prompt.to_vec();
    let completion = |row: &Row<'_>| row.completion.to_vec();
    messages(&mut group, rows, prompt)?;
    messages(&mut group, rows, completion)?;
    texts(&mut group, rows, |row| row.task)?;
    texts(&mut group, rows, |row| row.url)?;
    texts(&mut group, rows, |row| row.document.as_str())?;
    let complete: Vec<bool> = rows.iter().map(|row| row.complete).collect();
    column(&mut group, |column| column.typed::<BoolType>().write_batch(&complete, None, None))?;
    ranges(&mut group, rows)?;

    group.close()?;
    writer.close()?;
    Ok(bytes)
}

type Group<'a, 'b> = SerializedRowGroupWriter<'a, &'b mut Vec<u8>>;

fn column<'a>(
    group: &mut Group<'a, '_>,
    write: impl FnOnce(&mut parquet::file::writer::SerializedColumnWriter<'_>) -> ParquetResult<usize>,
) -> ParquetResult<()> {
    let missing = || ParquetError::General("the schema has fewer columns than are written".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    write(&mut column)?;
    column.close()
}

fn texts(
    group: &mut Group<'_, '_>,
    rows: &[Row<'_>],
    text: impl for<'a> Fn(&'a Row<'a>) -> &'a str,
) -> ParquetResult<()> {
    let values: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(text(row))).collect();
    column(group, |column| column.typed::<ByteArrayType>().write_batch(&values, None, None))
}

/// The two columns of a list of messages. A message that begins its row's list has repetition 0, the others have 1; a row
/// without messages has a definition of 0 and no value.
fn messages(
    group: &mut Group<'_, '_>,
    rows: &[Row<'_>],
    messages: impl Fn(&Row<'_>) -> Vec<ChatMessage>,
) -> ParquetResult<()> {
    let lists: Vec<Vec<ChatMessage>> = rows.iter().map(messages).collect();
    let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
    for list in &lists {
        for index in 0..list.len().max(1) {
            definitions.push(i16::from(!list.is_empty()));
            repetitions.push(i16::from(index > 0));
        }
    }
    let of = |part: fn(&ChatMessage) -> &str| -> Vec<ByteArray> {
        lists.iter().flatten().map(|message| ByteArray::from(part(message))).collect()
    };
    for values in [of(|message| message.role.as_str()), of(|message| &message.content)] {
        column(group, |column| {
            column.typed::<ByteArrayType>().write_batch(&values, Some(&definitions), Some(&repetitions))
        })?;
    }
    Ok(())
}

/// A list of pairs: the first number of a row has repetition 0, the first of a further pair 1, the second of a pair 2.
fn ranges(group: &mut Group<'_, '_>, rows: &[Row<'_>]) -> ParquetResult<()> {
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        if row.not_voice.is_empty() {
            definitions.push(0);
            repetitions.push(0);
        }
        for (index, pair) in row.not_voice.iter().enumerate() {
            for (place, number) in pair.iter().enumerate() {
                values.push(i32::try_from(*number).map_err(ParquetError::from)?);
                definitions.push(2);
                repetitions.push(if place > 0 { 2 } else { i16::from(index > 0) });
            }
        }
    }
    column(group, |column| column.typed::<Int32Type>().write_batch(&values, Some(&definitions), Some(&repetitions)))
}

/// The dataset card (<https://huggingface.co/docs/hub/datasets-cards>).
fn card(set: &TrainingSet, examples: &[Example], author: &Author, format: ExportFormat) -> String {
    let path = |split: Split| format!("data/{}.{}", split.as_str(), format.extension());
    let header = json!({
        "configs": [{
            "config_name": "default",
            "data_files": SPLITS.map(|split| json!({ "split": split.as_str(), "path": path(split) })),
        }],
        "language": [author.language],
        "pretty_name": format!("In the voice of {}", author.name),
        "size_categories": [size_category(examples.len())],
        "tags": ["llm-twin", "sft"],
        "task_categories": ["text-generation"],
    });
    let count = |split| examples.iter().filter(|example| example.split == split).count();
    let rows: String = SPLITS
        .map(|split| {
            let documents = set.documents_in(split).count();
            format!("| {} | {} | {documents} |\n", split.as_str(), count(split))
        })
        .concat();
    let counts: String = set.counts.iter().map(|(name, count)| format!("| {name} | {count} |\n")).collect();
    let consent = match &author.consent {
        Some(consent) => format!("The author's consent to a twin, as it was given: {}", one_line(consent)),
        None => "The author's consent is not recorded: get it before this is given to anyone.".to_owned(),
    };
    let (system, name) = (Role::System.as_str(), one_line(&author.name));
    // JSON is YAML, and needs no rules of its own for what an author may be called.
    format!(
        "---\n{header}\n---\n\n# In the voice of {name}\n\nExamples of supervised fine-tuning, made from the posts of {name} \
         without a model: every completion is a verbatim slice of a post. Split by date: the newest posts are test, those \
         before them calibration (validation), the rest train; near copies stay on one side.\n\n\
         | split | examples | posts |\n| --- | --- | --- |\n{rows}\n\
         | split/task | examples |\n| --- | --- |\n{counts}\n\
         `prompt` and `completion` are lists of messages (`role`, `content`; the first role may be `{system}`), TRL's \
         conversational prompt-completion format. `not_voice` has byte ranges of the completion that are not the author's \
         words (quotations, code): leave them out of the loss. Where `complete` is false the completion breaks off: leave \
         the end of the turn out of the loss. `url` is the post.\n\n\
         Set `{}`, recipe `{}`, prompts `{}`, features `{}`, content SHA-256 `{}`.\n\n{consent}\n",
        set.id, set.recipe, set.prompt, set.feature_view, set.content
    )
}

/// The Hub's name for so many rows.
fn size_category(rows: usize) -> &'static str {
    match rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        _ => "n>1M",
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
