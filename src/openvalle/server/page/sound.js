// Sound: what comes as PCM is played by Web Audio while more of it comes; recordings are decoded; WAV files are made.

export const RATE = 24000; // samples per second of what the server sends
const HEAD_START = 0.06; // seconds between asking for sound and hearing it
const LEAD = 0.2, MOST_LEAD = 4; // seconds that must be there before playing begins, more after every gap

// A sound that may still be growing.
export class Sound {
  samples = new Float32Array(RATE * 8);
  count = 0;
  isWhole = false;

  get seconds() { return this.count / RATE; }
  get heard() { return this.samples.subarray(0, this.count); }

  // Add 16-bit samples, little-endian, given in base64.
  add(base64) {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    this.#grow(bytes.length >> 1);
    for (let index = 0; index + 1 < bytes.length; index += 2) this.samples[this.count++] = view.getInt16(index, true) / 32768;
  }
  put(samples) {
    this.#grow(samples.length);
    this.samples.set(samples, this.count);
    this.count += samples.length;
  }
  #grow(more) {
    if (this.count + more <= this.samples.length) return;
    const larger = new Float32Array(Math.max(this.samples.length * 2, this.count + more));
    larger.set(this.heard);
    this.samples = larger;
  }
}

let shared = null;
// The page's audio context. Browsers let it sound only after a click or key: call this in one.
export function wake() {
  if (!shared) {
    try { shared = new AudioContext({ sampleRate: RATE }); } catch { shared = new AudioContext(); }
  }
  if (shared.state === "suspended") shared.resume();
  return shared;
}

// Plays one sound at a time. `changed` is called when it begins, waits, pauses or ends.
export class Player {
  sound = null;
  isPlaying = false;
  #changed;
  #place = 0; // sample at which it stands while it does not play
  #parts = []; // what Web Audio was given: { node, at (seconds of the context), from, count (samples) }
  #next = 0; // sample that Web Audio is given next
  #until = 0; // second of the context to which there is sound
  #lead = LEAD;

  constructor(changed) { this.#changed = changed; }

  load(sound) {
    this.pause();
    this.sound = sound;
    this.#place = 0;
    this.#lead = LEAD;
  }

  // Sample that is heard now.
  get place() {
    if (!this.isPlaying || !this.#parts.length) return this.#place;
    const now = wake().currentTime - (wake().outputLatency || 0);
    const part = this.#parts.findLast(({ at }) => at <= now) || this.#parts[0];
    return Math.min(part.from + Math.max(0, Math.round((now - part.at) * RATE)), part.from + part.count);
  }
  get seconds() { return this.place / RATE; }
  get isWaiting() { return this.isPlaying && this.#until <= wake().currentTime; }

  play() {
    if (!this.sound || this.isPlaying) return;
    wake();
    if (this.sound.isWhole && this.#place >= this.sound.count) this.#place = 0;
    this.isPlaying = true;
    this.#next = this.#place;
    this.#until = 0;
    this.feed();
    this.#changed();
  }
  pause() {
    if (!this.isPlaying) return;
    this.#place = this.place;
    this.#silence();
    this.isPlaying = false;
    this.#changed();
  }
  seek(seconds) {
    const was = this.isPlaying;
    if (was) { this.#silence(); this.isPlaying = false; }
    this.#place = Math.min(Math.max(0, Math.round(seconds * RATE)), this.sound?.count || 0);
    if (was) this.play(); else this.#changed();
  }

  // Give Web Audio what came since the last time; call it whenever the sound has grown or is whole.
  feed() {
    if (!this.isPlaying) return;
    const context = wake();
    const count = this.sound.count - this.#next;
    const isDry = this.#until <= context.currentTime;
    if (!count) {
      if (isDry && this.sound.isWhole) this.#end();
      return;
    }
    if (isDry) {
      if (!this.sound.isWhole && count < this.#lead * RATE) return;
      this.#until = context.currentTime + HEAD_START;
    }
    const buffer = context.createBuffer(1, count, RATE);
    buffer.copyToChannel(this.sound.samples.subarray(this.#next, this.#next + count), 0);
    const node = context.createBufferSource();
    node.buffer = buffer;
    node.connect(context.destination);
    node.start(this.#until);
    node.onended = () => this.#ended(node);
    this.#parts.push({ node, at: this.#until, from: this.#next, count });
    this.#next += count;
    this.#until += count / RATE;
    if (isDry) this.#changed();
  }
  #ended(node) {
    if (this.#parts.at(-1)?.node !== node) return;
    if (this.#next < this.sound.count) { this.feed(); return; }
    if (this.sound.isWhole) { this.#end(); return; }
    this.#place = this.#next; // the server is slower than the sound: let more come before it goes on
    this.#parts = [];
    this.#lead = Math.min(this.#lead * 2, MOST_LEAD);
    this.#changed();
  }
  #end() {
    this.#place = this.sound.count;
    this.#silence();
    this.isPlaying = false;
    this.#changed();
  }
  #silence() {
    for (const { node } of this.#parts) { node.onended = null; node.stop(); node.disconnect(); }
    this.#parts = [];
  }
}

// Return a WAV file of mono samples.
export function toWav(samples, rate = RATE) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const write = (at, text) => [...text].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  write(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); write(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  write(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, index) => view.setInt16(44 + 2 * index, Math.round(Math.min(Math.max(sample * 32768, -32768), 32767)), true));
  return new Blob([view], { type: "audio/wav" });
}

// Return the samples of a sound file, mono, at RATE; reject what the browser cannot read.
export async function decode(blob) {
  const buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await blob.arrayBuffer());
  const mono = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel += 1) {
    buffer.getChannelData(channel).forEach((sample, index) => { mono[index] += sample / buffer.numberOfChannels; });
  }
  return mono;
}
