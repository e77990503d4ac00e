// The page of releases: what answers, and how the arms of a split compare. Looks again every two seconds.

import { byId, element } from "/element.js";
import { api } from "/server.js";

const OUTCOMES = {
  helpful: "found helpful", regenerated: "asked for again", copied: "copied", seconds: "seconds an answer", edit_distance: "changed before publishing",
};
const VERDICTS = { too_few: "too few to tell", undecided: "undecided", better: "better", worse: "worse" };
const LOOK_EVERY = 2000;

function value(outcome, mean) {
  return outcome === "seconds" ? `${mean.toFixed(2)} s` : `${(mean * 100).toFixed(1)}%`;
}

// Of seconds, differences are of logarithms, and shown as ratios.
function difference(outcome, number) {
  const percent = outcome === "seconds" ? (Math.exp(number) - 1) * 100 : number * 100;
  return `${percent >= 0 ? "+" : "−"}${Math.abs(percent).toFixed(1)}${outcome === "seconds" ? "%" : " points"}`;
}

function table(head, rows) {
  const row = (tag, cells) => element("tr", "", ...cells.map((cell) => element(tag, "", cell)));
  return element("div", "wide", element("table", "", element("thead", "", row("th", head)), element("tbody", "", ...rows.map((cells) => row("td", cells)))));
}

function arms(report) {
  const outcomes = Object.keys(OUTCOMES);
  const cell = (arm, outcome) => {
    const mean = arm.means[outcome];
    return mean ? `${value(outcome, mean.mean)} of ${mean.count}` : "–";
  };
  const head = ["release", "model", "share", "conversations", ...outcomes.map((outcome) => OUTCOMES[outcome])];
  return table(head, report.arms.map((arm) => [
    String(arm.release.number), arm.release.model, `${arm.percent}%`, String(arm.conversations), ...outcomes.map((outcome) => cell(arm, outcome)),
  ]));
}

function comparisons(report) {
  const rows = report.comparisons.filter(({ verdict }) => verdict !== "too_few").map((one) => [
    `release ${one.release} against ${report.traffic.release}`, OUTCOMES[one.outcome],
    `${difference(one.outcome, one.difference)} (${difference(one.outcome, one.interval[0])} to ${difference(one.outcome, one.interval[1])})`,
    one.p_value < 0.001 ? "< 0.001" : one.p_value.toFixed(3), VERDICTS[one.verdict],
  ]);
  if (!rows.length) return element("p", "", report.comparisons.length ? "Too few conversations to compare yet." : "Nothing is split.");
  const note = element("p", "", `The chance that any line says “better” or “worse” where nothing differs is ${report.error_rate * 100}% over the life of the split.`);
  return element("div", "", table(["", "outcome", "difference", "p", "verdict"], rows), note);
}

function shadow({ shadow: found }) {
  if (!found) return null;
  const newest = found.newest.map((one) => element("details", "", element("summary", "", one.created_at), element("p", "", `Seen: ${one.seen}`), element("p", "", `Unseen: ${one.text}`)));
  return element("div", "", element("p", "", `Release ${found.release} answered ${found.answers} times unseen, in ${found.mean_seconds.toFixed(2)} s on average.`), ...newest);
}

function section(report) {
  const since = new Date(report.traffic.since).toLocaleString();
  return element("section", "", element("h2", "", report.author), element("p", "", `Since ${since}`), arms(report), comparisons(report), shadow(report));
}

async function look() {
  try {
    const reports = await (await api("/api/releases")).json();
    byId("reports").replaceChildren(...(reports.length ? reports.map(section) : [element("p", "", "No release serves yet: “twin release promote” lets one serve.")]));
    byId("problem").textContent = "";
  } catch (error) {
    byId("problem").textContent = error.message;
  }
  setTimeout(look, LOOK_EVERY);
}

look();
