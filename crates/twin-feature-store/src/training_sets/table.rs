//! One split of a training set as a Parquet file (<https://parquet.apache.org/docs/file-format/>): a flat table of
//! required columns, compressed with Zstandard. Structured values are JSON texts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use fs_err as fs;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::record::{Row, RowAccessor};
use parquet::schema::parser::parse_message_type;
use serde::Serialize;
use serde::de::DeserializeOwned;
use twin_domain::{DocumentId, Example, Split};

/// `position` is the example's place among those of all splits.
const SCHEMA: &str = "message example {
    REQUIRED INT64 position;
    REQUIRED BINARY task (UTF8);
    REQUIRED BINARY document (UTF8);
    REQUIRED BINARY prompt (UTF8);
    REQUIRED BINARY target (UTF8);
    REQUIRED BOOLEAN complete;
    REQUIRED BINARY not_voice (UTF8);
}";

/// The file of these examples, each with its position.
pub(super) fn encode(rows: &[(usize, &Example)]) -> Result<Vec<u8>> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties)?;
    let mut group = writer.next_row_group()?;

    // The order of the schema.
    column::<Int64Type>(&mut group, rows, |(position, _)| i64::try_from(*position).map_err(ParquetError::from))?;
    column::<ByteArrayType>(&mut group, rows, |(_, example)| Ok(example.task.as_str().into()))?;
    column::<ByteArrayType>(&mut group, rows, |(_, example)| Ok(example.document.to_string().as_str().into()))?;
    column::<ByteArrayType>(&mut group, rows, |(_, example)| json(&example.prompt))?;
    column::<ByteArrayType>(&mut group, rows, |(_, example)| Ok(example.target.as_str().into()))?;
    column::<BoolType>(&mut group, rows, |(_, example)| Ok(example.complete))?;
    column::<ByteArrayType>(&mut group, rows, |(_, example)| json(&example.not_voice))?;

    group.close()?;
    writer.close()?;
    Ok(bytes)
}

/// The examples in a file of `split`, each with its position; an error is what is wrong with the file.
pub(super) fn read(path: &Path, split: Split) -> std::result::Result<Vec<(i64, Example)>, String> {
    let (file, _) = fs::File::open(path).map_err(|error| error.to_string())?.into_parts();
    // The reader trusts sizes in the file and can panic over one that was changed.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(file, split)));
    decoded
        .unwrap_or_else(|_| Err(ParquetError::General("the Parquet reader panicked".to_owned())))
        .map_err(|e| e.to_string())
}

fn decode(file: std::fs::File, split: Split) -> Result<Vec<(i64, Example)>> {
    let reader = SerializedFileReader::new(file)?;
    reader.get_row_iter(None)?.map(|row| example(&row?, split)).collect()
}

fn example(row: &Row, split: Split) -> Result<(i64, Example)> {
    let document = uuid::Uuid::parse_str(row.get_string(2)?).map_err(external)?;
    let example = Example {
        split,
        task: serde_json::from_value(row.get_string(1)?.as_str().into()).map_err(external)?,
        document: DocumentId(document),
        prompt: from_json(row.get_string(3)?)?,
        target: row.get_string(4)?.clone(),
        complete: row.get_bool(5)?,
        not_voice: from_json(row.get_string(6)?)?,
    };
    Ok((row.get_long(0)?, example))
}

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    rows: &[(usize, &Example)],
    value: impl Fn(&(usize, &Example)) -> Result<T::T>,
) -> Result<()> {
    let values = rows.iter().map(value).collect::<Result<Vec<_>>>()?;
    let missing = || ParquetError::General("the schema has fewer columns than are written".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(&values, None, None)?;
    column.close()
}

fn json(value: &impl Serialize) -> Result<ByteArray> {
    serde_json::to_vec(value).map(ByteArray::from).map_err(external)
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(external)
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}
