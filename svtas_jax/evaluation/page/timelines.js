"use strict";
// Draws the timelines of a page when they come into view, says what is under the
// pointer, and shows the frame that was clicked if the video lies beside the page.

const BAR = 24, STRIP = 7, CURVE = 26, GAP = 5, AXIS = 20;
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;

function say(text, x, y) {
  tip.textContent = text;
  tip.hidden = !text;
  const width = tip.offsetWidth, height = tip.offsetHeight;
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 6))}px`;
  tip.style.top = `${y + 18 + height > innerHeight ? y - height - 12 : y + 18}px`;
}

function clock(video, frame) {
  const seconds = timeOf(video, frame);
  if (seconds === null) return `frame ${frame}`;
  const minutes = Math.floor(seconds / 60), rest = seconds - 60 * minutes;
  return `${minutes}:${rest < 10 ? "0" : ""}${rest.toFixed(2)} (frame ${frame})`;
}

function timeOf(video, frame) {
  if (video.times.length) {
    const at = frame / video.frames * (video.times.length - 1);
    const low = Math.min(Math.floor(at), video.times.length - 2);
    return video.times[low] + (video.times[low + 1] - video.times[low]) * (at - low);
  }
  return video.fps ? frame / video.fps : null;
}

function* runsOf(flat) {
  for (let i = 0, start = 0; i < flat.length; i += 2) {
    yield [flat[i], start, start += flat[i + 1]];
  }
}

function labelAt(flat, frame) {
  for (const [label, , end] of runsOf(flat)) if (frame < end) return label;
  return -1;
}

function* wrongIn(truth, runs) {
  const other = [...runsOf(runs)];
  let at = 0;
  for (const [label, start, end] of runsOf(truth)) {
    while (at < other.length && other[at][2] <= start) at++;
    for (let i = at; i < other.length && other[i][1] < end; i++) {
      if (label >= 0 && other[i][0] !== label) {
        yield [Math.max(start, other[i][1]), Math.min(end, other[i][2])];
      }
    }
  }
}

class Timeline {
  constructor(page, video) {
    Object.assign(this, {page, video});
    this.element = document.createElement("article");
    const title = document.createElement("h3");
    const name = document.createElement("span"), note = document.createElement("span");
    name.textContent = video.name;
    note.textContent = video.note;
    note.className = "pale";
    title.append(name, note);
    this.plot = document.createElement("div");
    this.plot.className = "plot";
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${video.name}: ${page.data.rows.join(", ")} over time`);
    this.canvas.style.height = `${page.height}px`;
    this.line = document.createElement("i");
    this.line.hidden = true;
    this.plot.append(this.canvas, this.line);
    this.element.append(title, this.plot);
    this.canvas.addEventListener("pointermove", e => this.point(this.frameAt(e), e.clientX, e.clientY));
    this.canvas.addEventListener("pointerleave", () => this.leave());
    this.canvas.addEventListener("blur", () => this.leave());
    this.canvas.addEventListener("click", e => this.page.viewer.show(this, this.frameAt(e)));
    this.canvas.addEventListener("keydown", e => this.press(e));
  }

  get left() { return this.canvas.clientWidth < 560 ? 76 : 92; }

  get width() { return this.canvas.clientWidth - this.left - 1; }

  x(frame) { return this.left + this.width * frame / this.video.frames; }

  frameAt(event) {
    const x = event.clientX - this.canvas.getBoundingClientRect().left - this.left;
    const frame = Math.floor(x / this.width * this.video.frames);
    return Math.max(0, Math.min(this.video.frames - 1, frame));
  }

  describe(frame) {
    const {data} = this.page, {video} = this;
    const name = label => label < 0 ? "no label" : data.classes[label];
    const lines = [clock(video, frame), `truth: ${name(labelAt(video.truth, frame))}`];
    data.rows.forEach((row, n) => lines.push(`${row}: ${name(labelAt(video.runs[n], frame))}`));
    if (video.sure.length) {
      const part = Math.floor(frame / video.frames * video.sure.length);
      lines.push(`confidence: ${video.sure[part]} %`);
    }
    return lines.join("\n");
  }

  point(frame, x, y) {
    this.mark(frame);
    say(this.describe(frame), x, y);
  }

  mark(frame) {
    this.frame = frame;
    this.line.hidden = false;
    this.line.style.left = `${this.x(frame + 0.5)}px`;
  }

  leave() {
    tip.hidden = true;
    this.line.hidden = this.page.viewer.timeline !== this;
  }

  press(event) {
    const way = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (way) this.step(way * (event.shiftKey ? Math.ceil(this.video.frames / 50) : 1));
    else if (event.key === "Enter") this.page.viewer.show(this, this.frame || 0);
    else return;
    event.preventDefault();
  }

  step(frames) {
    const frame = Math.max(0, Math.min(this.video.frames - 1, (this.frame || 0) + frames));
    const box = this.canvas.getBoundingClientRect();
    this.point(frame, box.left + this.x(frame), box.top + this.page.height / 2);
  }

  draw() {
    const {page, video, canvas} = this, scale = devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * scale;
    canvas.height = page.height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    let y = 0;
    this.bar(pen, "truth", video.truth, y);
    y += BAR + GAP;
    page.data.rows.forEach((row, n) => {
      this.bar(pen, row, video.runs[n], y);
      this.errors(pen, video.runs[n], y + BAR + 1);
      y += BAR + STRIP + GAP;
    });
    if (page.hasCurve) {
      this.curve(pen, y);
      y += CURVE + GAP;
    }
    this.axis(pen, y);
  }

  name(pen, text, y) {
    pen.font = "11.5px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    pen.fillStyle = this.page.style.pale;
    let shown = text;
    // From the middle: names of runs often differ at their ends.
    for (let kept = text.length - 1; kept > 1 && pen.measureText(shown).width > this.left - 8; kept--) {
      shown = `${text.slice(0, Math.ceil(kept / 2))}…${text.slice(-Math.floor(kept / 2))}`;
    }
    pen.fillText(shown, this.left - 8, y);
  }

  bar(pen, title, flat, y) {
    this.name(pen, title, y + BAR / 2);
    pen.textAlign = "center";
    for (const [label, start, end] of runsOf(flat)) {
      if (label < 0) continue;
      const x = this.x(start), width = this.x(end) - x;
      const colour = this.page.colourOf(label);
      pen.fillStyle = colour;
      pen.fillRect(x, y, Math.max(0.6, width - (width > 4 ? 1 : 0)), BAR);
      const name = this.page.data.classes[label];
      if (width > 24 && pen.measureText(name).width + 8 <= width) {
        pen.fillStyle = inkOn(colour);
        pen.fillText(name, x + width / 2, y + BAR / 2);
      }
    }
  }

  errors(pen, flat, y) {
    pen.fillStyle = this.page.style.raised;
    pen.fillRect(this.left, y, this.width, STRIP);
    pen.fillStyle = this.page.style.bad;
    for (const [start, end] of wrongIn(this.video.truth, flat)) {
      pen.fillRect(this.x(start), y, Math.max(0.6, this.x(end) - this.x(start)), STRIP);
    }
  }

  curve(pen, y) {
    const {sure} = this.video;
    this.name(pen, "confidence", y + CURVE / 2);
    pen.fillStyle = this.page.style.raised;
    pen.fillRect(this.left, y, this.width, CURVE);
    const step = this.width / sure.length;
    pen.beginPath();
    pen.moveTo(this.left, y + CURVE);
    sure.forEach((percent, n) => {
      const top = y + CURVE * (1 - percent / 100);
      pen.lineTo(this.left + n * step, top);
      pen.lineTo(this.left + (n + 1) * step, top);
    });
    pen.lineTo(this.left + this.width, y + CURVE);
    pen.fillStyle = this.page.style.accent;
    pen.globalAlpha = 0.55;
    pen.fill();
    pen.globalAlpha = 1;
  }

  axis(pen, y) {
    const {video} = this, timed = timeOf(video, 0) !== null;
    const first = timed ? timeOf(video, 0) : 0;
    const length = timed ? timeOf(video, video.frames) - first : video.frames;
    const least = length * 70 / this.width;
    const steps = timed ? [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600]
      : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5];
    const step = steps.find(s => s >= least) || least;
    pen.fillStyle = this.page.style.pale;
    pen.fillRect(this.left, y, this.width, 1);
    pen.textBaseline = "top";
    for (let tick = 0; tick <= length * 1.0001; tick += step) {
      const x = this.left + this.width * tick / length;
      pen.fillRect(Math.min(x, this.left + this.width - 1), y, 1, 4);
      const text = !timed ? `${Math.round(tick)}` : step < 1 ? `${tick.toFixed(1)} s`
        : length < 120 ? `${Math.round(tick)} s`
        : `${Math.floor(Math.round(tick) / 60)}:${String(Math.round(tick) % 60).padStart(2, "0")}`;
      pen.textAlign = x + 18 > this.left + this.width ? "right" : "center";
      pen.fillText(text, x, y + 6);
    }
  }
}

