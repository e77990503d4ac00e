//! Every family computes what the reference implementation does. The checkpoints and the expected logits are made by
//! `families/make.py`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use tempfile::TempDir;
use twin_models::language::{
    Adapter, DecodePrecision, ExportFormat, GenerateRequest, Input, LanguageModel, Llama, LoadOptions, LoraConfig,
    Sampling, Trainer, TrainerConfig, TrainingExample,
};

const FAMILIES: [&str; 5] = ["llama", "mistral", "qwen2", "qwen3", "gemma3"];
/// How many of the last tokens have expected logits.
const LAST: usize = 32;

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language/families").join(family)
}

fn load(path: &Path) -> Arc<Llama> {
    let options =
        LoadOptions { name: "tiny".into(), threads: Some(2), decode: DecodePrecision::F32, ..LoadOptions::default() };
    Arc::new(Llama::load(path, options).unwrap())
}

/// The tokens and the expected logits under `name`.
fn golden(family: &str, name: &str) -> (Vec<u32>, Vec<f32>) {
    let bytes = std::fs::read(folder(family).join("golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (tokens, logits) = (file.tensor("tokens").unwrap(), file.tensor(name).unwrap());
    let tokens = tokens.data().as_chunks().0.iter().map(|token| i64::from_le_bytes(*token) as u32);
    let logits = logits.data().as_chunks().0.iter().map(|logit| f32::from_le_bytes(*logit));
    (tokens.collect(), logits.collect())
}

/// The largest difference relative to the largest logit.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0f32, |most, value| most.max(value.abs()));
    largest(&mut a.iter().zip(b).map(|(a, b)| a - b)) / largest(&mut b.iter().copied())
}

#[test]
fn logits_are_those_of_the_reference() {
    for family in FAMILIES {
        let (tokens, expected) = golden(family, "logits");
        let difference = difference(&load(&folder(family)).logits(None, &tokens, LAST).unwrap(), &expected);
        assert!(difference < 1e-3, "{family}: {difference}");
    }
}

#[test]
fn an_adapter_made_by_peft_gives_its_logits_and_is_saved_as_it_was() {
    let (model, directory) = (load(&folder("llama")), TempDir::new().unwrap());
    let (tokens, expected) = golden("llama", "adapted");
    let adapter = Adapter::load(&folder("llama").join("peft"), &model).unwrap();
    let logits = model.logits(Some(&adapter), &tokens, LAST).unwrap();
    assert!(difference(&logits, &expected) < 1e-3);
    assert!(difference(&model.logits(None, &tokens, LAST).unwrap(), &expected) > 1e-2, "the adapter does something");
    adapter.save(directory.path(), "tiny").unwrap();
    let again = Adapter::load(directory.path(), &model).unwrap();
    assert_eq!(model.logits(Some(&again), &tokens, LAST).unwrap(), logits);
}

#[test]
fn a_merged_export_computes_what_the_base_with_the_adapter_does() {
    let (model, out) = (load(&folder("llama")), TempDir::new().unwrap());
    let (tokens, expected) = golden("llama", "adapted");
    let adapter = Adapter::load(&folder("llama").join("peft"), &model).unwrap();
    model.export(Some(&adapter), &folder("llama"), out.path(), ExportFormat::SafetensorsF32).unwrap();
    assert!(difference(&load(out.path()).logits(None, &tokens, LAST).unwrap(), &expected) < 1e-3);
}

#[test]
fn a_folder_becomes_gguf_in_every_family() {
    let (copy, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for family in FAMILIES {
        let mut source = folder(family);
        if family == "gemma3" {
            let refused = load(&source).export(None, &source, out.path(), ExportFormat::GgufF16).unwrap_err();
            assert!(refused.to_string().contains("attention"), "{refused}");
            source = usual_gemma(copy.path());
        }
        let model = load(&source);
        let written = model.export(None, &source, &out.path().join(family), ExportFormat::GgufF16).unwrap();
        let again = load(&written[0]);
        // Of Mistral's attention the file has what lies within one window, which is 24 tokens.
        let tokens = &golden(family, "logits").0[..if family == "mistral" { 24 } else { 90 }];
        let exact = model.logits(None, tokens, 16).unwrap();
        let off = difference(&again.logits(None, tokens, 16).unwrap(), &exact);
        assert!(off < 2e-2, "{family}: {off}");
        let said = [twin_domain::ChatMessage::user("hehe, 12 Käse")];
        assert_eq!(again.encode_chat(&said, true).unwrap(), model.encode_chat(&said, true).unwrap(), "{family}");
    }
}

/// The Gemma of this directory with attention that is scaled as in the published ones.
fn usual_gemma(copy: &Path) -> PathBuf {
    for file in std::fs::read_dir(folder("gemma3")).unwrap() {
        let from = file.unwrap().path();
        std::fs::copy(&from, copy.join(from.file_name().unwrap())).unwrap();
    }
    let config = std::fs::read_to_string(copy.join("config.json")).unwrap();
    let usual = config.replace("\"query_pre_attn_scalar\": 24", "\"query_pre_attn_scalar\": 16");
    assert_ne!(usual, config);
    std::fs::write(copy.join("config.json"), usual).unwrap();
    copy.to_owned()
}

#[test]
fn every_family_is_exported_as_it_was_loaded() {
    for family in FAMILIES {
        let (model, out) = (load(&folder(family)), TempDir::new().unwrap());
        let (tokens, expected) = golden(family, "logits");
        model.export(None, &folder(family), out.path(), ExportFormat::SafetensorsF32).unwrap();
        let logits = load(out.path()).logits(None, &tokens, LAST).unwrap();
        assert!(difference(&logits, &expected) < 1e-3, "{family}");
        model.export(None, &folder(family), out.path(), ExportFormat::Safetensors).unwrap();
        let logits = load(out.path()).logits(None, &tokens, LAST).unwrap();
        assert!(difference(&logits, &expected) < 2e-2, "{family}, in 16 bits");
    }
}

#[test]
fn gguf_goes_out_and_in_in_every_form() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tiny.gguf");
    crate::tiny::write_gguf(&path);
    let model = load(&path);
    let tokens: Vec<u32> = (0..60).collect();
    let exact = model.logits(None, &tokens, LAST).unwrap();
    let forms = [(ExportFormat::GgufF16, 1e-2), (ExportFormat::GgufQ8, 3e-2), (ExportFormat::GgufQ4, 0.3)];
    for (format, tolerance) in forms {
        let written = model.export(None, &path, &folder.path().join("out"), format).unwrap();
        let off = difference(&load(&written[0]).logits(None, &tokens, LAST).unwrap(), &exact);
        assert!(off < tolerance, "{format}: {off}");
    }
    // And as a folder, whose description is made from the metadata.
    let out = folder.path().join("hub");
    model.export(None, &path, &out, ExportFormat::SafetensorsF32).unwrap();
    let again = load(&out);
    assert!(difference(&again.logits(None, &tokens, LAST).unwrap(), &exact) < 1e-5);
    let said = [twin_domain::ChatMessage::user("hehe, 12")];
    assert_eq!(again.encode_chat(&said, true).unwrap(), model.encode_chat(&said, true).unwrap());
}

#[test]
fn every_family_writes_and_learns() {
    for family in FAMILIES {
        let model = load(&folder(family));
        let sampling = Sampling::greedy(4);
        let request = GenerateRequest { input: Input::Tokens((0..80).collect()), adapter: None, sampling };
        let mut silent = |_: &str| std::ops::ControlFlow::Continue(());
        let answer = model.generate(&request, &twin_domain::CancelFlag::new(), &mut silent).unwrap();
        assert_eq!(answer.usage.new_tokens, 4, "{family}");

        let lora = LoraConfig { rank: 4, dropout: 0.0, ..LoraConfig::default() };
        let config = TrainerConfig { lora, ..TrainerConfig::default() };
        let mut trainer = Trainer::new(Arc::clone(&model), config).unwrap();
        let example = TrainingExample::new((30..70).collect(), vec![true; 40]);
        let mut step = || {
            let loss = trainer.accumulate(std::slice::from_ref(&example)).unwrap();
            trainer.apply(5e-3, Some(1.0), loss.target_tokens).unwrap();
            loss.mean()
        };
        let first = step();
        let last = (0..20).map(|_| step()).last().unwrap();
        assert!(last < first - 0.1, "{family}: from {first} to {last}");
    }
}
