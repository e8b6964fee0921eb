// How sure the run is: percent at its steps, {steps, sure}; asked for by frames.

export class Sure {
  constructor({ steps, sure }) { Object.assign(this, { steps, values: sure }); }
  // Returns the index of the step that a frame belongs to.
  at(frame) {
    let low = 0, high = this.steps.length;
    while (high - low > 1) { const middle = (low + high) >> 1; if (this.steps[middle] <= frame) low = middle; else high = middle; }
    return low;
  }
  over(start, end) { return this.values.slice(this.at(start), this.at(Math.max(start, end - 1)) + 1); }
  least(start, end) { return Math.min(...this.over(start, end)); }
  mean(start, end) { const found = this.over(start, end); return found.reduce((sum, value) => sum + value, 0) / found.length; }
  worst(start, end) {
    const first = this.at(start), found = this.over(start, end);
    return Math.max(start, this.steps[first + found.indexOf(Math.min(...found))]);
  }
}
