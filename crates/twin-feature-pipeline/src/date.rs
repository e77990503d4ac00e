//! Days of publication, in the many ways in which they are written.

use jiff::civil::Date;

/// The day that a text names: ISO 8601 with or without a time, `2022/9/7`, RFC 2822, `September 7, 2022`, `7 Sep 2022`.
/// The day is the one that was written; time zones do not move it. A year alone, as essays have it, is its first day.
pub(crate) fn parse(text: &str) -> Option<Date> {
    let text = text.trim().trim_matches('"');
    leading_digits(text).or_else(|| written_out(text)).or_else(|| year_alone(text))
}

fn year_alone(text: &str) -> Option<Date> {
    let (year, rest) = number(text, 4, 4)?;
    rest.is_empty().then(|| plausible(year, 1, 1))?
}

/// The day in a file name or an address, as in `2017-03-12-min-of-three.md` and `/2014/12/12/timeline`.
pub(crate) fn in_path(path: &str) -> Option<Date> {
    let starts = path.char_indices().filter(|(start, character)| {
        character.is_ascii_digit() && !path[..*start].ends_with(|before: char| before.is_ascii_digit())
    });
    starts.filter_map(|(start, _)| leading_digits(&path[start..])).next()
}

fn leading_digits(text: &str) -> Option<Date> {
    let (year, rest) = number(text, 4, 4)?;
    let separator = rest.chars().next().filter(|c| "-/._".contains(*c))?;
    let (month, rest) = number(&rest[1..], 1, 2)?;
    let rest = rest.strip_prefix(separator)?;
    let (day, rest) = number(rest, 1, 2)?;
    if rest.starts_with(|after: char| after.is_ascii_digit()) {
        return None;
    }
    plausible(year, month, day)
}

fn number(text: &str, least: usize, most: usize) -> Option<(i16, &str)> {
    let digits = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    (digits >= least).then(|| text[..digits].parse().ok().map(|value| (value, &text[digits..])))?
}

fn written_out(text: &str) -> Option<Date> {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).collect();
    let month_at = words.iter().position(|word| month(word).is_some())?;
    let month = month(words[month_at])?;
    let year = words.iter().find_map(|word| word.parse::<i16>().ok().filter(|year| (1000..3000).contains(year)))?;
    let neighbours = [month_at.checked_sub(1), Some(month_at + 1)];
    let day = neighbours.into_iter().flatten().filter_map(|at| words.get(at)).find_map(|word| {
        word.trim_end_matches(|c: char| c.is_ascii_alphabetic())
            .parse::<i16>()
            .ok()
            .filter(|day| (1..=31).contains(day))
    })?;
    plausible(year, month, day)
}

fn month(word: &str) -> Option<i16> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let word = word.trim_end_matches('.').to_ascii_lowercase();
    let found = MONTHS
        .iter()
        .position(|name| *name == word || (word.len() >= 3 && word.len() <= 4 && name.starts_with(&word)))?;
    i16::try_from(found + 1).ok()
}

/// Years from the first printed books to the far future: wide enough for public-domain essays, narrow enough that
/// `0001-01-01`, the zero date of some site generators, is no date.
fn plausible(year: i16, month: i16, day: i16) -> Option<Date> {
    let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    (1400..=2200).contains(&year).then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_they_are_written() {
        let expected = Date::new(2022, 9, 7).unwrap();
        for text in [
            "2022-09-07",
            "2022-09-07T23:00:00-04:00",
            "2022-9-7 14:00:00 +0200",
            "2022/09/07",
            "Wed, 07 Sep 2022 14:00:00 GMT",
            "September 7, 2022",
            "7 Sept 2022",
            "Sep 7th, 2022",
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        assert_eq!(parse("1844"), Some(Date::new(1844, 1, 1).unwrap()));
        for text in [
            "",
            "soon",
            "9999",
            "20224",
            "0001-01-01",
            "2022-13-01",
            "2022-09-071",
            "20220907",
            "May I ask 2022 questions?",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_found_in_paths() {
        let expected = Date::new(2017, 3, 12).unwrap();
        for path in ["content/posts/2017-03-12-min-of-three.dj", "2017/03/12/x", "https://a.org/2017/3/12/b"] {
            assert_eq!(in_path(path), Some(expected), "{path}");
        }
        assert_eq!(in_path("posts/12-angry-men.md"), None);
        assert_eq!(in_path("a/12017-03-12.md"), None);
    }
}
