// A recording from the microphone or from a file.

import { Problem } from "./api.js";
import { element, showLength, showTime } from "./elements.js";
import { RATE, decode, toWav, wake } from "./sound.js";

const READ_BY_SERVER = /\.(wav|flac|mp3|ogg|aiff?)$/i;
const MOST_BYTES = 10 << 20; // that the server takes
// What the microphone gives is not to be made smoother: a voice is copied with all that is in it.
const MICROPHONE = { audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 } };

// A box with buttons to record and to choose a file. `changed(given)` is called with `{ name, seconds, samples, file, wav }`
// or null; `script`: a text to read aloud; `most`: seconds, after which recording ends by itself.
export class Source {
  given = null;
  #box;
  #script;
  #most;
  #changed;
  #recording = null;
  #address = "";

  constructor(box, { script = "", most, changed }) {
    [this.#box, this.#script, this.#most, this.#changed] = [box, script, most, changed];
    box.classList.add("source");
    box.addEventListener("dragover", (event) => { event.preventDefault(); box.classList.add("over"); });
    box.addEventListener("dragleave", () => box.classList.remove("over"));
    box.addEventListener("drop", (event) => {
      event.preventDefault();
      box.classList.remove("over");
      if (event.dataTransfer.files[0]) this.take(event.dataTransfer.files[0]);
    });
    this.clear();
  }

  clear(problem = "") {
    this.#stop();
    this.#set(null);
    const file = element("input", { type: "file", accept: "audio/*,.wav,.flac,.mp3,.ogg,.m4a,.webm", hidden: true,
      onchange: () => { if (file.files[0]) this.take(file.files[0]); } });
    this.#box.replaceChildren(
      element("div", { class: "line" },
        element("button", { type: "button", class: "plain record", onclick: () => this.#record() }, element("span", { class: "dot", "aria-hidden": "true" }), "Record"),
        element("button", { type: "button", class: "plain choose", onclick: () => file.click() }, "Choose a file"), file,
        element("span", { class: "hint drop" }, "or drop one here")),
      ...(problem ? [element("p", { class: "problem", role: "alert" }, problem)] : []));
  }

  // Take a file, as if it had been chosen; `name` is what it is called.
  async take(file, name = file.name, read = false) {
    this.#stop();
    let samples;
    try { samples = await decode(file); } catch {
      this.clear(`${name || "This file"} holds no sound that this browser can read.`);
      return;
    }
    const wav = toWav(samples);
    const asIs = READ_BY_SERVER.test(file.name || "") && file.size <= MOST_BYTES;
    this.#set({ name, seconds: samples.length / RATE, samples, wav, file: asIs ? file : wav, read });
    this.#address = URL.createObjectURL(wav);
    const again = element("button", { type: "button", class: "quiet", onclick: () => { this.clear(); this.#focus(); } }, "Take another");
    this.#box.replaceChildren(
      element("div", { class: "line have" }, element("p", {}, element("b", {}, name), ` ${showLength(samples.length / RATE)}`), again),
      element("audio", { controls: true, src: this.#address, "aria-label": "the recording" }));
    again.focus({ preventScroll: true });
  }

  async #record() {
    if (!navigator.mediaDevices?.getUserMedia) {
      this.clear("Browsers let a page hear the microphone only on this machine or over https. Choose a file instead.");
      return;
    }
    let stream;
    try { stream = await navigator.mediaDevices.getUserMedia(MICROPHONE); } catch (error) {
      this.clear(error.name === "NotAllowedError" ? "This page may not use the microphone. Allow it in the browser, or choose a file."
        : "There is no microphone that can be used. Choose a file instead.");
      return;
    }
    const context = wake();
    const meter = context.createAnalyser();
    meter.fftSize = 1024;
    context.createMediaStreamSource(stream).connect(meter);
    const recorder = new MediaRecorder(stream, { audioBitsPerSecond: 128000 });
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => {
      const kept = this.#recording?.kept;
      this.#stop();
      if (kept) this.take(new Blob(parts, { type: recorder.mimeType }), "Recording", true);
    };
    const began = performance.now();
    const bar = element("div", { class: "level" }, element("div", {}));
    const time = element("span", { class: "time" }, "0:00");
    const stop = element("button", { type: "button", class: "plain stop", onclick: () => this.#finish() }, "Stop recording");
    this.#box.replaceChildren(
      ...(this.#script ? [element("p", { class: "hint" }, "Read this aloud:"), element("blockquote", {}, this.#script)] : []),
      element("div", { class: "line" }, stop, bar, time));
    stop.focus();
    const samples = new Float32Array(meter.fftSize);
    const timer = setInterval(() => {
      meter.getFloatTimeDomainData(samples);
      const loudest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
      bar.firstChild.style.setProperty("--level", Math.min(1, loudest * 1.4));
      const seconds = (performance.now() - began) / 1000;
      time.textContent = showTime(seconds);
      if (seconds >= this.#most) this.#finish();
    }, 60);
    this.#recording = { recorder, stream, timer, kept: false };
    recorder.start(250);
  }
  #finish() {
    if (!this.#recording || this.#recording.kept) return;
    this.#recording.kept = true;
    this.#recording.recorder.stop();
  }
  #stop() {
    if (!this.#recording) return;
    const { recorder, stream, timer } = this.#recording;
    this.#recording = null;
    clearInterval(timer);
    if (recorder.state !== "inactive") recorder.stop();
    stream.getTracks().forEach((track) => track.stop());
  }
  #set(given) {
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = "";
    const was = this.given;
    this.given = given;
    if (was !== given) this.#changed(given);
  }
  #focus() { this.#box.querySelector("button")?.focus(); }

  // Return what was given; throw a Problem if that is nothing yet.
  need() {
    if (!this.given) throw new Problem(this.#recording ? "Stop the recording first." : "Record something, or choose a file.");
    return this.given;
  }
}
