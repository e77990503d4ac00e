//! Behaviour of the engine on a tiny random model, where every number can be checked: gradients, caches, chunks.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use twin_domain::Digest;

use super::architecture::{Architecture, Sliding, Variant};
use super::decoder::Decoder;
use super::llama::{DecodePrecision, Llama, LoadOptions};
use super::lora::{Adapter, LoraConfig, Projection};
use super::preference::{PreferenceLoss, PreferencePair};
use super::session::{PREFILL_CHUNK, QuantizedWeights, Sequence, Turn, Workspace};
use super::tokenizer::Tokenizer;
use super::training::{Trainer, TrainerConfig, TrainingExample};
use super::weights::{LayerWeights, Weights};

pub(crate) fn sizes() -> Architecture {
    Architecture {
        vocab_size: 40,
        hidden_size: 32,
        intermediate_size: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        rms_epsilon: 1e-5,
        rope_theta: 10_000.0,
        context_length: 512,
        variant: Variant::default(),
    }
}

fn weights(sizes: Architecture) -> Weights {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut matrix = |rows: usize, columns: usize| -> Vec<f32> {
        let bound = 1.5 / (columns as f32).sqrt();
        (0..rows * columns).map(|_| random.random_range(-bound..bound)).collect()
    };
    let (hidden, width) = (sizes.hidden_size, sizes.intermediate_size);
    let layers = (0..sizes.layers).map(|_| LayerWeights {
        attention_norm: matrix(hidden, 1).iter().map(|x| 1.0 + 0.3 * x).collect(),
        qkv_bias: None,
        qk_norm: None,
        post_norms: None,
        qkv: matrix(sizes.qkv_width(), hidden),
        output: matrix(hidden, sizes.query_width()),
        mlp_norm: matrix(hidden, 1).iter().map(|x| 1.0 + 0.3 * x).collect(),
        gate_up: matrix(2 * width, hidden),
        down: matrix(hidden, width),
    });
    let layers = layers.collect();
    let embedding = matrix(sizes.vocab_size, hidden).iter().map(|x| 4.0 * x).collect();
    Weights { architecture: sizes, embedding, layers, final_norm: vec![1.0; hidden], head: None }
}

/// The tiny model with all that a family adds to plain Llama, and so with what each of them adds.
fn varied(variant: Variant) -> Arc<Llama> {
    let mut weights = weights(Architecture { variant: variant.clone(), ..sizes() });
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let mut around = |centre: f32, count: usize| -> Vec<f32> {
        (0..count).map(|_| centre + random.random_range(-0.3..0.3)).collect()
    };
    let (hidden, head_dim, width) = (sizes().hidden_size, sizes().head_dim, sizes().qkv_width());
    for layer in &mut weights.layers {
        layer.qkv_bias = variant.qkv_bias.then(|| around(0.0, width));
        layer.qk_norm = variant.qk_norm.then(|| [around(1.0, head_dim), around(1.0, head_dim)]);
        layer.post_norms = variant.post_norms.then(|| [around(1.0, hidden), around(1.0, hidden)]);
    }
    let options = LoadOptions { threads: Some(2), decode: DecodePrecision::F32, ..LoadOptions::default() };
    Arc::new(Llama::from_parts(weights, Tokenizer::letters(), Digest::of("tiny"), options).unwrap())
}

fn variants() -> Vec<Variant> {
    let plain = Variant::default;
    let sliding = Some(Sliding { window: 11, rope_theta: 500.0, layers: vec![true, false] });
    vec![
        Variant { qkv_bias: true, ..plain() },
        Variant { qk_norm: true, rope_factors: Some(vec![1.0, 1.5, 3.0, 8.0]), ..plain() },
        Variant {
            qk_norm: true,
            post_norms: true,
            gelu: true,
            embedding_scale: 1.7,
            attention_scale: Some(0.3),
            sliding,
            ..plain()
        },
    ]
}

fn model(threads: usize, decode: DecodePrecision) -> Arc<Llama> {
    let options = LoadOptions { name: "tiny".into(), threads: Some(threads), decode, ..LoadOptions::default() };
    Arc::new(Llama::from_parts(weights(sizes()), Tokenizer::letters(), Digest::of("tiny"), options).unwrap())
}

