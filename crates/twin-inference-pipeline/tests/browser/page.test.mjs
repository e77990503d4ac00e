// The chat page in a real browser, against a server that runs: what a reader sees and presses, at phone and desk width, light
// and dark. What this needs is said in browser.mjs.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { test } from "node:test";
import { ANSWERED, DESK, PHONE, picture, visit } from "./browser.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

async function fits(page) {
  const { inside, outside } = await page.evaluate(() => ({ inside: document.documentElement.scrollWidth, outside: innerWidth }));
  assert.ok(inside <= outside, `${inside} px of content in a window of ${outside} px`);
}

async function accessible(page, when) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa"] }));
  const said = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" | ")}`);
  assert.deepEqual(said, [], `accessibility ${when}`);
}

async function brightness(page) {
  return page.evaluate(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = getComputedStyle(document.body).backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
    return Math.max(...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3));
  });
}

async function askFirstSuggestion(page) {
  await page.locator("#suggestions button", { hasText: "Ask" }).first().click();
  await page.locator(".answer .foot-line").waitFor(ANSWERED);
}

for (const [size, viewport] of [["phone", PHONE], ["desk", DESK]]) {
  for (const scheme of ["light", "dark"]) {
    test(`a question is answered with its sources: ${size}, ${scheme}`, async () => {
      const { context, page, problems } = await visit(viewport, scheme);
      const bright = await brightness(page);
      assert.ok(scheme === "light" ? bright > 200 : bright < 80, `the background of ${scheme} has brightness ${bright}`);
      await fits(page);
      await accessible(page, "on arrival");
      await picture(page, `${size}-${scheme}-welcome`);

      await askFirstSuggestion(page);
      assert.match(await page.locator(".answer .by").innerText(), /AI twin of .+, not the person/);
      await fits(page);
      await accessible(page, "with an answer");
      await picture(page, `${size}-${scheme}-answer`);

      const chip = page.locator(".answer .cite").first();
      await chip.click();
      await page.locator("#sources .current mark").waitFor();
      assert.ok((await page.locator("#sources .current mark").innerText()).length > 10, "the sentence that is cited is marked");
      await fits(page);
      await accessible(page, "with the sources open");
      await picture(page, `${size}-${scheme}-sources`);
      await page.keyboard.press("Escape");
      await page.locator("#sources").waitFor({ state: "hidden" });
      assert.deepEqual(problems, []);
      await context.close();
    });
  }
}

test("what is typed is read ahead before it is asked", async () => {
  const { context, page, problems } = await visit(DESK, "light");
  const ahead = page.waitForRequest((request) => request.url().endsWith("/api/chat/ahead"));
  const question = "What is a caulking mallet made of?";
  await page.locator("#text").pressSequentially(question);
  const { author, request } = (await ahead).postDataJSON();
  assert.ok(author && question.startsWith(request.question), request.question);
  await page.locator("#text").press("Enter");
  await page.locator(".answer .foot-line").waitFor(ANSWERED);
  assert.deepEqual(problems, []);
  await context.close();
});

test("a conversation is remembered, opened again and deleted", async () => {
  const { context, page, problems } = await visit(DESK, "light");
  await askFirstSuggestion(page);
  const answer = await page.locator(".answer .body").innerText();
  const rows = page.locator("#conversations .conversation");
  await page.locator("#conversations .conversation.current").waitFor();
  const count = await rows.count();
  await page.reload();
  await rows.first().locator(".open").click();
  await page.locator(".answer .foot-line").waitFor();
  assert.equal(await page.locator(".answer .body").innerText(), answer);
  await rows.first().locator(".remove").click();
  await page.waitForFunction((before) => document.querySelectorAll("#conversations .conversation").length === before - 1, count);
  assert.equal(await page.locator(".answer").count(), 0);
  assert.deepEqual(problems, []);
  await context.close();
});

test("the menu opens and closes on a phone, and a theme that is chosen stays", async () => {
  const { context, page, problems } = await visit(PHONE, "light");
  await page.locator("#menu").click();
  await page.locator("#new-chat").waitFor();
  for (const name of ["Light", "Dark"]) {
    await page.locator("#theme").click();
    await page.locator("#theme-name", { hasText: name }).waitFor();
  }
  await picture(page, "phone-menu");
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !document.querySelector("#sidebar").classList.contains("open"));
  await page.reload();
  assert.ok((await brightness(page)) < 80, "dark was chosen");
  assert.deepEqual(problems, []);
  await context.close();
});

test("what a reader types is text and never markup", async () => {
  const { context, page, problems } = await visit(DESK, "light");
  const typed = "<img src=x onerror=alert(1)> <script>alert(2)</script>";
  await page.locator("#text").fill(typed);
  await page.keyboard.press("Enter");
  await page.locator(".mine").waitFor();
  assert.equal(await page.locator(".mine").innerText(), typed);
  assert.equal(await page.locator(".mine img, .mine script").count(), 0);
  await page.locator(".answer .foot-line").waitFor(ANSWERED);
  assert.deepEqual(problems, []);
  await context.close();
});
