import { clock, drawTimeline, make, makeScores, makeTable, milliseconds, showFigures } from "./draw.js";

const WINDOW_S = 300, LEAST_S = 20, MOST_SEGMENTS = 5000, MOST_MOVING = 3;
const STATES = { waiting: "connecting", live: "live", ended: "ended", broken: "broken off" };
const find = (selector, root = document) => root.querySelector(selector);
let about = null, colours = new Map(), tab = "cameras";

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) {
    const { error } = await answer.json().catch(() => ({}));
    throw new Error(error ?? `The server answered ${answer.status}.`);
  }
  return answer.status === 204 ? null : answer.json();
}

function notify(text = "") {
  find("#notice").textContent = text;
  find("#notice").hidden = !text;
}

// ---- a stream: its label, timeline, scores and figures ----

function makeView(name, picture) {
  const root = find("#view").content.firstElementChild.cloneNode(true);
  const canvas = find("canvas", root), scores = makeScores(about.classes);
  find("h2", root).textContent = name;
  root.ariaLabel = name;
  find(".screen", root).prepend(picture);
  find(".side", root).append(scores.list);
  let segments = [], isDue = false;

  let paint = () => {
    const end = segments.at(-1)?.time_s[1] ?? 0, begin = segments[0]?.time_s[0] ?? 0;
    const from = Math.max(begin, end - WINDOW_S);
    drawTimeline(canvas, [{ name, segments }], { from, to: Math.max(end, from + LEAST_S), colours });
  };
  function redraw() {
    if (!isDue) requestAnimationFrame(() => { isDue = false; paint(); });
    isDue = true;
  }
  function add(step) {
    const last = segments.at(-1), end = step.time_s + about.model.step_s;
    if (last && last.label === step.label && !step.starts) {
      Object.assign(last, { count: last.count + 1, time_s: [last.time_s[0], end], frames: [last.frames[0], step.frame + 1] });
      last.confidence += (step.confidence - last.confidence) / last.count;
      return;
    }
    if (last) {
      last.frames[1] = step.frame;
      last.time_s[1] = step.starts ? Math.min(last.time_s[1], step.time_s) : step.time_s;
    }
    segments.push({ label: step.label, time_s: [step.time_s, end], frames: [step.frame, step.frame + 1], confidence: step.confidence, count: 1 });
    if (segments.length > MOST_SEGMENTS) segments = segments.slice(-MOST_SEGMENTS);
    canvas.ariaLabel = `Timeline: ${segments.slice(-8).map((s) => `${s.label} from ${clock(s.time_s[0])}`).join(", ")}`;
  }
  function say(step) {
    const now = find(".now", root);
    if (now.textContent !== step.label) {
      now.textContent = find(".spoken", root).textContent = step.label;
      now.style.setProperty("--colour", colours.get(step.label));
    }
    find(".sure", root).textContent = `${Math.round(100 * step.confidence)} % sure`;
    scores.set(step.scores, step.class);
  }
  new ResizeObserver(redraw).observe(canvas);
  return {
    root, redraw, say,
    get segments() { return segments; },
    set paint(other) { paint = other; redraw(); },
    step(step) { add(step); say(step); redraw(); },
    load(found) { segments = found.map((s) => ({ ...s, count: Math.max(1, Math.round((s.time_s[1] - s.time_s[0]) / about.model.step_s)) })); redraw(); },
    state(state, reason = "") {
      Object.assign(find(".state", root), { textContent: STATES[state] ?? state });
      find(".state", root).dataset.state = state;
      Object.assign(find(".reason", root), { textContent: reason, hidden: !reason });
    },
    figures(figures) { showFigures(find(".figures", root), figures); },
    shown() { find(".empty", root).hidden = true; },
  };
}

// ---- cameras of the server ----

const cameras = new Map();
let events = null;

