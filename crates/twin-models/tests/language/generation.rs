//! Answers: streaming, ends, reuse of what was read before, and the scripted model's likeness to the real one.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use twin_domain::{CancelFlag, ChatMessage};
use twin_models::language::{
    Adapter, Batch, DecodePrecision, ExportError, ExportFormat, FinishReason, GenerateError, GenerateRequest,
    Generation, Input, LanguageModel, Listener, Llama, LoadOptions, LoraConfig, Sampling, ScriptedModel, TrainError,
    Trainer, TrainerConfig,
};

use crate::tiny;

fn ask(text: &str, sampling: Sampling) -> GenerateRequest {
    GenerateRequest { input: Input::Messages(vec![ChatMessage::user(text)]), adapter: None, sampling }
}

fn drawn(max_new_tokens: usize) -> Sampling {
    Sampling { temperature: 1.5, top_k: 0, top_p: 1.0, min_p: 0.0, max_new_tokens, seed: 4, ..Sampling::default() }
}

/// The answer, after checking that the pieces make up the text.
fn answer(model: &dyn LanguageModel, request: &GenerateRequest) -> Generation {
    let mut pieces = String::new();
    let generation = model
        .generate(request, &CancelFlag::new(), &mut |piece| {
            assert!(!piece.is_empty());
            pieces.push_str(piece);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(pieces, generation.text);
    generation
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let model = tiny::model();
    let first = answer(&*model, &ask("hello", drawn(40)));
    assert!(first.usage.new_tokens > 5);
    let short = answer(&*model, &ask("hello", drawn(3)));
    assert_eq!((short.finish_reason, short.usage.new_tokens), (FinishReason::Length, 3));
    assert!(first.text.starts_with(short.text.trim_end_matches('\u{FFFD}')));
    let again = answer(&*model, &ask("hello", drawn(40)));
    assert_eq!(first.text, again.text);
    let other = answer(&*model, &ask("hello", Sampling { seed: 5, ..drawn(40) }));
    assert_ne!(first.text, other.text);
}

#[test]
fn what_was_read_before_is_not_read_again() {
    let model = tiny::model();
    let long = "a question that is long enough to be worth remembering";
    let fresh = answer(&*tiny::model(), &ask(&format!("{long}, twice"), Sampling::greedy(20)));
    assert_eq!(fresh.usage.cached_tokens, 0);
    answer(&*model, &ask(&format!("{long}, once"), Sampling::greedy(20)));
    let second = answer(&*model, &ask(&format!("{long}, twice"), Sampling::greedy(20)));
    assert!(second.usage.cached_tokens > 50 && second.usage.cached_tokens < second.usage.prompt_tokens);
    assert_eq!(second.text, fresh.text);
}

#[test]
fn guessing_ahead_changes_no_answer() {
    let load = |plain, decode| {
        let folder = TempDir::new().unwrap();
        tiny::write_folder(folder.path());
        Llama::load(folder.path(), LoadOptions { plain, ..tiny::options(decode) }).unwrap()
    };
    for decode in [DecodePrecision::Q8, DecodePrecision::F32] {
        let (guessing, plain) = (load(false, decode), load(true, decode));
        let mut right_guesses = 0;
        for (index, question) in
            ["hello hello hello hello", "say it twice, say it twice, say it", "a"].iter().enumerate()
        {
            let cool = Sampling { temperature: 0.3, seed: index as u64, ..drawn(100) };
            let stopped = Sampling { stop: vec!["e".into()], ..cool.clone() };
            for sampling in [Sampling::greedy(100), Sampling::greedy(7), cool, stopped, drawn(100)] {
                let request = ask(question, sampling);
                let (quick, slow) = (answer(&guessing, &request), answer(&plain, &request));
                assert_eq!((quick.text, quick.finish_reason), (slow.text, slow.finish_reason));
                assert_eq!(quick.usage.new_tokens, slow.usage.new_tokens);
                assert_eq!(slow.usage.guessed_tokens, 0);
                assert!(quick.usage.right_guesses <= quick.usage.guessed_tokens);
                right_guesses += quick.usage.right_guesses;
            }
        }
        assert!(right_guesses > 50, "{right_guesses} right guesses: nothing was tried");
    }
}

fn voice(model: &Arc<Llama>, steps: usize) -> Arc<Adapter> {
    let lora = LoraConfig { rank: 4, dropout: 0.0, ..LoraConfig::default() };
    let mut trainer = Trainer::new(model.clone(), TrainerConfig { lora, ..TrainerConfig::default() }).unwrap();
    for _ in 0..steps {
        let loss = trainer.accumulate(&[tiny::example(40, 1)]).unwrap();
        trainer.apply(2e-2, None, loss.target_tokens).unwrap();
    }
    Arc::new(trainer.adapter().clone())
}

#[test]
fn an_adapter_has_a_memory_of_its_own() {
    let model = tiny::model();
    let with_adapter = |adapter: Option<Arc<_>>| GenerateRequest { adapter, ..ask("hello", Sampling::greedy(20)) };
    let plain = answer(&*model, &with_adapter(None));
    let voiced = answer(&*model, &with_adapter(Some(voice(&model, 20))));
    assert_eq!(voiced.usage.cached_tokens, 0, "the base's keys are not the adapter's");
    assert_ne!(voiced.text, plain.text);
    assert_eq!(answer(&*model, &with_adapter(None)).text, plain.text);
}

/// Someone who waits for one of several answers; after `patience` pieces they have had enough.
struct Waiting {
    text: String,
    patience: usize,
    result: Rc<RefCell<Option<Result<Generation, GenerateError>>>>,
}

impl Listener for Waiting {
    fn text(&mut self, piece: &str) -> ControlFlow<()> {
        self.text.push_str(piece);
        self.patience -= 1;
        if self.patience == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn end(self: Box<Self>, result: Result<Generation, GenerateError>) {
        assert!(result.as_ref().map_or(true, |generation| generation.text == self.text));
        assert!(self.result.replace(Some(result)).is_none(), "an answer ends once");
    }
}

type Ending = Rc<RefCell<Option<Result<Generation, GenerateError>>>>;

fn add<'a>(batch: &mut (dyn Batch<'a> + 'a), request: GenerateRequest, patience: usize, cancel: &CancelFlag) -> Ending {
    let ending = Ending::default();
    let waiting = Waiting { text: String::new(), patience, result: Rc::clone(&ending) };
    batch.add(request, cancel.clone(), Box::new(waiting));
    ending
}

#[test]
fn answers_written_together_are_those_written_alone() {
    for decode in [DecodePrecision::Q8, DecodePrecision::F32] {
        let load = || {
            let folder = TempDir::new().unwrap();
            tiny::write_folder(folder.path());
            Arc::new(Llama::load(folder.path(), tiny::options(decode)).unwrap())
        };
        let model = load();
        let voices = [None, Some(voice(&model, 10)), Some(voice(&model, 20)), None];
        let long = "a long question with a great many words ".repeat(4);
        let questions = ["hello hello hello hello", long.as_str(), "say it twice, say it twice", "why"];
        let samplings = [Sampling::greedy(90), Sampling::greedy(60), drawn(50), Sampling::greedy(120)];
        let requests: Vec<GenerateRequest> = (0..8)
            .map(|i| GenerateRequest {
                adapter: voices[i % 4].clone(),
                ..ask(questions[(i + i / 4) % 4], samplings[i % 4].clone())
            })
            .collect();
        // Each by a model of its own, so that nothing is remembered.
        let alone: Vec<Generation> = requests.iter().map(|request| answer(&*load(), request)).collect();
        let mut batch = model.batch();
        let mut endings = Vec::new();
        for request in &requests {
            endings.push(add(batch.as_mut(), request.clone(), usize::MAX, &CancelFlag::new()));
            (0..3).for_each(|_| batch.step());
        }
        while !batch.is_empty() {
            batch.step();
        }
        for (alone, ending) in alone.iter().zip(endings) {
            let together = ending.take().unwrap().unwrap();
            assert_eq!((&together.text, together.finish_reason), (&alone.text, alone.finish_reason));
            assert!(together.timings.mean_batch > 1.5 && alone.timings.mean_batch <= 1.0);
        }
    }
}

#[test]
fn who_leaves_a_batch_does_not_disturb_the_others() {
    let model = tiny::model();
    let whole = answer(&*tiny::model(), &ask("hello", drawn(60)));
    let (flag, none) = (CancelFlag::new(), CancelFlag::new());
    let mut batch = model.batch();
    let stays = add(batch.as_mut(), ask("hello", drawn(60)), usize::MAX, &none);
    let breaks = add(batch.as_mut(), ask("hello again", drawn(60)), 3, &none);
    let cancelled = add(batch.as_mut(), ask("and again", drawn(60)), usize::MAX, &flag);
    let refused = add(batch.as_mut(), ask("no", Sampling { top_p: 0.0, ..drawn(60) }), usize::MAX, &none);
    assert!(matches!(refused.take(), Some(Err(GenerateError::InvalidSampling { .. }))));
    (0..6).for_each(|_| batch.step());
    flag.cancel();
    batch.step();
    assert_eq!(cancelled.take().unwrap().unwrap().finish_reason, FinishReason::Cancelled);
    while !batch.is_empty() {
        batch.step();
    }
    assert_eq!(breaks.take().unwrap().unwrap().finish_reason, FinishReason::Cancelled);
    assert_eq!(stays.take().unwrap().unwrap().text, whole.text);
}

#[test]
fn a_long_prompt_does_not_hold_up_who_is_being_answered() {
    let model = tiny::model();
    let mut batch = model.batch();
    let short = add(batch.as_mut(), ask("hi", drawn(4)), usize::MAX, &CancelFlag::new());
    batch.step();
    let prompt = vec![65; tiny::CONTEXT - 10];
    let request = GenerateRequest { input: Input::Tokens(prompt), adapter: None, sampling: drawn(5) };
    let long = add(batch.as_mut(), request, usize::MAX, &CancelFlag::new());
    (0..3).for_each(|_| batch.step());
    assert!(short.take().is_some() && long.borrow().is_none(), "four tokens come while the prompt is read");
    while !batch.is_empty() {
        batch.step();
    }
    assert!(long.take().is_some());
}

#[test]
fn several_conversations_are_remembered_within_the_budget() {
    let load = |kept_bytes| {
        let folder = TempDir::new().unwrap();
        tiny::write_folder(folder.path());
        let options = LoadOptions { kept_bytes, ..tiny::options(DecodePrecision::Q8) };
        Llama::load(folder.path(), options).unwrap()
    };
    let first = "a first conversation about one thing and no other";
    let second = "the second one begins with words of its own altogether";
    let ask_both = |model: &Llama| {
        for question in [first, second] {
            answer(model, &ask(question, Sampling::greedy(10)));
        }
        let again = |question: &str| answer(model, &ask(&format!("{question}, and more"), Sampling::greedy(10)));
        [again(first), again(second)].map(|generation| generation.usage.cached_tokens)
    };
    let [of_first, of_second] = ask_both(&load(None));
    assert!(of_first > first.len() / 2 && of_second > second.len() / 2, "{of_first}, {of_second}");
    assert_eq!(ask_both(&load(Some(0))), [0, 0]);
}

#[test]
fn a_model_for_answers_only_answers_alike_and_refuses_the_rest() {
    let folder = TempDir::new().unwrap();
    tiny::write_folder(folder.path());
    let load = |answers_only| {
        let options = LoadOptions { answers_only, ..tiny::options(DecodePrecision::Q8) };
        Arc::new(Llama::load(folder.path(), options).unwrap())
    };
    let (whole, answers_only) = (load(false), load(true));
    let request = ask("what weaves algebra?", drawn(40));
    assert_eq!(answer(&*whole, &request).text, answer(&*answers_only, &request).text);
    let example = tiny::example(60, 3);
    let nll = |model: &Llama| model.nll(None, &example.token_ids, &example.loss_mask).unwrap().nats;
    let (exact, rounded) = (nll(&whole), nll(&answers_only));
    assert!((rounded / exact - 1.0).abs() < 0.01, "{exact} became {rounded}");
    assert!(matches!(Trainer::new(Arc::clone(&answers_only), TrainerConfig::default()), Err(TrainError::Rounded)));
    let exported = answers_only.export(None, folder.path(), &folder.path().join("out"), ExportFormat::Safetensors);
    assert!(matches!(exported, Err(ExportError::Rounded)));
    assert!(!folder.path().join("out").exists());
}

#[test]
fn stop_texts_end_the_answer_and_do_not_show() {
    let model = tiny::model();
    let whole = answer(&*model, &ask("hello", drawn(60))).text;
    let stop: String = whole.chars().skip(10).take(3).collect();
    let stopped = answer(&*model, &ask("hello", Sampling { stop: vec![stop.clone()], ..drawn(60) }));
    assert_eq!(stopped.finish_reason, FinishReason::Stop);
    assert_eq!(Some(stopped.text.as_str()), whole.split(&stop).next());
}

#[test]
fn the_answer_ends_where_the_context_does() {
    let model = tiny::model();
    let prompt = vec![65; tiny::CONTEXT - 5];
    let request = |tokens| GenerateRequest { input: Input::Tokens(tokens), adapter: None, sampling: drawn(50) };
    let generation = answer(&*model, &request(prompt));
    assert!(generation.usage.new_tokens <= 5);
    let error =
        model.generate(&request(vec![65; tiny::CONTEXT]), &CancelFlag::new(), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(error, Err(GenerateError::PromptTooLong { context_length: tiny::CONTEXT, .. })));
    let error = model.generate(&request(vec![]), &CancelFlag::new(), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(error, Err(GenerateError::EmptyPrompt)));
    let error = model.generate(&request(vec![70_000]), &CancelFlag::new(), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(error, Err(GenerateError::UnknownToken { token: 70_000, .. })));
}

#[test]
fn listeners_and_flags_can_end_an_answer() {
    let model = tiny::model();
    let mut pieces = 0;
    let broken = model.generate(&ask("hello", drawn(60)), &CancelFlag::new(), &mut |_| {
        pieces += 1;
        if pieces == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((broken.unwrap().finish_reason, pieces), (FinishReason::Cancelled, 3));
    let cancel = CancelFlag::new();
    let mut pieces = 0;
    let cancelled = model.generate(&ask("hello", drawn(60)), &cancel, &mut |_| {
        pieces += 1;
        cancel.cancel();
        ControlFlow::Continue(())
    });
    assert_eq!((cancelled.unwrap().finish_reason, pieces), (FinishReason::Cancelled, 1));
    // A flag that is set before the prompt is read.
    let none = model.generate(&ask("a new question", drawn(60)), &cancel, &mut |_| ControlFlow::Continue(()));
    assert_eq!(none.unwrap().usage.new_tokens, 0);
}

#[test]
fn a_scripted_model_says_its_lines() {
    let model = ScriptedModel::new(vec!["First line, in words.".into(), "Second.".into()]);
    assert_eq!(answer(&model, &ask("a", Sampling::default())).text, "First line, in words.");
    assert_eq!(answer(&model, &ask("b", Sampling::default())).text, "Second.");
    assert_eq!(answer(&model, &ask("c", Sampling::default())).text, "Second.");
    assert_eq!(model.requests()[1].input, Input::Messages(vec![ChatMessage::user("b")]));
    let tokens = model.encode(" two  words\n").unwrap();
    assert_eq!(model.decode(&tokens).unwrap(), " two  words\n");
}

#[test]
fn a_scripted_model_ends_like_a_real_one() {
    let model = ScriptedModel::answering(|request| format!("seed {} and so on", request.sampling.seed));
    let with = |sampling| answer(&model, &ask("a", sampling));
    assert_eq!(with(Sampling { seed: 9, max_new_tokens: 2, ..drawn(1) }).text, "seed 9");
    let stopped = with(Sampling { stop: vec![" and".into()], ..drawn(50) });
    assert_eq!((stopped.text.as_str(), stopped.finish_reason), ("seed 4", FinishReason::Stop));
    let slow = ScriptedModel::new(vec!["a b c d".into()]).with_delay(Duration::from_millis(5));
    assert!(answer(&slow, &ask("a", drawn(50))).timings.total >= Duration::from_millis(20));
    let small = ScriptedModel::new(vec![]).with_context_length(3);
    let error = small.generate(&ask("one two three", drawn(5)), &CancelFlag::new(), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(error, Err(GenerateError::PromptTooLong { context_length: 3, .. })));
}
