// The pictures: reality, dream and their difference. The newest one is painted, an older one that waits is forgotten.

import { byId } from "./dom.js";

const HEADER_BYTES = 7; // number of the step (4, big-endian), lane, image key, format
const FORMATS = ["image/png", "image/jpeg", "image/webp"];
const LANES = ["real", "dream"];
const SHARP_FROM = 4; // pictures that are at least so many times enlarged are enlarged by whole numbers

const SHARE_OF_HEIGHT = 0.5; // of the window, at most, for a picture: the controls stay in sight
const LEAST_PX = 160;

export class Pictures {
  /** `onPainted(step, now)` is called when a step's pictures are on the screen. */
  constructor({ onPainted, colours }) {
    Object.assign(this, { onPainted, colours });
    this.screens = Object.fromEntries(
      [...LANES, "difference"].map((lane) => {
        const canvas = byId(`canvas-${lane}`);
        return [lane, { canvas, screen: canvas.parentElement, paper: canvas.getContext("2d", { willReadFrequently: true }) }];
      }),
    );
    new ResizeObserver(() => this.fit()).observe(byId("pictures"));
    window.addEventListener("resize", () => this.fit());
    this.configure({ lanes: [], images: [] });
  }

  configure({ lanes, images }) {
    this.lanes = lanes;
    this.images = images;
    this.view = 0;
    this.arriving = null; // {step, expected, pictures}
    this.waiting = null; // the newest complete one, while another is painted
    this.peek = null; // pictures to look at meanwhile
    this.busy = false;
    this.shown = null;
    this.skipped = 0;
    this.epoch = (this.epoch ?? 0) + 1; // what was being painted for an earlier session is forgotten
  }

  /** A step was told; its pictures follow. */
  begin(step) {
    const expected = step.pictures ?? this.lanes.length * this.images.length;
    this.arriving = { step, expected, pictures: new Map() };
    this.#complete();
  }

  /** One binary message of the server. */
  take(buffer) {
    if (buffer.byteLength <= HEADER_BYTES) return;
    const view = new DataView(buffer);
    const set = this.arriving;
    if (set === null || view.getUint32(0) !== set.step.n) return;
    const [lane, key, format] = [view.getUint8(4), view.getUint8(5), view.getUint8(6)];
    set.pictures.set(`${lane}:${key}`, new Blob([new Uint8Array(buffer, HEADER_BYTES)], { type: FORMATS[format] ?? FORMATS[0] }));
    this.#complete();
  }

