// Saves labels. A change counts as saved only when the server has said so; until then it
// is also in the browser's storage, and is sent again after a crash of either side.

const RETRY_MS = 1000, BEAT_MS = 2000, LEFT_MS = 6000;

export const newId = () => [...crypto.getRandomValues(new Uint8Array(12))].map((n) => n.toString(16).padStart(2, "0")).join("");
const pageId = newId();

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const found = await answer.json().catch(() => ({}));
  return { status: answer.status, found };
}

export class Outbox {
  // tell(state, text): "saved", "saving", "away" or "refused"; conflict(found): the
  // server's labels are others; saved(found): they are these.
  constructor({ folder, video, token, tell, conflict, saved }) {
    Object.assign(this, { folder, video, token, tell, conflict, saved });
    this.key = `svtas-label:${folder}:${video}:${pageId}`;
    this.pending = null;
    this.isSending = this.isStopped = this.hasConflict = false;
    this.beat = setInterval(() => this.persist(), BEAT_MS);
  }
  get isBusy() { return Boolean(this.pending); }

  change(rows, run) {
    this.pending = { edit: newId(), segments: rows, run };
    this.persist();
    return this.send();
  }
  async send() {
    if (this.isSending || this.hasConflict || this.isStopped || !this.pending) return;
    this.isSending = true;
    const sent = this.pending;
    this.tell("saving");
    try {
      const { status, found } = await post(`label/videos/${this.video}`, { base: this.token, ...sent });
      if (status === 200) this.accept(sent, found);
      else if (status === 409) { this.hasConflict = true; this.tell("refused", "Not saved: changed elsewhere"); this.conflict(found); }
      else if (status >= 500 || status === 429) this.later(found.error ?? `the server answered ${status}`);
      else this.tell("refused", `Not saved: ${found.error ?? `the server answered ${status}`}`);
    } catch {
      this.later("the server is away; trying again");
    }
    this.isSending = false;
    if (this.pending && this.pending !== sent) this.send();
  }
  accept(sent, found) {
    this.token = found.token;
    if (this.pending === sent) {
      this.pending = null;
      try { localStorage.removeItem(this.key); } catch { /* there is none */ }
      this.tell("saved");
    } else this.persist();
    this.saved(found);
  }
  later(reason) {
    this.tell("away", `Not saved: ${reason}`);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), RETRY_MS);
  }
  // After a conflict: the own labels stay, or the server's.
  keep(token) { this.hasConflict = false; this.token = token; this.persist(); return this.send(); }
  drop(token) {
    this.hasConflict = false;
    this.token = token;
    this.pending = null;
    try { localStorage.removeItem(this.key); } catch { /* there is none */ }
    this.tell("saved");
  }
  persist(time = Date.now()) {
    if (!this.pending || this.isStopped) return;
    try { localStorage.setItem(this.key, JSON.stringify({ base: this.token, time, ...this.pending })); } catch { /* full, or forbidden */ }
  }
  leave() { this.persist(0); }
  stop() { this.isStopped = true; clearInterval(this.beat); clearTimeout(this.timer); }
}

// Returns what pages that are gone could not save: [{key, video, base, edit, segments, run}].
export function leftBehind(folder) {
  const found = [], start = `svtas-label:${folder}:`;
  try {
    for (const key of Object.keys(localStorage)) {
      if (!key.startsWith(start) || key.endsWith(pageId)) continue;
      const entry = JSON.parse(localStorage.getItem(key));
      if (Date.now() - entry.time > LEFT_MS) found.push({ key, video: key.slice(start.length).split(":")[0], ...entry });
    }
  } catch { /* there is no storage */ }
  return found;
}

// Sends it; returns "saved", "conflict", "refused" or "away". Sending twice does no harm.
export async function sendLeftBehind({ key, video, base, edit, segments, run }) {
  try {
    const { status } = await post(`label/videos/${video}`, { base, edit, segments, run });
    if (status === 200) { localStorage.removeItem(key); return "saved"; }
    return status === 409 ? "conflict" : status >= 500 ? "away" : "refused";
  } catch {
    return "away";
  }
}
export const forget = (key) => localStorage.removeItem(key);
