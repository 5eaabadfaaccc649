//! Extractive summaries: the sentences whose words are the commonest in the text, in the order of the text.
//!
//! Invariant: every sentence that comes out went in. Integer scores and ties broken by position keep it exact.

use std::cmp::Reverse;
use std::collections::HashMap;

/// Shorter texts are their own summary.
const SHORT_CHARS: usize = 240;
const SENTENCE_CHARS_MAX: usize = 400;
const STOPWORDS: [&str; 40] = [
    "a", "an", "and", "are", "as", "at", "be", "been", "but", "by", "for", "from", "had", "has", "have",
    "he", "her", "his", "i", "in", "is", "it", "its", "not", "of", "on", "or", "she", "so", "that", "the",
    "their", "they", "this", "to", "was", "we", "were", "with", "you",
];

/// The answer to a question that asks for no tool.
pub(super) fn answer(question: &str) -> String {
    let question = question.trim();
    if question.is_empty() {
        return "There was no input to work on.".to_owned();
    }
    let sentences = sentences(question);
    if question.chars().count() <= SHORT_CHARS || sentences.len() < 3 {
        return format!("You said: {}", cut(question, SENTENCE_CHARS_MAX));
    }
    let wanted = if sentences.len() > 12 { 5 } else { 3 };
    let chosen = top(question, wanted);
    format!("The {} most telling of {} sentences:\n\n{}", chosen.len(), sentences.len(), list(&chosen))
}

/// The best `wanted` sentences, in their order in the text.
pub(super) fn top(text: &str, wanted: usize) -> Vec<String> {
    let sentences = sentences(text);
    let mut frequency: HashMap<String, u64> = HashMap::new();
    for word in sentences.iter().flat_map(|sentence| words(sentence)) {
        *frequency.entry(word).or_default() += 1;
    }
    let mut ranked: Vec<(usize, u64)> =
        sentences.iter().map(|sentence| score(sentence, &frequency)).enumerate().collect();
    ranked.sort_by_key(|(place, score)| (Reverse(*score), *place));
    ranked.truncate(wanted);
    ranked.sort_unstable();
    let chosen = ranked.iter().filter_map(|(place, _)| sentences.get(*place));
    chosen.map(|sentence| cut(sentence, SENTENCE_CHARS_MAX)).collect()
}

/// A mean over the words, so that length alone wins nothing; very short sentences are padded down.
fn score(sentence: &str, frequency: &HashMap<String, u64>) -> u64 {
    let (mut sum, mut count) = (0_u64, 0_u64);
    for word in words(sentence) {
        sum += frequency.get(&word).copied().unwrap_or_default();
        count += 1;
    }
    sum.saturating_mul(1_000) / count.max(5)
}

fn words(sentence: &str) -> impl Iterator<Item = String> {
    let words = sentence.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).filter(|word| !STOPWORDS.contains(&word.as_str()))
}

/// Sentences end at a line's end, or at a full stop, question or exclamation mark with a space behind it.
fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut rest = line.trim();
        while let Some(end) = sentence_end(rest) {
            let (sentence, after) = rest.split_at(end);
            found.push(sentence.trim());
            rest = after.trim_start();
        }
        found.push(rest);
    }
    found.retain(|sentence| sentence.chars().any(char::is_alphanumeric));
    found
}

fn sentence_end(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let spaced = chars.peek().is_some_and(|(_, next)| next.is_whitespace());
        if (matches!(c, '.' | '!' | '?') && spaced) || matches!(c, '。' | '！' | '？') {
            return Some(at + c.len_utf8());
        }
    }
    None
}

fn list(sentences: &[String]) -> String {
    let lines: Vec<String> = sentences.iter().map(|sentence| format!("- {sentence}")).collect();
    lines.join("\n")
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_echoed() {
        assert_eq!(answer("  hello there "), "You said: hello there");
        assert_eq!(answer(" \n"), "There was no input to work on.");
    }

    #[test]
    fn the_commonest_words_win_and_order_is_kept() {
        let text = "The journal stores every event of a run. My aunt likes tea with lemon on warm afternoons. \
                    A run is folded from its journal of events! Is the weather nice where Peter lives nowadays? \
                    When the process dies the journal folds the run again. Nobody mentioned bananas so far.";
        let answer = answer(text);
        let want = "The 3 most telling of 6 sentences:\n\n\
                    - The journal stores every event of a run.\n\
                    - A run is folded from its journal of events!\n\
                    - When the process dies the journal folds the run again.";
        assert_eq!(answer, want);
    }

    #[test]
    fn sentences_of_any_script() {
        assert_eq!(
            sentences("v1.2 is out. Really?\n---\n完了。次へ"),
            ["v1.2 is out.", "Really?", "完了。", "次へ"]
        );
        assert_eq!(cut("żółw", 2), "żó…");
    }
}
