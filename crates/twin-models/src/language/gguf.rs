//! Reading GGUF files (the container of ggml, <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>).
//!
//! A file is walked and checked from end to end before candle parses it, because candle 0.11 divides by an alignment of 0
//! and multiplies dimensions without checking. After [`GgufFile::open`] every tensor lies inside the file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};

/// Why a GGUF file is refused.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    #[error("could not read the file")]
    Io(#[from] std::io::Error),
    #[error("the file is not GGUF: it starts with {found:?} instead of `GGUF`")]
    Magic { found: [u8; 4] },
    #[error("GGUF version {0} is not supported: convert the model to version 3")]
    Version(u32),
    #[error("the file is damaged: {what} at byte {position}; download it again")]
    Damaged { what: String, position: u64 },
    #[error("could not parse the file, though its outline is sound")]
    Parse(#[source] candle_core::Error),
    #[error("reading tensor `{name}` failed")]
    Tensor {
        name: String,
        #[source]
        source: candle_core::Error,
    },
    #[error("tensor `{name}` is missing: the file is not a complete model")]
    MissingTensor { name: String },
    #[error("tensor `{name}` has shape {found:?} where {expected:?} is needed")]
    Shape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("the parser panicked on this file: it is damaged; download it again")]
    Panicked,
}

/// An open GGUF file whose outline has been checked.
pub(crate) struct GgufFile {
    reader: BufReader<File>,
    content: Content,
}

impl GgufFile {
    /// Opens and checks `path`.
    ///
    /// # Errors
    /// [`GgufError`], for any bytes whatever.
    pub(crate) fn open(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::new(file);
        Outline { reader: &mut reader, length, position: 0, values: 0 }.check()?;
        reader.seek(SeekFrom::Start(0))?;
        let content = guarded(|| Content::read(&mut reader).map_err(GgufError::Parse))?;
        Ok(Self { reader, content })
    }

    /// The metadata.
    pub(crate) fn metadata(&self) -> &HashMap<String, Value> {
        &self.content.metadata
    }

    /// The name of the architecture, by which the other entries begin.
    pub(crate) fn architecture(&self) -> Option<&str> {
        self.metadata().get("general.architecture")?.to_string().ok().map(String::as_str)
    }

    /// Whether there is a tensor called `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// Reads a tensor of this shape (rows first) as f32.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub(crate) fn read(&mut self, name: &str, expected: &[usize]) -> Result<Vec<f32>, GgufError> {
        let failed = |source| GgufError::Tensor { name: name.to_owned(), source };
        let Some(info) = self.content.tensor_infos.get(name) else {
            return Err(GgufError::MissingTensor { name: name.to_owned() });
        };
        let found = info.shape.dims();
        if found != expected {
            let (found, expected) = (found.to_vec(), expected.to_vec());
            return Err(GgufError::Shape { name: name.to_owned(), found, expected });
        }
        guarded(|| {
            let tensor = self.content.tensor(&mut self.reader, name, &Device::Cpu).map_err(failed)?;
            let dense = tensor.dequantize(&Device::Cpu).and_then(|dense| dense.flatten_all());
            dense.and_then(|dense| dense.to_vec1()).map_err(failed)
        })
    }
}

/// Runs a parser that is not ours; a panic in it becomes an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, GgufError>) -> Result<T, GgufError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(GgufError::Panicked))
}

// A Llama has a few hundred tensors and some hundred thousand tokens and merges; each value costs candle 32 bytes.
const MAX_TENSORS: u64 = 1 << 16;
const MAX_ENTRIES: u64 = 1 << 16;
const MAX_VALUES: u64 = 1 << 22;
const MAX_STRING: u64 = 1 << 24;
const MAX_DIMENSIONS: u32 = 4;
const MAX_DEPTH: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;

const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// A walk through the header that builds nothing.
struct Outline<'a> {
    reader: &'a mut BufReader<File>,
    length: u64,
    position: u64,
    /// Array elements seen so far.
    values: u64,
}

