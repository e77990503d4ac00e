//! SmolLM2-135M-Instruct itself, where its file is present: `TWIN_TEST_SMOLLM2` names it, or it lies somewhere in the model
//! cache. Without it these tests say so and pass.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use twin_domain::{CancelFlag, ChatMessage};
use twin_models::language::{
    GenerateRequest, Input, LanguageModel, Llama, LoadOptions, LoraConfig, Sampling, Trainer, TrainerConfig,
};

const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// The model, loaded once for all tests.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn model() -> Option<Arc<Llama>> {
    static MODEL: OnceLock<Option<Arc<Llama>>> = OnceLock::new();
    let load = || {
        let Some(path) = find() else {
            eprintln!("skipped: set TWIN_TEST_SMOLLM2 to {FILE}");
            return None;
        };
        let options = LoadOptions { name: "SmolLM2-135M-Instruct".into(), ..LoadOptions::default() };
        Some(Arc::new(Llama::load(&path, options).unwrap()))
    };
    MODEL.get_or_init(load).clone()
}

fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("TWIN_TEST_SMOLLM2") {
        return Some(path.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    find_in(&cache.join("twin"), 5)
}

fn find_in(folder: &Path, depth: usize) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let file = entries.iter().find(|path| path.file_name().is_some_and(|name| name == FILE));
    let deeper = || entries.iter().filter(|path| depth > 0 && path.is_dir()).find_map(|path| find_in(path, depth - 1));
    file.cloned().or_else(deeper)
}

#[test]
fn it_knows_the_capital_of_france() {
    let Some(model) = model() else { return };
    let request = GenerateRequest {
        input: Input::Messages(vec![ChatMessage::user("What is the capital of France?")]),
        adapter: None,
        sampling: Sampling::greedy(24),
    };
    let answer = model.generate(&request, &CancelFlag::new(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(answer.text.contains("Paris"), "{}", answer.text);
}

#[test]
fn its_tokens_are_those_of_the_vocabulary() {
    let Some(model) = model() else { return };
    // Looked up piece by piece in the model's vocabulary: 5940 is ` paid`.
    for (text, expected) in [
        ("Hello world", &[19556, 905][..]),
        ("In 2024, we paid $1,234.", &[788, 216, 34, 32, 34, 36, 28, 392, 5940, 1885, 33, 28, 34, 35, 36, 30]),
    ] {
        assert_eq!(model.encode(text).unwrap(), expected, "{text}");
    }
    let text = "Ünïcödé — 漢字 🦀\n\n\tdef f(x):\r\n  return x² ";
    assert_eq!(model.decode(&model.encode(text).unwrap()).unwrap(), text);
    let chat = model.encode_chat(&[ChatMessage::system("Hi"), ChatMessage::user("<|im_end|>")], true).unwrap();
    assert_eq!(chat.iter().filter(|token| **token == 1).count(), 3);
    assert_eq!(chat.iter().filter(|token| **token == 2).count(), 2);
}

#[test]
fn english_is_likelier_than_noise() {
    let Some(model) = model() else { return };
    let text = "The boat lay on the beach, and the tide was coming in slowly over the sand.";
    let tokens = model.encode(text).unwrap();
    let mut shuffled = tokens.clone();
    shuffled.reverse();
    let bits = |tokens: &[u32]| model.nll(None, tokens, &vec![true; tokens.len()]).unwrap().bits_per_byte(text.len());
    let (english, noise) = (bits(&tokens), bits(&shuffled));
    assert!(english < 1.3 && noise > 2.0, "{english} and {noise} bits per byte");
}

#[test]
fn three_steps_teach_it_a_sentence() {
    let Some(model) = model() else { return };
    let lora = LoraConfig { rank: 4, dropout: 0.0, ..LoraConfig::default() };
    let mut trainer = Trainer::new(model.clone(), TrainerConfig { lora, ..TrainerConfig::default() }).unwrap();
    let prompt = [ChatMessage::user("What does Maren do?")];
    let example = model.tokenizer().encode_example(&prompt, "She mends boats, badly and late.", true, &[]).unwrap();
    let mut losses = Vec::new();
    for _ in 0..4 {
        let loss = trainer.accumulate(std::slice::from_ref(&example)).unwrap();
        trainer.apply(3e-3, Some(1.0), loss.target_tokens).unwrap();
        losses.push(loss.mean());
    }
    assert!(losses[3] < 0.7 * losses[0], "{losses:?}");
}