function makeCamera(source) {
  const picture = make("img", { alt: `Picture of ${source.name}` });
  const view = makeView(source.name, picture), path = `sources/${source.source}`;
  picture.hidden = true;
  picture.onload = () => { picture.hidden = false; view.shown(); };
  for (const link of view.root.querySelectorAll("[data-format]")) {
    link.href = `${path}/results?format=${link.dataset.format}`;
  }
  find("#cameras .views").append(view.root);
  let state = "", reason = "", timer = 0, hasPicture = false;
  function still() {
    picture.src = `${path}/picture?t=${Date.now()}`;
  }
  function look() {
    clearInterval(timer);
    if (tab !== "cameras" || document.hidden || state === "waiting") {
      if (picture.src && picture.src.endsWith("/video")) picture.removeAttribute("src");
    } else if (state !== "live") {
      if (hasPicture) still();
    } else if (source.source < MOST_MOVING) picture.src = `${path}/video`;
    else timer = setInterval(still, 500); // a browser opens few connections to a server
  }
  return {
    view, look,
    set(found) {
      hasPicture ||= Boolean(found.last) || found.state === "live";
      reason = found.reason;
      view.state(found.state, reason);
      if (found.state !== state) { state = found.state; look(); }
    },
    count(c) {
      view.figures([
        ["Lag now", milliseconds(c.latency_ms), "From a frame's arrival to its label"],
        ["Lag p95", milliseconds(c.latency_p95_ms), "95 % of the last 512 answers came sooner"],
        ["Frames/s", c.fps.toFixed(1), "Frames that came in a second"],
        ["Dropped", String(c.dropped), "Steps left out because the model was busy"],
        ["Gaps", String(c.gaps), "Holes in the source's time"],
        ["Reconnects", String(c.reconnects), "Attempts to open the source again"],
      ]);
      if (c.silent_s > 3) view.state("waiting", `No answer for ${Math.round(c.silent_s)} s. ${reason}`);
      else if (state) view.state(state, reason);
    },
    async reload() {
      const session = await ask(`${path}/results`);
      view.load(session.segments);
      this.set(session);
      if (session.last) view.say(session.last);
      this.count(session.counters);
    },
  };
}

function listen() {
  events?.close();
  if (document.hidden || !cameras.size) return;
  events = new EventSource("events");
  const reload = () => Promise.all([...cameras.values()].map((camera) => camera.reload()));
  events.onopen = () => { notify(); reload().catch((error) => notify(error.message)); };
  events.onerror = () => notify("The connection to the server is lost; trying again.");
  events.addEventListener("step", ({ data }) => { const step = JSON.parse(data); cameras.get(step.source).view.step(step); });
  events.addEventListener("source", ({ data }) => { const found = JSON.parse(data); cameras.get(found.source).set(found); });
  events.addEventListener("counters", ({ data }) => { for (const c of JSON.parse(data).sources) cameras.get(c.source).count(c); });
  events.addEventListener("lost", () => reload().catch(() => {}));
}

// ---- a file ----

const form = find("#upload");
let job = null, request = null, videoAddress = "";

function showProgress(text, value = null) {
  const bar = find("progress", form);
  find("#progress").hidden = find("#cancel").hidden = !text;
  find("#progress output").textContent = text;
  if (value === null) bar.removeAttribute("value"); else bar.value = value;
  find("button[type=submit]", form).disabled = Boolean(text);
}

function upload(data) {
  return new Promise((resolve, reject) => {
    request = new XMLHttpRequest();
    request.open("POST", "segment");
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => showProgress(`Uploading ${Math.round(100 * loaded / total)} %`, loaded / total);
    request.onload = () => request.status === 202 ? resolve(request.response)
      : reject(new Error(request.response?.error ?? `The server answered ${request.status}.`));
    request.onerror = () => reject(new Error("The upload broke off: the server is away, or refused the file."));
    request.onabort = () => reject(new Error("cancelled"));
    request.send(data);
  });
}

