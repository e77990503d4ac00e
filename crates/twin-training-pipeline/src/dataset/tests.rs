use std::ops::Range;

use twin_domain::{Author, AuthorId, Document, DocumentId, DocumentInfo};

use super::*;

fn stored(author: &AuthorId, day: i8, text: &str, not_voice: Vec<Range<usize>>) -> StoredDocument {
    let url = format!("https://ada.example/{day}");
    let date = Some(jiff::civil::date(2024, 1, day));
    let info = DocumentInfo {
        id: DocumentId::new(author, &url),
        author: author.clone(),
        url,
        title: format!("Post {day}"),
        date,
        language: None,
        tags: vec![],
        content_hash: Document::content_hash("", date, &[], text),
    };
    StoredDocument { document: Document { info, text: text.to_owned() }, not_voice }
}

fn prose(seed: usize, words: usize) -> String {
    let word = |index: usize| format!("w{}", (seed * 7919 + index * index * 31 + index) % 5000);
    (0..words).map(word).collect::<Vec<_>>().join(" ")
}

fn maker_examples(document: &StoredDocument) -> Vec<Example> {
    let author = Author::new(document.document.info.author.clone());
    let prompts = PromptSet::builtin().unwrap();
    let config = DatasetConfig { max_target_tokens: 60, opening_tokens: 10, ..DatasetConfig::default() };
    let count = |text: &str| text.split_whitespace().count();
    let mut maker =
        ExampleMaker { author: &author, prompts: &prompts, config: &config, count_tokens: &count, examples: vec![] };
    maker.add_document(document, Split::Train, &Library::default()).unwrap();
    maker.examples
}

#[test]
fn every_task_is_made_and_every_target_is_verbatim() {
    let author = AuthorId::parse("ada").unwrap();
    let text = format!(
        "{}\n\n{}\n\n## Why does it turn?\n\n{}\n\n## Oil\n\n{}\n",
        prose(1, 50),
        prose(2, 40),
        prose(3, 20),
        prose(4, 25)
    );
    let document = stored(&author, 1, &text, vec![]);
    let examples = maker_examples(&document);
    for task in [Task::WritePost, Task::Continue, Task::AnswerQuestion, Task::WriteSection] {
        assert!(examples.iter().any(|example| example.task == task), "{task:?}");
    }
    assert!(examples.iter().all(|example| text.contains(&example.target)));
    let question = examples.iter().find(|example| example.task == Task::AnswerQuestion).unwrap();
    assert!(question.prompt[1].content.ends_with("Why does it turn?"));
    assert!(question.prompt[1].content.contains(&question.target), "the passage that answers is given");
}

#[test]
fn what_is_asked_stands_in_a_passage_and_what_is_written_does_not() {
    let author = AuthorId::parse("ada").unwrap();
    let body = |seed: usize| {
        let tell = format!(
            "The {} of {} weighs 14 pounds and stands on {} all winter.",
            WORDS[seed],
            WORDS[seed + 1],
            WORDS[seed + 2]
        );
        format!(
            "{}\n\n{tell}\n\n## Why {}?\n\n{}\n\n## Oil\n\n{}\n",
            prose(seed, 30),
            WORDS[seed],
            prose(seed + 40, 20),
            prose(seed + 80, 25)
        )
    };
    const WORDS: [&str; 7] = ["anvil", "beech", "copper", "dory", "elm", "ferrule", "gunwale"];
    let documents: Vec<_> = (1..=4).map(|day| stored(&author, day, &body(day as usize), vec![])).collect();
    let (prompts, config) = (PromptSet::builtin().unwrap(), DatasetConfig::default());
    let count = |text: &str| text.split_whitespace().count();
    let author = Author::new(author);
    let mut maker =
        ExampleMaker { author: &author, prompts: &prompts, config: &config, count_tokens: &count, examples: vec![] };
    let library = Library::of(&documents.iter().collect::<Vec<_>>(), config.passage_tokens, &count);
    for document in &documents {
        maker.add_document(document, Split::Train, &library).unwrap();
    }
    let examples = |task: Task| maker.examples.iter().filter(move |example| example.task == task);
    assert_eq!(examples(Task::AnswerQuestion).count(), 8, "a heading and a sentence of each");
    for example in examples(Task::AnswerQuestion) {
        let asked = &example.prompt[1].content;
        assert!(asked.contains(&example.target) && asked.contains("[2]") && example.complete, "{asked}");
    }
    let written: Vec<_> = examples(Task::WritePost).chain(examples(Task::WriteSection)).collect();
    assert!(written.iter().any(|example| example.prompt[1].content.contains("[1]")), "some come with passages");
    assert!(written.iter().all(|example| !example.prompt[1].content.contains(&example.target)));
}

