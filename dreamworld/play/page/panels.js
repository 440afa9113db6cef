// The panels: segments to start from, edits of the dream, recordings, notices, and the help.

import { byId, count, el, isNumber, keyName, number, write } from "./dom.js";

const NOTICE_MS = 7000;
const MOST_NOTICES = 4;

/** Says something at the corner; errors stay until they are closed. */
export function notice(text, kind = "info") {
  const box = byId("notices");
  const same = [...box.children].find((each) => each.firstChild.textContent === String(text));
  same?.remove();
  const close = el("button", { type: "button", text: "✕", "aria-label": "Close this notice" });
  const item = el("div", { class: `notice ${["info", "warning", "error"].includes(kind) ? kind : "info"}` }, el("span", { text }), close);
  close.addEventListener("click", () => item.remove());
  box.append(item);
  while (box.children.length > MOST_NOTICES) box.firstChild.remove();
  if (kind !== "error") setTimeout(() => item.remove(), NOTICE_MS);
}

/** A link of the server, only where it leads to this server. */
function sameOrigin(url) {
  try {
    const place = new URL(url, location.href);
    return place.origin === location.origin ? place.href : null;
  } catch {
    return null;
  }
}

export class Segments {
  constructor(send) {
    this.send = send;
    byId("segments-load").addEventListener("click", () => send({ do: "segments" }));
  }

  configure(available) {
    byId("start").hidden = !available;
    byId("segments").replaceChildren();
    byId("segments-load").hidden = false;
  }

  show(items) {
    byId("segments-load").hidden = items.length > 0;
    byId("segments").replaceChildren(...items.map((item) => this.#card(item)));
  }

  #card({ i, thumbnail, policy, return: total }) {
    const image = typeof thumbnail === "string" && thumbnail.startsWith("data:image/") ? el("img", { src: thumbnail, alt: "" }) : null;
    const about = [policy, total === undefined || total === null ? null : `return ${number(total)}`].filter(Boolean);
    return el("button", {
      type: "button", class: "segment", "aria-label": `Start from segment ${i}${about.length ? `, ${about.join(", ")}` : ""}`,
      on: { click: () => this.send({ do: "reset", segment: i }) },
    }, image, el("span", { text: policy ?? `segment ${i}` }), about.length > 1 ? el("span", { text: about[1] }) : null);
  }
}

export class Edits {
  constructor(send) {
    this.send = send;
    this.pointing = null;
    const screen = byId("canvas-dream").parentElement;
    screen.addEventListener("click", (event) => this.#point(event));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.aim(null);
    });
  }

  configure(edits) {
    this.followed = []; // elements of vectors, whose boxes show what is dreamt until somebody writes into them
    this.aim(null);
    byId("edits").replaceChildren(...edits.map((edit) => this.#draw(edit)));
  }

  #draw(edit) {
    const make = { slider: this.#number, point: this.#place, choice: this.#choice, segment: this.#number, button: this.#press }[edit.kind];
    return el("div", { class: `edit kind-${edit.kind}`, data: { edit: edit.name } }, ...(make ? make.call(this, edit) : []));
  }

  #apply(edit, value) {
    this.send({ do: "edit", name: edit.name, value });
  }

  /** Puts what is dreamt now into the boxes that nobody writes into. */
  follow(step) {
    for (const { input, key, index } of this.followed) {
      const value = step.dream?.vector?.[key]?.[index];
      if (isNumber(value) && !input.dataset.touched && document.activeElement !== input) input.value = value.toFixed(3);
    }
  }

  #box(edit, label, low, high, value) {
    const step = edit.kind === "segment" ? 1 : "any";
    return el("input", { type: "number", min: low, max: high, step, value, "aria-label": label });
  }

