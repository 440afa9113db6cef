// The timeline: where we are on the present branch, what happened there, and the other branches.

import { byId, count, el, throttle, write } from "./dom.js";

export class Timeline {
  /** `onRewind(t)`, `onBranch(id)`; `onLook(t)` shows step t while the slider is dragged, null when it is let go. */
  constructor(history, colours, { onRewind, onBranch, onLook }) {
    Object.assign(this, { history, colours, onRewind, onBranch });
    this.slider = byId("timeline");
    this.marks = byId("marks");
    this.dragging = false;
    this.branches = [];
    this.seen = "";
    this.draw = throttle(() => this.#draw(), 100);
    const rewind = throttle(() => {
      this.dragging = false;
      onLook(null);
      onRewind(Number(this.slider.value));
    }, 60);
    this.slider.addEventListener("input", () => {
      this.dragging = true;
      onLook(Number(this.slider.value));
      this.#tell(Number(this.slider.value));
    });
    this.slider.addEventListener("change", rewind);
    new ResizeObserver(() => this.draw()).observe(this.slider);
  }

  /** `ready.rewind`: true, or the reason why there is none. */
  allow(rewind) {
    this.rewind = rewind;
    this.slider.disabled = rewind !== true;
    const reason = byId("rewind-reason");
    reason.hidden = rewind === true;
    write(reason, rewind === true ? "" : `No rewinding: ${rewind || "this world can't be restored"}`);
  }

  setBranches(branches) {
    this.branches = branches;
    this.draw();
  }

  /** The earliest t that one can go back to. */
  #first() {
    return this.branches.find((branch) => branch.id === this.history.branch)?.first ?? 0;
  }

  get end() {
    const steps = this.history.steps();
    const known = this.branches.find((branch) => branch.id === this.history.branch);
    return Math.max(steps.length ? steps[steps.length - 1].t : 0, known ? endOf(known) : 0);
  }

  #tell(t) {
    write(byId("time"), t);
    write(byId("time-of"), this.end > t ? ` of ${this.end}` : "");
    this.slider.setAttribute("aria-valuetext", `step ${t} of ${this.end}`);
  }

  #draw() {
    if (!this.dragging) {
      this.slider.min = Math.min(this.#first(), this.history.cursor);
      this.slider.max = Math.max(1, this.end);
      this.slider.value = this.history.cursor;
      this.#tell(this.history.cursor);
    }
    this.#drawMarks();
    this.#drawBranches();
  }

  /** Ticks where the dream saw reality, and where an episode ended. */
  #drawMarks() {
    const canvas = this.marks;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const paper = canvas.getContext("2d");
    paper.clearRect(0, 0, width, height);
    const end = Math.max(1, this.end);
    for (const step of this.history.steps()) {
      const ended = step.real?.ended ?? step.dream?.ended;
      if (step.k !== 0 && !ended) continue;
      paper.fillStyle = ended ? this.colours.css("bad") : this.colours.css("dream");
      paper.fillRect((step.t / end) * (width - 2 * ratio), 0, 2 * ratio, height);
    }
  }

  #drawBranches() {
    const box = byId("branches");
    box.hidden = this.branches.length < 2;
    const current = this.history.branch;
    const seen = JSON.stringify([this.branches, current]);
    if (box.hidden || seen === this.seen) return;
    this.seen = seen;
    const end = Math.max(1, ...this.branches.map(endOf));
    const focused = document.activeElement?.dataset?.branch;
    box.replaceChildren(...this.branches.map((branch) => this.#row(branch, end, branch.id === current)));
    if (focused !== undefined) box.querySelector(`[data-branch="${CSS.escape(focused)}"]`)?.focus();
    box.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  #row(branch, end, current) {
    const root = branch.from === null || branch.from === undefined;
    const text = root ? "First branch" : `Branch from t ${branch.at}`;
    const own = el("i", { class: "own" });
    own.style.left = `${(100 * (branch.at ?? 0)) / end}%`;
    own.style.width = `${Math.max(0.5, (100 * (endOf(branch) - (branch.at ?? 0))) / end)}%`;
    const before = el("i", {});
    before.style.left = "0";
    before.style.width = `${(100 * (branch.at ?? 0)) / end}%`;
    return el("button", {
      type: "button", class: "branch", data: { branch: branch.id }, "aria-current": current ? "true" : null, disabled: this.rewind !== true,
      "aria-label": `${text}, to step ${endOf(branch)}${current ? ", the present one" : ""}`,
      title: `${text}, to t ${endOf(branch)}: ${count(endOf(branch) - branch.at, "step")} of its own`, on: { click: () => this.onBranch(branch.id) },
    }, el("span", { class: "name", text }), el("span", { class: "rail" }, before, own));
  }
}

/** The last t of a branch: `length` counts the moments up to its end, those of its parents included. */
export const endOf = (branch) => branch.length - 1;