  #complete() {
    if (this.arriving === null || this.arriving.pictures.size < this.arriving.expected) return;
    const set = this.arriving;
    this.arriving = null;
    if (this.busy) {
      if (this.waiting !== null) this.skipped += 1;
      this.waiting = set;
    } else this.#paint(set);
  }

  async #paint(set) {
    const epoch = this.epoch;
    this.busy = true;
    const bitmaps = await this.#decode(set.pictures);
    await new Promise(requestAnimationFrame);
    if (epoch !== this.epoch) return;
    this.#draw(bitmaps);
    this.shown = set;
    await afterPaint();
    if (epoch !== this.epoch) return;
    this.onPainted(set.step, set.pictures, performance.now());
    this.#next();
  }

  /** Paints pictures of the past, or the present ones in another view; the server is told nothing. */
  async preview(pictures) {
    if (!pictures) return;
    this.peek = this.busy ? pictures : null; // the newest one that was asked for is shown as soon as there is time
    if (this.busy) return;
    this.busy = true;
    const epoch = this.epoch;
    const bitmaps = await this.#decode(pictures);
    if (epoch !== this.epoch) return;
    this.#draw(bitmaps);
    this.#next();
  }

  /** After something was painted: the newest step that waits, or else what somebody looks at. */
  #next() {
    this.busy = false;
    const [next, peek] = [this.waiting, this.peek];
    this.waiting = this.peek = null;
    if (next !== null) this.#paint(next);
    else if (peek !== null) this.preview(peek);
  }

  again() {
    if (this.shown !== null) this.preview(this.shown.pictures);
  }

  choose(view) {
    this.view = view;
    this.again();
  }

  async #decode(pictures) {
    const wanted = LANES.map((_, lane) => pictures.get(`${lane}:${this.view}`) ?? null);
    return Promise.all(wanted.map((blob) => (blob === null ? null : createImageBitmap(blob).catch(() => null))));
  }

  #draw(bitmaps) {
    const before = LANES.map((lane) => this.#size(lane)).join();
    LANES.forEach((lane, index) => {
      const bitmap = bitmaps[index];
      const { canvas, paper } = this.screens[lane];
      canvas.hidden = bitmap === null;
      if (bitmap === null) return;
      if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
      }
      paper.drawImage(bitmap, 0, 0);
      bitmap.close();
    });
    this.#drawDifference(bitmaps.every((bitmap) => bitmap !== null));
    if (LANES.map((lane) => this.#size(lane)).join() !== before) this.fit();
  }

  #size(lane) {
    const { canvas } = this.screens[lane];
    return `${canvas.width}x${canvas.height}:${canvas.hidden}`;
  }

  /** The largest difference of the three colours, from the colour of the screen (0) to red (1). */
  #drawDifference(both) {
    const { real, dream, difference } = this.screens;
    const { width, height } = real.canvas;
    const there = both && dream.canvas.width === width && dream.canvas.height === height;
    const nothing = this.lanes.length < 2 || !there;
    document.body.classList.toggle("no-difference", nothing && this.lanes.length === 2);
    byId("lane-difference").hidden = nothing;
    if (nothing) return;
    if (difference.canvas.width !== width || difference.canvas.height !== height) {
      difference.canvas.width = width;
      difference.canvas.height = height;
      this.fit();
    }
    const truth = real.paper.getImageData(0, 0, width, height).data;
    const dreamt = dream.paper.getImageData(0, 0, width, height).data;
    const made = difference.paper.createImageData(width, height);
    const [low, high] = [this.colours.rgb("screen"), this.colours.rgb("bad")];
    for (let i = 0; i < truth.length; i += 4) {
      const error = Math.max(Math.abs(truth[i] - dreamt[i]), Math.abs(truth[i + 1] - dreamt[i + 1]), Math.abs(truth[i + 2] - dreamt[i + 2])) / 255;
      for (let c = 0; c < 3; c++) made.data[i + c] = low[c] + (high[c] - low[c]) * error;
      made.data[i + 3] = 255;
    }
    difference.paper.putImageData(made, 0, 0);
  }

  /** Enlarges by whole numbers of the screen's pixels where that costs little room. */
  fit() {
    for (const { canvas, screen } of Object.values(this.screens)) {
      if (screen.parentElement.clientWidth === 0) continue;
      if (canvas.hidden) {
        screen.style.width = screen.style.aspectRatio = ""; // a square for the plot of its vector
        continue;
      }
      const ratio = window.devicePixelRatio || 1;
      const most = Math.max(LEAST_PX, SHARE_OF_HEIGHT * window.innerHeight);
      const room = Math.min(screen.parentElement.clientWidth - 2, (most * canvas.width) / canvas.height); // 2: its border
      const times = (room * ratio) / canvas.width;
      const width = times >= SHARP_FROM ? (Math.floor(times) * canvas.width) / ratio : room;
      canvas.style.width = `${width}px`;
      canvas.style.height = `${(width * canvas.height) / canvas.width}px`;
      screen.style.width = `${width + 2}px`;
      screen.style.aspectRatio = "auto";
      canvas.classList.toggle("smooth", times < 1);
    }
  }
}

/** Resolves when what was drawn in this animation frame has been handed to the screen. */
function afterPaint() {
  return new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      resolve();
    };
    channel.port2.postMessage(null);
  });
}