fn tokens(count: usize, seed: u64) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(0..40)).collect()
}

/// Three sequences, one of which spans several attention blocks, with some tokens not learned.
fn examples() -> Vec<TrainingExample> {
    let mut examples: Vec<_> = [(9, 1), (70, 2), (4, 3)]
        .map(|(count, seed)| {
            let token_ids = tokens(count, seed);
            let mask = (0..count).map(|at| at % 3 != 1).collect();
            TrainingExample::new(token_ids, mask)
        })
        .into();
    examples[2].weight = -0.5;
    examples
}

/// An adapter none of whose matrices is zero.
fn stirred(model: &Llama, config: LoraConfig) -> Adapter {
    let mut adapter = Adapter::fresh(config, model.sizes(), 5).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(6);
    for value in adapter.values_mut() {
        *value += random.random_range(-0.1..0.1f32);
    }
    adapter
}

fn trainer(model: &Arc<Llama>, adapter: Adapter, change: impl Fn(&mut TrainerConfig)) -> Trainer {
    let mut config = TrainerConfig { lora: adapter.config().clone(), seed: 3, ..TrainerConfig::default() };
    change(&mut config);
    let optimizer = super::optimizer::AdamW::new(config.adamw, adapter.parameters());
    Trainer::from_parts(Arc::clone(model), config, adapter, optimizer)
}

fn lora(dropout: f32) -> LoraConfig {
    LoraConfig { rank: 3, alpha: 5.0, dropout, ..LoraConfig::default() }
}

/// Checks some numbers of every matrix against central differences of `loss`.
fn check_gradients(adapter: &Adapter, gradients: &[f32], loss: impl Fn(&Adapter) -> f64) {
    const STEP: f32 = 4e-3;
    let mut random = ChaCha8Rng::seed_from_u64(8);
    for tensor in adapter.tensors() {
        let analytic = &gradients[tensor.range.clone()];
        let norm = analytic.iter().map(|g| g * g).sum::<f32>().sqrt();
        assert!(norm > 1e-4, "{} has no gradient", tensor.name());
        // Along the gradient itself, and along two single numbers.
        let mut directions = vec![analytic.iter().map(|g| g / norm).collect::<Vec<f32>>()];
        for _ in 0..2 {
            let mut single = vec![0.0; analytic.len()];
            single[random.random_range(0..analytic.len())] = 1.0;
            directions.push(single);
        }
        for direction in directions {
            let at = |factor: f32| {
                let mut moved = adapter.clone();
                let values = &mut moved.values_mut()[tensor.range.clone()];
                values.iter_mut().zip(&direction).for_each(|(value, d)| *value += factor * d);
                loss(&moved)
            };
            let numeric = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
            let exact: f32 = analytic.iter().zip(&direction).map(|(g, d)| g * d).sum();
            let tolerance = 0.01 * f64::from(norm) + 0.01;
            assert!((numeric - f64::from(exact)).abs() < tolerance, "{}: {exact} is not {numeric}", tensor.name());
        }
    }
}

#[test]
fn every_gradient_agrees_with_finite_differences() {
    for model in variants().into_iter().map(varied).chain([model(2, DecodePrecision::F32)]) {
        gradients_agree_with_finite_differences(&model);
    }
}

fn gradients_agree_with_finite_differences(model: &Arc<Llama>) {
    let (adapter, examples) = (stirred(model, lora(0.0)), examples());
    let mut trainer = trainer(model, adapter.clone(), |_| ());
    trainer.accumulate(&examples).unwrap();
    check_gradients(&adapter, trainer.gradients(), |adapter| {
        let losses = model.nll_batch(Some(adapter), &examples).unwrap();
        losses.iter().zip(&examples).map(|(nll, example)| nll.nats * f64::from(example.weight)).sum()
    });
}

