// How long it takes from a key to the first picture that was made with it, measured in the page.

import { quantile } from "./dom.js";

const KEPT = 200;

export class Latency {
  constructor() {
    this.waiting = []; // {id, at}: presses whose picture has not been painted yet
    this.samples = [];
    this.paints = [];
  }

  /** A press at `at` (ms, as `event.timeStamp`), which the server got to know as action number `id`. */
  pressed(id, at) {
    this.waiting.push({ id, at });
    if (this.waiting.length > KEPT) this.waiting.shift();
  }

  /** A picture that was made with action `id` (and all before it) is on the screen. */
  painted(id, now) {
    this.paints.push(now);
    while (this.paints.length > 1 && now - this.paints[0] > 2000) this.paints.shift();
    if (!Number.isInteger(id)) return;
    this.waiting = this.waiting.filter((press) => {
      if (press.id > id) return true;
      this.samples.push(now - press.at);
      return false;
    });
    if (this.samples.length > KEPT) this.samples.splice(0, this.samples.length - KEPT);
  }

  /** Presses that nothing will answer any more (paused, reset, disconnected) are not measured. */
  forget() {
    this.waiting = [];
  }

  /** {p50, p95, n} in ms, or null before the first press. */
  summary() {
    if (this.samples.length === 0) return null;
    const sorted = [...this.samples].sort((a, b) => a - b);
    return { p50: quantile(sorted, 0.5), p95: quantile(sorted, 0.95), n: sorted.length };
  }

  /** Pictures painted per second, over the last two seconds. */
  fps(now = performance.now()) {
    const recent = this.paints.filter((at) => now - at <= 2000);
    if (recent.length < 2) return 0;
    return ((recent.length - 1) * 1000) / (recent[recent.length - 1] - recent[0]);
  }
}
