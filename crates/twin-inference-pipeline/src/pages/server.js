// Talking to the server.

import { byId } from "/element.js";

export async function api(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...(options.body && { "content-type": "application/json" }), ...(key && { authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401 && (await askForKey())) return api(path, options);
  if (!response.ok) throw new Error(await problem(response));
  return response;
}

async function problem(response) {
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? `the server answered ${response.status}`;
  return response.status === 429 ? `The twin is busy: ${message}.` : `${message[0].toUpperCase()}${message.slice(1)}.`;
}

let asking = null;

function askForKey() {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key-dialog");
    dialog.addEventListener("close", () => {
      asking = null;
      sessionStorage.setItem("key", byId("key").value);
      resolve(byId("key").value !== "");
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

// The server-sent events of a POST, which EventSource cannot make.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value;
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const lines = buffer.slice(0, end).split("\n");
      buffer = buffer.slice(end + 2);
      const name = lines.find((line) => line.startsWith("event:"))?.slice(6).trim();
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (name && data) yield { name, data: JSON.parse(data) };
    }
  }
}