#[test]
fn quotations_are_marked_and_mostly_quoted_passages_left_out() {
    let author = AuthorId::parse("ada").unwrap();
    let own = prose(1, 30);
    let quoted = format!("> {}", prose(2, 10));
    let text = format!("{own}\n\n{quoted}\n");
    let range = own.len() + 2..own.len() + 2 + quoted.len();
    let examples = maker_examples(&stored(&author, 1, &text, vec![range.clone()]));
    assert_eq!(examples.len(), 1);
    assert_eq!(&examples[0].target[examples[0].not_voice[0].clone()], quoted);
    assert!(
        maker_examples(&stored(&author, 1, &format!("> {}", prose(1, 30)), std::iter::once(0..150).collect()))
            .is_empty()
    );
}

#[test]
fn the_newest_are_test_and_copies_stay_on_one_side() {
    let author = AuthorId::parse("ada").unwrap();
    let mut documents: Vec<_> = (1..=20).map(|day| stored(&author, day, &prose(day as usize, 80), vec![])).collect();
    documents[19].document.text = documents[0].document.text.clone();
    let splits = split::by_date(&documents, &DatasetConfig::default());
    assert_eq!(splits[0], Split::Train);
    assert_eq!(splits[16], Split::Calibration);
    assert_eq!(splits[18], Split::Test);
    assert_eq!(splits[19], Split::Train, "a copy of a training post is no test");
}

#[test]
fn the_gates_name_what_they_refuse() {
    let author = AuthorId::parse("ada").unwrap();
    let document = stored(&author, 1, &prose(1, 50), vec![]);
    let listed = vec![training_document((&document, &Split::Train))];
    let good = maker_examples(&document);
    let stored = [document];
    assert_eq!(check(&good, &listed, &stored), Ok(()));

    let with = |change: &dyn Fn(&mut Vec<Example>)| {
        let mut examples = good.clone();
        change(&mut examples);
        check(&examples, &listed, &stored).unwrap_err()
    };
    assert!(matches!(with(&|e| e[0].target.push('!')), GateError::NotVerbatim { .. }));
    assert!(matches!(with(&|e| e[0].prompt[1].content = "{{ title }}".into()), GateError::BadPrompt { .. }));
    assert!(matches!(with(&|e| e[0].prompt[1].content.clear()), GateError::BadPrompt { .. }));
    assert!(matches!(with(&|e| e[0].split = Split::Test), GateError::BothSides { .. }));
    assert!(matches!(with(&|e| e.push(e[0].clone())), GateError::Repeated { .. }));
}

#[test]
fn writing_tasks_take_forms_and_documents_in_turn() {
    let author = AuthorId::parse("ada").unwrap();
    let body = |seed: usize| {
        // Words with digits count for none: these are of letters alone.
        let letters = |c: char| c.to_digit(10).map_or(c, |digit| char::from(b'a' + digit as u8));
        let part = |seed: usize| prose(seed, 90).chars().map(letters).collect::<String>();
        format!(
            "{}\n\n{}\n\n## Oil {seed}\n\n{}\n\n## Why wait?\n\n{}\n",
            part(seed),
            part(seed + 10),
            part(seed + 20),
            part(seed + 30)
        )
    };
    let documents: Vec<_> = (1..=3).map(|day| stored(&author, day, &body(day as usize), vec![])).collect();
    let count = |text: &str| text.split_whitespace().count();
    let maker = TaskMaker::new(&[], 100, &count);
    let forms = [Form::Post, Form::Continuation, Form::Section, Form::Answer];
    let tasks = maker.tasks(&documents, &forms, 10);
    assert_eq!(tasks.len(), 10);
    assert_eq!(
        tasks.iter().map(|task| task.form).collect::<Vec<_>>()[..5],
        [Form::Post, Form::Continuation, Form::Section, Form::Answer, Form::Post]
    );
    assert_eq!((tasks[0].title.as_str(), tasks[4].title.as_str()), ("Post 1", "Post 2"));
    // The section of the first post is what was continued there.
    assert_eq!((tasks[2].title.as_str(), tasks[3].title.as_str()), ("Post 2 › Oil 2", "Why wait?"));
    for task in &tasks {
        assert!(documents.iter().any(|document| document.document.text.contains(&task.real)), "{task:?}");
        if let Request::Continue { opening } = &task.request {
            assert!(!opening.is_empty() && !task.real.contains(opening.as_str()), "{task:?}");
        }
    }
    assert_eq!(tasks, maker.tasks(&documents, &forms, 10), "the same documents give the same tasks");
    // A post, an abstract and a thread are of the same opening: no document has more than one of them.
    let openings = maker.tasks(&documents, &[Form::Post, Form::Abstract, Form::Thread], 10);
    let made: Vec<_> = openings.iter().map(|task| (task.form, task.title.as_str())).collect();
    assert_eq!(
        made,
        [(Form::Post, "Post 1"), (Form::Abstract, "Post 2 (abstract)"), (Form::Thread, "Post 3 (thread)")]
    );
    // There is one post in each document and no more.
    assert_eq!(maker.tasks(&documents, &[Form::Post], 10).len(), 3);
    let short = stored(&author, 4, "Hardly any words.", vec![]);
    assert!(maker.tasks(&[short], &forms, 4).is_empty());
}
