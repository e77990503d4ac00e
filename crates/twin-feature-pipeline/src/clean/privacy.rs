//! What must not be embedded or learnt: e-mail addresses, phone numbers, keys and tokens are masked. The page as it came
//! stays in the warehouse only.
//!
//! The patterns are those of well-known formats, so that figures, dates and identifiers in prose stay what they are.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::markdown::code_ranges;

/// How many of each were masked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masked {
    pub email_addresses: usize,
    pub phone_numbers: usize,
    pub keys: usize,
}

impl Masked {
    pub(crate) fn add(&mut self, other: Self) {
        self.email_addresses += other.email_addresses;
        self.phone_numbers += other.phone_numbers;
        self.keys += other.keys;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Email,
    Phone,
    Key,
}

impl Kind {
    fn mask(self) -> &'static str {
        match self {
            Self::Email => "[e-mail]",
            Self::Phone => "[phone]",
            Self::Key => "[key]",
        }
    }
}

/// Masks a Markdown text. Doing it twice changes nothing: what only stands alone once its neighbour is masked, as of two
/// numbers without a space between them, is masked too.
pub(crate) fn mask(text: &str) -> (String, Masked) {
    let (mut masked, mut counts) = mask_once(text);
    let mut more = counts;
    while more != Masked::default() {
        (masked, more) = mask_once(&masked);
        counts.add(more);
    }
    (masked, counts)
}

fn mask_once(text: &str) -> (String, Masked) {
    let mut found: Vec<(Range<usize>, Kind)> = keys(text).map(|range| (range, Kind::Key)).collect();
    // `git@host` and `+1 234` in code are syntax; keys in code are keys.
    let code = if text.contains('@') || PHONE.is_match(text) { code_ranges(text) } else { Vec::new() };
    let in_code = |range: &Range<usize>| code.iter().any(|code| code.start <= range.start && range.end <= code.end);
    let others = emails(text).map(|range| (range, Kind::Email)).chain(phones(text).map(|range| (range, Kind::Phone)));
    found.extend(others.filter(|(range, _)| !in_code(range)));
    found.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
    let (mut masked, mut counts, mut from) = (String::with_capacity(text.len()), Masked::default(), 0);
    for (range, kind) in found {
        if range.start < from {
            continue;
        }
        masked.push_str(&text[from..range.start]);
        masked.push_str(kind.mask());
        from = range.end;
        match kind {
            Kind::Email => counts.email_addresses += 1,
            Kind::Phone => counts.phone_numbers += 1,
            Kind::Key => counts.keys += 1,
        }
    }
    masked.push_str(&text[from..]);
    (masked, counts)
}

pub(crate) fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant of this file, each of which a test compiles")
}

static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}"));

fn emails(text: &str) -> impl Iterator<Item = Range<usize>> {
    EMAIL.find_iter(text).map(|found| found.range()).filter(|range| {
        let host = text[range.clone()].rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
        // Names for examples (RFC 2606), and `@user@host` of the fediverse.
        let is_example = ["example.com", "example.org", "example.net"].iter().any(|name| host.ends_with(name))
            || [".example", ".test", ".invalid", ".localhost"].iter().any(|name| host.ends_with(name));
        let is_handle = text[..range.start].ends_with('@');
        let is_picture = [".png", ".jpg", ".gif", ".webp", ".svg"].iter().any(|ending| host.ends_with(ending));
        !is_example && !is_handle && !is_picture
    })
}

/// With a country code, in the North American form, or after a word that says what it is.
static PHONE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?x)
        \+\d{1,3}[\s.\-]?\(?\d{1,4}\)?(?:[\s.\-/]?\d{2,4}){2,4}
        | \(\d{3}\)\s?\d{3}[\-\s.]\d{4}
        | \b\d{3}-\d{3}-\d{4}\b
        | (?i:\b(?:tel|telephone|telefon|phone|mobile|mobil|handy|fax)\b[.:]{0,2}\s{0,2})(?P<number>\(?0\d{1,5}\)?[\d\s/\-]{5,14}\d)",
    )
});

fn phones(text: &str) -> impl Iterator<Item = Range<usize>> {
    PHONE.captures_iter(text).filter_map(|found| {
        let range = found.name("number").or_else(|| found.get(0))?.range();
        let digits = text[range.clone()].bytes().filter(u8::is_ascii_digit).count();
        let before = text[..range.start].chars().next_back();
        let after = text[range.end..].chars().next();
        // Part of a longer number, a version or an identifier is none.
        let stands_alone = !before.is_some_and(|c| c.is_alphanumeric() || "-./=_".contains(c))
            && !after.is_some_and(|c| c.is_alphanumeric() || c == '_');
        ((7..=15).contains(&digits) && stands_alone).then_some(range)
    })
}

static KEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?x)
        -----BEGIN\ [A-Z\ ]{0,40}PRIVATE\ KEY-----[\s\S]{0,8192}?-----END\ [A-Z\ ]{0,40}PRIVATE\ KEY-----
        | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b
        | \bgh[pousr]_[A-Za-z0-9]{36,255}\b
        | \bgithub_pat_[A-Za-z0-9_]{40,255}\b
        | \bglpat-[A-Za-z0-9_\-]{20,64}
        | \bsk-[A-Za-z0-9_\-]{20,255}
        | \bxox[abposr]-[A-Za-z0-9\-]{10,255}
        | \bAIza[0-9A-Za-z_\-]{35}
        | \bhf_[A-Za-z0-9]{30,64}\b
        | \bnpm_[A-Za-z0-9]{36}\b
        | \b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,255}\b
        | \beyJ[A-Za-z0-9_\-]{10,2048}\.eyJ[A-Za-z0-9_\-]{10,4096}\.[A-Za-z0-9_\-]{10,1024}"#,
    )
});

/// What stands after a word for a secret.
static ASSIGNED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i)\b(?:api[_-]?key|secret[_-]?key|access[_-]?key|client[_-]?secret|auth[_-]?token|access[_-]?token|password|passwd)["']?\s{0,3}[:=]\s{0,3}["']?(?P<key>[A-Za-z0-9/+_\-]{16,255}={0,2})"#,
    )
});

fn keys(text: &str) -> impl Iterator<Item = Range<usize>> {
    let assigned = ASSIGNED.captures_iter(text).filter_map(|found| found.name("key").map(|key| key.range()));
    // A placeholder is a word; a secret is not.
    let assigned = assigned.filter(|range| {
        let key = &text[range.clone()];
        let digits = key.bytes().filter(u8::is_ascii_digit).count();
        digits >= 3 && key.bytes().filter(u8::is_ascii_alphabetic).count() >= 3
    });
    KEY.find_iter(text).map(|found| found.range()).chain(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let (masked, _) = mask(text);
        assert_eq!(masked, expected);
        assert_eq!(mask(&masked), (masked.clone(), Masked::default()), "twice");
    }

    #[test]
    fn patterns_compile() {
        for found in [&EMAIL, &PHONE, &KEY, &ASSIGNED] {
            assert!(!found.is_match("a word"));
        }
    }

    #[test]
    fn addresses_and_numbers_are_masked() {
        check(
            "Write to ada.l+blog@mail.lovelace.org, or [me](mailto:a@b.io).",
            "Write to [e-mail], or [me](mailto:[e-mail]).",
        );
        check("Call +44 20 7946 0958 or (555) 123-4567.", "Call [phone] or [phone].");
        check("Tel.: 0171 1234567, phone 555-123-4567", "Tel.: [phone], phone [phone]");
        check("+49 30 1234567+49 30 1234567", "[phone][phone]");
        let (_, counts) = mask("a@b.io, c@d.io, +49 (30) 901820");
        assert_eq!(counts, Masked { email_addresses: 2, phone_numbers: 1, keys: 0 });
    }

    #[test]
    fn keys_are_masked_even_in_code() {
        check("`AKIAIOSFODNN7EXAMPLE`", "`[key]`");
        check("```\nexport API_KEY=\"a1b2c3d4e5f6g7h8\"\n```\n", "```\nexport API_KEY=\"[key]\"\n```\n");
        check("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\n", "[key]\n");
        check(&format!("token ghp_{}", "a1".repeat(18)), "token [key]");
    }

    #[test]
    fn what_only_looks_alike_stays() {
        for text in [
            "Follow @ada@mastodon.social, or write user@example.org.",
            "In 1815-12-10, version 1.2.3, ISBN 978-3-16-148410-0, 2,000,000 people, pi = 3.14159265358979.",
            "Clone `git@github.com:a/b.git` and `x + 1 234 567 890`.",
            "The password: correcthorsebatterystaple is a joke; api_key = YOUR_API_KEY_GOES_HERE.",
            "sk-learn and a task-based approach; logo@2x.png; a + b = c",
            "Commit 3f2504e04f8911d39a0c0305e82c3301 of 2020-01-02T10:11:12",
        ] {
            check(text, text);
        }
    }

    proptest::proptest! {
        #[test]
        fn masking_twice_is_masking_once(text in "[a-zA-Z0-9@.+ ()_=:\"`\n\\-]{0,200}") {
            let (once, _) = mask(&text);
            proptest::prop_assert_eq!(mask(&once), (once.clone(), Masked::default()));
        }
    }
}
