"use strict";
// Buttons that play clips, one at a time, and count what was heard to its end.
const sounds = new Map(); // clip -> Audio: this trial's and the next one's
function load(trial) {
  const names = trial ? [trial.reference, ...trial.clips].filter(Boolean) : [];
  for (const name of names) {
    if (sounds.has(name)) continue;
    const sound = new Audio(`audio/${name}`);
    sound.preload = "auto";
    sounds.set(name, sound);
  }
  return names;
}
function silence() {
  for (const sound of sounds.values()) { sound.pause(); sound.currentTime = 0; }
}
function player(name, label, changed) {
  const sound = sounds.get(name);
  const button = element("button", { type: "button", class: "player", "data-clip": name, "aria-label": `play ${label}`, onclick: toggle },
    element("span", { class: "icon", "aria-hidden": "true" }), element("span", {}, label), element("span", { class: "heard", "aria-hidden": "true" }, "✓"));
  const count = { plays: 0, heard: 0 };
  function stopped() { button.classList.remove("playing"); button.setAttribute("aria-label", `play ${label}`); }
  function toggle() {
    const was = !sound.paused;
    silence();
    if (was) return;
    if (sound.error) sound.load();
    button.classList.remove("failed");
    sound.play().then(() => {
      count.plays += 1;
      button.classList.add("playing");
      button.setAttribute("aria-label", `stop ${label}`);
      follow();
    }).catch((error) => { if (error.name !== "AbortError") failed(); });
  }
  function failed() {
    button.classList.add("failed");
    notice("A clip could not be played. Press its button to try again.");
  }
  function follow() {
    button.style.setProperty("--played", sound.duration ? sound.currentTime / sound.duration : 0);
    if (!sound.paused && button.isConnected) requestAnimationFrame(follow);
  }
  sound.onpause = stopped;
  sound.onended = () => { count.heard += 1; notice(""); button.classList.add("done"); stopped(); changed(); };
  return { button, toggle, count };
}