  /** What is written in a box, within its bounds; a box that holds no number is what it was at the beginning. */
  #read(input) {
    const value = input.value === "" ? Number(input.defaultValue) : input.valueAsNumber;
    const bounded = Math.min(Number(input.max), Math.max(Number(input.min), value));
    input.value = input.step === "1" ? Math.round(bounded) : bounded;
    return Number(input.value);
  }

  #number(edit) {
    const [low, high] = [edit.low ?? 0, edit.high ?? (edit.kind === "segment" ? 0 : 1)];
    const input = this.#box(edit, edit.label, low, high, edit.default ?? (edit.kind === "segment" ? low : (low + high) / 2));
    const go = el("button", { type: "button", text: "Apply", on: { click: () => this.#apply(edit, this.#read(input)) } });
    const [, key, index] = edit.name.match(/^(.+)\[(\d+)\]$/) ?? [];
    if (edit.kind === "slider" && key !== undefined) this.followed.push({ input, key, index: Number(index) });
    input.addEventListener("input", () => (input.dataset.touched = "yes"));
    go.addEventListener("click", () => delete input.dataset.touched);
    return [el("span", { class: "name", text: edit.label }), input, go];
  }

  #place(edit) {
    const [low, high] = [edit.low ?? [0, 0], edit.high ?? [1, 1]];
    const inputs = [0, 1].map((axis) => this.#box(edit, `${edit.label}, ${axis ? "y" : "x"}`, low[axis], high[axis], (low[axis] + high[axis]) / 2));
    const aim = el("button", { type: "button", text: "Point", title: "Then click in the dream", on: { click: () => this.aim(edit) } });
    const go = el("button", { type: "button", text: "Apply", on: { click: () => this.#apply(edit, inputs.map((input) => this.#read(input))) } });
    return [el("span", { class: "name", text: edit.label }), aim, ...inputs, go];
  }

  #choice(edit) {
    const select = el("select", { "aria-label": edit.label }, ...(edit.choices ?? []).map((choice, index) => el("option", { value: index, text: choice })));
    const go = el("button", { type: "button", text: "Apply", on: { click: () => this.#apply(edit, Number(select.value)) } });
    return [el("span", { class: "name", text: edit.label }), select, go];
  }

  #press(edit) {
    return [el("button", { type: "button", text: edit.label, on: { click: () => this.#apply(edit, 1) } })];
  }

  /** The next click in the dream is the place of this edit. */
  aim(edit) {
    this.pointing = edit;
    byId("canvas-dream").parentElement.classList.toggle("pointing", edit !== null);
    if (edit !== null) notice(`Click in the dream: ${edit.label}. Esc leaves it.`);
  }

  #point(event) {
    if (this.pointing === null) return;
    const box = byId("canvas-dream").getBoundingClientRect();
    const shares = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const { low, high } = this.pointing;
    if (shares.some((share) => share < 0 || share > 1)) return;
    this.#apply(this.pointing, shares.map((share, axis) => low[axis] + share * (high[axis] - low[axis])));
    this.aim(null);
  }
}

export class Keep {
  constructor(send) {
    this.send = send;
    this.recording = false;
    byId("record").addEventListener("click", () => send({ do: "record", on: !this.recording }));
    byId("save").addEventListener("click", () => send({ do: "save", what: "dataset" }));
  }

  configure({ record, dataset }) {
    byId("record").disabled = record !== true;
    byId("save").disabled = dataset !== true;
    const reasons = [[record, "No recording"], [dataset, "No data set"]].filter(([can]) => typeof can === "string");
    byId("keep-reason").hidden = reasons.length === 0;
    write(byId("keep-reason"), reasons.map(([reason, what]) => `${what}: ${reason}`).join(". "));
    this.seen = "";
    this.show({ recording: false, recordings: [] });
  }

  show({ recording, recordings }) {
    this.recording = recording;
    byId("record").classList.toggle("on", recording);
    byId("record").setAttribute("aria-pressed", String(recording));
    byId("record-icon").setAttribute("href", recording ? "#i-stop" : "#i-record");
    write(byId("record-label"), recording ? "Stop recording" : "Record");
    const seen = JSON.stringify(recordings);
    if (seen === this.seen) return;
    this.seen = seen;
    byId("recordings").replaceChildren(...recordings.map((one, index) => this.#row(one, index)).reverse());
  }

  #row(recording, index) {
    const links = (recording.files ?? []).flatMap(({ label, url }) => {
      const place = sameOrigin(url);
      return place === null ? [] : [el("a", { href: place, download: true, text: label })];
    });
    const replay = el("button", {
      type: "button", text: "Replay", "aria-label": `Replay ${recording.name}`,
      on: { click: () => this.send({ do: "replay", recording: recording.id ?? index }) },
    });
    return el("li", {}, el("span", { class: "name", text: `${recording.name} · ${count(recording.steps, "step")}` }), ...links, replay);
  }
}

/** Fills the help with the shortcuts as they are here, and the keys of the controls. */
export function fillHelp(shortcuts, controls) {
  const row = (key, text) => el("tr", {}, el("th", {}, el("kbd", { text: key })), el("td", { text }));
  byId("shortcuts").replaceChildren(...shortcuts.map(({ shown, text }) => row(shown, text)), row("Esc", "Give the keys back to the actions"));
  const rows = controls.flatMap((control) => (control.keys ?? []).flatMap((key, index) => {
    if (!key) return [];
    const label = control.label ?? control.name;
    const what = control.kind === "choice" ? control.choices[index] : control.kind === "slider" ? `${label} to ${number(index ? control.high : control.low)}` : label;
    return [row(keyName(key), what)];
  }));
  byId("action-keys").replaceChildren(...(rows.length ? rows : [el("tr", {}, el("td", { text: "This world's actions have no keys; use the buttons." }))]));
}
