//! The language of a text, as an ISO 639-1 code.

use whatlang::Lang;

/// The two-letter code that a page states, as in `en` of `en-GB`.
pub(crate) fn code(stated: &str) -> Option<String> {
    let code = stated.trim().split(['-', '_']).next()?.to_ascii_lowercase();
    (code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_lowercase())).then_some(code)
}

/// The language that the text itself shows, if it leaves no doubt. Code and addresses are not looked at.
pub(crate) fn detect(text: &str) -> Option<String> {
    // A few thousand letters decide; detection of a whole book would only be slower.
    let prose: String = super::normal::prose(text).chars().take(6000).collect();
    let info = whatlang::detect(&prose).filter(whatlang::Info::is_reliable)?;
    two_letters(info.lang()).map(str::to_owned)
}

/// ISO 639-1 for the ISO 639-3 codes of the detector; none for a language without a two-letter code.
fn two_letters(language: Lang) -> Option<&'static str> {
    const CODES: &[(&str, &str)] = &[
        ("afr", "af"),
        ("aka", "ak"),
        ("amh", "am"),
        ("ara", "ar"),
        ("aze", "az"),
        ("bel", "be"),
        ("ben", "bn"),
        ("bul", "bg"),
        ("cat", "ca"),
        ("ces", "cs"),
        ("cmn", "zh"),
        ("cym", "cy"),
        ("dan", "da"),
        ("deu", "de"),
        ("ell", "el"),
        ("eng", "en"),
        ("epo", "eo"),
        ("est", "et"),
        ("fin", "fi"),
        ("fra", "fr"),
        ("guj", "gu"),
        ("heb", "he"),
        ("hin", "hi"),
        ("hrv", "hr"),
        ("hun", "hu"),
        ("hye", "hy"),
        ("ind", "id"),
        ("ita", "it"),
        ("jav", "jv"),
        ("jpn", "ja"),
        ("kan", "kn"),
        ("kat", "ka"),
        ("khm", "km"),
        ("kor", "ko"),
        ("lat", "la"),
        ("lav", "lv"),
        ("lit", "lt"),
        ("mal", "ml"),
        ("mar", "mr"),
        ("mkd", "mk"),
        ("mya", "my"),
        ("nep", "ne"),
        ("nld", "nl"),
        ("nob", "nb"),
        ("ori", "or"),
        ("pan", "pa"),
        ("pes", "fa"),
        ("pol", "pl"),
        ("por", "pt"),
        ("ron", "ro"),
        ("rus", "ru"),
        ("sin", "si"),
        ("slk", "sk"),
        ("slv", "sl"),
        ("sna", "sn"),
        ("spa", "es"),
        ("srp", "sr"),
        ("swe", "sv"),
        ("tam", "ta"),
        ("tel", "te"),
        ("tgl", "tl"),
        ("tha", "th"),
        ("tuk", "tk"),
        ("tur", "tr"),
        ("ukr", "uk"),
        ("urd", "ur"),
        ("uzb", "uz"),
        ("vie", "vi"),
        ("yid", "yi"),
        ("zul", "zu"),
    ];
    CODES.iter().find(|(three, _)| *three == language.code()).map(|(_, two)| *two)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stated_codes_lose_their_region() {
        assert_eq!(code("en-GB").as_deref(), Some("en"));
        assert_eq!(code("English"), None);
    }

    #[test]
    fn texts_show_their_language() {
        let german = "Das ist ein ganz gewöhnlicher deutscher Absatz, der lang genug ist, um erkannt zu werden, und nichts weiter sagt.";
        assert_eq!(detect(german).as_deref(), Some("de"));
        assert_eq!(detect("```\nfn main() {}\n```\n"), None);
    }
}