async function follow() {
  while (!["done", "failed", "cancelled"].includes(job.state)) {
    showProgress(job.state === "queued" ? "Waiting for its turn" : `Segmenting${job.progress === null ? "" : ` ${Math.round(100 * job.progress)} %`}`, job.progress);
    await new Promise((resolve) => setTimeout(resolve, 400));
    job = await ask(`jobs/${job.id}`);
  }
  if (job.state === "failed") throw new Error(job.error);
}

async function submit(event) {
  event.preventDefault();
  const data = new FormData(), { video, labels } = form.elements;
  const file = video.files[0];
  if (!file) return;
  if (file.size > about.max_upload_bytes) {
    notify(`The video has ${Math.round(file.size / 1e6)} MB; this server takes ${Math.round(about.max_upload_bytes / 1e6)} MB.`);
    return;
  }
  data.append("video", file);
  if (labels.files[0]) data.append("labels", labels.files[0]);
  notify();
  try {
    showProgress("Uploading", 0);
    job = await upload(data);
    await follow();
    if (job.state === "done") showResult(job, file);
  } catch (error) {
    if (error.message !== "cancelled") notify(error.message);
  } finally {
    showProgress("");
  }
}

function cancel() {
  request?.abort();
  if (job) ask(`jobs/${job.id}`, { method: "DELETE" }).catch(() => {});
  if (job) job = { state: "cancelled" };
}

function showResult(found, file) {
  URL.revokeObjectURL(videoAddress);
  videoAddress = URL.createObjectURL(file);
  const video = make("video", { src: videoAddress, controls: true, muted: true, preload: "auto" });
  const view = makeView(found.name, video), root = view.root, canvas = find("canvas", root);
  const { table, rows } = makeTable(found.segments, colours);
  root.classList.add("file");
  view.state("done");
  view.shown();
  find(".side", root).replaceChildren(make("div", { className: "list", tabIndex: 0, ariaLabel: "Segments" }, table));
  for (const link of root.querySelectorAll("[data-format]")) link.href = `jobs/${found.id}/results?format=${link.dataset.format}`;
  const lines = [{ name: "Prediction", segments: found.segments }];
  if (found.truth) lines.push({ name: "Truth", segments: found.truth });
  const to = found.segments.at(-1).time_s[1];
  const draw = () => {
    const time = video.currentTime, here = found.segments.findIndex((s) => time < s.time_s[1]);
    const segment = found.segments.at(here);
    drawTimeline(canvas, lines, { from: 0, to, colours, cursor: Math.min(time, to) });
    rows.forEach((row, index) => row.classList.toggle("here", found.segments[index] === segment));
    find(".now", root).textContent = segment.label;
    find(".now", root).style.setProperty("--colour", colours.get(segment.label));
    find(".sure", root).textContent = `${Math.round(100 * segment.confidence)} % sure`;
  };
  canvas.ariaLabel = `Timeline of ${found.segments.length} segments${found.truth ? ", with the truth" : ""}`;
  canvas.onclick = ({ offsetX }) => { const left = found.truth ? 84 : 0; video.currentTime = Math.max(0, (offsetX - left) / (canvas.clientWidth - left)) * to; };
  video.ontimeupdate = video.onseeked = draw;
  video.onerror = () => { video.hidden = true; Object.assign(find(".empty", root), { hidden: false, textContent: "This browser cannot play the file" }); };
  view.paint = draw;
  themeChanged.push(view.redraw);
  const m = found.metrics;
  view.figures([...(m ? [["Acc", m.acc.toFixed(1)], ["Edit", m.edit.toFixed(1)], ["F1@10", m.f1_10.toFixed(1)], ["F1@25", m.f1_25.toFixed(1)], ["F1@50", m.f1_50.toFixed(1)]] : []),
    ["Segments", String(found.segments.length)], ["Length", clock(to, 1)]]);
  if (found.truth_error) view.state("done", found.truth_error);
  find("#file .views").replaceChildren(root);
  root.scrollIntoView({ block: "start" });
}

