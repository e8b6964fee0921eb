// The timeline: labels, how sure the run is, time, and the whole video in small.

import { clock, inkOn } from "./draw.js";
import { borders, moveBorder, segmentAt } from "./label_edit.js";

const ROW = 50, SURE = 30, AXIS = 24, WHOLE = 18, GAP = 4, LEAST_FRAMES = 12, LEAST_SURE = 40;
const SPACINGS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];

export class Timeline {
  // What it does: seek(frame), select(range or null), move(segments), moving(frame).
  constructor(canvas, actions) {
    Object.assign(this, { canvas, actions, total: 0, made: 0, times: [], segments: [], colours: new Map(), sure: null,
      cursor: 0, selection: null, painting: null, from: 0, to: 1, drag: null });
    new ResizeObserver(() => this.redraw()).observe(canvas);
    canvas.onpointerdown = (event) => this.down(event);
    canvas.onpointermove = (event) => this.hover(event);
    canvas.onpointerup = (event) => this.up(event);
    canvas.onpointercancel = () => { this.drag = null; this.redraw(); };
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }
  set(values) { Object.assign(this, values); this.redraw(); }
  fit() { this.from = 0; this.to = Math.max(1, this.total); this.redraw(); }
  zoom(factor, around = this.cursor) {
    const least = Math.min(this.total, LEAST_FRAMES), size = Math.min(this.total, Math.max(least, (this.to - this.from) * factor));
    const share = (around - this.from) / (this.to - this.from);
    this.show(around - Math.min(1, Math.max(0, share)) * size, size);
  }
  show(from, size = this.to - this.from) {
    this.from = Math.max(0, Math.min(from, this.total - size));
    this.to = this.from + Math.max(1, size);
    this.redraw();
  }
  // Keeps a frame in view.
  follow(frame) {
    const size = this.to - this.from;
    if (frame < this.from || frame >= this.to) this.show(frame - size * 0.2);
  }
  get heights() { return { sure: ROW + GAP, axis: ROW + GAP + (this.sure ? SURE + GAP : 0), whole: ROW + GAP + (this.sure ? SURE + GAP : 0) + AXIS }; }
  x(frame) { return ((frame - this.from) / (this.to - this.from)) * this.canvas.clientWidth; }
  frameOf(x) { return this.from + (x / Math.max(1, this.canvas.clientWidth)) * (this.to - this.from); }
  clampFrame(frame) { return Math.max(0, Math.min(this.made - 1, Math.floor(frame))); }

  // ---- pointer ----