impl Outline<'_> {
    fn check(&mut self) -> Result<(), GgufError> {
        let found = self.bytes()?;
        if &found != b"GGUF" {
            return Err(GgufError::Magic { found });
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensors = self.limited("the number of tensors", MAX_TENSORS)?;
        let entries = self.limited("the number of metadata entries", MAX_ENTRIES)?;
        let mut alignment = DEFAULT_ALIGNMENT;
        for _ in 0..entries {
            let mut key = self.string()?;
            // candle drops zeros at the end of a text, so a key with one is the same key to it.
            key.truncate(key.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            let kind = self.u32()?;
            if key == b"general.alignment" {
                alignment = self.alignment(kind)?;
            } else {
                self.value(kind, 0)?;
            }
        }
        let ends = (0..tensors).map(|_| self.tensor(alignment)).collect::<Result<Vec<_>, _>>()?;
        let data = self.position.next_multiple_of(alignment);
        match ends.into_iter().max() {
            Some(end) if data.checked_add(end).is_none_or(|end| end > self.length) => {
                Err(self.damaged("a tensor lies outside the file"))
            }
            _ => Ok(()),
        }
    }

    fn alignment(&mut self, kind: u32) -> Result<u64, GgufError> {
        let alignment = if kind == 4 { u64::from(self.u32()?) } else { 0 };
        // The specification asks for a multiple of 8; no writer uses more than a page.
        if alignment == 0 || !alignment.is_multiple_of(8) || alignment > 1 << 16 {
            return Err(self.damaged("the alignment is not a sensible number"));
        }
        Ok(alignment)
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<(), GgufError> {
        match kind {
            STRING => self.string().map(drop),
            ARRAY if depth < MAX_DEPTH => {
                let kind = self.u32()?;
                let count = self.limited("the length of an array", MAX_VALUES)?;
                self.values += count;
                if self.values > MAX_VALUES {
                    return Err(self.damaged("there are too many values"));
                }
                match scalar_size(kind) {
                    Some(size) => self.skip(size * count),
                    None => (0..count).try_for_each(|_| self.value(kind, depth + 1)),
                }
            }
            _ => match scalar_size(kind) {
                Some(size) => self.skip(size),
                None => Err(self.damaged("a value has an unknown type")),
            },
        }
    }

    /// Checks one tensor's entry and returns where its data ends, counted from the start of the data.
    fn tensor(&mut self, alignment: u64) -> Result<u64, GgufError> {
        self.string()?;
        let dimensions = self.u32()?;
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(self.damaged("a tensor has an impossible number of dimensions"));
        }
        let mut elements = 1u64;
        for _ in 0..dimensions {
            let dimension = self.u64()?;
            elements = match elements.checked_mul(dimension) {
                Some(elements) if dimension > 0 => elements,
                _ => return Err(self.damaged("a tensor has an impossible size")),
            };
        }
        let kind = self.u32()?;
        let Some((block, bytes)) = block_layout(kind) else {
            return Err(self.damaged("a tensor has an unknown type"));
        };
        let offset = self.u64()?;
        if !offset.is_multiple_of(alignment) || !elements.is_multiple_of(block) {
            return Err(self.damaged("a tensor does not start or end on a block"));
        }
        let end = (elements / block).checked_mul(bytes).and_then(|size| size.checked_add(offset));
        end.ok_or_else(|| self.damaged("a tensor has an impossible size"))
    }

    fn limited(&mut self, what: &str, limit: u64) -> Result<u64, GgufError> {
        let count = self.u64()?;
        if count > limit || count > self.length {
            return Err(self.damaged(&format!("{what} is {count}")));
        }
        Ok(count)
    }

    fn string(&mut self) -> Result<Vec<u8>, GgufError> {
        let length = self.limited("the length of a text", MAX_STRING)?;
        if length > self.length - self.position {
            return Err(self.damaged("a text is longer than the file"));
        }
        let mut text = vec![0; length as usize];
        self.fill(&mut text)?;
        Ok(text)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), GgufError> {
        if bytes > self.length - self.position {
            return Err(self.damaged("the file ends"));
        }
        // Inside the file, so it fits the signed offset.
        self.reader.seek_relative(bytes as i64)?;
        self.position += bytes;
        Ok(())
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), GgufError> {
        if bytes.len() as u64 > self.length - self.position {
            return Err(self.damaged("the file ends"));
        }
        self.reader.read_exact(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn damaged(&self, what: &str) -> GgufError {
        GgufError::Damaged { what: what.to_owned(), position: self.position }
    }
}

/// Bytes of a scalar of this type; `None` for texts, arrays and what does not exist.
fn scalar_size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Elements and bytes of a block of this tensor type, for the types that candle reads.
fn block_layout(kind: u32) -> Option<(u64, u64)> {
    let dtype = match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    };
    Some((dtype.block_size() as u64, dtype.type_size() as u64))
}