#[test]
fn gradients_of_preferences_agree_with_finite_differences() {
    let model = model(2, DecodePrecision::F32);
    let adapter = stirred(&model, lora(0.0));
    let mut examples = examples();
    let (chosen, rejected) = (examples.swap_remove(1), examples.swap_remove(0));
    // Far enough from the reference that the sigmoid is neither flat nor in its middle.
    let nlls = model.nll_batch(Some(&adapter), &[chosen.clone(), rejected.clone()]).unwrap();
    let reference = (nlls[0].nats - 3.0, nlls[1].nats + 2.0);
    let (pair, loss) = (PreferencePair { chosen, rejected, reference }, PreferenceLoss { beta: 0.2, nll_weight: 0.3 });
    let mut trainer = trainer(&model, adapter.clone(), |_| ());
    let standing = trainer.accumulate_pairs(std::slice::from_ref(&pair), loss).unwrap()[0];
    assert!((standing.margin + 1.0).abs() < 1e-2, "{}", standing.margin);
    let rescaled: Vec<f32> = trainer.gradients().iter().map(|g| g * 30.0).collect();
    check_gradients(&adapter, &rescaled, |adapter| {
        let nlls = model.nll_batch(Some(adapter), &[pair.chosen.clone(), pair.rejected.clone()]).unwrap();
        30.0 * loss.standing(&pair, nlls[0].nats, nlls[1].nats).loss
    });
}

#[test]
fn going_on_from_an_adapter_keeps_its_numbers_and_takes_the_new_dropout() {
    let model = model(1, DecodePrecision::F32);
    let adapter = stirred(&model, lora(0.3));
    let config = TrainerConfig { lora: LoraConfig { rank: 9, dropout: 0.0, ..lora(0.0) }, ..TrainerConfig::default() };
    let trainer = Trainer::continuing(Arc::clone(&model), config, &adapter).unwrap();
    assert_eq!(trainer.adapter().values(), adapter.values());
    assert_eq!(trainer.adapter().config(), &lora(0.0));
}

#[test]
fn gradients_with_dropout_agree_with_finite_differences() {
    let model = model(2, DecodePrecision::F32);
    let (adapter, example) = (stirred(&model, lora(0.3)), examples().remove(1));
    let mut original = trainer(&model, adapter.clone(), |_| ());
    original.accumulate(std::slice::from_ref(&example)).unwrap();
    // The same seed and step draw the same masks.
    check_gradients(&adapter, original.gradients(), |adapter| {
        trainer(&model, adapter.clone(), |_| ()).accumulate(std::slice::from_ref(&example)).unwrap().nll_sum
    });
}

#[test]
fn some_targets_alone_can_be_trained() {
    let model = model(1, DecodePrecision::F32);
    let target_modules = vec![Projection::Key, Projection::Value, Projection::Up];
    let adapter = stirred(&model, LoraConfig { target_modules, ..lora(0.0) });
    let example = examples().remove(0);
    let mut trainer = trainer(&model, adapter.clone(), |_| ());
    trainer.accumulate(std::slice::from_ref(&example)).unwrap();
    check_gradients(&adapter, trainer.gradients(), |adapter| {
        model.nll(Some(adapter), &example.token_ids, &example.loss_mask).unwrap().nats
    });
}

#[test]
fn packing_and_computing_again_change_no_gradient() {
    let model = model(2, DecodePrecision::F32);
    let adapter = stirred(&model, lora(0.0));
    let gradients = |change: fn(&mut TrainerConfig)| {
        let mut trainer = trainer(&model, adapter.clone(), change);
        trainer.accumulate(&examples()).unwrap();
        trainer.gradients().to_vec()
    };
    let usual = gradients(|_| ());
    let largest = usual.iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
    for changed in [gradients(|config| config.pack_tokens = 1), gradients(|config| config.activation_memory_bytes = 0)]
    {
        let difference = usual.iter().zip(&changed).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(difference < 1e-4 * largest, "{difference} of {largest}");
    }
}

#[test]
fn a_fresh_adapter_changes_nothing() {
    let model = model(1, DecodePrecision::F32);
    let example = examples().remove(1);
    let fresh = Adapter::fresh(lora(0.0), model.sizes(), 1).unwrap();
    let nll = |adapter| model.nll(adapter, &example.token_ids, &example.loss_mask).unwrap();
    assert_eq!(nll(Some(&fresh)), nll(None));
    assert_ne!(nll(Some(&stirred(&model, lora(0.0)))), nll(None));
}