  borderNear(x, radius) {
    let best = null;
    for (const border of borders(this.drag?.segments ?? this.segments)) {
      const distance = Math.abs(this.x(border.frame) - x);
      if (distance <= radius && (!best || distance < Math.abs(this.x(best.frame) - x))) best = border;
    }
    return best;
  }
  down(event) {
    if (event.button || !this.total) return;
    const { offsetX: x, offsetY: y, pointerType } = event, at = this.heights;
    this.canvas.setPointerCapture(event.pointerId);
    if (y >= at.whole) this.drag = { kind: "pan" };
    else if (y > ROW) this.drag = { kind: "scrub" };
    else {
      const border = this.borderNear(x, pointerType === "touch" ? 14 : 6);
      this.drag = border ? { kind: "border", border, segments: this.segments, moved: this.segments, x } : { kind: "range", x, start: this.frameOf(x) };
    }
    this.move(event);
  }
  hover(event) {
    if (this.drag) { this.move(event); return; }
    const isBorder = event.offsetY < ROW && this.borderNear(event.offsetX, 6);
    this.canvas.style.cursor = isBorder ? "ew-resize" : event.offsetY < ROW ? "text" : "pointer";
  }
  move({ offsetX: x }) {
    const { drag } = this;
    if (drag.kind === "pan") {
      const size = this.to - this.from;
      this.show((x / this.canvas.clientWidth) * this.total - size / 2, size);
    } else if (drag.kind === "scrub") this.actions.seek(this.clampFrame(this.frameOf(x)));
    else if (drag.kind === "border") {
      if (!drag.hasMoved && Math.abs(x - drag.x) < 3) return;
      drag.hasMoved = true;
      drag.moved = moveBorder(drag.segments, drag.border, Math.round(this.frameOf(x)), this.made);
      const { left, right } = drag.border, frame = right >= 0 ? drag.moved[right].start : drag.moved[left].end;
      this.segments = drag.moved;
      this.actions.seek(Math.min(frame, this.made - 1));
      this.redraw();
    } else if (Math.abs(x - drag.x) > 4 || drag.hasMoved) {
      drag.hasMoved = true;
      const ends = [drag.start, this.frameOf(x)].sort((a, b) => a - b);
      this.actions.select({ start: this.clampFrame(ends[0]), end: this.clampFrame(ends[1]) + 1 });
      this.actions.seek(this.clampFrame(this.frameOf(x)));
    }
  }
  up({ offsetX: x }) {
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    if (drag.kind === "border" && drag.hasMoved) this.actions.move(drag.moved);
    if ((drag.kind === "range" || drag.kind === "border") && !drag.hasMoved) {
      const frame = this.clampFrame(this.frameOf(x)), segment = this.segments[segmentAt(this.segments, frame)];
      this.actions.select(segment ? { start: segment.start, end: segment.end } : null);
      this.actions.seek(frame);
    }
  }
  wheel(event) {
    if (!this.total) return;
    event.preventDefault();
    const across = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY), size = this.to - this.from;
    if (across) this.show(this.from + ((event.deltaX || event.deltaY) / this.canvas.clientWidth) * size, size);
    else this.zoom(1.0015 ** event.deltaY, this.frameOf(event.offsetX));
  }

  // ---- drawing ----

  redraw() {
    if (!this.isDue) requestAnimationFrame(() => { this.isDue = false; this.paint(); });
    this.isDue = true;
  }
  paint() {
    const { canvas } = this, width = canvas.clientWidth, height = this.heights.whole + WHOLE, scale = window.devicePixelRatio || 1;
    if (!width) return;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d"), style = getComputedStyle(canvas);
    Object.assign(this, { pen, ink: style.color, line: style.borderTopColor, accent: style.accentColor, gap: style.columnRuleColor });
    pen.scale(scale, scale);
    pen.font = `13px ${style.fontFamily}`;
    pen.textBaseline = "middle";
    pen.fillStyle = this.gap;
    pen.fillRect(0, 0, width, ROW);
    pen.fillStyle = this.line;
    pen.fillRect(0, 0, width, 1);
    pen.fillRect(0, ROW - 1, width, 1);
    if (!this.total) return;
    this.paintUnmade(width);
    for (const segment of this.segments) this.paintSegment(segment, width);
    if (this.sure) this.paintSure(width, this.heights.sure);
    this.paintAxis(width, this.heights.axis);
    this.paintWhole(width, this.heights.whole);
    this.paintMarks(this.heights.whole);
  }
  paintUnmade(width) {
    const from = Math.max(0, this.x(this.made));
    if (from < width) this.hatch(from, 0, width - from, ROW, this.ink, 0.18);
  }
  hatch(x, y, width, height, colour, alpha) {
    const { pen } = this;
    pen.save();
    pen.beginPath();
    pen.rect(x, y, width, height);
    pen.clip();
    pen.globalAlpha = alpha;
    pen.strokeStyle = colour;
    pen.lineWidth = 2;
    pen.beginPath();
    for (let at = Math.floor(x / 9) * 9 - height; at < x + width; at += 9) { pen.moveTo(at, y + height); pen.lineTo(at + height, y); }
    pen.stroke();
    pen.restore();
  }
  paintSegment(segment, width) {
    const start = Math.max(-2, this.x(segment.start)), end = Math.min(width + 2, this.x(segment.end)), { pen } = this;
    if (end <= 0 || start >= width) return;
    const size = Math.max(1, end - start), colour = this.colours.get(segment.label) ?? "#888888", inner = size > 4 ? size - 1 : size;
    const top = segment.proposed ? 8 : 0;
    pen.fillStyle = colour;
    pen.fillRect(start, top, inner, ROW - 2 * top);
    if (segment.proposed) this.hatch(start, top, inner, ROW - 2 * top, inkOn(colour), 0.25);
    const text = segment.proposed ? `${segment.label}?` : segment.label, left = Math.max(0, start) + 6;
    if (pen.measureText(text).width + 8 <= end - left) {
      if (segment.proposed) { pen.fillStyle = colour; pen.fillRect(left - 3, ROW / 2 - 9, pen.measureText(text).width + 6, 18); }
      pen.fillStyle = inkOn(colour);
      pen.fillText(text, left, ROW / 2 + 1);
    }
  }
  paintSure(width, top) {
    const { pen, sure } = this;
    pen.fillStyle = this.gap;
    pen.fillRect(0, top, width, SURE);
    pen.beginPath();
    pen.moveTo(0, top + SURE);
    for (let x = 0; x <= width; x += 2) pen.lineTo(x, top + SURE - (SURE * Math.max(0, sure.least(this.frameOf(x), this.frameOf(x + 2)) - LEAST_SURE)) / (100 - LEAST_SURE));
    pen.lineTo(width, top + SURE);
    pen.fillStyle = this.accent;
    pen.globalAlpha = 0.75;
    pen.fill();
    pen.globalAlpha = 1;
    pen.fillStyle = this.ink;
    pen.font = pen.font.replace("13px", "11px");
    pen.fillText(`how sure the run is, ${LEAST_SURE} to 100 %`, 4, top + 8);
    pen.font = pen.font.replace("11px", "13px");
  }
  timeOf(frame) {
    const { times } = this, last = times.length - 1;
    if (frame <= last) return times[Math.max(0, Math.floor(frame))] ?? 0;
    return last > 0 ? times[last] * (frame / last) : 0;
  }
  paintAxis(width, top) {
    const { pen } = this, begin = this.timeOf(Math.floor(this.from)), end = this.timeOf(Math.ceil(this.to));
    const least = ((end - begin) * 76) / width, spacing = SPACINGS.find((value) => value >= least) ?? 3600;
    const perSecond = (this.to - this.from) / Math.max(1e-6, end - begin);
    pen.fillStyle = this.ink;
    for (let n = Math.ceil(begin / spacing - 1e-9); n * spacing <= end; n++) {
      const x = this.x(this.from + (n * spacing - begin) * perSecond), text = clock(n * spacing, spacing < 1 ? 1 : 0), size = pen.measureText(text).width;
      pen.fillRect(Math.min(x, width - 1), top, 1, 5);
      if (x - size / 2 >= 0 && x + size / 2 <= width) pen.fillText(text, x - size / 2, top + 14);
      else if (x < size) pen.fillText(text, 0, top + 14);
    }
  }
  paintWhole(width, top) {
    const { pen, total } = this, x = (frame) => (frame / total) * width;
    pen.fillStyle = this.gap;
    pen.fillRect(0, top + 3, width, WHOLE - 6);
    for (const s of this.segments) {
      pen.globalAlpha = s.proposed ? 0.4 : 1;
      pen.fillStyle = this.colours.get(s.label) ?? "#888888";
      pen.fillRect(x(s.start), top + 3, Math.max(1, x(s.end) - x(s.start)), WHOLE - 6);
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = pen.fillStyle = this.ink;
    pen.lineWidth = 2;
    pen.strokeRect(x(this.from) + 1, top + 1, Math.max(3, x(this.to) - x(this.from) - 2), WHOLE - 2);
    pen.fillRect(x(this.cursor) - 1, top, 2, WHOLE);
  }
  paintMarks(bottom) {
    const { pen } = this, range = this.painting ?? this.selection;
    if (range) {
      const start = this.x(range.start), size = Math.max(2, this.x(range.end) - start);
      if (this.painting) { pen.globalAlpha = 0.8; pen.fillStyle = this.colours.get(this.painting.label) ?? "#888"; pen.fillRect(start, 0, size, ROW); pen.globalAlpha = 1; }
      pen.strokeStyle = this.accent;
      pen.lineWidth = 3;
      pen.strokeRect(start + 1.5, 1.5, Math.max(1, size - 3), ROW - 3);
    }
    const left = this.x(this.cursor), right = this.x(this.cursor + 1);
    pen.fillStyle = this.ink;
    pen.globalAlpha = 0.16;
    if (right - left > 3) pen.fillRect(left, 0, right - left, bottom - AXIS);
    pen.globalAlpha = 1;
    pen.fillRect(left - 1, 0, 2, bottom - 4);
  }
}
