//! Where sentences start. Good enough to cut a long paragraph; it need not be linguistics.

/// Words whose full stop ends no sentence.
const ABBREVIATIONS: [&str; 24] = [
    "e.g", "i.e", "etc", "cf", "vs", "mr", "mrs", "ms", "dr", "prof", "st", "no", "fig", "sec", "vol", "pp", "ed",
    "al", "jr", "sr", "approx", "inc", "ca", "resp",
];

/// The offsets at which a sentence starts, the first one left out.
pub(super) fn starts(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let spaced = matches!(character, '.' | '!' | '?' | '…');
        if !spaced && !matches!(character, '。' | '！' | '？') {
            continue;
        }
        while characters.next_if(|(_, next)| ".!?…\"'”’»)]*_`".contains(*next)).is_some() {}
        let mut space = false;
        while characters.next_if(|(_, next)| next.is_whitespace()).is_some() {
            space = true;
        }
        let Some((next, first)) = characters.peek().copied() else { break };
        let begins = !first.is_lowercase();
        if !spaced || (space && begins && !(character == '.' && is_abbreviation(&text[..at]))) {
            starts.push(next);
        }
    }
    starts
}

fn is_abbreviation(before: &str) -> bool {
    let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let word = before[start..].trim_start_matches(|c: char| !c.is_alphanumeric());
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase) && word != "I";
    initial || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let mut cuts = vec![0];
        cuts.extend(starts(text));
        cuts.push(text.len());
        let sentences: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
        assert_eq!(sentences, expected);
    }

    #[test]
    fn sentences_end_where_readers_pause() {
        check("One. Two! \"Three?\" Four… five.", &["One. ", "Two! ", "\"Three?\" ", "Four… five."]);
        check(
            "See e.g. Knuth, by D. E. Knuth. It was I. 3.5 is a number.",
            &["See e.g. Knuth, by D. E. Knuth. ", "It was I. ", "3.5 is a number."],
        );
        check("一。二！三", &["一。", "二！", "三"]);
        check("A line\nand its end.\nNext", &["A line\nand its end.\n", "Next"]);
    }
}