function takeDropped(event) {
  event.preventDefault();
  find(".drop").classList.remove("over");
  for (const file of event.dataTransfer.files) {
    const list = new DataTransfer();
    list.items.add(file);
    form.elements[/\.txt$/i.test(file.name) ? "labels" : "video"].files = list.files;
  }
}

// ---- the camera of this device ----

let own = null;

async function startOwn() {
  notify();
  if (!navigator.mediaDevices) {
    notify("Browsers give a camera only to pages of this machine (localhost) or over HTTPS.");
    return;
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } }, audio: false });
    const video = make("video", { srcObject: stream, autoplay: true, muted: true, playsInline: true });
    const view = makeView("This camera", video);
    find("#own .views").replaceChildren(view.root);
    view.shown();
    own = { stream, video, view, lags: [], sent: [], frames: 0, dropped: 0, error: "" };
    find("#start").hidden = true;
    find("#stop").hidden = false;
    await video.play();
    talk(own);
  } catch (error) {
    notify(`The camera cannot be used: ${error.message}`);
    stopOwn();
  }
}

function talk(session) {
  const address = new URL("live", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  Object.assign(session, { socket });
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { session.view.state("live"); capture(session); };
  socket.onmessage = ({ data }) => {
    const answer = JSON.parse(data);
    if (answer.error) { session.error = answer.error; return; }
    hear(session, answer);
    setTimeout(() => capture(session), Math.max(0, 1000 / 15 - (performance.now() - session.sent.at(-1))));
  };
  socket.onclose = () => {
    if (session.error) notify(session.error);
    session.view.state(session.error ? "broken" : "ended", session.error);
    if (own === session) stopOwn();
  };
}

function capture({ video, socket, sent, stream }) {
  if (socket.readyState !== WebSocket.OPEN) return;
  const scale = Math.min(1, 640 / Math.max(video.videoWidth, video.videoHeight));
  const canvas = make("canvas", { width: video.videoWidth * scale, height: video.videoHeight * scale });
  if (!canvas.width || !stream.active) { setTimeout(() => capture({ video, socket, sent, stream }), 100); return; }
  const moment = performance.now();
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  canvas.toBlob(async (blob) => {
    const head = new DataView(new ArrayBuffer(8));
    head.setFloat64(0, moment / 1000, true);
    sent.push(moment);
    if (sent.length > 30) sent.shift();
    if (socket.readyState === WebSocket.OPEN) socket.send(new Blob([head, blob]));
  }, "image/jpeg", 0.8);
}

function hear(session, answer) {
  const { lags, sent, view } = session, lag = performance.now() - sent.at(-1);
  session.frames = answer.frame + 1;
  session.dropped = answer.dropped;
  if (answer.steps.length) lags.push(lag);
  if (lags.length > 512) lags.shift();
  for (const step of answer.steps) { view.step(step); session.dropped += step.dropped ?? 0; }
  const sorted = [...lags].sort((a, b) => a - b), rate = (1000 * (sent.length - 1)) / Math.max(1, sent.at(-1) - sent[0]);
  view.figures([
    ["Lag now", milliseconds(lags.at(-1) ?? 0), "From the picture to its label, the network included"],
    ["Lag p95", milliseconds(sorted[Math.floor(0.95 * sorted.length)] ?? 0), "95 % of the last 512 answers came sooner"],
    ["Frames/s", rate.toFixed(1), "Pictures sent in a second"],
    ["Dropped", String(session.dropped), "Pictures that newer ones replaced"],
    ["Frames", String(session.frames), "Pictures sent"],
  ]);
  for (const link of view.root.querySelectorAll("[data-format]")) link.onclick = () => save(session, link);
  for (const link of view.root.querySelectorAll("[data-format]:not([href])")) link.href = "#";
}

function save({ view, frames }, link) {
  const { segments } = view, format = link.dataset.format;
  const ends = segments.map((s, index) => segments[index + 1]?.frames[0] ?? frames);
  const text = {
    json: () => JSON.stringify({ name: "This camera", segments: segments.map(({ count, ...s }) => s) }),
    csv: () => ["label,start_s,end_s,confidence", ...segments.map((s) => [JSON.stringify(s.label), ...s.time_s.map((t) => t.toFixed(3)), s.confidence.toFixed(4)].join(","))].join("\n") + "\n",
    txt: () => segments.map((s, index) => `${s.label}\n`.repeat(ends[index] - s.frames[0])).join(""),
  }[format]();
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = `camera.${format}`;
}

function stopOwn() {
  const session = own;
  own = null;
  session?.socket?.close();
  session?.stream.getTracks().forEach((track) => track.stop());
  find("#start").hidden = false;
  find("#stop").hidden = true;
}

// ---- tabs, theme, start ----

const themeChanged = [];

function show(name) {
  tab = name;
  for (const button of document.querySelectorAll("[role=tab]")) {
    const isIt = button.getAttribute("aria-controls") === name;
    button.ariaSelected = String(isIt);
    button.tabIndex = isIt ? 0 : -1;
    find(`#${button.getAttribute("aria-controls")}`).hidden = !isIt;
  }
  history.replaceState(null, "", `${location.pathname}#${name}`); // the token goes, too
  for (const camera of cameras.values()) camera.look();
}

function setUpTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  tabs.forEach((button, index) => {
    button.onclick = () => show(button.getAttribute("aria-controls"));
    button.onkeydown = ({ key }) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (by) { const next = tabs.at((index + by) % tabs.length); next.focus(); next.click(); }
    };
  });
}