#[test]
fn packed_sequences_do_not_see_each_other() {
    let model = model(2, DecodePrecision::F32);
    let examples = examples();
    let together = model.nll_batch(None, &examples).unwrap();
    for (example, together) in examples.iter().zip(together) {
        let alone = model.nll(None, &example.token_ids, &example.loss_mask).unwrap();
        assert!((alone.nats - together.nats).abs() < 1e-3 && alone.tokens == together.tokens);
    }
}

/// One sequence with a workspace of its own.
#[derive(Default)]
struct Session {
    sequence: Sequence,
    workspace: Workspace,
}

impl Session {
    fn prefill(&mut self, decoder: &Decoder<'_>, token_ids: &[u32]) {
        let parts = token_ids.chunks(PREFILL_CHUNK);
        let last = parts.len() - 1;
        for (index, part) in parts.enumerate() {
            self.workspace.prefill(decoder, &mut self.sequence, part, index == last);
        }
    }

    fn step(&mut self, decoder: &Decoder<'_>, tokens: &[u32]) {
        let turn = Turn { sequence: &mut self.sequence, adapter: decoder.adapter, tokens };
        self.workspace.step(decoder, &mut [turn]);
    }

    fn logits(&self) -> &[f32] {
        self.workspace.logits()
    }
}

/// The logits after the last token, from a pass over all tokens at once.
fn full_logits(decoder: &Decoder<'_>, token_ids: &[u32]) -> Vec<f32> {
    let mut session = Session::default();
    session.prefill(decoder, token_ids);
    session.logits().to_vec()
}

#[track_caller]
fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    let most = a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(a.len() == b.len() && most < tolerance, "off by {most}");
}

#[test]
fn decoding_from_the_cache_equals_a_full_pass() {
    for model in variants().into_iter().map(varied).chain([model(2, DecodePrecision::F32)]) {
        decoding_equals_a_full_pass(&model);
    }
}

fn decoding_equals_a_full_pass(model: &Arc<Llama>) {
    let adapter = stirred(model, lora(0.0));
    let decoder = Decoder { adapter: Some(&adapter), ..model.decoder() };
    let token_ids = tokens(200, 4);
    model.install(|| {
        let mut session = Session::default();
        session.prefill(&decoder, &token_ids[..150]);
        for end in 150..200 {
            session.step(&decoder, &[token_ids[end]]);
            assert_close(session.logits(), &full_logits(&decoder, &token_ids[..=end]), 1e-3);
        }
    });
}

#[test]
fn a_prompt_in_parts_equals_the_prompt_at_once() {
    for model in variants().into_iter().map(varied).chain([model(2, DecodePrecision::F32)]) {
        parts_equal_the_prompt_at_once(&model);
    }
}

fn parts_equal_the_prompt_at_once(model: &Arc<Llama>) {
    let (decoder, token_ids) = (model.decoder(), tokens(400, 4));
    model.install(|| {
        let once = full_logits(&decoder, &token_ids);
        for cut in [1, 63, 64, 255, 399] {
            let mut session = Session::default();
            session.prefill(&decoder, &token_ids[..cut]);
            session.prefill(&decoder, &token_ids[cut..]);
            assert_close(session.logits(), &once, 1e-3);
        }
        // What was read past a cut leaves no trace.
        let mut session = Session::default();
        session.prefill(&decoder, &tokens(300, 9));
        session.sequence.truncate(0, model.sizes());
        session.prefill(&decoder, &token_ids);
        assert_close(session.logits(), &once, 1e-3);
    });
}

#[test]
fn rounded_weights_stay_close() {
    let model = model(1, DecodePrecision::F32);
    let quantized = QuantizedWeights::new(model.decoder().weights).unwrap();
    let rounded = Decoder { quantized: Some(&quantized), ..model.decoder() };
    let token_ids = tokens(30, 4);
    let mut session = Session::default();
    for &token in &token_ids {
        session.step(&rounded, &[token]);
    }
    let exact = full_logits(&model.decoder(), &token_ids);
    let spread = exact.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    assert_close(session.logits(), &exact, 0.05 * spread);
    assert_close(&full_logits(&rounded, &token_ids), &exact, 0.05 * spread);
}

