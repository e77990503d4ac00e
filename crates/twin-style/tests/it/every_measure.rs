use std::sync::LazyLock;

use twin_style::assessment::Assessor;
use twin_style::cheats::Cheat;
use twin_style::copying::{CopyIndex, words_in_common};
use twin_style::delta::{DeltaModel, Features, Measure};
use twin_style::fluency::{FluencyGate, TrigramPool, distinct};
use twin_style::function_words::{Profile, Scale};
use twin_style::grounding::{Grounding, Statement};
use twin_style::likeness::{AuthorTexts, Others, RulerConfig};
use twin_style::ngrams::{CharModel, GrammarModel, NgramProfile, Weights, bits_gained, grammar_bits_gained};
use twin_style::overlap::{chrf2, rouge_l, rouge_n};
use twin_style::profile::{StyleProfile, departures, texture_rates};
use twin_style::text::{markup, prose, sentences, units, word_count};
use twin_style::two_sample::told_apart;

/// What the measures are made from: the two sample authors.
struct Made {
    maren: Vec<String>,
    idris: Vec<String>,
    assessor: Assessor,
    delta: DeltaModel,
    characters: [CharModel; 2],
    grammar: [GrammarModel; 2],
    copies: CopyIndex,
    pool: TrigramPool,
}

static MADE: LazyLock<Made> = LazyLock::new(made);

fn made() -> Made {
    let (maren, idris) = (crate::sample_posts("maren-holt"), crate::sample_posts("idris-vane"));
    fn refs(posts: &[String]) -> Vec<&str> {
        posts.iter().map(String::as_str).collect()
    }
    let parted = |name: &str, posts: &'static [String]| AuthorTexts::by_date(name, &refs(posts), 0.6);
    // Leaked once: what borrows it lives as long as the tests.
    let (own, other): (&'static [String], &'static [String]) = (maren.clone().leak(), idris.clone().leak());
    let others = [parted("idris", other)];
    let among = Others { texts: &others, ..Others::default() };
    let proses = |posts: &[String]| posts.iter().map(|post| prose(post)).collect::<Vec<_>>();
    let (a, b) = (proses(&maren), proses(&idris));
    Made {
        assessor: Assessor::fit(&parted("maren", own), &among, RulerConfig::default()).unwrap(),
        delta: DeltaModel::fit(&[("maren", a.clone()), ("idris", b.clone())], Features::MostFrequentWords(200)),
        characters: [CharModel::fit(&a), CharModel::fit(&b)],
        grammar: [GrammarModel::fit(&a), GrammarModel::fit(&b)],
        copies: CopyIndex::new(&refs(&maren)),
        pool: TrigramPool::new(&b),
        maren,
        idris,
    }
}

