// What can be made: speech, a dialogue, a changed recording. Each panel returns an order, or throws a Problem.
//
// An order: `{ path, plain, body(format) -> object or FormData, isStreamed, seed, speed, voice, title, consent }`; `plain` is
// the path that answers with a file alone. `again(order)` fills the panel with what an order was made of.

import { Problem } from "./api.js";
import { element, find } from "./elements.js";
import { fill, findVoice, isOwn, nameVoice } from "./voices.js";

const LONGEST_TITLE = 60;
const SPEAKER = /\[(S\d{1,2})\]/g;

function field(id, message) {
  const value = find(id).value.trim();
  if (!value) { find(id).focus(); throw new Problem(message); }
  return value;
}
export function shorten(text) {
  const line = text.split(/\s+/).join(" ");
  return line.length <= LONGEST_TITLE ? line : `${line.slice(0, LONGEST_TITLE - 1)}…`;
}

export const speak = {
  label: "Speak",
  order: ({ seed, speed }) => {
    const input = field("text", "Write what is to be said.");
    const voice = find("voice").value; // none: the server's own, if there is one that it does not show
    const body = (response_format) => ({ input, voice: voice ? { id: voice } : null, seed, speed, response_format });
    return { path: "/dev/captioned_speech", plain: "/v1/audio/speech", body, isStreamed: true, seed, speed, voice: nameVoice(voice) || "the server's voice", title: shorten(input), consent: findVoice(voice)?.consent };
  },
  again: (order) => {
    const { input, voice } = order.body("pcm");
    find("text").value = input;
    if (findVoice(voice?.id)) find("voice").value = voice.id;
    find("voice").dispatchEvent(new Event("change"));
  },
};

const speakers = (text) => [...new Set([...text.matchAll(SPEAKER)].map((found) => found[1]))];

export const dialogue = {
  label: "Speak the dialogue",
  order: ({ seed, speed }) => {
    const input = field("script", "Write what the speakers say.");
    const names = speakers(input);
    if (!names.length) throw new Problem("Begin every turn with its speaker: [S1] Hello. [S2] Hi.");
    const cast = names.map((name) => [name, { id: find(`cast-${name}`).value }]);
    const voices = Object.fromEntries(cast.filter(([, { id }]) => id));
    const body = (response_format) => ({ input, voices, seed, speed, response_format });
    const called = cast.map(([, { id }]) => nameVoice(id)).filter(Boolean).join(", ") || "the server's voices";
    return { path: "/dev/dialogue", plain: "/dev/dialogue", body: (kind) => (kind === "pcm" ? { ...body(kind), captions: true } : body(kind)),
      isStreamed: true, seed, speed, voice: called, title: shorten(input.replace(SPEAKER, "")) };
  },
  again: (order) => {
    const { input, voices } = order.body("wav");
    find("script").value = input;
    showCast();
    for (const [name, voice] of Object.entries(voices)) if (findVoice(voice.id)) find(`cast-${name}`).value = voice.id;
  },
};

// Show a choice of voice for every speaker of the script.
export function showCast() {
  const box = find("cast");
  const names = speakers(find("script").value);
  for (const row of [...box.children]) if (!names.includes(row.dataset.speaker)) row.remove();
  names.forEach((name, index) => {
    let row = [...box.children].find((each) => each.dataset.speaker === name);
    if (!row) {
      row = element("div", { class: "line cast", "data-speaker": name }, element("label", { for: `cast-${name}` }, `Voice of ${name}`), element("select", { id: `cast-${name}` }));
      fill(row.querySelector("select"), index);
    }
    box.append(row);
  });
}

export function setUpPanels() {
  const voice = find("voice");
  voice.onchange = () => { find("remove-voice").hidden = !(findVoice(voice.value) && isOwn(findVoice(voice.value))); };
  find("script").oninput = showCast;
  for (const button of find("turns").querySelectorAll("button")) {
    button.onclick = () => {
      const script = find("script");
      const before = script.value.trimEnd();
      script.value = `${before}${before ? "\n" : ""}[${button.dataset.turn}] `;
      showCast();
      script.focus();
    };
  }
}

export function showVoices(chosen) {
  fill(find("voice"));
  if (chosen) find("voice").value = chosen;
  find("voice").onchange();
  [...find("cast").querySelectorAll("select")].forEach((select, index) => fill(select, index));
}
