// The page: its panels, what is being made, the player and what was made in this visit.
//
// panels, edit: what can be made; voices, recorder: from which recordings; sound: Web Audio; reading: words that light up;
// api: the server; elements: small parts.

import { Problem, ask, lines, useKey, warnings } from "./api.js";
import { edit, editTake, setUpEdit } from "./edit.js";
import { element, find, rove, save, showLength, showTime, tell } from "./elements.js";
import { dialogue, setUpPanels, showCast, showVoices, speak } from "./panels.js";
import { Reading, placeWords } from "./reading.js";
import { Player, Sound, decode, toWav, wake } from "./sound.js";
import { loadVoices, setUpVoices } from "./voices.js";

const READY_EVERY = 1500; // milliseconds between questions whether the model is ready
const MOST_TAKES = 50; // that are kept
const panels = { speak, dialogue, edit };
let panel = speak;
let takes = []; // { id, order, panel, sound, sentences, file (Blob | null), notes, isCut }, the newest first
let count = 0; // of takes that were begun
let shown = null; // the take in the player
let making = null; // { take, stop: AbortController }
let again = null; // what "Try again" and a new key do

const player = new Player(() => { drawPlayer(); follow(); });
const reading = new Reading(find("reading"), (seconds) => { player.seek(seconds); player.play(); });

// ---- what went wrong ----

function showProblem(error, retry = null) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Problem)) console.error(error);
  const problem = error instanceof Problem ? error : new Problem("Something on this page went wrong. Load it again.");
  again = retry;
  if (problem.status === 401) { askKey(problem.message); return; }
  find("notice-text").textContent = problem.message;
  find("again").hidden = !retry || (problem.status >= 400 && problem.status < 429);
  find("notice").hidden = false;
  find("notice").scrollIntoView({ block: "nearest" });
  tell("That did not work.");
}
function hideProblem() {
  find("notice").hidden = true;
}
function askKey(reason = "") {
  hideProblem();
  find("key-form").hidden = false;
  if (reason) find("key-hint").textContent = `${reason} Whoever runs the server can give you one. It is kept until you close this tab.`;
  tell(reason || "An API key can be given.");
  find("key").focus();
}
find("dismiss").onclick = hideProblem;
find("again").onclick = () => { hideProblem(); again?.(); };
find("show-key").onclick = () => {
  if (find("key-form").hidden) askKey(); else find("key-form").hidden = true;
};
find("key-form").onsubmit = async (event) => {
  event.preventDefault();
  useKey(find("key").value.trim());
  const next = again;
  try {
    await loadVoices();
    showVoices();
    find("key-form").hidden = true;
    find("key").value = "";
    tell("The key is used.");
    again = null;
    next?.();
  } catch (error) { showProblem(error, next); }
};

// ---- making ----

function settings() {
  const seed = Number(find("seed").value || 0);
  if (!Number.isInteger(seed) || seed < 0) { find("seed").focus(); throw new Problem("The seed is a whole number, 0 or more."); }
  return { seed, speed: Number(find("speed").value) };
}

async function make(order) {
  stop();
  hideProblem();
  const take = { id: String(++count), order, panel, sound: new Sound(), sentences: [], file: null, notes: [], isCut: false };
  const mine = { take, stop: new AbortController() };
  making = mine;
  show(take);
  player.play();
  find("player").scrollIntoView({ block: "nearest" });
  drawGo();
  tell("Working …");
  try {
    if (order.isStreamed) await stream(take, mine.stop.signal);
    else await whole(take, mine.stop.signal);
    takes = [take, ...takes].slice(0, MOST_TAKES);
    tell(`Done: ${showLength(take.sound.seconds)}.`);
  } catch (error) {
    if (making === mine) showProblem(error, () => make(order));
    if (error.name === "AbortError") tell("Stopped.");
    take.isCut = true;
    if (take.sound.count) takes = [take, ...takes].slice(0, MOST_TAKES); // what was heard can be heard again
    else if (shown === take) show(takes[0] || null);
  } finally {
    take.sound.isWhole = true;
    if (making === mine) making = null;
    if (shown === take) { player.feed(); drawPlayer(); }
    drawGo();
    drawHistory();
  }
}

