"use strict";
// The pages of a listening test. STUDY (study.js) says what is asked.
const { scale, kind } = window.STUDY;
const page = document.getElementById("page");
let keyboard = {}; // key -> what it does on the page shown

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}
function show(screen, ...children) {
  silence();
  keyboard = {};
  page.dataset.screen = screen;
  page.replaceChildren(element("section", { class: "card" }, ...children));
  window.scrollTo(0, 0);
  const heading = page.querySelector("h1");
  if (heading) { heading.tabIndex = -1; heading.focus({ preventScroll: true }); }
}

function welcome() {
  const begun = state.answers.length > 0;
  const agree = element("input", { type: "checkbox", id: "agree", onchange: () => { go.disabled = !agree.checked; } });
  const go = element("button", { class: "go", id: "begin", onclick: begin, disabled: Boolean(STUDY.consent) && !begun }, begun ? "Continue" : "Begin");
  const facts = [
    `${STUDY.trials} short steps, about ${STUDY.minutes} ${STUDY.minutes === 1 ? "minute" : "minutes"}.`,
    "Please use headphones, in a quiet place.",
    "Answer by your own ear: what counts is what you hear. A few steps check that everything works.",
    mode === "server" ? "Every answer is saved at once. You can close the page and come back later on this device."
      : "Your answers stay on this device. At the end you get a small file to send back.",
  ];
  show("welcome", element("h1", {}, STUDY.title), ...STUDY.introduction.map((text) => element("p", {}, text)),
    element("ul", { class: "facts" }, ...facts.map((fact) => element("li", {}, fact))),
    STUDY.consent && !begun ? element("label", { class: "consent" }, agree, element("span", {}, STUDY.consent)) : null,
    element("div", { class: "foot" }, element("p", { class: "hint" }, begun ? "Welcome back: you go on where you stopped." : ""), go));
}
async function begin() {
  document.getElementById("begin").disabled = true;
  try { await join(); } catch (error) {
    show("refused", element("h1", {}, "You cannot take part now"), element("p", {}, error.message));
    return;
  }
  if (state.pending.length) flush();
  if (state.finished) thanks();
  else if (state.answers.length) next();
  else volume();
}
function volume() {
  const sample = trials.find((trial) => trial.stage === "training");
  if (!sample) { next(); return; }
  load(sample);
  const name = sample.reference || sample.clips[0];
  const go = element("button", { class: "go", id: "next", onclick: next, disabled: STUDY.mustHear }, "It is comfortable");
  const clip = player(name, "Play", () => { go.disabled = false; });
  show("volume", element("h1", {}, "Set your volume"),
    element("p", {}, "Play the clip and set a volume that you find comfortable. Please leave it there until the end."),
    element("div", { class: "players" }, clip.button), element("div", { class: "foot" }, element("p", { class: "hint" }), go));
  keyboard = { " ": clip.toggle, Enter: () => { if (!go.disabled) next(); } };
}
function next() {
  const done = answered();
  const place = trials.findIndex((_, index) => !done.has(index));
  const bar = document.getElementById("bar");
  bar.hidden = false;
  bar.setAttribute("aria-valuemax", trials.length);
  bar.setAttribute("aria-valuenow", done.size);
  document.getElementById("fill").style.width = `${(100 * done.size) / trials.length}%`;
  if (place < 0) { ending(); return; }
  const wanted = new Set([...load(trials[place]), ...load(trials[place + 1])]);
  for (const name of [...sounds.keys()]) if (!wanted.has(name)) sounds.delete(name);
  ask(place, trials[place]);
}
function labelsOf(trial) {
  if (trial.stage === "headphones") return ["Play the tones"];
  return trial.clips.length === 1 ? ["Clip"] : trial.clips.map((_, index) => String.fromCharCode(65 + index));
}
function ask(place, trial) {
  const began = performance.now();
  const labels = labelsOf(trial);
  const changed = () => refresh();
  const clips = trial.clips.map((name, index) => player(name, labels[index], changed));
  const reference = trial.reference ? player(trial.reference, "Reference", changed) : null;
  const all = reference ? [reference, ...clips] : clips;
  const control = controlOf(trial, clips, changed);
  const hint = element("p", { class: "hint" });
  const go = element("button", { class: "go", id: "next", onclick: done }, "Next");
  function refresh() {
    const open = !STUDY.mustHear || all.every((clip) => clip.count.heard > 0);
    control.close(!open);
    go.disabled = !open || !control.values();
    hint.textContent = !open ? `Listen to ${all.length > 1 ? "every clip" : "the clip"} to the end first. You can play it as often as you like.`
      : control.values() ? "" : control.missing;
  }
  function done() {
    if (go.disabled) return;
    const seconds = Math.round(performance.now() - began) / 1000;
    const plays = all.map((clip) => clip.count.plays);
    keep({ trial: place, clips: trial.clips, reference: trial.reference, values: control.values(), plays, seconds });
    if (trial.lesson) explain(trial.lesson, control, hint, go);
    else next();
  }
  const inRows = kind === "mushra" && trial.stage !== "headphones"; // these clips have their buttons beside the sliders
  show(trial.stage, ...heading(place, trial),
    element("div", { class: "players" }, ...(inRows ? [reference] : all).map((clip) => clip.button)), control.box,
    element("div", { class: "foot" }, hint, go), keys(labels, reference, control),
    mode === "files" ? element("p", { class: "aside" }, element("button", { class: "plain", id: "save", onclick: download }, "Stop here and save my answers so far")) : null);
  const unheard = () => (all.find((clip) => !clip.count.heard) || clips[clips.length - 1]).toggle();
  keyboard = { ...control.keyboard, Enter: done, " ": unheard };
  clips.forEach((clip, index) => { keyboard[clips.length > 1 ? labels[index].toLowerCase() : "p"] = clip.toggle; });
  if (reference) keyboard.r = reference.toggle;
  refresh();
}
function heading(place, trial) {
  const stage = { headphones: "headphone check", training: "training" }[trial.stage];
  return [
    element("div", { class: "count" }, element("span", {}, `${place + 1} of ${trials.length}`), stage ? element("span", { class: "tag" }, stage) : null),
    element("h1", {}, trial.stage === "headphones" ? "Which of the three tones is the quietest?" : STUDY.question),
    trial.text ? element("blockquote", {}, trial.text) : null,
  ];
}
function explain(lesson, control, hint, go) {
  silence();
  control.close(true);
  keyboard = {};
  const more = element("button", { class: "go", id: "continue", onclick: next }, "Continue");
  hint.replaceWith(element("p", { class: "lesson", role: "status" }, lesson));
  go.replaceWith(more);
  more.focus();
}
function keys(labels, reference, control) {
  const key = (name) => element("kbd", {}, name);
  const clips = labels.length > 1 ? labels : ["P"];
  const digits = Object.keys(control.keyboard);
  return element("p", { class: "keys" }, ...[...(reference ? ["R"] : []), ...clips].flatMap((name) => [key(name), " "]), "play",
    ...(digits.length ? ["  ·  ", key(digits[0]), " … ", key(digits[digits.length - 1]), " answer"] : []), "  ·  ", key("Enter"), " next");
}
function controlOf(trial, clips, changed) {
  if (trial.stage === "headphones") {
    const options = ["first", "second", "third"].map((word, index) => ({ value: index + 1, word, digit: index + 1, bare: true }));
    return radios(options, "The quietest tone was the …", changed);
  }
  if (kind === "mushra") return sliders(clips, changed);
  const options = steps().map((value, index) => (
    { value, word: scale.words[String(value)] || "", digit: kind === "cmos" ? index + 1 : value, bare: kind === "cmos" }));
  return radios(options, kind === "cmos" ? "Compared with A, B is …" : "Your answer", changed);
}
function steps() {
  const count = Math.round((scale.highest - scale.lowest) / scale.step);
  return Array.from({ length: count + 1 }, (_, index) => scale.lowest + index * scale.step);
}
function radios(options, title, changed) {
  const inputs = options.map(({ value }) => element("input", { type: "radio", name: "answer", value, onchange: changed }));
  const labels = options.map(({ value, word, bare }, index) => element("label", { class: word ? "" : "half" },
    inputs[index], bare ? null : element("b", {}, String(value)), word ? element("span", {}, word) : null));
  const box = element("fieldset", {}, element("legend", {}, title), element("div", { class: "scale" }, ...labels));
  function pick(index) {
    if (box.disabled) return;
    inputs[index].checked = true;
    inputs[index].focus();
    changed();
  }
  const keyboard = {};
  options.forEach(({ digit }, index) => { if (Number.isInteger(digit)) keyboard[digit] = () => pick(index); });
  const chosen = () => inputs.findIndex((input) => input.checked);
  return {
    box, keyboard, missing: "Choose an answer.",
    close: (closed) => { box.disabled = closed; },
    values: () => (chosen() < 0 ? null : [options[chosen()].value]),
  };
}
function sliders(clips, changed) {
  const given = clips.map(() => null);
  const inputs = [];
  const rows = clips.map((clip, index) => {
    const output = element("output", {}, "–");
    const row = element("div", { class: "row open" }, clip.button);
    const input = element("input", { type: "range", min: scale.lowest, max: scale.highest, step: scale.step, value: scale.lowest,
      "aria-label": `rating of ${String.fromCharCode(65 + index)}`, oninput: () => {
        given[index] = Number(input.value);
        output.textContent = input.value;
        row.classList.remove("open");
        changed();
      } });
    inputs.push(input);
    row.append(input, output);
    return row;
  });
  const words = element("div", { class: "words", "aria-hidden": "true" },
    element("div", {}, ...Object.values(scale.words).map((word) => element("span", {}, word))));
  const box = element("div", { class: "rows", role: "group", "aria-label": "ratings from 0, bad, to 100, excellent" }, words, ...rows);
  return {
    box, keyboard: {}, missing: "Move every slider.",
    close: (closed) => inputs.forEach((input) => { input.disabled = closed; }), // the clips can still be played
    values: () => (given.includes(null) ? null : given),
  };
}
function ending() {
  const comment = element("textarea", { id: "comment", maxlength: 4000, "aria-label": "remarks" });
  const go = element("button", { class: "go", id: "finish", onclick: async () => {
    go.disabled = true;
    try { await finish(comment.value); thanks(); } catch (error) { notice(error.message); go.disabled = false; }
  } }, "Finish");
  show("ending", element("h1", {}, "That was the last one"),
    element("p", {}, "Did you notice anything that we should know? (optional)"), comment,
    element("div", { class: "foot" }, element("p", { class: "hint" }), go));
}
function thanks() {
  document.getElementById("fill").style.width = "100%";
  show("thanks", element("h1", {}, "Thank you!"),
    element("p", {}, mode === "server" ? "Your answers are saved. You can close this page." : "Please save the file with your answers and send it to whoever asked you to take part."),
    mode === "server" ? null : element("p", {}, element("button", { class: "go", id: "download", onclick: download }, "Save my answers")),
    state.code ? element("p", {}, "Your completion code: ", element("span", { class: "code", id: "code" }, state.code)) : null);
}

document.addEventListener("keydown", (event) => {
  const { target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || target.tagName === "TEXTAREA") return;
  const own = target.tagName === "BUTTON" || target.type === "checkbox"; // Enter and Space already do something there
  if (own && (event.key === "Enter" || event.key === " ")) return;
  const action = keyboard[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (action) { event.preventDefault(); action(); }
});
document.title = STUDY.title;
if (mode === "files" && state.finished) thanks();
else welcome();
