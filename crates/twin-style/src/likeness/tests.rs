use super::*;

/// Sentences of one of two made-up hands, different in every post.
fn post(hand: usize, number: usize, sentences: usize) -> String {
    const TERSE: [&str; 8] = [
        "I don't trust it.",
        "Cut it, then wait.",
        "It's wet; it won't hold.",
        "You can't hurry tar!",
        "So I didn't.",
        "That's all there is to it.",
        "Don't ask me why.",
        "I've done it twice.",
    ];
    const WINDING: [&str; 8] = [
        "It was, perhaps, the case that the clouds had already gone.",
        "Of the matter which was before us we had heard little.",
        "One might suppose that such a thing would be of no consequence.",
        "The observer, who had waited, was not to be moved.",
        "There was, upon the whole, very little of which we could be certain.",
        "Nor was the evening, as it were, at an end.",
        "We had been told that the mirror was of some age.",
        "It is to be regretted that so few of them remain.",
    ];
    let bank = if hand == 0 { TERSE } else { WINDING };
    let nouns = ["boat", "seam", "star", "plank", "lamp", "tide", "lens", "rope", "clock", "night", "hull", "dome"];
    let mut text = String::new();
    for index in 0..sentences {
        // A walk that depends on the post, so that posts differ but hands do not.
        let step = index * (2 * number + 3) + number * 5 + index * index / 7;
        text.push_str(bank[step % bank.len()]);
        text.push_str(&format!(" The {} and the {}.", nouns[step % 12], nouns[(step / 3 + number) % 12]));
        text.push_str(if index % 5 == 4 { "\n\n" } else { " " });
    }
    text
}

fn posts(hand: usize, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| post(hand, number, 30)).collect()
}

fn config() -> RulerConfig {
    RulerConfig { unit_words: 200, min_known_words: 1000, ..RulerConfig::default() }
}

fn refs(posts: &[String]) -> Vec<&str> {
    posts.iter().map(String::as_str).collect()
}

fn ruler() -> Ruler {
    let (own, other) = (posts(0, 0..14), posts(1, 20..34));
    let author = AuthorTexts::by_date("terse", &refs(&own), 0.6);
    let impostor = AuthorTexts::by_date("winding", &refs(&other), 0.6);
    Ruler::fit(&author, &[impostor], config()).unwrap()
}

#[test]
fn the_author_is_one_and_others_are_nought() {
    let ruler = ruler();
    assert_eq!(ruler.quality().auc, 1.0);
    assert_eq!(ruler.quality().impostor_authors, 1);
    let measure = |posts: &[String]| ruler.likeness(&refs(posts)).unwrap();
    let (own, other) = (measure(&posts(0, 40..46)), measure(&posts(1, 50..56)));
    assert!((own.value - 1.0).abs() < 0.2, "{own:?}");
    assert!(other.value.abs() < 0.2, "{other:?}");
    assert!(own.interval.0 <= own.value && own.value <= own.interval.1);
    assert_eq!((own.accepted_share, other.accepted_share), (1.0, 0.0));
    assert!(
        own.components.iter().all(|component| component.value.is_some_and(|value| (value - 1.0).abs() < 0.4)),
        "{own:?}"
    );
    assert_eq!(own, measure(&posts(0, 40..46)), "the same texts get the same figures");

    let half: Vec<String> = (60..66).map(|n| format!("{}\n\n{}", post(0, n, 15), post(1, n + 10, 15))).collect();
    let mixed = measure(&half);
    assert!(other.interval.1 < mixed.value && mixed.value < own.interval.0, "{mixed:?}");
}

#[test]
fn the_held_out_posts_themselves_are_exactly_one() {
    let ruler = ruler();
    let own = posts(0, 0..14);
    let held_out = AuthorTexts::by_date("terse", &refs(&own), 0.6).held_out;
    let likeness = ruler.likeness(&held_out).unwrap();
    assert!((likeness.value - 1.0).abs() < 1e-9, "{likeness:?}");
    assert!(!likeness.is_over_imitation());
}

#[test]
fn a_difference_is_paired() {
    let ruler = ruler();
    let (own, other) = (posts(0, 40..46), posts(1, 40..46));
    let (own, other) = (refs(&own), refs(&other));
    let difference = ruler.difference(&own, &other).unwrap();
    assert!(difference.is_above_zero() && (difference.mean - 1.0).abs() < 0.3, "{difference:?}");
    assert_eq!(ruler.difference(&own, &own).unwrap().mean, 0.0);
    assert_eq!(ruler.difference(&own, &other[1..]), Err(Refusal::NotPaired { first: 6, second: 5 }));
}

#[test]
fn what_means_nothing_is_refused() {
    let (own, other) = (posts(0, 0..14), posts(1, 20..34));
    let author = AuthorTexts::by_date("terse", &refs(&own), 0.6);
    let impostor = AuthorTexts::by_date("winding", &refs(&other), 0.6);
    let fit =
        |author: &AuthorTexts<'_>, impostors: &[AuthorTexts<'_>], config| Ruler::fit(author, impostors, config).err();

    let strict = RulerConfig { min_known_words: 5000, ..config() };
    let known = fit(&author, std::slice::from_ref(&impostor), strict);
    assert!(
        matches!(known, Some(Refusal::TooLittleKnownText { words, needed: 5000, .. }) if words > 1000),
        "{known:?}"
    );
    assert!(matches!(fit(&author, &[], config()), Some(Refusal::NoImpostors { .. })));
    let nothing_held_out = AuthorTexts { held_out: Vec::new(), ..author.clone() };
    let held_out = fit(&nothing_held_out, std::slice::from_ref(&impostor), config());
    assert!(matches!(held_out, Some(Refusal::TooLittleHeldOutText { units: 0, .. })), "{held_out:?}");

    // The same hand under two names.
    let twins = posts(0, 70..84);
    let same =
        fit(&author, &[AuthorTexts::by_date("twin", &refs(&twins), 0.6)], RulerConfig { min_auc: 0.95, ..config() });
    assert!(matches!(same, Some(Refusal::CannotTellApart { auc, .. }) if auc < 0.95), "{same:?}");

    let short = ruler().likeness(&["Too short."]).err();
    assert_eq!(short, Some(Refusal::TooLittleText { words: 2, needed: 100 }));
}

#[test]
fn posts_are_parted_by_words_and_date() {
    let parted = AuthorTexts::by_date("a", &["one two", "three four", "five", "six"], 0.6);
    assert_eq!((parted.known, parted.held_out), (vec!["one two", "three four"], vec!["five", "six"]));
    let two = AuthorTexts::by_date("a", &["one", "two three four five six seven"], 0.6);
    assert_eq!((two.known.len(), two.held_out.len()), (1, 1));
    assert_eq!(AuthorTexts::by_date("a", &["one"], 0.6).known.len(), 1);
    assert_eq!(AuthorTexts::by_date("a", &[], 0.6).known.len(), 0);
}
