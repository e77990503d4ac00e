// The panel with the passages that an answer rests on.

import { renderAnswer } from "/answer.js";
import { byId, element } from "/element.js";

let opener = null;

export function showSources(passages, number, evidence) {
  opener = document.activeElement;
  byId("source-list").replaceChildren(...passages.map((passage) => source(passage, passage.number === number, evidence)));
  byId("sources").hidden = false;
  byId("shell").classList.add("with-sources");
  (byId("source-list").querySelector("mark") ?? byId("source-list").querySelector(".current"))?.scrollIntoView({ block: "center" });
  byId("close-sources").focus({ preventScroll: true });
}

export function hideSources() {
  if (byId("sources").hidden) return;
  byId("sources").hidden = true;
  byId("shell").classList.remove("with-sources");
  opener?.focus({ preventScroll: true });
}

function source(passage, current, evidence) {
  const text = element("div", "passage");
  // A long passage scrolls, so it can be reached by keyboard too.
  text.tabIndex = 0;
  text.setAttribute("role", "group");
  text.setAttribute("aria-label", `Passage ${passage.number}`);
  renderAnswer(text, passage.text, parts(passage.text, current ? evidence : null), () => []);
  const where = [passage.date && day(passage.date), ...passage.heading_path].filter(Boolean).join(" · ");
  const heading = element("h3", "", element("span", "number", String(passage.number)), element("span", "", passage.title));
  return element("li", current ? "source current" : "source", heading, element("p", "where", where), text, link(passage));
}

// Only what is surely a web page becomes a link.
function link({ url }) {
  if (!/^https?:\/\//.test(url)) return null;
  const node = element("a", "", "Read the post");
  node.href = url;
  node.rel = "noopener noreferrer nofollow";
  node.target = "_blank";
  return node;
}

function day(date) {
  return new Date(`${date}T12:00:00`).toLocaleDateString(undefined, { day: "numeric", month: "long", year: "numeric" });
}

// The passage before, in and after the sentence that is pointed to.
function parts(text, evidence) {
  const start = evidence ? text.indexOf(evidence.trim()) : -1;
  const end = start < 0 ? 0 : start + evidence.trim().length;
  const part = (support, from, to) => ({ text: text.slice(from, to), support, citations: [] });
  return [part("no_claim", 0, Math.max(start, 0)), part("evidence", Math.max(start, 0), end), part("no_claim", end)];
}