function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map(n => parseInt(colour.slice(n, n + 2), 16));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 120 ? "#222222" : "#ffffff";
}

class Viewer {
  constructor() {
    this.element = document.querySelector(".viewer");
    this.video = this.element.querySelector("video");
    this.words = this.element.querySelector("pre");
    this.problem = this.element.querySelector(".notice");
    this.element.querySelector("button").addEventListener("click", () => this.close());
    this.video.addEventListener("error", () => this.fail());
    this.video.addEventListener("loadedmetadata", () => {
      if (this.video.videoWidth) this.seek();
      else this.fail();
    });
    for (const event of ["seeked", "timeupdate"]) {
      this.video.addEventListener(event, () => this.follow());
    }
  }

  show(timeline, frame) {
    if (this.timeline && this.timeline !== timeline) this.timeline.line.hidden = true;
    Object.assign(this, {timeline, frame});
    const {src} = timeline.video;
    this.element.hidden = false;
    this.problem.hidden = true;
    this.video.hidden = !src;
    this.tell(frame);
    if (!src) {
      this.report("The frames of this video did not come from a file that a page could show.");
    } else if (this.video.getAttribute("src") !== src) {
      this.video.src = src;
    } else if (this.video.error) {
      this.fail();
    } else if (this.video.readyState) {
      this.seek();
    }
  }

