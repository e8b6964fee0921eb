// The list of videos: asks the server every second what has changed.

import { make } from "./draw.js";

const EVERY_MS = 1000, HIDDEN_MS = 5000;
const STATES = { unlabelled: "no labels", "pre-labelled": "pre-labelled", touched: "in work", done: "done" };

export class List {
  // open(id); heard(about): after every answer; lost(isLost): the server is away.
  constructor(root, counts, { open, heard, lost }) {
    Object.assign(this, { root, counts, open, heard, lost, videos: new Map(), ids: [], revision: 0, session: "", about: null, current: "" });
    this.items = new Map();
  }
  async run() {
    for (;;) {
      const began = performance.now();
      await this.ask();
      const wait = Math.max(document.hidden ? HIDDEN_MS : EVERY_MS, 10 * (performance.now() - began)); // a large folder takes longer
      await new Promise((resolve) => { this.wake = resolve; setTimeout(resolve, wait); });
    }
  }
  async ask() {
    try {
      const answer = await fetch(`label/videos?since=${this.revision}`);
      const found = await answer.json();
      if (!answer.ok) throw new Error(found.error);
      if (this.session && found.session !== this.session && this.revision) {
        Object.assign(this, { revision: 0, session: found.session });
        await this.ask();
        return;
      }
      this.session = found.session;
      this.take(found);
      this.lost(false);
    } catch { this.lost(true); }
  }
  take(found) {
    this.revision = found.revision;
    this.about = found;
    for (const video of found.videos) this.videos.set(video.id, video);
    if (found.ids.join() !== this.ids.join()) {
      this.ids = found.ids;
      this.items = new Map(this.ids.map((id) => [id, this.items.get(id) ?? this.makeItem(id)]));
      this.root.replaceChildren(...[...this.items.values()].map(({ item }) => item));
    }
    for (const id of this.ids) this.showItem(this.videos.get(id));
    const done = this.ids.filter((id) => this.videos.get(id).state === "done").length;
    this.counts.textContent = `${done} of ${this.ids.length} done`;
    this.heard(found);
  }
  makeItem(id) {
    const name = make("span", { className: "name" }), state = make("span", { className: "badge" });
    const bar = make("progress", { max: 1, ariaLabel: "Pictures" }), reason = make("span", { className: "why" });
    const button = make("button", { type: "button", onclick: () => this.open(id) }, name, state, bar, reason);
    return { item: make("li", {}, button), button, name, state, bar, reason };
  }
  showItem(video) {
    const { button, name, state, bar, reason } = this.items.get(video.id);
    const share = video.frames / Math.max(1, video.expected), isWrong = Boolean(video.problem);
    name.textContent = name.title = video.name;
    state.textContent = isWrong ? "damaged" : video.state === "touched" && video.frames ? `${Math.min(99, Math.floor(100 * share))} %` : STATES[video.state];
    state.dataset.state = isWrong ? "wrong" : video.state;
    bar.hidden = isWrong || video.counted || !video.made;
    bar.value = video.made / Math.max(1, video.expected);
    reason.hidden = !isWrong;
    reason.textContent = video.problem;
    button.ariaCurrent = video.id === this.current ? "true" : null;
  }
  show(id) {
    this.current = id;
    for (const video of this.videos.values()) if (this.items.has(video.id)) this.showItem(video);
    this.items.get(id)?.button.scrollIntoView({ block: "nearest" });
  }
  beside(by) {
    const usable = this.ids.filter((id) => !this.videos.get(id).problem), at = usable.indexOf(this.current);
    return usable[at + by];
  }
}
