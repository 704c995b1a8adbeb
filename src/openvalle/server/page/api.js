// What the page asks of the server, and what went wrong, in words for people.

const KEY = "openvalle-key"; // in this tab's storage
const NAMES = { // the server's fields -> what they are called on the page
  input: "The text", text: "The text", audio_sample: "The recording", audio: "The recording", name: "The name",
  consent: "Consent", ref_text: "What is said", transcript: "What is said", seed: "The seed", speed: "The speed",
  edits: "The changes", turns: "The script", voice: "The voice", voices: "The voices",
};
let key = remembered();

function remembered() {
  try { return sessionStorage.getItem(KEY) || ""; } catch { return ""; }
}

export function useKey(value) {
  key = value;
  try { sessionStorage.setItem(KEY, value); } catch { /* private windows may refuse: memory must do */ }
}

// Something that the person can read; `field`: the server's name of what is wrong; `wait`: seconds.
export class Problem extends Error {
  constructor(message, { status = 0, code = "", field = "", wait = 0 } = {}) {
    super(message);
    Object.assign(this, { status, code, field, wait });
  }
}

function explain(status, error, wait) {
  const { message = "", param = "", code = "" } = error || {};
  const facts = { status, code: code || "", field: param || "", wait };
  const words = {
    401: key ? "The server does not know this API key." : "This server asks for an API key.",
    413: "The recording is too large: 10 MB at most.",
    429: `The server is busy with others. Try again in ${Math.max(1, wait)} s.`,
  };
  if (code === "not_ready") return new Problem("The model is still being made ready. Try again in a moment.", facts);
  if (words[status]) return new Problem(words[status], facts);
  if (!message) return new Problem(`The server answered ${status}, and not why.`, facts);
  const named = message.startsWith(`${param}: `) ? `${NAMES[param] || param}: ${message.slice(param.length + 2)}` : message;
  return new Problem(`${named[0].toUpperCase()}${named.slice(1)}${/[.!?)]$/.test(named) ? "" : "."}`, facts);
}

// Return the server's answer; throw a Problem for an error, an AbortError if `signal` ended it.
export async function ask(path, { method, body, signal } = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const isForm = body instanceof FormData;
  if (body && !isForm) headers["Content-Type"] = "application/json";
  const request = { method: method || (body ? "POST" : "GET"), headers, signal, body: body && !isForm ? JSON.stringify(body) : body };
  let answer;
  try { answer = await fetch(path, request); } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached. Is it still running?", { code: "unreachable" });
  }
  if (answer.ok) return answer;
  let told = {};
  try { told = await answer.json(); } catch { /* a proxy's page */ }
  throw explain(answer.status, told.error, Number(answer.headers.get("Retry-After")) || 0);
}

// Yield the objects of an answer that comes line by line; throw a Problem for an error in its middle.
export async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let part;
    try { part = await reader.read(); } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The connection broke off before the end.", { code: "broken" });
    }
    rest += part.value || "";
    const whole = rest.split("\n");
    rest = part.done ? "" : whole.pop();
    for (const line of whole.filter(Boolean)) {
      const told = JSON.parse(line);
      if (told.error) throw explain(500, told.error, 0);
      yield told;
    }
    if (part.done) return;
  }
}

// What of a request the server could not honour.
export function warnings(answer) {
  return [...(answer.headers.get("Warning") || "").matchAll(/299 \S+ "([^"]*)"/g)].map((found) => found[1]);
}
