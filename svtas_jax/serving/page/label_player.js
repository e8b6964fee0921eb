// Shows the pictures of a video's frames, and plays them at their own times.

const BATCH = 32, MOST_BATCHES = 48, MOST_BITMAPS = 60, AHEAD = 8;

export class Player {
  // shown(frame): a frame is the current one; changed(): playing or not.
  constructor(canvas, { shown, changed }) {
    Object.assign(this, { canvas, shown, changed, speed: 1, playing: false, frame: 0, made: 0, times: [], video: "" });
    this.pen = canvas.getContext("2d");
    this.batches = new Map();
    this.bitmaps = new Map();
    this.tick = this.tick.bind(this);
  }
  open(video) {
    this.pause();
    for (const bitmap of this.bitmaps.values()) if (!(bitmap instanceof Promise)) bitmap.close();
    this.batches.clear();
    this.bitmaps.clear();
    Object.assign(this, { video, frame: 0, made: 0, times: [], drawn: -1 });
    this.canvas.hidden = true;
  }
  // Tells how many pictures are made; fetches their times.
  async grow(made) {
    const { video } = this;
    if (made <= this.times.length || this.isGrowing) return;
    this.isGrowing = true;
    try {
      const answer = await fetch(`label/videos/${video}/times?first=${this.times.length}`);
      if (answer.ok && video === this.video) {
        this.times = [...this.times, ...new Float64Array(await answer.arrayBuffer())];
        this.made = this.times.length;
        if (this.drawn < 0) this.seek(this.frame);
      }
    } finally { this.isGrowing = false; }
  }
  seek(frame) {
    this.frame = Math.max(0, Math.min(frame, this.made - 1));
    this.anchor();
    this.draw(this.frame);
    this.shown(this.frame);
    this.prefetch();
  }
  step(by) { this.pause(); this.seek(this.frame + by); }
  toggle() { if (this.playing) this.pause(); else this.play(); }
  play() {
    if (this.made < 2) return;
    if (this.frame >= this.made - 1) this.seek(0);
    this.playing = true;
    this.anchor();
    this.changed();
    requestAnimationFrame(this.tick);
  }
  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.changed();
  }
  setSpeed(speed) { this.speed = speed; this.anchor(); }
  anchor(now = performance.now()) { this.from = { now, time: this.times[this.frame] ?? 0 }; }
  frameAt(time) {
    let low = 0, high = this.made;
    while (high - low > 1) { const middle = (low + high) >> 1; if (this.times[middle] <= time) low = middle; else high = middle; }
    return low;
  }
  tick(now) {
    if (!this.playing) return;
    const time = this.from.time + ((now - this.from.now) / 1000) * this.speed, next = this.frameAt(time);
    if (next !== this.frame) {
      if (this.bitmaps.get(next) instanceof ImageBitmap) {
        this.frame = next;
        this.draw(next);
        this.shown(next);
      } else { this.bitmap(next).catch(() => {}); this.anchor(now); } // wait for it
    }
    for (let n = 1; n <= AHEAD; n++) this.bitmap(this.frameAt(time + (n / 60) * this.speed)).catch(() => {});
    this.fetchAround(next, Math.ceil(this.speed) + 1);
    if (this.frame >= this.made - 1) this.pause();
    else requestAnimationFrame(this.tick);
  }
  async draw(frame) {
    try {
      const { video } = this, bitmap = await this.bitmap(frame);
      if (!bitmap || video !== this.video || frame !== this.frame) return;
      if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height) Object.assign(this.canvas, { width: bitmap.width, height: bitmap.height });
      this.pen.drawImage(bitmap, 0, 0);
      this.drawn = frame;
      this.canvas.hidden = false;
      this.canvas.dataset.frame = frame;
    } catch { /* the server is away; the list says so */ }
  }
  prefetch() {
    for (const by of [1, -1, 2, -2, 3]) if (this.frame + by >= 0 && this.frame + by < this.made) this.bitmap(this.frame + by).catch(() => {});
    this.fetchAround(this.frame, 1);
  }
  fetchAround(frame, after) {
    const at = Math.floor(frame / BATCH);
    for (let n = Math.max(0, at - 1); n <= at + after; n++) if (n * BATCH < this.made) this.batch(n).catch(() => {});
  }
  // Returns the picture of a frame: at once if it is there, or a promise.
  async bitmap(frame) {
    const known = this.bitmaps.get(frame);
    if (known) return known;
    const work = (async () => {
      const blobs = await this.batch(Math.floor(frame / BATCH)), blob = blobs[frame % BATCH];
      if (!blob) throw new Error("it is not made yet");
      return createImageBitmap(blob);
    })();
    this.bitmaps.set(frame, work);
    try {
      const bitmap = await work;
      if (this.bitmaps.get(frame) === work) this.bitmaps.set(frame, bitmap);
      this.trim();
      return bitmap;
    } catch (error) {
      if (this.bitmaps.get(frame) === work) this.bitmaps.delete(frame);
      throw error;
    }
  }
  trim() {
    for (const [frame, bitmap] of this.bitmaps) {
      if (this.bitmaps.size <= MOST_BITMAPS) return;
      if (Math.abs(frame - this.frame) > AHEAD * 2 && bitmap instanceof ImageBitmap) { bitmap.close(); this.bitmaps.delete(frame); }
    }
  }
  batch(number) {
    const known = this.batches.get(number), whole = Math.min(BATCH, this.made - number * BATCH);
    if (known && known.count >= whole) { this.batches.delete(number); this.batches.set(number, known); return known.work; }
    const entry = { count: whole, work: this.load(number) };
    entry.work.catch(() => { if (this.batches.get(number) === entry) this.batches.delete(number); });
    this.batches.set(number, entry);
    if (this.batches.size > MOST_BATCHES) this.batches.delete(this.batches.keys().next().value);
    return entry.work;
  }
  async load(number) {
    const answer = await fetch(`label/videos/${this.video}/pictures?first=${number * BATCH}&count=${BATCH}`);
    if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
    const data = await answer.arrayBuffer(), count = new DataView(data).getUint32(0, true);
    const sizes = new Uint32Array(data, 4, count), blobs = [];
    let at = 4 + 4 * count;
    for (const size of sizes) { blobs.push(new Blob([new Uint8Array(data, at, size)], { type: "image/jpeg" })); at += size; }
    return blobs;
  }
}
