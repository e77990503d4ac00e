// An answer as nodes: a small, safe subset of Markdown, with each sentence marked by what it rests on.
//
// The text is cut into blocks by lines; sentences are ranges over the same text. So a sentence keeps its mark wherever a
// block begins or ends, and nothing is ever parsed as HTML.

import { button, element } from "/element.js";

const ITEM = /^\s{0,3}(?:[-*+]|\d{1,3}[.)])\s+/;
const QUOTE = /^\s{0,3}> ?/;
const HEADING = /^#{1,6}\s+/;
const FENCE = /^\s{0,3}```/;

// Blocks of a text: { kind, lines: [{ start, end }], ordered } with positions of what is shown.
export function blocks(text) {
  const found = [];
  let current = null;
  let start = 0;
  let fenced = false;
  for (const line of text.split("\n")) {
    const end = start + line.length;
    const fence = FENCE.test(line);
    if (fence) {
      fenced = !fenced;
      current = fenced ? open(found, "code") : null;
    } else if (fenced) {
      current.lines.push({ start, end });
    } else {
      current = place(found, current, line, start, end);
    }
    start = end + 1;
  }
  return found.filter((block) => block.lines.length);
}

function open(found, kind, more = {}) {
  const block = { kind, lines: [], ...more };
  found.push(block);
  return block;
}

function place(found, current, line, start, end) {
  if (!line.trim()) return null;
  const [kind, marker] = HEADING.test(line) ? ["heading", HEADING] : QUOTE.test(line) ? ["quote", QUOTE] : ITEM.test(line) ? ["list", ITEM] : ["text", null];
  const shown = { start: start + (marker ? line.match(marker)[0].length : 0), end };
  if (kind === "text" && current && current.kind !== "heading") {
    // A line that goes on: of a paragraph, an item or a quotation.
    current.lines.push({ ...shown, goesOn: true });
    return current;
  }
  const ordered = /^\s*\d/.test(line);
  const block = current?.kind === kind && kind !== "heading" && current.ordered === ordered ? current : open(found, kind, { ordered });
  block.lines.push(shown);
  return block;
}

const TAGS = { text: "p", quote: "blockquote", heading: "h3" };

// Fills `body` with an answer or a passage. `sentences` are its pieces in order, none while it is still being written; `cite`
// makes the node for a citation's number and evidence.
export function renderAnswer(body, text, sentences, cite) {
  const marks = ranges(sentences.length ? sentences : [{ text, support: "no_claim", citations: [] }]);
  body.replaceChildren(...blocks(text).map((block) => {
    if (block.kind === "code") {
      return element("pre", "", element("code", "", block.lines.map(({ start, end }) => text.slice(start, end)).join("\n")));
    }
    const node = element(block.kind === "list" ? (block.ordered ? "ol" : "ul") : TAGS[block.kind]);
    let place = node;
    block.lines.forEach((line, index) => {
      if (block.kind === "list" && !line.goesOn) node.append(place = element("li"));
      else if (index > 0) place.append("\n");
      fill(place, text, line, marks, cite);
    });
    return node;
  }));
}

// Where each sentence stands in the text, and where what is shown of it ends.
function ranges(sentences) {
  let start = 0;
  return sentences.map((sentence) => {
    const range = { ...sentence, start, end: start + sentence.text.length, last: start + sentence.text.trimEnd().length };
    start = range.end;
    return range;
  });
}

function fill(node, text, { start, end }, marks, cite) {
  for (const mark of marks) {
    const from = Math.max(start, mark.start);
    const to = Math.min(end, mark.end);
    if (from >= to) continue;
    const unsupported = mark.support === "unsupported";
    const sentence = element(mark.support === "evidence" ? "mark" : "span", unsupported ? "unsupported" : "");
    inline(sentence, text.slice(from, Math.min(to, mark.last)));
    if (unsupported) {
      sentence.title = "No passage of the author says this.";
      if (mark.last <= to) sentence.append(element("span", "unseen", " (no source)"));
    }
    node.append(sentence);
    if (mark.last > from && mark.last <= to) attach(sentence, mark.citations.map((number) => cite(number, mark.evidence)));
    if (mark.last < to) node.append(text.slice(Math.max(from, mark.last), to));
  }
}

// Puts citations at the end of a sentence, on the line of its last word.
function attach(sentence, chips) {
  if (!chips.length) return;
  const last = sentence.lastChild;
  const space = last?.nodeType === Node.TEXT_NODE ? last.data.lastIndexOf(" ") : -1;
  if (last.textContent.length - space > 30) return sentence.append(...chips); // No word of this length may overflow.
  const tail = space >= 0 ? last.splitText(space + 1) : last;
  sentence.append(element("span", "together", tail, ...chips));
}

// `code`, **strong** and *emphasis* within one sentence. What does not close stays as it is.
function inline(node, text) {
  const pattern = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|\*([^*\s][^*\n]*)\*|(?<![\p{L}\p{N}])_([^_\s][^_\n]*)_(?![\p{L}\p{N}])/gu;
  let done = 0;
  for (const match of text.matchAll(pattern)) {
    node.append(text.slice(done, match.index));
    const [whole, code, strong, star, underscore] = match;
    node.append(code ? element("code", "", code) : strong ? element("strong", "", strong) : element("em", "", star ?? underscore));
    done = match.index + whole.length;
  }
  node.append(text.slice(done));
}

// The line below an answer: sources, copying, and how it was made.
export function answerFoot(name, text, answer, showSources, tell, again) {
  const foot = element("footer", "foot-line");
  const { passages, usage, timings } = answer;
  if (passages.length) {
    foot.append(button("quiet", `${passages.length} ${passages.length === 1 ? "source" : "sources"}`, showSources));
  }
  const copy = button("quiet", "Copy", async () => {
    await navigator.clipboard.writeText(`${text.trim()}\n\n— AI twin of ${name}, not the person`);
    tell({ outcome: "copied" });
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1600);
  });
  foot.append(copy);
  if (answer.release !== null) foot.append(...ratings(tell), button("quiet rating", "Again", again));
  if (answer.finish_reason === "cancelled") foot.append(element("span", "note", "stopped"));
  if (answer.finish_reason === "length") foot.append(element("span", "note", "cut off at its length"));
  const claims = answer.sentences.filter(({ support }) => support !== "no_claim").length;
  if (passages.length && claims) foot.append(element("span", "note", `${Math.round(answer.grounded_share * 100)}% grounded`));
  if (timings.tokens_per_second >= 1) foot.append(element("span", "note", `${timings.tokens_per_second.toFixed(0)} tokens/s`));
  foot.append(details(answer));
  return foot;
}

// What the reader says of an answer; said once, it stays said.
function ratings(tell) {
  const said = (word, helpful) => {
    const node = button("quiet rating", word, () => {
      tell({ outcome: "helpful", helpful });
      both.forEach((other) => { other.disabled = true; });
      node.textContent = `${word}, noted`;
    });
    return node;
  };
  const both = [said("Helpful", true), said("Not helpful", false)];
  return both;
}

function details({ model, base, release, feature_view: features, prompt, seed, usage, timings }) {
  const seconds = (value) => `${value.toFixed(value < 0.1 ? 3 : 2)} s`;
  const rows = {
    model: model ?? `${base}, no voice trained yet`,
    base, release: release === null ? "none" : `release ${release}`, features, prompt, seed,
    tokens: `${usage.prompt_tokens} read, ${usage.new_tokens} written, ${timings.tokens_per_second.toFixed(1)} a second`,
    time: `${seconds(timings.retrieval_seconds)} to search, ${seconds(timings.first_token_seconds)} to the first word, ${seconds(timings.total_seconds)} in all`,
  };
  const list = element("dl");
  for (const [name, value] of Object.entries(rows)) list.append(element("dt", "", name), element("dd", "", String(value)));
  return element("details", "made", element("summary", "", "How this was made"), list);
}