/// What guessing ahead relies on.
#[test]
fn several_tokens_at_once_give_the_same_bits_as_one_by_one() {
    let model = model(2, DecodePrecision::F32);
    let quantized = QuantizedWeights::new(model.decoder().weights).unwrap();
    let adapter = stirred(&model, lora(0.0));
    let token_ids = tokens(120, 4);
    for quantized in [None, Some(&quantized)] {
        let decoder = Decoder { adapter: Some(&adapter), quantized, ..model.decoder() };
        for count in [2, 5, 8, 11] {
            let (mut alone, mut together) = (Session::default(), Session::default());
            for token_ids in token_ids.chunks(count) {
                together.step(&decoder, token_ids);
                for (token, logits) in token_ids.iter().zip(together.logits().chunks(model.sizes().vocab_size)) {
                    alone.step(&decoder, &[*token]);
                    assert_eq!(alone.logits(), logits, "{count} at once, quantized: {}", quantized.is_some());
                }
            }
        }
    }
}

/// What answers in one batch rely on: neither the others nor their adapters matter.
#[test]
fn sequences_in_one_step_give_the_same_bits_as_alone() {
    let model = model(2, DecodePrecision::F32);
    let quantized = QuantizedWeights::new(model.decoder().weights).unwrap();
    let mut adapters = [stirred(&model, lora(0.0)), stirred(&model, lora(0.1))];
    adapters[1].values_mut().iter_mut().for_each(|value| *value *= 0.5);
    let voices = [None, Some(&adapters[0]), Some(&adapters[0]), Some(&adapters[1]), None];
    let vocabulary = model.sizes().vocab_size;
    for quantized in [None, Some(&quantized)] {
        let decoder = Decoder { quantized, ..model.decoder() };
        let (mut alone, mut together, mut workspace) = (Vec::new(), Vec::new(), Workspace::default());
        for (index, adapter) in voices.into_iter().enumerate() {
            let (decoder, prompt) = (Decoder { adapter, ..decoder }, tokens(90 + 70 * index, index as u64));
            let (mut session, mut sequence) = (Session::default(), Sequence::default());
            session.prefill(&decoder, &prompt);
            for part in prompt.chunks(PREFILL_CHUNK) {
                let last = sequence.tokens().len() + part.len() == prompt.len();
                workspace.prefill(&decoder, &mut sequence, part, last);
            }
            assert_eq!(session.logits(), workspace.logits(), "prompt {index} among others");
            alone.push(session);
            together.push(sequence);
        }
        for round in 0..5 {
            let ahead: Vec<Vec<u32>> =
                (0..voices.len()).map(|index| tokens(1 + (index + round) % 3, round as u64)).collect();
            let turns = together.iter_mut().zip(voices).zip(&ahead);
            let mut turns: Vec<_> =
                turns.map(|((sequence, adapter), tokens)| Turn { sequence, adapter, tokens }).collect();
            workspace.step(&decoder, &mut turns);
            let mut logits = workspace.logits();
            for ((alone, adapter), tokens) in alone.iter_mut().zip(voices).zip(&ahead) {
                alone.step(&Decoder { adapter, ..decoder }, tokens);
                let (own, rest) = logits.split_at(tokens.len() * vocabulary);
                logits = rest;
                assert_eq!(alone.logits(), own, "quantized: {}", quantized.is_some());
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_the_loss_much_and_the_run_not_at_all() {
    let run = |threads: usize| {
        let model = model(threads, DecodePrecision::F32);
        let mut trainer = trainer(&model, stirred(&model, lora(0.1)), |_| ());
        for _ in 0..3 {
            let loss = trainer.accumulate(&examples()).unwrap();
            trainer.apply(1e-2, Some(1.0), loss.target_tokens).unwrap();
        }
        trainer.adapter().values().to_vec()
    };
    let two = run(2);
    assert_eq!(two, run(2), "the same run gives the same bits");
    assert_close(&run(1), &two, 1e-2);
}