/// A measure by its name, with the figures that it gives of a Markdown text.
type Measured = (&'static str, fn(&Made, &str) -> Vec<f64>);

const MEASURES: &[Measured] = &[
    ("assessment", |made, text| {
        let found = made.assessor.assess(&[text]);
        let mut figures = vec![found.copied_share, found.pairs_share, found.distinct_4, found.attested_trigrams];
        figures.extend(found.likeness.iter().flat_map(|likeness| {
            let ends = [likeness.interval.0, likeness.interval.1, likeness.author_range.0, likeness.author_range.1];
            let others = likeness.others.iter().filter_map(|other| other.value);
            let parts = likeness.components.iter().filter_map(|component| component.value);
            [likeness.value, likeness.accepted_share]
                .into_iter()
                .chain(ends)
                .chain(others)
                .chain(parts)
                .collect::<Vec<_>>()
        }));
        figures
    }),
    ("passage", |made, text| made.assessor.passage(text).likeness.into_iter().collect()),
    ("features", |made, text| made.assessor.ruler().features(&prose(text))),
    ("score", |made, text| vec![made.assessor.ruler().score(&prose(text))]),
    ("delta", |made, text| {
        let prose = prose(text);
        let measures = [Measure::Burrows, Measure::Cosine, Measure::Eder, Measure::Quadratic];
        measures
            .iter()
            .flat_map(|measure| made.delta.distances(&prose, *measure))
            .map(|(_, distance)| distance)
            .collect()
    }),
    ("function words", |made, text| {
        let scale = Scale::of(&made.maren.iter().map(|post| Profile::of(post)).collect::<Vec<_>>());
        vec![scale.cosine_delta(&Profile::of(text), &Profile::of(&made.idris[0]))]
    }),
    ("character 4-grams", |made, text| {
        let weights = Weights::of(&[NgramProfile::of(&made.maren[0]), NgramProfile::of(&made.idris[0])]);
        vec![weights.distance(&NgramProfile::of(text), &NgramProfile::of(&made.maren[1]))]
    }),
    ("character models", |made, text| {
        let prose = prose(text);
        let [own, others] = &made.characters;
        vec![own.bits_per_character(&prose), bits_gained(own, others, &prose)]
    }),
    ("grammar models", |made, text| {
        let prose = prose(text);
        let [own, others] = &made.grammar;
        vec![own.bits_per_symbol(&prose), grammar_bits_gained(own, others, &prose)]
    }),
    ("copying", |made, text| {
        let found = made.copies.report(text);
        let runs = made.copies.copied_runs(text).len() as f64;
        vec![found.share, found.longest_run as f64, found.pairs_share, found.quoted_share, runs]
    }),
    ("memorisation", |made, text| vec![words_in_common(text, &made.maren[0]) as f64]),
    ("fluency", |made, text| {
        let prose = prose(text);
        let found = made.pool.fluency(&prose);
        let gate = FluencyGate::of(&made.pool, &[prose.as_str()]);
        vec![
            found.distinct_1,
            found.distinct_4,
            found.attested_trigrams,
            gate.min_attested_trigrams,
            distinct(&prose, 0),
        ]
    }),
    ("two-sample test", |made, text| {
        let texts = [text; 4];
        let own: Vec<&str> = made.maren.iter().take(4).map(String::as_str).collect();
        told_apart(&texts, &own).into_iter().collect()
    }),
    ("profile", |made, text| {
        let profile = StyleProfile::of(text);
        let rates = texture_rates(text);
        let mut figures: Vec<f64> = profile.features().iter().map(|(_, value)| *value).collect();
        figures.extend([rates.contractions, rates.punctuation, rates.paragraphs]);
        let author: Vec<StyleProfile> = made.maren.iter().take(3).map(|post| StyleProfile::of(post)).collect();
        figures.extend(departures(&author, &profile).iter().map(|departure| departure.widths));
        figures
    }),
    ("overlap", |made, text| {
        // Both take time in proportion to the product of the lengths.
        let short: String = text.chars().take(2_000).collect();
        let reference: String = made.maren[0].chars().take(2_000).collect();
        vec![rouge_n(&reference, &short, 2).f, rouge_l(&reference, &short).f, chrf2(&reference, &short)]
    }),
    ("grounding", |made, text| {
        let passage = made.maren[0].as_str();
        let found =
            Grounding::of(&[Statement { text, cited: vec![passage] }, Statement { text: passage, cited: vec![text] }]);
        vec![found.recall, found.precision, found.checkable_recall]
    }),
    ("cheats", |made, text| {
        let made_of = |cheat: Cheat| cheat.texts(&prose(text), &[prose(&made.idris[0])], 2, 50, 7);
        Cheat::ALL.into_iter().flat_map(made_of).map(|text| word_count(&text) as f64).collect()
    }),
    ("units and markup", |_, text| {
        let prose = prose(text);
        vec![units(&[prose.as_str()], 500).len() as f64, sentences(&prose).len() as f64, markup(text).headings as f64]
    }),
];

/// Texts that are no prose of the author's language, or hardly any.
fn odd_texts() -> Vec<(&'static str, String)> {
    vec![
        ("empty", String::new()),
        ("white space", " \n\n\t ".to_owned()),
        ("one word", "word".to_owned()),
        ("one letter", "I".to_owned()),
        ("digits", "1234 5,678.90 ".repeat(300)),
        ("German", "Das Boot lag an der Mauer, und niemand wollte es haben – die Planken waren weich. ".repeat(60)),
        ("Chinese", "船停在墙边没有人想要它，因为它很旧。".repeat(80)),
        ("Arabic", "كان القارب عند الجدار ولم يرده أحد لأنه قديم. ".repeat(80)),
        ("Hindi and combining marks", "नाव दीवार के पास थी e\u{301}\u{302}\u{303} ".repeat(80)),
        ("code only", format!("```rust\n{}```\n", "let x: u32 = 1;\n".repeat(500))),
        ("emoji only", "\u{1f600}\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{1f680}".repeat(500)),
        ("NULs", "\0".repeat(5_000)),
        ("NULs in words", "A\0B and \0c ".repeat(400)),
        ("marks only", "\"'()-—…!?;:".repeat(400)),
        ("one endless word", "a".repeat(200_000)),
        ("markup that never closes", "> ".repeat(500) + &"*_[".repeat(500) + &"<div>".repeat(200)),
        ("numbers that are none", "1..2,,3 ".repeat(200)),
    ]
}

#[test]
fn every_measure_has_a_finite_answer_to_every_odd_text() {
    for (what, text) in odd_texts() {
        for (name, measure) in MEASURES {
            let figures = measure(&MADE, &text);
            assert!(figures.iter().all(|figure| figure.is_finite()), "{name} of {what}: {figures:?}");
            assert_eq!(figures, measure(&MADE, &text), "{name} of {what}, twice");
        }
    }
}

#[test]
fn ten_megabytes_have_a_finite_answer_from_every_measure() {
    // Not of the author whose posts copies are looked for in: `odd_inputs` has ten megabytes of copies.
    let posts = MADE.idris.join("\n\n");
    let long = posts.repeat((10 << 20) / posts.len() + 1);
    for (name, measure) in MEASURES {
        let begun = std::time::Instant::now();
        let figures = measure(&MADE, &long);
        eprintln!("10 MB, {name}: {:.1} s", begun.elapsed().as_secs_f64());
        assert!(figures.iter().all(|figure| figure.is_finite()), "{name}: {figures:?}");
    }
}

#[test]
fn no_figure_depends_on_the_number_of_threads() {
    let texts = [MADE.maren.concat(), MADE.idris.concat(), odd_texts().into_iter().map(|(_, text)| text).collect()];
    let with = |threads: usize| -> Vec<Vec<f64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        // Made anew, so that fitting is seen as well as measuring.
        pool.install(|| {
            let made = made();
            texts.iter().flat_map(|text| MEASURES.iter().map(|(_, measure)| measure(&made, text))).collect()
        })
    };
    let one = with(1);
    for threads in [2, 5] {
        assert!(with(threads) == one, "{threads} threads");
    }
}
