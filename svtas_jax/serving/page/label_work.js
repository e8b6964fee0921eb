// The work on one video: its labels, what is selected and painted, undo, the run's part.

import * as edit from "./label_edit.js";
import { leftBehind, forget, Outbox } from "./label_outbox.js";
import { Sure } from "./label_sure.js";

export const SPEEDS = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 8];
const MOST_UNDO = 1000;

export class Work {
  // ui: changed() to show all anew, moved() for the frame alone, tell(state, text),
  // notify(text), decide(found, {theirs, mine}), chooseClass(text).
  constructor(player, timeline, ui) {
    Object.assign(this, { player, timeline, ui, entry: null, outbox: null });
    this.reset();
  }
  reset() {
    Object.assign(this, { segments: [], undone: [], done: [], selection: null, painting: null, proposal: null, sure: null, run: "", mark: "", seen: new Set(), isLoading: false });
  }
  get total() { return this.entry ? (this.entry.counted ? this.entry.made : Math.max(this.entry.expected, this.player.made)) : 0; }
  get frame() { return this.player.frame; }
  get names() { return new Set(this.about.classes.map(({ name }) => name)); }
  get isNewRun() { return Boolean(this.proposal && this.run && this.run !== this.proposal.run && this.segments.some((s) => s.proposed)); }

  // ---- opening ----

  async open(entry, about) {
    this.leave();
    this.reset();
    Object.assign(this, { entry, about });
    this.player.open(entry.id);
    const answer = await fetch(`label/videos/${entry.id}`), found = await answer.json();
    if (this.entry !== entry) return;
    if (!answer.ok) { this.entry = null; throw new Error(found.error); }
    this.outbox = this.makeOutbox(entry, found.token);
    this.load(found);
    this.timeline.set({ total: this.total });
    this.timeline.fit();
    this.takeLeftBehind();
    await this.player.grow(entry.made);
    this.ui.changed();
    await this.fetchProposal();
  }
  makeOutbox(entry, token) {
    const { ui } = this, isCurrent = () => this.outbox === outbox;
    const outbox = new Outbox({
      folder: this.about.key, video: entry.id, token,
      tell: (state, text) => { if (isCurrent() || state !== "saved") ui.tell(state, text); },
      saved: (found) => {
        if (isCurrent()) { this.mark = found.mark; if (found.complete) ui.tell("saved", "Saved; every frame has a label"); }
        else if (!outbox.isBusy) outbox.stop();
      },
      conflict: (found) => {
        if (!isCurrent()) { outbox.leave(); outbox.stop(); ui.notify(`A change of ${entry.name} is not saved, because the labels were changed elsewhere; open it to choose.`); return; }
        ui.decide(found.error, {
          theirs: ["Show the other labels, drop mine", () => { outbox.drop(found.token); this.load(found); ui.changed(); }],
          mine: ["Keep mine, replace the others", () => outbox.keep(found.token)],
        });
      },
    });
    return outbox;
  }
  leave() {
    if (this.outbox && !this.outbox.isBusy) this.outbox.stop();
    else this.outbox?.leave();
    this.outbox = null;
  }
  load(found) {
    Object.assign(this, { mark: found.mark, run: found.run, segments: edit.fromRows(found.segments), done: [], undone: [], painting: null, selection: null });
    this.ui.notify(found.kept.length ? "" : found.notice);
    if (found.kept.length) {
      this.ui.decide(found.notice, {
        theirs: ["Keep the file's labels", () => this.save()],
        mine: ["Take this page's labels", () => this.commit(edit.fromRows(found.kept))],
      });
    }
    this.addProposal();
  }
  takeLeftBehind() {
    const left = leftBehind(this.about.key).find(({ video }) => video === this.entry.id);
    if (!left) return;
    Object.assign(this.outbox, { token: left.base, pending: { edit: left.edit, segments: left.segments, run: left.run } });
    this.outbox.persist();
    forget(left.key);
    Object.assign(this, { segments: edit.fromRows(left.segments), run: left.run });
    this.outbox.send();
  }
  // Hears what the server says of the video every second.
  async hear(entry, about) {
    Object.assign(this, { entry, about });
    await this.player.grow(entry.made);
    if (entry.proposal === "ready" && !this.proposal) await this.fetchProposal();
    if (entry.mark !== this.mark && !this.outbox?.isBusy && !this.isLoading) await this.reload();
    this.ui.changed();
  }
  async reload() {
    const { entry, outbox } = this;
    this.isLoading = true;
    try {
      const answer = await fetch(`label/videos/${entry.id}`), found = await answer.json();
      if (this.entry?.id !== entry.id || this.outbox !== outbox || outbox.isBusy) return;
      if (!answer.ok) { this.mark = entry.mark; this.ui.notify(found.error); return; }
      if (found.token === outbox.token) { this.mark = found.mark; return; }
      const isSame = edit.equal(edit.fromRows(found.segments), this.segments.filter((s) => !s.proposed || found.run));
      outbox.token = found.token;
      this.load(found);
      if (!isSame && !found.notice && !this.isOwnRenaming) this.ui.notify("These labels were changed elsewhere; the newest ones are shown.");
    } finally { this.isLoading = false; }
  }

