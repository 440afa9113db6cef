// What happened on each branch of this episode, as far as the page was told: what timeline and plots are drawn from.

const MOST_STEPS = 20000;
const MOST_PICTURE_BYTES = 48e6;

export class History {
  constructor() {
    this.clear();
  }

  clear() {
    this.branches = new Map(); // id -> steps in the order of t
    this.branch = null;
    this.cursor = 0;
    this.episode = null;
    this.bytes = 0;
    this.pictured = []; // steps with pictures, oldest first
  }

  /** Takes a step of the server; returns it. A branch that is new begins with what came before `t` on the present one. */
  add(step) {
    const episode = step.episode ?? null;
    if (episode !== this.episode) {
      this.clear();
      this.episode = episode;
    }
    if (!this.branches.has(step.branch)) {
      this.branches.set(step.branch, this.steps().filter((old) => old.t < step.t));
    }
    this.branch = step.branch;
    this.cursor = step.t;
    const steps = this.steps();
    const at = this.#find(steps, step.t);
    if (steps[at]?.t === step.t) steps[at] = step;
    else steps.splice(at, 0, step);
    this.#bound();
    return step;
  }

  /** The steps of the present branch, those after the cursor too. */
  steps() {
    return this.branches.get(this.branch) ?? [];
  }

  /** The step at `t` of the present branch, or the nearest before it that was told. */
  at(t) {
    const steps = this.steps();
    const found = this.#find(steps, t);
    return steps[found]?.t === t ? steps[found] : (steps[found - 1] ?? null);
  }

  /** Keeps the compressed pictures of a step for looking back, the oldest ones only while there is room. */
  keepPictures(step, pictures) {
    step.pictured = pictures;
    this.pictured.push(step);
    for (const picture of pictures.values()) this.bytes += picture.size;
    while (this.bytes > MOST_PICTURE_BYTES && this.pictured.length > 1) {
      const oldest = this.pictured.shift();
      for (const picture of oldest.pictured.values()) this.bytes -= picture.size;
      oldest.pictured = undefined;
    }
  }

  #find(steps, t) {
    let low = 0;
    let high = steps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle].t < t) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #bound() {
    const all = () => [...this.branches.values()].reduce((sum, steps) => sum + steps.length, 0);
    if (this.steps().length % 500 !== 0) return;
    for (const id of [...this.branches.keys()]) {
      if (all() <= MOST_STEPS) return;
      if (id !== this.branch) this.branches.delete(id);
    }
    const steps = this.steps();
    if (steps.length > MOST_STEPS) steps.splice(0, steps.length - MOST_STEPS / 2);
  }
}
