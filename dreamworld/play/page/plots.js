// Plots on canvas: lines over time or over the steps of a dream, small multiples of vectors, the latent state as a map.

import { el, isNumber, number, quantile, write } from "./dom.js";

/** Colours of the style sheet, for canvases; read again when the theme changes. */
export class Colours {
  constructor() {
    this.known = new Map();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.known.clear());
  }

  css(name) {
    if (!this.known.has(name)) this.known.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
    return this.known.get(name);
  }

  rgb(name) {
    const hex = this.css(name).slice(1);
    return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
  }
}

/** A canvas as sharp as the screen; returns [context, width, height] in CSS pixels. */
export function paperOf(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const paper = canvas.getContext("2d");
  paper.setTransform(ratio, 0, 0, ratio, 0, 0);
  paper.clearRect(0, 0, width, height);
  paper.font = `10px ${getComputedStyle(document.documentElement).fontFamily}`;
  return [paper, width, height];
}

/** [low, high] around all values, never empty, with `least` between them. */
export function rangeOf(values, least = 0.1, always = []) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of [...always, ...values]) {
    if (!isNumber(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  if (high - low < least) [low, high] = [(low + high - least) / 2, (low + high + least) / 2];
  const room = 0.06 * (high - low);
  return [always.includes(low) ? low : low - room, always.includes(high) ? high : high + room];
}

/** One line through points [x, y]; a y that is no number leaves a gap. */
export function line(paper, points, toX, toY, colour, { width = 1.5, dash = [], alpha = 1 } = {}) {
  paper.save();
  Object.assign(paper, { strokeStyle: colour, fillStyle: colour, lineWidth: width, globalAlpha: alpha, lineJoin: "round" });
  paper.setLineDash(dash);
  paper.beginPath();
  let drawn = 0;
  for (const [x, y] of points) {
    if (!isNumber(y)) drawn = 0;
    else if (drawn++ === 0) paper.moveTo(toX(x), toY(y));
    else paper.lineTo(toX(x), toY(y));
  }
  paper.stroke();
  if (points.length === 1 && isNumber(points[0][1])) paper.fillRect(toX(points[0][0]) - 1.5, toY(points[0][1]) - 1.5, 3, 3);
  paper.restore();
}

export const GUTTER = 40; // px at the left of a plot, for the numbers of its y axis

const scaleY = ([low, high], height) => (y) => height - 3 - ((y - low) / (high - low)) * (height - 6);

/** A frame with the ends of its y axis beside it, and a line at zero where it lies between. */
function axes(paper, width, height, [low, high], toY, colours) {
  Object.assign(paper, { strokeStyle: colours.css("line"), fillStyle: colours.css("soft"), lineWidth: 1, textAlign: "right" });
  paper.strokeRect(GUTTER + 0.5, 0.5, width - GUTTER - 1, height - 1);
  if (low < 0 && high > 0) {
    paper.beginPath();
    paper.moveTo(GUTTER, toY(0));
    paper.lineTo(width, toY(0));
    paper.stroke();
  }
  paper.textBaseline = "top";
  paper.fillText(number(high), GUTTER - 5, 1);
  paper.textBaseline = "bottom";
  paper.fillText(number(low), GUTTER - 5, height);
  paper.textAlign = "left";
}

/** A card with a title and a canvas; `lines` are {name, kind: real|dream|bare, get(step)}. */
export class TimePlot {
  constructor(colours, title, lines, { always = [], least = 0.1, info = "" } = {}) {
    Object.assign(this, { colours, lines, always, least });
    this.canvas = el("canvas", { role: "img", "aria-label": `${title} over time` });
    this.values = lines.map((each) => el("span", { class: `value ${each.kind}`, title: each.name }));
    this.root = el("section", { class: "plot card" },
      el("div", { class: "head", title: info || null }, el("h3", { text: title }), ...this.values), this.canvas);
  }

  draw({ steps, from, to, cursor, looked }) {
    const step = looked ?? steps.findLast((each) => each.t <= cursor);
    this.lines.forEach((each, index) => write(this.values[index], step ? number(each.get(step)) : "–"));
    const [paper, width, height] = paperOf(this.canvas);
    if (width === 0) return;
    const toX = (t) => GUTTER + ((t - from) / (to - from)) * (width - GUTTER);
    const drawn = this.lines.map((each) => steps.map((one) => [one.t, each.get(one)]));
    const range = rangeOf(drawn.flat().map(([, y]) => y), this.least, this.always);
    const toY = scaleY(range, height);
    axes(paper, width, height, range, toY, this.colours);
    marker(paper, toX(looked?.t ?? cursor), height, this.colours, looked !== null || steps.at(-1)?.t > cursor);
    this.lines.forEach((each, index) => {
      const colour = this.colours.css(each.kind === "real" ? "ink" : "dream");
      line(paper, drawn[index], toX, toY, colour, { width: each.kind === "real" ? 1.2 : 1.6 });
    });
  }
}

export function marker(paper, x, height, colours, there) {
  if (!there) return;
  paper.fillStyle = colours.css("edge");
  paper.fillRect(x - 0.5, 0, 1, height);
}

/** The error of the dream over the steps since its anchor: this dream in colour, earlier ones pale. */
export class DriftPlot {
  constructor(colours, { unit, get, horizon }) {
    Object.assign(this, { colours, unit, get, horizon });
    this.canvas = el("canvas", { role: "img", "aria-label": "Drift over the steps of the dream" });
    this.value = el("span", { class: "value dream" });
    this.title = el("h3", {});
    this.root = el("section", { class: "plot drift card" }, el("div", { class: "head" }, this.title, this.value), this.canvas);
  }

  draw({ all, cursor, looked, image }) {
    const [get, unit] = [this.get(image), this.unit(image)];
    write(this.title, image ? "Drift, PSNR" : "Drift, error");
    const runs = dreamsOf(all);
    const step = looked ?? all.findLast((each) => each.t <= cursor);
    write(this.value, step ? `${number(get(step))}${unit}` : "–");
    const [paper, width, height] = paperOf(this.canvas);
    if (width === 0) return;
    const present = runs.find((run) => run.includes(step)) ?? [];
    const shown = runs.slice(-8);
    const most = Math.max(20, 1.25 * (this.horizon ?? 0), ...shown.map((run) => run.at(-1).k), present.at(-1)?.k ?? 0);
    const toX = (k) => GUTTER + (k / most) * (width - GUTTER);
    const values = shown.flat().map(get).filter(isNumber).sort((a, b) => a - b);
    const most95 = values.length ? quantile(values, 0.95) : 0; // a few errors of the first steps may be huge
    const range = image ? rangeOf(values, 0.01) : rangeOf(values.filter((y) => y <= 1.5 * most95), 0.01, [0]);
    const toY = scaleY(range, height);
    if (isNumber(this.horizon)) {
      paper.fillStyle = this.colours.css("warn-soft");
      paper.fillRect(toX(this.horizon), 0, width - toX(this.horizon), height);
    }
    axes(paper, width, height, range, toY, this.colours);
    paper.textAlign = "right";
    paper.fillText(`k = ${Math.round(most)}`, width - 4, height - 2);
    if (isNumber(this.horizon)) {
      paper.textAlign = "left";
      paper.fillStyle = this.colours.css("warn");
      paper.textBaseline = "top";
      paper.fillText("past the useful horizon", Math.min(toX(this.horizon) + 5, width - 110), 3);
    }
    paper.textAlign = "left";
    paper.save();
    paper.beginPath();
    paper.rect(GUTTER, 0, width - GUTTER, height);
    paper.clip();
    for (const run of shown) {
      const mine = run === present;
      line(paper, run.map((one) => [one.k, get(one)]), toX, toY, this.colours.css(mine ? "dream" : "edge"), { alpha: mine ? 1 : 0.4, width: mine ? 1.8 : 1 });
    }
    paper.restore();
    if (step) marker(paper, toX(step.k), height, this.colours, true);
  }
}

/** Steps cut into dreams: k counts up in each, and begins anew where the dream saw reality. */
export function dreamsOf(steps) {
  const runs = [];
  let before = Infinity;
  for (const step of steps) {
    if (!isNumber(step.k)) continue;
    if (step.k <= before) runs.push([]);
    runs[runs.length - 1].push(step);
    before = step.k;
  }
  return runs;
}

const ROW_PX = 34;
const ROWS = 6;

/** The elements of a vector, one under another: reality in ink, the dream in colour. */
export class VectorPlot {
  constructor(colours, key, { size, names, low, high }, redraw) {
    Object.assign(this, { colours, key, size, names, low, high, first: 0 });
    this.canvas = el("canvas", { role: "img", "aria-label": `Elements of ${key} over time` });
    this.canvas.style.height = `${Math.min(size, ROWS) * ROW_PX}px`;
    const turn = (by) => () => {
      const last = Math.floor((size - 1) / ROWS) * ROWS;
      this.first = Math.max(0, Math.min(last, this.first + by * ROWS));
      redraw();
    };
    this.where = el("span", {});
    const pager = size > ROWS ? el("span", { class: "pager" },
      el("button", { text: "‹", "aria-label": "earlier elements", on: { click: turn(-1) } }), this.where,
      el("button", { text: "›", "aria-label": "later elements", on: { click: turn(1) } })) : null;
    this.root = el("section", { class: "plot card" }, el("div", { class: "head" }, el("h3", { text: key }), pager), this.canvas);
  }

  draw({ steps, from, to, cursor, looked }) {
    const last = Math.min(this.size, this.first + ROWS);
    write(this.where, `${this.first + 1}–${last} of ${this.size}`);
    const [paper, width] = paperOf(this.canvas);
    if (width === 0) return;
    const step = looked ?? steps.findLast((each) => each.t <= cursor);
    const [left, right] = [this.names ? 70 : GUTTER, 92];
    const toX = (t) => left + ((t - from) / (to - from)) * (width - left - right);
    for (let index = this.first; index < last; index++) {
      const top = (index - this.first) * ROW_PX;
      const lines = ["real", "dream"].map((lane) => steps.map((one) => [one.t, one[lane]?.vector?.[this.key]?.[index]]));
      const range = rangeOf(lines.flat().map(([, y]) => y), 1e-3);
      const toY = (y) => top + ROW_PX - 5 - ((y - range[0]) / (range[1] - range[0])) * (ROW_PX - 8);
      Object.assign(paper, { fillStyle: this.colours.css("soft"), textBaseline: "middle", textAlign: "left" });
      paper.fillText(this.names?.[index] ?? `[${index}]`, 0, top + ROW_PX / 2, left - 6);
      paper.fillStyle = this.colours.css("line");
      paper.fillRect(left, top + ROW_PX - 1, width - left - right, 1);
      ["real", "dream"].forEach((lane, row) => {
        const colour = this.colours.css(lane === "real" ? "ink" : "dream");
        line(paper, lines[row], toX, toY, colour, { width: lane === "real" ? 1.2 : 1.6 });
        const value = step?.[lane]?.vector?.[this.key]?.[index];
        if (!isNumber(value)) return;
        Object.assign(paper, { fillStyle: colour, textAlign: "right" });
        paper.fillText(number(value), width - (row === 0 ? right / 2 : 0), top + ROW_PX / 2);
      });
    }
    paper.textAlign = "left";
  }
}