function setTheme(theme) {
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  if (theme) document.documentElement.dataset.theme = theme;
  find("#theme").textContent = dark ? "Light" : "Dark";
  find("#theme").ariaLabel = `Switch to ${dark ? "light" : "dark"} colours`;
  find("#theme").onclick = () => {
    localStorage.setItem("theme", dark ? "light" : "dark");
    setTheme(dark ? "light" : "dark");
  };
  for (const camera of cameras.values()) camera.view.redraw();
  own?.view.redraw();
  for (const draw of themeChanged) draw();
}

async function begin() {
  setUpTabs();
  setTheme(localStorage.getItem("theme"));
  form.onsubmit = submit;
  find("#cancel").onclick = cancel;
  find("#start").onclick = startOwn;
  find("#stop").onclick = stopOwn;
  find("#file").ondragover = (event) => { event.preventDefault(); find(".drop").classList.add("over"); };
  find("#file").ondragleave = () => find(".drop").classList.remove("over");
  find("#file").ondrop = takeDropped;
  document.onvisibilitychange = () => { listen(); for (const camera of cameras.values()) camera.look(); };
  about = await ask("sources");
  colours = new Map(about.classes.map(({ name, colour }) => [name, colour]));
  const { system, causal, step, step_s, steps_per_answer, smoothing } = about.model;
  const rules = Object.entries(smoothing).map(([rule, value]) => ` · ${rule.replace("_", " ")} ${value}`).join("");
  find("#model").textContent = `${system.toUpperCase()}${causal ? ", causal" : ""} · ${about.classes.length} classes · trained for ${step} steps · answers every ${+(step_s * steps_per_answer).toFixed(2)} s${rules}`;
  for (const source of about.sources) cameras.set(source.source, makeCamera(source));
  find("#cameras .views").classList.toggle("many", cameras.size > 1);
  find("#cameras .hint").hidden = cameras.size > 0;
  listen();
  const wanted = location.hash.slice(1);
  show(["cameras", "file", "own"].includes(wanted) ? wanted : cameras.size ? "cameras" : "file");
}

begin().catch((error) => notify(error.message));