  // ---- the run ----

  async fetchProposal() {
    const { entry } = this;
    if (!this.about.run || entry.proposal !== "ready") return;
    const answer = await fetch(`label/videos/${entry.id}/proposal`);
    if (!answer.ok || this.entry?.id !== entry.id) return;
    this.proposal = await answer.json();
    this.sure = new Sure(this.proposal);
    this.addProposal();
    this.ui.changed();
  }
  addProposal() {
    const { proposal } = this;
    if (!proposal || this.run === proposal.run || this.segments.some((s) => s.proposed)) return;
    if (this.entry.state === "done") return;
    const add = (segments) => edit.propose(segments, proposal.segments, proposal.num_frames, this.names);
    this.segments = add(this.segments);
    this.done = this.done.map(add);
    this.run = proposal.run;
  }
  again() {
    if (!this.proposal) return;
    this.run = this.proposal.run;
    const kept = this.segments.filter((s) => !s.proposed);
    this.commit(edit.propose(kept, this.proposal.segments, this.proposal.num_frames, this.names));
  }
  unsure() {
    if (!this.sure) { this.ui.notify("There are no pre-labels of this video yet, so it is not known where a run is unsure."); return; }
    const proposed = this.segments.filter((s) => s.proposed), all = proposed.length ? proposed : this.segments;
    const key = (s) => `${s.start} ${s.end}`;
    if (all.every((s) => this.seen.has(key(s)))) this.seen.clear();
    const next = all.filter((s) => !this.seen.has(key(s))).sort((a, b) => this.sure.mean(a.start, a.end) - this.sure.mean(b.start, b.end))[0];
    if (!next) return;
    this.seen.add(key(next));
    this.player.pause();
    this.select({ start: next.start, end: next.end });
    this.player.seek(this.sure.worst(next.start, next.end));
  }

  // ---- changes ----

