// The voices there are, and new ones from recordings.

import { Problem, ask, warnings } from "./api.js";
import { element, find, tell } from "./elements.js";
import { Source } from "./recorder.js";

// A text to read aloud while recording: it is then known what is said.
const ALOUD = "When the sunlight strikes raindrops in the air, they act as a prism and form a rainbow.";
let voices = [];

export const isOwn = (voice) => voice.id.startsWith("voice_");
export const findVoice = (id) => voices.find((voice) => voice.id === id);
export const nameVoice = (id) => findVoice(id)?.name || id;

// Return a select's options, the built-in voices first.
function options(chosen) {
  const group = (label, members) => (members.length ? [element("optgroup", { label }, ...members.map((voice) => (
    element("option", { value: voice.id, selected: voice.id === chosen }, voice.name))))] : []);
  return [...group("Of this server", voices.filter((voice) => !isOwn(voice))), ...group("Yours", voices.filter(isOwn))];
}

// Fill a select, keeping what is chosen if it is still there; `index`: which voice is chosen at first.
export function fill(select, index = 0) {
  const chosen = findVoice(select.value) ? select.value : voices[index % Math.max(1, voices.length)]?.id;
  select.replaceChildren(...options(chosen));
  if (!voices.length) select.append(element("option", { value: "" }, "the server's own"));
  select.disabled = !voices.length;
}

export async function loadVoices() {
  voices = (await (await ask("/v1/audio/voices")).json()).voices;
}

// Set up the dialog. `changed(id)` is called after voices came or went, with the one to choose; `failed(problem, again)`.
export function setUpVoices(changed, failed) {
  const dialog = find("voice-dialog"), save = find("voice-save"), problem = find("voice-problem");
  const said = find("voice-said");
  const source = new Source(find("voice-source"), { script: ALOUD, most: 25, changed: (given) => {
    if (given?.read && !said.value) said.value = ALOUD;
    if (!given && said.value === ALOUD) said.value = "";
  } });
  const show = (text) => { problem.textContent = text; problem.hidden = !text; };
  let sending = null;

  find("add-voice").onclick = () => {
    find("voice-form").reset();
    source.clear();
    show("");
    dialog.showModal();
  };
  find("voice-cancel").onclick = () => dialog.close();
  dialog.onclose = () => {
    sending?.abort();
    source.clear();
  };
  find("voice-form").onsubmit = async (event) => {
    event.preventDefault();
    show("");
    const form = new FormData();
    sending = new AbortController();
    save.disabled = true;
    save.textContent = "Adding …";
    try {
      form.set("audio_sample", source.need().wav, "recording.wav");
      form.set("name", find("voice-name").value.trim());
      form.set("consent", find("voice-consent").value.trim());
      if (said.value.trim()) form.set("ref_text", said.value.trim());
      const answer = await ask("/v1/audio/voices", { body: form, signal: sending.signal });
      const voice = await answer.json();
      await loadVoices();
      dialog.close();
      const notes = warnings(answer);
      tell(`The voice ${voice.name} is there.${notes.length ? ` But: ${notes.join("; ")}.` : ""}`);
      changed(voice.id);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Problem)) throw error;
      if (error.status === 401) { dialog.close(); failed(error); } else show(error.message);
    } finally {
      sending = null;
      save.disabled = false;
      save.textContent = "Add voice";
    }
  };

  const remove = find("remove-voice");
  remove.onclick = async () => {
    const voice = findVoice(find("voice").value);
    if (!voice || !confirm(`Remove the voice ${voice.name} from the server?`)) return;
    try {
      await ask(`/v1/audio/voices/${voice.id}`, { method: "DELETE" });
      await loadVoices();
      tell(`The voice ${voice.name} is gone.`);
      changed();
    } catch (error) { failed(error); }
  };
}
