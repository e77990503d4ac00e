use std::time::Instant;

use twin_style::assessment::{Assessor, Gate};
use twin_style::fluency::TrigramPool;
use twin_style::likeness::{AuthorTexts, Others, RulerConfig};
use twin_style::profile::StyleProfile;
use twin_style::verification::{Candidate, Pool, verify};

fn assessor() -> Assessor {
    let (maren, idris) = (crate::sample_posts("maren-holt"), crate::sample_posts("idris-vane"));
    fn parted<'a>(name: &str, posts: &'a [String]) -> AuthorTexts<'a> {
        AuthorTexts::by_date(name, &posts.iter().map(String::as_str).collect::<Vec<_>>(), 0.6)
    }
    let others = [parted("idris", &idris)];
    let others = Others { texts: &others, ..Others::default() };
    Assessor::fit(&parted("maren", &maren), &others, RulerConfig::default()).unwrap()
}

#[test]
fn text_that_is_no_prose_is_too_short_to_tell() {
    let assessor = assessor();
    let code = format!("```rust\n{}\n```\n", "let x = 1;\n".repeat(2000));
    let emoji = "\u{1f600} \u{1f680}".repeat(3000);
    let quoted = format!("> {}\n", "somebody else's words ".repeat(500));
    for text in ["", " \n\n ", "word", "\0", &"\0".repeat(100_000), &code, &emoji, &quoted, &"1234 ".repeat(5000)] {
        let assessment = assessor.assess(&[text]);
        assert_eq!(
            assessment.stopped_by,
            [Gate::Length],
            "{}: {assessment:?}",
            text.chars().take(20).collect::<String>()
        );
        assert_eq!(assessment.verdict(), "too short to tell");
        assert!(serde_json::to_string(&assessment).unwrap().contains("\"likeness\":null"));
    }
    assert_eq!(assessor.assess(&[]).stopped_by, [Gate::Length]);
}

#[test]
fn other_languages_and_nonsense_are_not_like_the_author() {
    let assessor = assessor();
    let german = "Das Boot lag an der Mauer und niemand wollte es haben, denn es war alt und die Planken waren weich. "
        .repeat(40);
    let chinese = "船停在墙边没有人想要它因为它很旧木板也很软".repeat(60);
    let arabic = "كان القارب عند الجدار ولم يرده أحد لأنه قديم ".repeat(80);
    let nul = format!("A{}B ", '\0').repeat(3000);
    let dashes = "- ".repeat(20_000) + &"a ".repeat(900);
    for text in [&german, &chinese, &arabic, &nul, &dashes, &"a".repeat(1 << 20), &"\"".repeat(200_000)] {
        let assessment = assessor.assess(&[text]);
        assert!(!assessment.is_like_the_author(), "{assessment:?}");
        let figures =
            [assessment.copied_share, assessment.pairs_share, assessment.distinct_4, assessment.attested_trigrams];
        assert!(figures.iter().all(|figure| figure.is_finite()), "{assessment:?}");
        if let Some(likeness) = &assessment.likeness {
            assert!(
                likeness.value.is_finite() && likeness.of_units.iter().all(|value| value.is_finite()),
                "{likeness:?}"
            );
            assert!(likeness.interval.0.is_finite() && likeness.author_range.1.is_finite());
        }
        assert_eq!(assessment, assessor.assess(&[text]), "the same text gets the same answer");
    }
}

#[test]
fn ten_megabytes_are_measured() {
    let assessor = assessor();
    let posts = crate::sample_posts("maren-holt").join("\n\n");
    let long = posts.repeat((10 << 20) / posts.len() + 1);
    let begun = Instant::now();
    let assessment = assessor.assess(&[&long]);
    eprintln!("10 MB: {} units, {:.1} s", assessment.units, begun.elapsed().as_secs_f64());
    assert!(assessment.units > 2000 && assessment.stopped_by.contains(&Gate::Copying), "{:?}", assessment.stopped_by);
}

#[test]
fn no_authors_no_report() {
    let one = Candidate { name: "one".to_owned(), known: vec![String::new()], questioned: vec![String::new()] };
    assert_eq!(verify(&[], Pool::Closed, &RulerConfig::default()), None);
    assert_eq!(verify(&vec![one; 5], Pool::Open, &RulerConfig::default()), None);
}

#[test]
fn five_hundred_words_have_a_profile_in_twenty_milliseconds() {
    let post = crate::sample_posts("maren-holt").join("\n\n");
    let words: Vec<&str> = post.split(' ').take(500).collect();
    let text = words.join(" ");
    let begun = Instant::now();
    for _ in 0..50 {
        assert!(StyleProfile::of(&text).words > 300);
    }
    // Printed, not judged: no test of ours is timed.
    eprintln!("a profile of 500 words: {:.2} ms", begun.elapsed().as_secs_f64() * 1000.0 / 50.0);
    assert_eq!(TrigramPool::default().attested(&text), 0.0);
}