async function stream(take, signal) {
  const { order, sound, sentences } = take;
  const answer = await ask(order.path, { body: order.body("pcm"), signal });
  take.notes = warnings(answer);
  for await (const line of lines(answer)) {
    const last = sentences.at(-1);
    if (line.text && (!last || last.isOver || last.text !== line.text)) {
      sentences.push({ text: line.text, speaker: "", start: sound.seconds, words: null, isOver: false });
    }
    if (line.audio) sound.add(line.audio);
    if (line.timestamps) {
      const words = placeWords(sentences.at(-1).text, line.timestamps);
      Object.assign(sentences.at(-1), { words, speaker: line.speaker || "", isOver: true });
    }
    if (shown === take) { reading.show(sentences); player.feed(); drawPlayer(); }
  }
}

async function whole(take, signal) {
  const { order, sound } = take;
  const answer = await ask(order.path, { body: order.body("wav"), signal });
  const { text } = JSON.parse(answer.headers.get("X-Edit"));
  take.file = await answer.blob();
  sound.put(await decode(take.file));
  sound.isWhole = true;
  take.sentences = [{ text, speaker: "", start: 0, words: null }];
  if (shown === take) { reading.show(take.sentences); player.feed(); }
  const form = new FormData();
  form.set("audio", take.file, "recording");
  form.set("transcript", text);
  try {
    const told = await (await ask("/dev/transcribe", { body: form, signal })).json();
    take.sentences = [{ ...take.sentences[0], words: placeWords(text, told.words) }];
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    take.notes = ["its words could not be found in the sound: listen whether it says them"];
  }
  if (shown === take) reading.show(take.sentences);
}

function stop() {
  making?.stop.abort();
}

function go() {
  if (making) { stop(); return; }
  wake();
  try { make(panel.order(settings())); } catch (error) { showProblem(error); }
}
function drawGo() {
  find("go").textContent = making ? "Stop" : panel.label;
  find("go").classList.toggle("stops", Boolean(making));
}

// ---- the player ----

function show(take) {
  player.load(take?.sound || null);
  shown = take;
  reading.clear();
  if (take) reading.show(take.sentences);
  drawPlayer();
  drawHistory();
}
function describe({ voice, seed, speed }) {
  return [voice, `seed ${seed}`, speed === 1 ? "" : `speed ${speed}`].filter(Boolean).join(" · ");
}
function drawPlayer() {
  const state = !shown ? "empty" : player.isWaiting && making?.take === shown ? "waiting" : player.isPlaying ? "playing" : "still";
  find("player").dataset.state = state;
  find("player-empty").hidden = Boolean(shown);
  find("player-full").hidden = !shown;
  if (!shown) return;
  const { order, sound, notes } = shown;
  const length = sound.count ? `${showLength(sound.seconds)}${sound.isWhole ? "" : " so far"}` : "waiting for the first sound …";
  find("take-facts").textContent = [describe(order), length, ...notes].join(" · ");
  find("play").setAttribute("aria-label", player.isPlaying ? "Pause" : "Play");
  find("place").max = sound.seconds.toFixed(2);
  find("save-wav").disabled = !sound.isWhole || !sound.count;
  find("save-mp3").disabled = find("save-wav").disabled || shown.isCut; // the server would say it all
  drawPlace();
}
function drawPlace() {
  const seconds = player.seconds;
  find("place").value = seconds;
  find("place").setAttribute("aria-valuetext", `${showTime(seconds)} of ${showTime(shown?.sound.seconds || 0)}`);
  find("time").textContent = `${showTime(seconds)} / ${showTime(shown?.sound.seconds || 0)}`;
  reading.light(seconds);
}
let following = false;
function follow() {
  if (following) return;
  following = true;
  const next = () => {
    following = player.isPlaying;
    if (shown) drawPlace();
    if (following) requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
}
const toggle = () => { if (player.isPlaying) player.pause(); else player.play(); };
find("play").onclick = toggle;
find("place").oninput = () => player.seek(Number(find("place").value));
find("save-wav").onclick = () => save(shown.file || toWav(shown.sound.heard), fileName(shown, "wav"));
find("save-mp3").onclick = async () => {
  const take = shown, button = find("save-mp3");
  button.disabled = true;
  tell("Making the MP3 …");
  try { // the same seed: the same sound
    const answer = await ask(take.order.plain, { body: take.order.body("mp3") });
    save(await answer.blob(), fileName(take, "mp3"));
    tell("Saved.");
  } catch (error) { showProblem(error); } finally { button.disabled = false; }
};
function fileName({ order }, ending) {
  const words = order.title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 40);
  return `${words || "speech"}-${order.seed}.${ending}`;
}

