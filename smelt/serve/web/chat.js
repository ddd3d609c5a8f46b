// The chat page: one conversation, kept in this page and nowhere else, streamed from /v1/chat/completions.
// What a model or a person writes is only ever set as text, never as markup.
"use strict";

const find = (id) => document.getElementById(id);
const log = find("log");
const text = find("text");
const send = find("send");
const notice = find("notice");

let model = null;
let turns = []; // {role, content}
let running = null; // the AbortController of the answer under way

function headers() {
  const key = find("key").value.trim();
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

function tell(message) {
  notice.textContent = message;
  notice.hidden = !message;
}

// Returns the message of a response that is an error; asks for a key where that is what is missing.
async function fault(response) {
  if (response.status === 401) {
    find("locked").hidden = false;
    find("settings").open = true;
    find("key").focus();
  }
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server answered with status ${response.status}`;
  }
}

// Learns the model's name; while the model loads, asks again.
async function meet() {
  try {
    const response = await fetch("v1/models", { headers: headers() });
    if (response.ok) {
      model = (await response.json()).data[0].id;
      find("model").textContent = model;
      document.title = `${model} · smelt`;
      tell("");
    } else {
      tell(await fault(response));
      if (response.status === 503) setTimeout(meet, 1000);
    }
  } catch {
    tell("the server cannot be reached");
    setTimeout(meet, 3000);
  }
}

function show(role, content, kind = "") {
  const turn = document.createElement("p");
  turn.className = `turn ${role} ${kind}`;
  turn.textContent = content;
  find("empty").hidden = true;
  log.append(turn);
  turn.scrollIntoView({ block: "end" });
  return turn;
}

// Yields the objects of a stream of events; comments and the last mark are passed over.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (held + value).split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
    }
  }
}

function request() {
  const system = find("system").value.trim();
  const limit = find("limit").valueAsNumber;
  const temperature = find("temperature").valueAsNumber;
  return {
    model,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...turns],
    stream: true,
    ...(Number.isFinite(limit) ? { max_tokens: limit } : {}),
    ...(Number.isFinite(temperature) ? { temperature } : {}),
  };
}

// Writes an answer into a turn; returns why it ended.
async function stream(turn, signal) {
  const options = { method: "POST", headers: headers(), body: JSON.stringify(request()), signal };
  const response = await fetch("v1/chat/completions", options);
  if (!response.ok) throw new Error(await fault(response));
  let reason = null;
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    turn.textContent += event.choices[0].delta.content ?? "";
    reason = event.choices[0].finish_reason;
    if (atEnd) log.scrollTop = log.scrollHeight;
  }
  return reason;
}

async function answer() {
  const turn = show("assistant", "", "busy");
  running = new AbortController();
  const mine = running;
  send.textContent = "Stop";
  let note = "";
  try {
    if ((await stream(turn, mine.signal)) === "length") note = "(the end of the room for an answer)";
  } catch (error) {
    note = error.name === "AbortError" ? "(stopped)" : "";
    if (!note) tell(error.message);
  }
  if (mine !== running) return; // a new chat has begun meanwhile
  running = null;
  send.textContent = "Send";
  turn.classList.remove("busy");
  if (turn.textContent) {
    turns.push({ role: "assistant", content: turn.textContent });
  } else {
    turn.remove();
    withdraw();
  }
  if (note) show("note", note);
}

// Takes back a question that got no answer, so that it can be changed and asked again.
function withdraw() {
  const asked = turns.pop();
  log.querySelectorAll(".user").item(log.querySelectorAll(".user").length - 1).remove();
  if (!text.value) text.value = asked.content;
  fit();
}

function stop() {
  running?.abort();
}

function fit() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
}

find("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (running) return stop();
  const asked = text.value.trim();
  if (!asked) return;
  tell("");
  if (!model) await meet();
  if (!model) return;
  turns.push({ role: "user", content: asked });
  show("user", asked);
  text.value = "";
  fit();
  answer();
});

text.addEventListener("input", fit);
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!running) find("ask").requestSubmit();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});

find("key").addEventListener("change", meet);

find("renew").addEventListener("click", () => {
  stop();
  running = null;
  turns = [];
  log.querySelectorAll(".turn").forEach((turn) => turn.remove());
  find("empty").hidden = false;
  send.textContent = "Send";
  tell("");
  text.focus();
});

meet();
