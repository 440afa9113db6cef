// The readouts: what each lane predicts and gets, the drift meter, the plots, the latent state.

import { byId, el, isNumber, number, percent, throttle, write } from "./dom.js";
import { DriftPlot, GUTTER, paperOf, rangeOf, TimePlot, VectorPlot } from "./plots.js";

const SPAN = 200; // steps that a plot over time shows

/** A list of names with numbers; `rows` are [name, text(step)] pairs. */
class Facts {
  constructor(box, rows) {
    this.rows = rows.map(([name, text, title]) => ({ text, node: el("dd", {}), name, title }));
    box.replaceChildren(...this.rows.map(({ name, node, title }) => el("div", { title }, el("dt", { text: name }), node)));
  }

  show(step) {
    for (const { text, node } of this.rows) write(node, text(step));
  }
}

export class Readouts {
  constructor(history, colours) {
    Object.assign(this, { history, colours });
    this.plots = [];
    this.facts = [];
    this.ready = null;
    this.looked = null;
    this.draw = throttle(() => this.#draw(), 100);
    this.seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) target.inSight = isIntersecting;
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(byId("plots"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  configure(ready) {
    this.ready = ready;
    this.view = 0;
    this.looked = null;
    const [real, dream] = [ready.lanes.includes("real"), ready.lanes.includes("dream")];
    this.both = real && dream;
    this.horizon = isNumber(ready.useful_horizon) ? ready.useful_horizon : null;
    this.facts = [
      new Facts(byId("facts-real"), real ? [
        ["reward", (step) => number(step.real?.reward)], ["return", (step) => number(step.real?.return)],
      ] : []),
      new Facts(byId("facts-dream"), dream ? [
        ...(ready.reward === false ? [] : [
          ["reward", (step) => number(step.dream?.reward), "as the model predicts it"],
          ["return", (step) => number(step.dream?.return), "the sum of the predicted rewards"],
          ["goes on", (step) => percent(step.dream?.cont), "the predicted probability that the episode goes on"],
        ]),
        ...(ready.value ? [["value", (step) => number(step.dream?.value), "what the critic expects from here"]] : []),
      ] : []),
      new Facts(byId("facts-drift"), this.both ? [
        ["PSNR", (step) => this.#drift(step, "psnr", " dB"), "of the dream's picture; higher is better"],
        ["error", (step) => number(errorOf(this.#driftOf(step))), "mean squared error; of vectors, of each element divided by its variance in this session"],
        ...(ready.surprise === false ? [] : [["surprise", (step) => number(step.surprise), "of the model, when reality is shown to it"]]),
      ] : []),
    ];
    byId("meter").hidden = !dream;
    byId("third").hidden = !dream;
    byId("anchor").hidden = !this.both;
    write(byId("meter-unit"), this.both ? "steps since the dream saw reality" : "steps of dream");
    this.#makePlots(real, dream);
  }

  /** The key whose drift is shown: the chosen picture, or the first that has one. */
  #driftOf(step) {
    const drift = step?.drift ?? {};
    return drift[this.ready.images[this.view]] ?? Object.values(drift)[0] ?? {};
  }

  #drift(step, name, unit) {
    const value = this.#driftOf(step)[name];
    return isNumber(value) ? `${number(value)}${unit}` : "–";
  }

  #makePlots(real, dream) {
    const { colours } = this;
    const both = (get) => [
      ...(real ? [{ name: "reality", kind: "real", get: (step) => get(step.real, step) }] : []),
      ...(dream ? [{ name: "dream", kind: "dream", get: (step) => get(step.dream, step) }] : []),
    ];
    const one = (get) => [{ name: "dream", kind: "dream", get }];
    const earned = both((lane, step) => (step.t === 0 ? null : lane?.reward)); // nothing is earned by a reset
    this.plots = [new TimePlot(colours, "Reward", earned, { info: "Real in ink, predicted in colour" })];
    if (this.both) {
      this.plots.push(new DriftPlot(colours, {
        horizon: this.horizon,
        unit: (image) => (image ? " dB" : ""),
        get: (image) => (step) => (image ? this.#driftOf(step).psnr : errorOf(this.#driftOf(step))),
      }));
    }
    for (const [key, vector] of Object.entries(this.ready.vectors ?? {})) {
      this.plots.push(new VectorPlot(colours, key, vector, () => this.draw()));
    }
    if (this.both && this.ready.surprise !== false) this.plots.push(new TimePlot(colours, "Surprise", one((step) => step.surprise), { always: [0] }));
    if (dream && this.ready.value) this.plots.push(new TimePlot(colours, "Value", one((step) => step.dream?.value)));
    if (dream && this.ready.reward !== false) this.plots.push(new TimePlot(colours, "Goes on", both((lane) => lane?.cont), { always: [0, 1] }));
    if (dream) this.plots.push(new LatentMap(colours));
    const box = byId("plots");
    this.seen.disconnect();
    box.replaceChildren(...this.plots.map((plot) => plot.root));
    for (const { root, canvas } of this.plots) {
      this.seen.observe(root);
      canvas.addEventListener("pointermove", (event) => this.#look(event, canvas));
      canvas.addEventListener("pointerleave", () => this.look(null));
    }
    box.hidden = this.plots.length === 0;
  }

  #look(event, canvas) {
    if (canvas.closest(".drift, .latent")) return;
    const { from, to } = this.#window();
    const box = canvas.getBoundingClientRect();
    const share = (event.clientX - box.left - GUTTER) / (box.width - GUTTER);
    this.look(Math.round(from + Math.max(0, share) * (to - from)));
  }

  /** Shows the numbers of step t, null: of the present. */
  look(t) {
    this.looked = t === null ? null : this.history.at(t);
    this.draw();
  }

  #window() {
    const steps = this.history.steps();
    const last = Math.max(steps.at(-1)?.t ?? 0, this.history.cursor);
    const to = Math.max(20, Math.min(last, this.history.cursor + SPAN / 4));
    return { from: Math.max(0, to - SPAN), to };
  }

  /** At every painted step: the numbers beside the pictures. The plots follow, ten times a second. */
  show(step) {
    for (const facts of this.facts) facts.show(step);
    write(byId("real-ended"), step.real?.ended ?? "");
    write(byId("dream-ended"), step.dream?.ended ? "dreamt its end" : "");
    this.#meter(step.k);
    this.draw();
  }

  #meter(k) {
    if (!isNumber(k)) return;
    const { horizon } = this;
    const past = horizon !== null && k > horizon;
    write(byId("meter-k"), k);
    byId("meter").classList.toggle("past", past);
    byId("lane-dream").classList.toggle("past", past);
    byId("gauge-mark").hidden = horizon === null;
    const full = horizon === null ? 100 : Math.max(1, 2 * horizon);
    byId("gauge-fill").style.width = `${Math.min(100, (100 * k) / full)}%`;
    const tag = byId("horizon-tag");
    tag.hidden = this.ready.lanes.length < 1;
    tag.classList.toggle("warn", past);
    write(tag, past ? "past its horizon" : `k ${k}`);
    const text = horizon === null
      ? "Useful horizon unknown: dreamworld assess measures it."
      : past ? `Past the useful horizon of ${horizon}: it may look right and be wrong.` : `Useful horizon: ${horizon} steps.`;
    write(byId("horizon-text"), text);
  }

  #draw() {
    if (this.ready === null || document.hidden) return;
    const all = this.history.steps();
    const { from, to } = this.#window();
    const steps = all.filter((step) => step.t >= from && step.t <= to);
    const scene = { all, steps, from, to, cursor: this.history.cursor, looked: this.looked, image: this.ready.images.length > 0 && this.#hasPsnr(all) };
    for (const plot of this.plots) if (plot.root.inSight || plot.root.hidden) plot.draw(scene);
    this.#drawDots(scene);
  }

  #hasPsnr(steps) {
    return steps.length === 0 || steps.some((step) => isNumber(this.#driftOf(step).psnr));
  }

  /** A lane without pictures shows its vector instead: a scale for each element, with where it is. */
  #drawDots({ steps, cursor, looked }) {
    const [key, vector] = Object.entries(this.ready.vectors ?? {})[0] ?? [];
    for (const lane of ["real", "dream"]) {
      const canvas = byId(`dots-${lane}`);
      canvas.hidden = key === undefined || !byId(`canvas-${lane}`).hidden || !this.ready.lanes.includes(lane);
      if (canvas.hidden) continue;
      const step = looked ?? steps.findLast((each) => each.t <= cursor);
      this.#dots(canvas, step?.[lane]?.vector?.[key] ?? [], vector, steps.map((one) => one[lane]?.vector?.[key] ?? []), lane);
    }
  }

  #dots(canvas, values, vector, past, lane) {
    const [paper, width, height] = paperOf(canvas);
    const size = Math.min(vector.size, 16);
    const row = height / (size + 1);
    Object.assign(paper, { textBaseline: "middle", font: paper.font.replace("10px", "12px") });
    for (let index = 0; index < size; index++) {
      const y = row * (index + 1);
      const [low, high] = rangeOf(past.map((each) => each[index]), 1e-3);
      const toX = (value) => 90 + ((value - low) / (high - low)) * (width - 160);
      paper.fillStyle = this.colours.css("line");
      paper.fillRect(90, y - 1, width - 160, 2);
      paper.fillStyle = this.colours.css("soft");
      paper.fillText(vector.names?.[index] ?? `[${index}]`, 12, y, 72);
      paper.fillText(number(values[index]), width - 58, y);
      if (!isNumber(values[index])) continue;
      paper.fillStyle = this.colours.css(lane === "real" ? "ink" : "dream");
      paper.beginPath();
      paper.arc(toX(values[index]), y, 5, 0, 7);
      paper.fill();
    }
  }
}

const errorOf = (drift) => drift.nmse ?? drift.mse;

/** The latent state now (a square) and over time (one column a step); dark or bright is 1. */
class LatentMap {
  constructor(colours) {
    this.colours = colours;
    this.now = el("canvas", { role: "img", "aria-label": "The latent state now" });
    this.canvas = el("canvas", { role: "img", "aria-label": "The latent state over time" });
    this.root = el("section", { class: "plot latent card" },
      el("div", { class: "head", title: "Each cell is one number of the state, from 0 (pale) to 1" }, el("h3", { text: "Latent state" }), el("span", { text: "now, and over time" })),
      el("div", { class: "maps" }, this.now, this.canvas));
  }

  draw({ steps, from, to, cursor, looked }) {
    const step = looked ?? steps.findLast((each) => each.t <= cursor);
    const latent = step?.latent ?? [];
    this.root.hidden = !steps.some((each) => each.latent?.length);
    if (this.root.hidden || latent.length === 0) return;
    const side = Math.ceil(Math.sqrt(latent.length));
    this.#fill(this.now, side, Math.ceil(latent.length / side), (x, y) => latent[y * side + x]);
    const columns = Math.max(1, to - from);
    const byColumn = new Map(steps.map((each) => [each.t - from, each.latent]));
    for (let x = 1; x <= cursor - from; x++) if (!byColumn.has(x)) byColumn.set(x, byColumn.get(x - 1)); // was not sent
    this.#fill(this.canvas, columns, latent.length, (x, y) => byColumn.get(x)?.[y]);
  }

  #fill(canvas, width, height, value) {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const paper = canvas.getContext("2d");
    const made = paper.createImageData(width, height);
    const [low, high] = [this.colours.rgb("sunk"), this.colours.rgb("dream")];
    for (let at = 0; at < width * height; at++) {
      const share = value(at % width, Math.floor(at / width));
      if (!isNumber(share)) continue;
      const bounded = Math.min(1, Math.max(0, share));
      for (let c = 0; c < 3; c++) made.data[4 * at + c] = low[c] + (high[c] - low[c]) * bounded;
      made.data[4 * at + 3] = 255;
    }
    paper.putImageData(made, 0, 0);
  }
}