// ---- this visit ----

function drawHistory() {
  const focused = document.activeElement.closest("#history button");
  const [id, kind] = [focused?.parentElement.dataset.take, focused?.className];
  find("history-empty").hidden = takes.length > 0;
  find("history").replaceChildren(...takes.map((take) => {
    const { order, sound } = take;
    const play = () => { show(take); player.play(); };
    const use = take.panel.again && (() => {
      open(Object.keys(panels).find((name) => panels[name] === take.panel), true);
      take.panel.again(order);
      find("seed").value = order.seed;
      find("speed").value = order.speed;
      drawSpeed();
    });
    return element("li", { "data-take": take.id, "aria-current": take === shown ? "true" : null },
      element("button", { type: "button", class: "take", onclick: play, "aria-label": `Play: ${order.title}` },
        element("span", { class: "title" }, order.title), element("span", { class: "hint" }, `${describe(order)} · ${showLength(sound.seconds)}`)),
      use ? element("button", { type: "button", class: "quiet use", onclick: use, "aria-label": `Use again: ${order.title}` }, "Use again") : null,
      element("button", { type: "button", class: "quiet edit", "aria-label": `Edit: ${order.title}`, onclick: () => {
        open("edit", true);
        const file = new File([take.file || toWav(sound.heard)], "made-here.wav");
        editTake(file, order.title, take.sentences.map(({ text }) => text).join(" "), order.consent || "");
      } }, "Edit"));
  }));
  if (id) [...find("history").children].find((row) => row.dataset.take === id)?.getElementsByClassName(kind)[0]?.focus();
}

// ---- tabs and keys ----

function open(name, isFocused = false) {
  panel = panels[name];
  for (const each of Object.keys(panels)) {
    const isOpen = each === name;
    find(each).hidden = !isOpen;
    find(`tab-${each}`).setAttribute("aria-selected", String(isOpen));
    find(`tab-${each}`).tabIndex = isOpen ? 0 : -1;
  }
  find("speed-box").hidden = name === "edit";
  drawGo();
  if (isFocused) { find(`tab-${name}`).focus({ preventScroll: true }); find(`tab-${name}`).scrollIntoView({ block: "nearest" }); }
}
const tabs = document.querySelector("[role=tablist]");
rove(tabs, "[role=tab]");
tabs.addEventListener("focusin", ({ target }) => { if (target.role === "tab") open(target.getAttribute("aria-controls")); });
for (const tab of tabs.children) tab.onclick = () => open(tab.getAttribute("aria-controls"));

find("go").onclick = go;
find("other-seed").onclick = () => { find("seed").value = Math.floor(Math.random() * 1e6); };
function drawSpeed() {
  find("speed-shown").textContent = `${Number(find("speed").value).toFixed(2).replace(/0$/, "")}×`;
}
find("speed").oninput = drawSpeed;

document.addEventListener("keydown", (event) => {
  const { target } = event;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); if (!making) go(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || find("voice-dialog").open) return;
  if (event.key === "Escape") {
    if (!find("notice").hidden) hideProblem();
    player.pause();
    stop();
  }
  const writes = target.matches("input:not([type=range]), textarea, select, button, audio, [role=tab]");
  if (event.key === " " && !writes && shown) { event.preventDefault(); if (!event.repeat) toggle(); }
});

// ---- the beginning ----

async function begin() {
  try {
    await loadVoices();
    showVoices();
    showCast();
    for (;;) {
      try { await ask("/ready"); break; } catch (error) {
        if (error.code !== "not_ready") throw error;
        tell("The model is being made ready …");
        await new Promise((done) => setTimeout(done, READY_EVERY));
      }
    }
    tell("Ready.");
  } catch (error) { showProblem(error, begin); }
}
setUpPanels();
setUpVoices(showVoices, showProblem);
setUpEdit(showProblem);
drawPlayer();
begin();
