"use strict";
// A rater's answers: sent to the server that gave the page, or, where the test is a folder of files, kept for a file
// that the rater sends back. Either way each one is on this device before the next question is shown.
const { mode } = window.STUDY;
const asked = new URLSearchParams(location.search);
const NAME = (asked.get("rater") || "").replace(/[^A-Za-z0-9._@-]/g, "").replace(/^[^A-Za-z0-9]+/, "").slice(0, 64);
const KEY = `openvalle-listen-${STUDY.study}-${NAME}`; // several raters may share a device under different names
const RETRY = 2000; // milliseconds until an answer that could not be sent is sent again
let state = remembered();
let trials = [];
let sending = null;

function remembered() {
  const fresh = { token: "", rater: "", number: -1, answers: [], pending: [], finished: false, comment: "" };
  try { return { ...fresh, ...JSON.parse(localStorage.getItem(KEY) || "{}") }; } catch { return fresh; }
}
function remember() {
  try { localStorage.setItem(KEY, JSON.stringify(state)); } catch { /* private windows may refuse: memory must do */ }
}
function notice(text) {
  const place = document.getElementById("notice");
  place.textContent = text;
  place.hidden = !text;
}

class Turned extends Error {} // the server said no; trying again would not help
async function call(what, body) {
  const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const reply = await fetch(`api/${what}`, request);
  const told = await reply.json();
  if (reply.ok) return told;
  throw reply.status < 500 ? new Turned(told.error) : new Error(told.error);
}
async function insist(what, body) {
  for (;;) {
    try { const told = await call(what, body); notice(""); return told; } catch (error) {
      if (error instanceof Turned) throw error;
      notice("No connection. Your answers are kept on this device and sent as soon as possible.");
      await new Promise((done) => setTimeout(done, RETRY));
    }
  }
}
async function join() {
  if (mode === "server") {
    const told = await insist("join", { rater: NAME, token: state.token });
    if (told.token !== state.token) state = { ...state, answers: [], pending: [], finished: false };
    Object.assign(state, { token: told.token, number: told.number, finished: told.finished, code: told.code });
    state.answers = [...new Set([...told.answered, ...state.pending.map((answer) => answer.trial)])];
    trials = told.trials;
  } else {
    if (!state.rater) {
      const bytes = crypto.getRandomValues(new Uint32Array(3));
      state.rater = NAME || [...bytes].map((part) => part.toString(16)).join("");
      const wanted = asked.get("number");
      state.number = (wanted === null ? bytes[0] : Number(wanted) || 0) % STUDY.schedules.length;
    }
    trials = STUDY.schedules[state.number];
    state.code = STUDY.code;
  }
  remember();
}
function keep(answer) {
  if (mode === "server") {
    state.answers.push(answer.trial);
    state.pending.push(answer);
    flush();
  } else state.answers.push({ ...answer, time: Date.now() / 1000 });
  remember();
}
function flush() {
  sending ??= (async () => {
    try {
      while (state.pending.length) {
        try { await insist("answer", { token: state.token, answer: state.pending[0] }); } catch (error) { notice(error.message); }
        state.pending.shift();
        remember();
      }
    } finally { sending = null; }
  })();
  return sending;
}
async function finish(comment) {
  state.comment = comment;
  if (mode === "server") {
    await flush();
    Object.assign(state, await insist("finish", { token: state.token, comment }));
  }
  state.finished = true;
  remember();
}
const answered = () => new Set(state.answers.map((answer) => (mode === "server" ? answer : answer.trial)));
function download() {
  const { rater, number, finished, comment, answers } = state;
  const file = { study: STUDY.study, rater, number, finished, comment, answers };
  const url = URL.createObjectURL(new Blob([JSON.stringify(file)], { type: "application/json" }));
  element("a", { href: url, download: `answers-${rater}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
