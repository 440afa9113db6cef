// The controls of the environment: what is held by keys, buttons and touch, and the action that this makes.

import { el, keyName, number, throttle, write } from "./dom.js";

const ARROWS = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right" };
const LONGEST_TAP_MS = 5000;
const DRAG_MS = 16; // between two values of a slider that is dragged: screens and mice may be faster than the server reads
const split = (keys) => keys.split(/(?<=.)\+(?=.)/); // "ArrowUp+ArrowRight": both at once; "+" alone is a key

/** A key as controls name it: letters in lower case, others as `KeyboardEvent.key`. */
export const keyOf = (event) => (event.key.length === 1 ? event.key.toLowerCase() : event.key);

export class Controls {
  /** `onChange(values, id)` sends an action; `onPress(id, at, done)` hears of each press (id null: it changed nothing;
   * not done: a slider is being dragged). */
  constructor(box, { onChange, onPress }) {
    Object.assign(this, { box, onChange, onPress });
    this.list = [];
    this.held = new Map(); // source -> {keys, order, id, released}
    this.byHand = new Map(); // slider or toggle -> value
    this.order = 0;
    this.id = 0;
    this.used = 0; // the newest action that a step was made with
    this.sent = "";
    this.sticky = false;
    this.echoes = false; // whether steps say which action they used
    this.codes = new Map(); // physical key -> the name under which it was pressed
    this.parts = []; // {node, on(values)} to highlight
  }