  save() { this.outbox.change(edit.toRows(this.segments), this.run); }
  commit(segments) {
    if (!this.outbox || this.outbox.hasConflict) { this.ui.notify("Choose first which labels are to stay."); return; }
    if (edit.equal(segments, this.segments)) { this.ui.changed(); return; }
    this.done.push(this.segments);
    if (this.done.length > MOST_UNDO) this.done.shift();
    this.undone = [];
    this.segments = segments;
    this.save();
    this.ui.changed();
  }
  goBack(from, to) {
    if (!from.length || this.outbox.hasConflict) return;
    to.push(this.segments);
    this.segments = from.pop();
    this.painting = this.selection = null;
    this.save();
    this.ui.changed();
  }
  select(range) { this.selection = range; this.painting = null; this.ui.changed(); }
  get painted() {
    if (!this.painting) return null;
    const { at, label } = this.painting;
    return { label, start: Math.min(at, this.frame), end: Math.max(at, this.frame) + 1 };
  }
  get range() {
    return this.selection ?? this.segments[edit.segmentAt(this.segments, this.frame)] ?? null;
  }
  useClass(index) {
    const name = this.about.classes[index]?.name;
    if (!name || !this.entry || !this.player.made) return;
    if (this.selection) { this.commit(edit.paint(this.segments, this.selection.start, this.selection.end, name)); return; }
    if (!this.painting) { this.painting = { label: name, at: this.frame }; this.ui.changed(); return; }
    const { start, end, label } = this.painted, isSame = label === name, isForward = this.frame > this.painting.at;
    this.painting = isSame ? null : { label: name, at: this.frame };
    const last = isSame || !isForward ? end : end - 1;
    if (isSame || this.frame !== start || !isForward && end - start > 1) this.commit(edit.paint(this.segments, start, last, label));
    else this.ui.changed();
  }
  border() {
    const all = edit.borders(this.segments), { frame } = this;
    const near = all.sort((a, b) => Math.abs(a.frame - frame) - Math.abs(b.frame - frame))[0];
    if (near) this.commit(edit.moveBorder(this.segments, near, frame, this.player.made));
  }
  jump(by) {
    const frames = [...new Set([0, ...edit.borders(this.segments).map((b) => b.frame), this.player.made - 1])].sort((a, b) => a - b);
    const to = by > 0 ? frames.find((f) => f > this.frame) : frames.findLast((f) => f < this.frame);
    this.player.pause();
    if (to !== undefined) this.player.seek(to);
  }
  gap() {
    const all = edit.gaps(this.segments, this.player.made), next = all.find((g) => g.start > this.frame) ?? all[0];
    if (!next) { this.ui.notify("Every frame has a label or a pre-label."); return; }
    this.player.pause();
    this.select(next);
    this.player.seek(next.start);
  }
  async fill() {
    if (!this.entry.counted) { this.ui.notify("The end of the video is not known yet; wait until all pictures are made."); return; }
    const open = edit.gaps(this.segments, this.total);
    if (!open.length) { this.ui.notify("There is no gap."); return; }
    const count = open.reduce((sum, g) => sum + g.end - g.start, 0);
    const name = await this.ui.chooseClass(`Give ${count} frames without a label the class`);
    if (name) this.commit(open.reduce((segments, g) => edit.paint(segments, g.start, g.end, name), this.segments));
  }
  remove() {
    const { range } = this;
    if (this.painting) { this.painting = null; this.ui.changed(); } else if (range) { this.selection = null; this.commit(edit.clear(this.segments, range.start, range.end)); }
  }
  merge() {
    const at = edit.segmentAt(this.segments, this.selection?.start ?? this.frame);
    this.selection = null;
    this.commit(edit.merge(this.segments, at));
  }
  accept(range) {
    if (!range) return;
    this.selection = null;
    this.commit(edit.accept(this.segments, range.start, range.end));
  }
  speed(by) {
    const at = SPEEDS.indexOf(this.player.speed), to = SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, at + by))];
    this.player.setSpeed(to);
    this.ui.changed();
  }
  // Does a command of label_keys.js; returns false if it is none of these.
  do(command) {
    const { player, timeline } = this, last = player.made - 1;
    const commands = {
      play: () => player.toggle(), back: () => player.step(-1), forward: () => player.step(1), back10: () => player.step(-10), forward10: () => player.step(10),
      first: () => player.step(-player.frame), last: () => player.step(last - player.frame), borderBefore: () => this.jump(-1), borderAfter: () => this.jump(1),
      slower: () => this.speed(-1), faster: () => this.speed(1), cancel: () => this.select(null), split: () => this.commit(edit.split(this.segments, player.frame)),
      merge: () => this.merge(), border: () => this.border(), remove: () => this.remove(), accept: () => this.accept(this.range),
      acceptAll: () => this.accept({ start: 0, end: Infinity }), unsure: () => this.unsure(), gap: () => this.gap(), fill: () => this.fill(), again: () => this.again(),
      undo: () => this.goBack(this.done, this.undone), redo: () => this.goBack(this.undone, this.done),
      closer: () => timeline.zoom(0.6), wider: () => timeline.zoom(1 / 0.6), whole: () => timeline.fit(),
    };
    if (!commands[command] || !this.entry) return false;
    commands[command]();
    return true;
  }
}
