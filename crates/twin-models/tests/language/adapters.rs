//! Adapters on disk, as PEFT writes and reads them.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;
use twin_models::language::{Adapter, AdapterError, Llama, LoraConfig, Projection, Trainer, TrainerConfig};

use crate::tiny;

fn trained(model: &std::sync::Arc<Llama>, target_modules: Vec<Projection>) -> Adapter {
    let lora = LoraConfig { rank: 4, alpha: 6.0, dropout: 0.0, target_modules, use_rslora: false };
    let mut trainer = Trainer::new(model.clone(), TrainerConfig { lora, ..TrainerConfig::default() }).unwrap();
    for _ in 0..3 {
        let loss = trainer.accumulate(&[tiny::example(20, 1)]).unwrap();
        trainer.apply(1e-2, None, loss.target_tokens).unwrap();
    }
    trainer.adapter().clone()
}

#[test]
fn saved_and_loaded_it_is_the_same() {
    let (folder, model) = (TempDir::new().unwrap(), tiny::model());
    let example = tiny::example(20, 3);
    for targets in [Projection::ALL.to_vec(), vec![Projection::Query, Projection::Value]] {
        let adapter = trained(&model, targets);
        adapter.save(folder.path(), "author/tiny").unwrap();
        let loaded = Adapter::load(folder.path(), &model).unwrap();
        let nll = |adapter| model.nll(adapter, &example.token_ids, &example.loss_mask).unwrap();
        assert_eq!(nll(Some(&loaded)), nll(Some(&adapter)));
        assert_ne!(nll(Some(&loaded)), nll(None));
        assert_eq!(loaded.config(), adapter.config());
    }
}

#[test]
fn the_files_have_the_layout_of_peft() {
    let (folder, model) = (TempDir::new().unwrap(), tiny::model());
    trained(&model, Projection::ALL.to_vec()).save(folder.path(), "author/tiny").unwrap();
    let config: Value = serde_json::from_slice(&fs::read(folder.path().join("adapter_config.json")).unwrap()).unwrap();
    let expected = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "author/tiny", "r": 4,
        "lora_alpha": 6.0, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": false, "use_rslora": false,
        "use_dora": false, "modules_to_save": null, "inference_mode": true,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(config.get(key), Some(value), "{key}");
    }
    let bytes = fs::read(folder.path().join("adapter_model.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 2 * 7 * 2);
    let shape =
        |name: &str| file.tensor(&format!("base_model.model.model.layers.1.{name}.weight")).unwrap().shape().to_vec();
    assert_eq!(shape("self_attn.k_proj.lora_A"), [4, 32]);
    assert_eq!(shape("self_attn.k_proj.lora_B"), [16, 4]);
    assert_eq!(shape("mlp.down_proj.lora_A"), [4, 64]);
    assert_eq!(shape("mlp.down_proj.lora_B"), [32, 4]);
}

/// Changes the configuration of a good adapter and expects loading to fail with a message that has `expected` in it.
#[track_caller]
fn check_refused(change: impl FnOnce(&mut Value, &Path), expected: &str) {
    let (folder, model) = (TempDir::new().unwrap(), tiny::model());
    trained(&model, vec![Projection::Query]).save(folder.path(), "author/tiny").unwrap();
    let path = folder.path().join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config, folder.path());
    fs::write(&path, config.to_string()).unwrap();
    let error = Adapter::load(folder.path(), &model).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_does_not_fit_is_refused_with_a_reason() {
    check_refused(|config, _| config["r"] = 8.into(), "has shape [4, 32] where [8, 32] is needed");
    check_refused(|config, _| config["r"] = 0.into(), "makes no sense");
    check_refused(|config, _| config["target_modules"] = json!(["q_proj", "v_proj"]), "no tensor");
    check_refused(|config, _| config["target_modules"] = json!(["v_proj"]), "no place for");
    check_refused(|config, _| config["target_modules"] = json!(["lm_head"]), "target module `lm_head`");
    check_refused(|config, _| config["use_dora"] = true.into(), "DoRA");
    check_refused(|config, _| config["bias"] = "all".into(), "the bias `all`");
    check_refused(|config, _| config["peft_type"] = "IA3".into(), "IA3");
    check_refused(|config, _| config["modules_to_save"] = json!(["lm_head"]), "modules_to_save");
    check_refused(|config, _| config["lora_alpha"] = "x".into(), "not a valid PEFT configuration");
    check_refused(|_, folder| fs::remove_file(folder.join("adapter_model.safetensors")).unwrap(), "could not read");
}

#[test]
fn all_linear_is_read_off_the_tensors() {
    let (folder, model) = (TempDir::new().unwrap(), tiny::model());
    let adapter = trained(&model, vec![Projection::Gate, Projection::Key]);
    adapter.save(folder.path(), "author/tiny").unwrap();
    let path = folder.path().join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["target_modules"] = "all-linear".into();
    fs::write(&path, config.to_string()).unwrap();
    let loaded = Adapter::load(folder.path(), &model).unwrap();
    assert_eq!(loaded.config().target_modules, [Projection::Key, Projection::Gate]);
}

#[test]
fn damaged_weights_are_an_error() {
    let (folder, model) = (TempDir::new().unwrap(), tiny::model());
    trained(&model, vec![Projection::Query]).save(folder.path(), "author/tiny").unwrap();
    let path = folder.path().join("adapter_model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for end in (0..bytes.len()).step_by(101) {
        fs::write(&path, &bytes[..end]).unwrap();
        let error = Adapter::load(folder.path(), &model).unwrap_err();
        assert!(matches!(error, AdapterError::Safetensors { .. }), "{end} bytes: {error}");
    }
}