  build(list) {
    this.list = list.map((control) => ({ ...control, choices: control.choices ?? [], keys: control.keys ?? [] }));
    this.held.clear();
    this.byHand.clear();
    this.codes.clear();
    this.parts = [];
    this.sent = "";
    this.echoes = false;
    this.box.replaceChildren(...this.list.map((control) => this.#draw(control)));
    this.show(this.values());
  }

  // ---- what is held

  /** {control: number} of what is held now. */
  values() {
    return Object.fromEntries(this.list.map((control) => [control.name, this.#value(control)]));
  }

  #value(control) {
    if (control.kind === "choice") {
      let best = { size: 0, order: -1, index: control.default ?? 0 };
      control.choices.forEach((_, index) => {
        const orders = this.#partsOf(control, index).map((part) => this.#orderOf(control, part));
        const found = { size: orders.length, order: Math.max(...orders), index };
        if (Math.min(...orders) < 0) return;
        if (found.size > best.size || (found.size === best.size && found.order > best.order)) best = found;
      });
      return best.index;
    }
    if (control.kind === "slider") {
      const [low, high] = [0, 1].map((end) => this.#orderOf(control, this.#partsOf(control, end)[0]));
      if (low < 0 && high < 0) return this.byHand.get(control.name) ?? control.default ?? 0;
      return low > high ? control.low : control.high;
    }
    if (control.kind === "toggle") return this.byHand.get(control.name) ?? control.default ?? 0;
    const keys = control.keys.length ? [...control.keys, "#0"] : ["#0"];
    return keys.some((key) => key && split(key).every((part) => this.#orderOf(control, part) >= 0)) ? 1 : 0;
  }

  /** The keys that make up a choice (or an end of a slider); without one it has a name that no keyboard has. */
  #partsOf(control, index) {
    return control.keys[index] ? split(control.keys[index]) : [`#${index}`];
  }

  #orderOf(control, part) {
    let order = -1;
    for (const entry of this.held.values()) {
      if (entry.keys.includes(part) || entry.keys.includes(`${control.name}/${part}`)) order = Math.max(order, entry.order);
    }
    return order;
  }

  press(source, keys, at) {
    clearTimeout(this.held.get(source)?.timer);
    this.held.delete(source);
    this.held.set(source, { keys, order: ++this.order, id: 0, released: false, timer: null });
    const changed = this.emit();
    this.held.get(source).id = this.id;
    this.onPress(changed ? this.id : null, at, true);
  }

  /** Ends a press; a tap that no step has used yet is held until one has, so that no tap is lost. */
  release(source) {
    const entry = this.held.get(source);
    if (!entry || entry.released) return;
    if (this.echoes && entry.id > this.used) {
      entry.released = true;
      entry.timer = setTimeout(() => this.#drop(source), LONGEST_TAP_MS);
    } else this.#drop(source);
  }

  #drop(source) {
    clearTimeout(this.held.get(source)?.timer);
    if (this.held.delete(source)) this.emit();
  }

  /** Everything is let go, at once: the window lost its focus. */
  releaseAll() {
    for (const entry of this.held.values()) clearTimeout(entry.timer);
    this.held.clear();
    this.codes.clear();
    for (const control of this.list) if (control.kind === "slider") this.byHand.delete(control.name);
    this.emit();
  }

  /** A step was made with action number `id`: taps that waited for it end. */
  stepped(id) {
    if (!Number.isInteger(id)) return;
    this.echoes = true;
    this.used = id;
    for (const [source, entry] of [...this.held]) if (entry.released && entry.id <= id) this.#drop(source);
  }

  /** Sends the action where it is another one than before; returns whether it is. */
  emit() {
    const values = this.values();
    const text = JSON.stringify(values);
    const changed = text !== this.sent;
    if (changed) {
      this.sent = text;
      this.id += 1;
      this.onChange(values, this.id);
    }
    this.show(values);
    return changed;
  }

  /** The page is connected anew: what is held is told again. */
  resend() {
    this.sent = "";
    this.used = 0;
    this.emit();
  }

  // ---- the keyboard

  /** Whether one of the controls has this key. */
  owns(key) {
    return this.list.some((control) => control.keys.some((keys) => keys && split(keys).includes(key)));
  }

  /** A key went down. Returns whether it belongs to a control. */
  keyDown(event) {
    const key = keyOf(event);
    if (!this.owns(key)) return false;
    if (event.repeat) return true;
    const flipped = this.list.filter((control) => control.kind === "toggle" && control.keys.includes(key));
    for (const control of flipped) this.#flip(control, event.timeStamp);
    if (this.sticky && this.held.has(`key:${key}`)) this.#drop(`key:${key}`);
    else if (flipped.length === 0) {
      this.codes.set(event.code, key);
      this.press(`key:${key}`, [key], event.timeStamp);
    }
    return true;
  }

  keyUp(event) {
    const key = this.codes.get(event.code);
    if (key === undefined) return;
    this.codes.delete(event.code);
    if (!this.sticky) this.release(`key:${key}`);
  }

  #flip(control, at) {
    this.byHand.set(control.name, this.#value(control) ? 0 : 1);
    this.onPress(this.emit() ? this.id : null, at, true);
  }

  // ---- how they look

  /** Lights up what an action holds: ours, or that of the agent who plays. */
  show(values) {
    for (const part of this.parts) part.show(values);
  }

  #draw(control) {
    if (control.kind === "slider") return this.#drawSlider(control);
    const box = el("fieldset", { class: "control", data: { control: control.name } });
    if (control.kind === "choice") {
      if (this.list.length > 1) box.append(el("legend", { text: control.label ?? control.name }));
      const buttons = control.choices.map((choice, index) =>
        this.#button(control, String(choice), control.keys[index], this.#partsOf(control, index), (values) => values[control.name] === index));
      box.append(this.#arrange(control, buttons));
    } else {
      const keys = control.keys.filter(Boolean);
      const make = control.kind === "toggle" ? null : keys.length ? split(keys[0]) : ["#0"];
      box.append(this.#button(control, control.label ?? control.name, keys[0], make, (values) => values[control.name] === 1));
    }
    return box;
  }

  /** Buttons of the arrow keys as a cross, the others beside it. */
  #arrange(control, buttons) {
    const places = control.keys.map((key) => ARROWS[key]);
    const others = el("div", { class: "keys" });
    if (places.filter(Boolean).length < 3) {
      others.append(...buttons);
      return others;
    }
    const pad = el("div", { class: "pad" });
    buttons.forEach((button, index) => {
      if (places[index]) button.classList.add(places[index]);
      (places[index] ? pad : others).append(button);
    });
    return el("div", { class: "keys" }, pad, others);
  }

  #button(control, label, key, parts, isOn) {
    const button = el("button", { type: "button", class: "act", "aria-pressed": "false" }, el("span", { text: label }));
    if (key) button.append(el("kbd", { text: keyName(key) }));
    this.parts.push({
      show: (values) => {
        const on = isOn(values);
        if (button.classList.contains("on") === on) return;
        button.classList.toggle("on", on);
        button.setAttribute("aria-pressed", String(on));
      },
    });
    if (parts === null) button.addEventListener("click", (event) => this.#flip(control, event.timeStamp));
    else this.#listen(button, parts.map((part) => `${control.name}/${part}`));
    return button;
  }

  #listen(button, keys) {
    const stuck = `stuck:${keys.join()}`;
    const down = (source, at) => {
      if (!this.sticky) this.press(source, keys, at);
      else if (this.held.has(stuck)) this.#drop(stuck);
      else this.press(stuck, keys, at);
    };
    let handled = false; // a click that follows a press which was heard is no second one
    button.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      handled = true;
      button.setPointerCapture?.(event.pointerId);
      down(`pointer:${event.pointerId}`, event.timeStamp);
    });
    for (const ending of ["pointerup", "pointercancel", "lostpointercapture"]) {
      button.addEventListener(ending, (event) => this.release(`pointer:${event.pointerId}`));
    }
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    button.addEventListener("keydown", (event) => {
      if (event.key !== " " && event.key !== "Enter") return;
      event.preventDefault();
      event.stopPropagation();
      if (!event.repeat) down(`focus:${keys.join()}`, event.timeStamp);
    });
    button.addEventListener("keyup", (event) => {
      if (event.key === " " || event.key === "Enter") this.release(`focus:${keys.join()}`);
    });
    button.addEventListener("blur", () => this.release(`focus:${keys.join()}`));
    button.addEventListener("click", (event) => {
      if (!handled && event.detail === 0) { // of a screen reader: a tap
        down(`click:${keys.join()}`, event.timeStamp);
        setTimeout(() => this.release(`click:${keys.join()}`), 120);
      }
      handled = false;
    });
  }

  #drawSlider(control) {
    const [low, high] = [control.low ?? -1, control.high ?? 1];
    const id = `control-${control.name}`;
    const shown = el("output", {});
    const range = el("input", { type: "range", id, min: low, max: high, step: (high - low) / 200, value: control.default ?? 0 });
    const take = (event, done) => {
      this.byHand.set(control.name, Number(range.value));
      this.onPress(this.emit() ? this.id : null, event.timeStamp, done);
    };
    range.addEventListener("input", throttle((event) => take(event, false), DRAG_MS));
    range.addEventListener("change", (event) => take(event, true));
    range.addEventListener("dblclick", () => {
      this.byHand.delete(control.name);
      this.emit();
    });
    this.parts.push({
      show: (values) => {
        write(shown, number(values[control.name]));
        if (document.activeElement !== range || !range.matches(":active")) range.value = values[control.name];
      },
    });
    const ends = [0, 1].map((end) => el("span", {}, control.keys[end] ? el("kbd", { text: keyName(control.keys[end]) }) : null, ` ${number(end ? high : low)}`));
    return el("div", { class: "control slider range", data: { control: control.name } },
      el("label", { for: id }, el("span", { text: control.label ?? control.name }), shown), range, el("div", { class: "ends" }, ...ends));
  }
}
