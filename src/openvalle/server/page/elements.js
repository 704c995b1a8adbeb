// Small parts that all of the page is made with.

export const find = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

// Tell what goes on, for eyes and for screen readers.
export function tell(text) {
  find("state").textContent = text;
}

export function showTime(seconds) {
  const whole = Math.floor(seconds + 1e-6);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export const showLength = (seconds) => `${seconds.toFixed(1)} s`;

export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

// One of several buttons is in the order of Tab; the arrow keys go from one to the next.
export function rove(box, chosen = "button") {
  const all = () => [...box.querySelectorAll(chosen)];
  box.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    const buttons = all();
    const at = buttons.indexOf(document.activeElement);
    if (step === undefined || at < 0) return;
    event.preventDefault();
    buttons[Math.min(Math.max(at + step, 0), buttons.length - 1)].focus();
  });
  box.addEventListener("focusin", (event) => {
    if (!event.target.matches(chosen)) return;
    for (const button of all()) button.tabIndex = button === event.target ? 0 : -1;
  });
}