  seek() {
    const {video} = this.timeline, here = timeOf(video, this.frame);
    this.video.pause();
    // The middle of the frame, so that rounding shows no other one.
    if (here !== null) this.video.currentTime = (here + timeOf(video, this.frame + 1)) / 2;
  }

  follow() {
    if (this.video.paused) return;
    const {video} = this.timeline;
    let low = 0, high = video.frames - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (timeOf(video, middle) <= this.video.currentTime) low = middle;
      else high = middle - 1;
    }
    this.tell(low);
  }

  tell(frame) {
    this.timeline.mark(frame);
    this.words.textContent = `${this.timeline.video.name}\n${this.timeline.describe(frame)}`;
  }

  fail() {
    this.video.hidden = true;
    const {src} = this.timeline.video;
    let path = src;
    try { path = decodeURIComponent(src); } catch { /* no UTF-8: as it is written */ }
    this.report(`${path} is not there as seen from this page, or this `
      + "browser cannot play its format; H.264 in MP4 plays everywhere.");
  }

  report(text) {
    this.problem.textContent = text;
    this.problem.hidden = false;
  }

  close() {
    this.element.hidden = true;
    this.video.pause();
    this.timeline.line.hidden = true;
    this.timeline = null;
  }
}

class Page {
  constructor(data) {
    this.data = data;
    this.hasCurve = data.videos.some(video => video.sure.length);
    this.height = BAR + GAP + data.rows.length * (BAR + STRIP + GAP)
      + (this.hasCurve ? CURVE + GAP : 0) + AXIS;
    this.viewer = new Viewer();
    this.list = document.getElementById("timelines");
    this.timelines = data.videos.map(video => new Timeline(this, video));
    this.seen = new Set();
    this.watcher = new IntersectionObserver(entries => entries.forEach(entry => {
      const timeline = this.timelines[entry.target.dataset.index];
      if (!entry.isIntersecting) return this.seen.delete(timeline);
      this.seen.add(timeline);
      timeline.draw();
    }), {rootMargin: "300px"});
    this.timelines.forEach((timeline, n) => {
      timeline.element.dataset.index = n;
      this.list.append(timeline.element);
      this.watcher.observe(timeline.element);
    });
    this.restyle();
    addEventListener("resize", () => this.redraw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.restyle());
    this.offerOrders();
    this.offerMistakes();
  }

  colourOf(label) {
    return this.data.background.includes(label) ? this.style.none : this.data.colours[label];
  }

  restyle() {
    const found = getComputedStyle(document.documentElement);
    const names = ["pale", "raised", "bad", "accent", "none"];
    this.style = Object.fromEntries(names.map(n => [n, found.getPropertyValue(`--${n}`).trim()]));
    this.redraw();
  }

  redraw() { this.seen.forEach(timeline => timeline.draw()); }

  offerOrders() {
    const choice = document.getElementById("order"), filter = document.getElementById("filter");
    this.data.orders.forEach(([name], n) => choice.append(new Option(name, n)));
    const arrange = () => {
      const order = this.data.orders[choice.value][1];
      this.list.append(...order.map(n => this.timelines[n].element));
    };
    choice.addEventListener("change", arrange);
    arrange();
    filter.addEventListener("input", () => this.timelines.forEach(({element, video}) => {
      element.hidden = !video.name.toLowerCase().includes(filter.value.toLowerCase());
    }));
    document.getElementById("choices").hidden = false;
  }

  offerMistakes() {
    document.querySelectorAll("[data-frame]").forEach(button => {
      button.addEventListener("click", () => {
        const timeline = this.timelines[button.dataset.video];
        this.viewer.show(timeline, Number(button.dataset.frame));
      });
    });
  }
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

document.body.append(tip);
document.addEventListener("mouseover", event => {
  const mark = event.target.closest(".chart [role=graphics-symbol][aria-label]");
  if (mark) say(mark.getAttribute("aria-label"), event.clientX, event.clientY);
  else if (!event.target.closest("canvas")) tip.hidden = true;
});
const packed = document.getElementById("timeline-data");
if (packed) {
  unpack(packed.textContent).then(data => new Page(data)).catch(error => {
    const notice = document.createElement("p");
    notice.className = "notice";
    notice.textContent = `The timelines cannot be drawn: ${error}. A browser of 2023 or later can.`;
    document.getElementById("timelines").append(notice);
  });
}
