// Answers that are being written: stopped, left, found again, cut off. The server's model has to be the one of writer.mjs, which
// writes at a steady pace and does not come to an end before it is stopped.

import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import { test } from "node:test";
import { ANSWERED, DESK, PHONE, picture, url, visit } from "./browser.mjs";

test("a draft streams and can be stopped, and the next request is served", async () => {
  const { context, page, problems } = await visit(PHONE, "dark");
  await page.locator(".tabs label", { hasText: "Write" }).click();
  await page.locator("#text").fill("A morning at the harbour");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector(".answer .body")?.innerText.split(/\s+/).length > 8, null, ANSWERED);
  await picture(page, "phone-dark-draft");
  await page.locator("#stop").click();
  await page.locator(".answer .note", { hasText: "Stopped" }).waitFor();
  await page.locator("#send").waitFor();
  await page.locator(".tabs label", { hasText: "Ask" }).click();
  await page.locator("#text").fill("What is the weather like on Mars?");
  await page.keyboard.press("Enter");
  await page.locator(".answer .foot-line").nth(0).waitFor(ANSWERED);
  assert.deepEqual(problems, []);
  await context.close();
});

// Lets the twin write and waits until so many words are there.
async function beginDraft(page, title, words) {
  await page.locator(".tabs label", { hasText: "Write" }).click();
  await page.locator("#text").fill(title);
  await page.keyboard.press("Enter");
  return moreWords(page, words);
}

async function moreWords(page, words) {
  await page.waitForFunction((count) => document.querySelector(".answer .body")?.innerText.split(/\s+/).length > count, words, ANSWERED);
  return page.locator(".answer .body").innerText();
}

const firstWords = (text) => text.split(/\s+/).slice(0, 4).join(" ");

test("an answer that is being written goes on after a reload, and stop stops it", async () => {
  const { context, page, problems } = await visit(DESK, "light");
  const before = await beginDraft(page, "A morning at the harbour", 8);
  await page.reload();
  const after = await moreWords(page, 12);
  assert.equal(firstWords(after), firstWords(before));
  assert.equal(await page.locator(".mine").innerText(), "A morning at the harbour");
  await page.locator("#stop").click();
  await page.locator(".answer .note", { hasText: "stopped" }).waitFor();
  const written = await page.locator(".answer .body").innerText();
  await page.reload();
  await page.locator("#conversations .open").first().click();
  await page.locator(".answer .foot-line").waitFor();
  assert.equal(await page.locator(".answer .body").innerText(), written, "what was written is kept");
  assert.deepEqual(problems, []);
  await context.close();
});

test("an answer that was left is found again in its conversation", async () => {
  const { context, page, problems } = await visit(DESK, "light");
  const before = await beginDraft(page, "Low tide in November", 8);
  await page.locator("#new-chat").click();
  assert.equal(await page.locator(".answer").count(), 0);
  await page.locator("#conversations .open", { hasText: "Low tide in November" }).first().click();
  assert.equal(firstWords(await moreWords(page, 10)), firstWords(before));
  await page.locator("#stop").click();
  await page.locator(".answer .note", { hasText: "stopped" }).waitFor();
  assert.deepEqual(problems, []);
  await context.close();
});

// The server's address by a way that can be cut.
async function breakable() {
  const { hostname, port } = new URL(url);
  const open = new Set();
  const way = createServer((from) => {
    const to = connect(Number(port), hostname);
    for (const [socket, other] of [[from, to], [to, from]]) {
      open.add(socket);
      socket.on("error", () => {}).on("close", () => { open.delete(socket); other.destroy(); });
      socket.pipe(other);
    }
  });
  await new Promise((resolve) => { way.listen(0, "127.0.0.1", resolve); });
  const cut = () => open.forEach((socket) => socket.destroy());
  return { at: `http://127.0.0.1:${way.address().port}`, cut, close: () => { cut(); way.close(); } };
}

test("an answer goes on when the connection is lost", async (t) => {
  const way = await breakable();
  t.after(way.close);
  const { context, page, problems } = await visit(DESK, "dark", way.at);
  const before = await beginDraft(page, "What a caulker hears", 8);
  way.cut();
  const after = await moreWords(page, before.split(/\s+/).length + 20);
  assert.equal(firstWords(after), firstWords(before));
  assert.equal(await page.locator(".answer .error").count(), 0);
  await page.locator("#stop").click();
  await page.locator(".answer .note", { hasText: "stopped" }).waitFor();
  // The browser itself says that a connection was lost.
  assert.deepEqual(problems.filter((problem) => !problem.includes("net::ERR")), []);
  await context.close();
});
