// A text whose words light up as they are said, and are heard from when chosen.

import { element, rove } from "./elements.js";

const bare = (word) => word.toLowerCase().replace(/[^\p{L}\p{N}']/gu, "");

// Place spoken words (`{word, start_time, end_time}`) on the words as they are written: "five dollars" on "$5".
// Return `[{text, start, end, gap}]` for every written word, `gap` being what stands behind it; one that is not said has the time of the word before it.
export function placeWords(text, spoken) {
  const pieces = cutWritten(text, spoken);
  const written = pieces.map((piece) => piece.trim());
  const pairs = commonPairs(written.map(bare), spoken.map(({ word }) => bare(word)));
  const placed = written.map((word, index) => ({ text: word, start: null, end: null, gap: /\s$/.test(pieces[index]) ? " " : "" }));
  let [w, s] = [0, 0];
  for (const [nextW, nextS] of [...pairs, [written.length, spoken.length]]) {
    const gapW = nextW - w, gapS = nextS - s;
    for (let index = 0; index < gapW && gapS; index += 1) { // a gap's words share what is said in it
      const first = Math.min(s + Math.floor((index * gapS) / gapW), nextS - 1);
      const last = Math.max(first, s + Math.floor(((index + 1) * gapS) / gapW) - 1);
      Object.assign(placed[w + index], { start: spoken[first].start_time, end: spoken[last].end_time });
    }
    if (nextW < written.length) Object.assign(placed[nextW], { start: spoken[nextS].start_time, end: spoken[nextS].end_time });
    [w, s] = [nextW + 1, nextS + 1];
  }
  let end = spoken.length ? spoken[0].start_time : 0;
  for (const word of placed) {
    if (word.start === null) Object.assign(word, { start: end, end });
    end = word.end;
  }
  return placed;
}

const unspaced = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;

// Return a text in its words, each with the blanks behind it; where none set words apart, cut as the spoken ones stand in it.
function cutWritten(text, spoken) {
  if (!unspaced.test(text)) return `${text.trim()} `.match(/\S+\s+/g) || [];
  const cuts = [0];
  let at = 0;
  for (const { word } of spoken) {
    const found = text.indexOf(word, at);
    if (found < 0 || found > at + word.length + 24) continue;
    at = found + word.length;
    const opened = text.slice(0, found).match(/["'(\u201c\u2018\u300c\u300e\uff08\u3008\u300a\u3010]*$/)[0].length;
    if (found - opened > cuts.at(-1)) cuts.push(found - opened);
  }
  return cuts.map((start, index) => text.slice(start, cuts[index + 1])).filter((piece) => piece.trim());
}

// Return the pairs of places of a longest common subsequence.
function commonPairs(one, other) {
  const longest = Array.from({ length: one.length + 1 }, () => new Uint16Array(other.length + 1));
  for (let a = one.length - 1; a >= 0; a -= 1) {
    for (let b = other.length - 1; b >= 0; b -= 1) {
      longest[a][b] = one[a] && one[a] === other[b] ? longest[a + 1][b + 1] + 1 : Math.max(longest[a + 1][b], longest[a][b + 1]);
    }
  }
  const pairs = [];
  for (let a = 0, b = 0; a < one.length && b < other.length;) {
    if (one[a] && one[a] === other[b]) pairs.push([a++, b++]);
    else if (longest[a + 1][b] >= longest[a][b + 1]) a += 1;
    else b += 1;
  }
  return pairs;
}

// Shows the sentences of a take in `box`; `seek` is called with the second of a word that is chosen.
export class Reading {
  #box;
  #seek;
  #shown = []; // [{ node, sentence, words: [{ start, end, node }] | null }]
  #lit = null;

  constructor(box, seek) {
    this.#box = box;
    this.#seek = seek;
    rove(box, ".word");
  }

  clear() {
    this.#shown = [];
    this.#lit = null;
    this.#box.replaceChildren();
    this.#box.scrollTop = 0;
  }

  // Bring it up to date with `[{ text, speaker, start, words | null }]`, of which only the last may change.
  show(sentences) {
    sentences.forEach((sentence, index) => {
      const known = this.#shown[index];
      if (known && Boolean(known.words) === Boolean(sentence.words)) return;
      const made = this.#draw(sentence, sentences[index - 1]);
      if (known) known.node.replaceWith(made.node); else this.#box.append(made.node);
      this.#shown[index] = made;
    });
  }
  #draw(sentence, before) {
    const isTurn = sentence.speaker && sentence.speaker !== before?.speaker;
    const node = element("span", { class: "sentence" }, isTurn && before ? element("br") : null, isTurn ? element("b", { class: "speaker" }, sentence.speaker) : null, isTurn ? " " : null);
    if (!sentence.words) {
      node.append(`${sentence.text} `);
      return { node, sentence, words: null };
    }
    const words = sentence.words.map(({ text, start, end, gap }, index) => {
      const button = element("button", { type: "button", class: "word", tabindex: !before && index === 0 ? 0 : -1,
        onclick: () => this.#seek(start) }, text);
      node.append(button, gap);
      return { start, end, node: button };
    });
    return { node, sentence, words };
  }

  // Light up what is said at this second; where words have no times yet, the sentence.
  light(seconds) {
    const place = this.#shown.findLastIndex(({ sentence }) => sentence.start <= seconds + 1e-3);
    const shown = this.#shown[Math.max(place, 0)];
    const word = shown?.words && (shown.words.findLast(({ start }) => start <= seconds + 1e-3) || null);
    const lit = shown?.words ? word?.node || null : shown?.node || null;
    if (lit === this.#lit) return;
    this.#lit?.classList.remove("lit");
    this.#lit?.removeAttribute("aria-current");
    lit?.classList.add("lit");
    lit?.setAttribute("aria-current", "true");
    this.#lit = lit;
    if (lit) this.#follow(lit);
  }
  #follow(node) {
    const box = this.#box.getBoundingClientRect(), place = node.getBoundingClientRect();
    if (place.top < box.top || place.bottom > box.bottom) this.#box.scrollTop += place.top - box.top - box.height / 3;
  }
}
