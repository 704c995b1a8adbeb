// A recording is changed by its words: choose them, say what comes instead.

import { Problem, ask } from "./api.js";
import { element, find, rove, tell } from "./elements.js";
import { shorten } from "./panels.js";
import { Source } from "./recorder.js";

// Signs of languages that set no words apart, beside which no blank stands: as `join_words` has them on the server.
const BARE = "[\\u2e80-\\u312f\\u3190-\\u9fff\\uf900-\\ufaff\\uff00-\\uffef\\u{20000}-\\u{3ffff}]";
const [ENDS_BARE, BEGINS_BARE] = [new RegExp(`${BARE}$`, "u"), new RegExp(`^${BARE}`, "u")];
const blank = (before, after) => (ENDS_BARE.test(before) || BEGINS_BARE.test(after) ? "" : " ");
const join = (parts) => parts.reduce((text, part) => text + (text && blank(text, part)) + part, "");

let source = null;
let failed = null; // tells a problem, and how to try again
let words = []; // of the recording: [{ word, start_time, end_time }]
let chosen = null; // the places of the first word and the last: [first, last]
let changes = []; // [{ kind, first, last, words }]

// Set the panel up; `tellProblem(problem, again)`.
export function setUpEdit(tellProblem) {
  failed = tellProblem;
  source = new Source(find("edit-source"), { most: 110, changed: (given) => {
    forget();
    find("said").value = "";
    find("edit-known").hidden = !given;
  } });
  find("find-words").onclick = showWords;
  find("said").oninput = forget;
  rove(find("words"), ".word");
  for (const button of find("change").querySelectorAll("[data-kind]")) button.onclick = () => add(button.dataset.kind);
  find("new-words").onkeydown = (event) => {
    if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) { event.preventDefault(); add("replace"); }
  };
}

// Take a sound that was made here, whose words are known.
export async function editTake(wav, name, text, consent) {
  await source.take(wav, name);
  find("said").value = text;
  find("edit-consent").value = consent;
  await showWords();
}

function forget() {
  [words, chosen, changes] = [[], null, []];
  find("edit-words").hidden = true;
}

async function showWords() {
  const button = find("find-words");
  button.disabled = true;
  tell("Looking for the words …");
  try {
    const form = new FormData();
    form.set("audio", source.need().file, "recording");
    if (find("said").value.trim()) form.set("transcript", find("said").value.trim());
    const told = await (await ask("/dev/transcribe", { body: form })).json();
    find("said").value = told.text;
    forget();
    words = told.words;
    find("edit-words").hidden = false;
    draw();
    find("words").querySelector(".word")?.focus({ preventScroll: true });
    tell(`${words.length} words.`);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    failed(error, showWords);
  } finally { button.disabled = false; }
}

function choose(index, isMore) {
  const extends_ = chosen && (isMore || (chosen[0] === chosen[1] && index !== chosen[0]));
  chosen = extends_ ? [Math.min(chosen[0], index), Math.max(chosen[1], index)] : [index, index];
  draw();
  find("words").querySelectorAll(".word")[index].focus();
}

function draw() {
  const focused = [...find("words").querySelectorAll(".word")].indexOf(document.activeElement);
  const nodes = words.flatMap(({ word }, index) => {
    const isChosen = chosen && chosen[0] <= index && index <= chosen[1];
    const change = changes.find(({ first, last }) => first <= index && index <= last);
    const gone = change && change.kind !== "insert";
    const button = element("button", { type: "button", class: `word${isChosen ? " chosen" : ""}${gone ? " gone" : ""}`, "aria-pressed": String(Boolean(isChosen)),
      tabindex: index === Math.max(focused, 0) ? 0 : -1, onclick: (event) => choose(index, event.shiftKey) }, word);
    const said = change && change.last === index && change.words ? [change.words] : [];
    const texts = [word, ...said, words[index + 1]?.word ?? ""];
    return [button, blank(texts[0], texts[1]), ...said.flatMap((text) => [element("ins", {}, text), blank(text, texts[2])])];
  });
  find("words").replaceChildren(...nodes);
  find("changes").replaceChildren(...changes.map((change) => element("li", {}, element("span", {}, describe(change)),
    element("button", { type: "button", class: "quiet", "aria-label": `Undo: ${describe(change)}`, onclick: () => {
      changes = changes.filter((each) => each !== change);
      draw();
    } }, "Undo"))));
  for (const button of find("change").querySelectorAll("[data-kind]")) button.disabled = !chosen;
}
const between = (first, last) => join(words.slice(first, last + 1).map(({ word }) => word));
function describe({ kind, first, last, words: said }) {
  const old = between(first, last);
  return { replace: `“${old}” becomes “${said}”`, insert: `“${said}” comes after “${old}”`, delete: `“${old}” goes` }[kind];
}

function add(kind) {
  const input = find("new-words");
  const said = kind === "delete" ? "" : input.value.trim();
  try {
    if (!chosen) throw new Problem("Choose the words first.");
    if (kind !== "delete" && !said) { input.focus(); throw new Problem("Write the new words first."); }
    const [first, last] = chosen;
    changes = [...changes.filter((each) => each.last < first || each.first > last), { kind, first, last, words: said }];
    changes.sort((one, other) => one.first - other.first);
    input.value = "";
    chosen = null;
    draw();
    tell(`${changes.length} ${changes.length === 1 ? "change" : "changes"}.`);
  } catch (error) { failed(error); }
}

// Return a change as the server reads it: by words that are in the recording once. Words that are there more often take
// their neighbours along, which are then spoken anew, too.
export function toEdit({ kind, first, last, words: said }, all) {
  const lower = all.map((word) => word.toLowerCase());
  const times = (from, to) => lower.filter((_, at) => lower.slice(from, to + 1).every((word, index) => lower[at + index] === word)).length;
  let [from, to] = [first, last];
  while (times(from, to) > 1 && (from > 0 || to < all.length - 1)) {
    if (from > 0) from -= 1;
    if (times(from, to) > 1 && to < all.length - 1) to += 1;
  }
  const part = (start, end) => join(all.slice(start, end));
  const old = part(from, to + 1);
  if (kind === "insert" && to === last) return { kind, old, new: said };
  if (from === first && to === last) return { kind, old, new: said };
  const middle = kind === "insert" ? join([part(first, last + 1), said]) : said;
  return { kind: "replace", old, new: join([part(from, first), middle, part(last + 1, to + 1)].filter(Boolean)) };
}

export const edit = {
  label: "Make the change",
  order: ({ seed }) => {
    const { file, name } = source.need();
    if (!words.length) throw new Problem("Show its words first, and choose some.");
    if (!changes.length) throw new Problem("Choose words, then replace or delete them, or insert some.");
    const all = words.map(({ word }) => word);
    const said = find("said").value.trim();
    const consent = find("edit-consent").value.trim();
    const edits = JSON.stringify(changes.map((change) => toEdit(change, all)));
    const body = (response_format) => {
      const form = new FormData();
      const values = { transcript: said, edits, consent, seed: String(seed), response_format };
      form.set("audio", file, "recording");
      for (const [key, value] of Object.entries(values)) form.set(key, value);
      return form;
    };
    return { path: "/dev/edit", plain: "/dev/edit", body, isStreamed: false, seed, speed: 1, voice: name, title: shorten(changes.map(describe).join("; ")), consent };
  },
};
