// Small helpers for elements and numbers. Text of the server enters the page here, as text and never as HTML.

export const byId = (id) => document.getElementById(id);

/** An element: `text` is its text, `class` its class, `on` its listeners, `data` its data-*; the rest are attributes. */
export function el(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") made.textContent = String(value);
    else if (name === "class") made.className = value;
    else if (name === "on") for (const [event, heard] of Object.entries(value)) made.addEventListener(event, heard);
    else if (name === "data") Object.assign(made.dataset, value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Writes text only where it changed: pages that write at every frame are laid out at every frame. */
export function write(node, text) {
  const shown = String(text);
  if (node.textContent !== shown) node.textContent = shown;
}

/** Radio buttons that look like one bar; `choices` are [value, label] pairs. */
export function pills(box, name, choices, chosen, onChange) {
  box.replaceChildren(
    ...choices.map(([value, label]) => {
      const input = el("input", { type: "radio", name, value, on: { change: () => onChange(value) } });
      input.checked = value === chosen;
      return el("label", {}, input, el("span", { text: label }));
    }),
  );
}

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Three digits that matter, without exponents where they can be had without; – for what is not there. */
export function number(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e6) return minus(value.toExponential(1));
  return minus(value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3));
}

const minus = (text) => text.replace("-", "−");

export const percent = (value) => (isNumber(value) ? `${Math.floor(100 * Math.min(1, Math.max(0, value)))}%` : "–");

export const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

/** The value at share `q` of sorted numbers, the nearest rank. */
export function quantile(sorted, q) {
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)];
}

const KEY_NAMES = {
  ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "Space", Escape: "Esc", Control: "Ctrl",
};
export const keyName = (key) =>
  key.split(/(?<=.)\+(?=.)/).map((part) => KEY_NAMES[part] ?? (part.length === 1 ? part.toUpperCase() : part)).join(" ");

/** Calls `call` at most every `wait` ms, the last arguments always. */
export function throttle(call, wait) {
  let timer = null;
  let last = -Infinity;
  let waiting = null;
  const run = () => {
    timer = null;
    last = performance.now();
    call(...waiting);
  };
  return (...args) => {
    waiting = args;
    timer ??= setTimeout(run, Math.max(0, last + wait - performance.now()));
  };
}
