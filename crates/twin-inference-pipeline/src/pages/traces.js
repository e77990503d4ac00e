// The page of traces: a list of answers, or all that one of them was made of.

import { byId, element } from "/element.js";
import { api } from "/server.js";

const seconds = (value) => `${value.toFixed(value < 0.1 ? 3 : 2)} s`;
const percent = (share) => `${Math.round(share * 100)}%`;
const when = (time) => new Date(time).toLocaleString();

function link(href, label, className = "") {
  const node = element("a", className, label);
  node.href = href;
  return node;
}

function outcome({ abstained, finish_reason: reason, grounded_share: share }) {
  if (abstained) return "nothing found";
  if (reason !== "stop") return { length: "cut off", deadline: "out of time", cancelled: "stopped" }[reason] ?? reason;
  return share === undefined ? "complete" : `${percent(share)} grounded`;
}

function card(entry) {
  const made = [
    entry.author, entry.release === null ? "no release" : `release ${entry.release}`, outcome(entry),
    `${entry.prompt_tokens} + ${entry.new_tokens} tokens`, seconds(entry.total_seconds), when(entry.created_at),
  ];
  return element("li", "trace", link(`/traces/${entry.id}`, entry.asked || "(no words)", "asked"), element("span", "note", made.join(" · ")));
}

async function list(before) {
  const query = before ? `?before=${encodeURIComponent(before)}` : "";
  const found = await (await api(`/api/traces${query}`)).json();
  if (!found.length && !before) return byId("content").replaceChildren(element("p", "", "Nothing was answered yet."));
  byId("content").append(element("ol", "trace-list", ...found.map(card)));
  byId("more").hidden = found.length < 50;
  byId("more").onclick = () => show(() => list(found[found.length - 1].created_at));
}

function rows(pairs) {
  const nodes = Object.entries(pairs).flatMap(([name, value]) => [element("dt", "", name), element("dd", "", String(value))]);
  return element("dl", "", ...nodes);
}

function section(title, ...children) {
  return element("section", "", element("h2", "", title), ...children);
}

const SUPPORT = { supported: "", unsupported: "no source", no_claim: "", quotation: "quoted" };

function answer({ answer: text, trace }) {
  const sentence = ({ text: said, support, citations }) => {
    const marks = [...citations.map((number) => `[${number}]`), SUPPORT[support]].filter(Boolean).join(" ");
    const sentence = element("span", support === "unsupported" ? "unsupported" : "", said.trimEnd());
    return [sentence, marks ? element("span", "note", ` ${marks}`) : "", said.slice(said.trimEnd().length)];
  };
  return element("p", "answer", ...(trace.pieces.length ? trace.pieces.flatMap(sentence) : [text]));
}

function passage(found) {
  const flagged = (found.instructions ?? []).map((text) => element("p", "error", `Left out of the prompt, because it speaks to a model and not to a reader: ${text}`));
  const title = [found.document.title, ...found.heading_path].join(" › ");
  return element("li", "source",
    element("h3", "", element("span", "number", String(found.number)), title),
    element("p", "where", `${found.document.url} · similarity ${found.similarity.toFixed(3)} · value ${found.score.toFixed(3)}`),
    ...flagged, element("div", "passage plain", found.text.trim()));
}

function candidates(found) {
  const head = ["", "chunk", "similarity", "tokens", "words", "fusion", "passage"];
  const cells = ({ chunk, similarity, token_score: tokens, word_share: words, score, passage: number }, index) =>
    [index + 1, chunk.slice(0, 8), similarity.toFixed(3), tokens.toFixed(3), words.toFixed(3), score.toFixed(4), number ?? "–"].map(String);
  const row = (tag, values) => element("tr", "", ...values.map((value) => element(tag, "", value)));
  return element("div", "wide", element("table", "", element("thead", "", row("th", head)), element("tbody", "", ...found.map((one, index) => row("td", cells(one, index))))));
}

async function one(id) {
  const kept = await (await api(`/api/traces/${encodeURIComponent(id)}`)).json();
  const { trace } = kept;
  const { retrieval, sampling, trimmed } = trace;
  byId("heading").textContent = kept.asked || "(no words)";
  byId("back").href = "/traces";
  byId("back").textContent = "All traces";
  byId("intro").hidden = true;
  byId("content").replaceChildren(
    element("p", "note", `${trace.author} · ${when(kept.created_at)} · ${outcome(trace)}`),
    section("Answer", answer(kept)),
    section("Made by", rows({
      model: trace.model ?? `${trace.base}, no voice`, base: trace.base, release: trace.release ?? "none",
      features: trace.feature_view, prompt: trace.prompt, seed: sampling.seed, temperature: sampling.temperature, "top p": sampling.top_p,
    })),
    section("Time", rows({
      "to embed the question": seconds(retrieval.embed_seconds), "to search": seconds(retrieval.query_seconds), "to rerank": seconds(retrieval.rerank_seconds),
      "waiting for the model": seconds(trace.queue_seconds), "to the first word": seconds(trace.first_token_seconds), "in all": seconds(trace.total_seconds),
    })),
    section("Tokens", rows({
      read: `${trace.prompt_tokens}, of which ${trace.cached_tokens} were known`, written: `${trace.new_tokens}, ${trace.tokens_per_second.toFixed(1)} a second`,
      "guessed ahead": `${trace.guessed_tokens}, of which ${trace.right_guesses} came true`,
      "left out": `${trimmed.messages} earlier messages, ${trimmed.passages} passages`,
    })),
    section("Passages", trace.passages.length ? element("ol", "passages", ...trace.passages.map(passage)) : element("p", "", "None was given.")),
    section("Searched for", element("p", "", retrieval.query || "Nothing."), retrieval.candidates.length ? candidates(retrieval.candidates) : null),
  );
}

async function show(what) {
  try {
    await what();
    byId("problem").textContent = "";
  } catch (error) {
    byId("problem").textContent = error.message;
  }
}

// A link cannot show the key, so the file is fetched and handed over.
byId("export").addEventListener("click", (event) => {
  event.preventDefault();
  show(async () => {
    const file = URL.createObjectURL(await (await api("/api/traces.jsonl")).blob());
    const save = link(file, "");
    save.download = "traces.jsonl";
    save.click();
    URL.revokeObjectURL(file);
  });
});

const id = location.pathname.split("/")[2];
show(() => (id ? one(decodeURIComponent(id)) : list()));
