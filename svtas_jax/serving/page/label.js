// The labelling page: puts list, player, timeline and work together.

import { clock, make } from "./draw.js";
import { segmentAt } from "./label_edit.js";
import { keyOfClass, makeHelp, meaningOf } from "./label_keys.js";
import { List } from "./label_list.js";
import { leftBehind, sendLeftBehind } from "./label_outbox.js";
import { Player } from "./label_player.js";
import { Timeline } from "./label_timeline.js";
import { SPEEDS, Work } from "./label_work.js";

const LEFT_EVERY_MS = 5000;
const find = (selector, root = document) => root.querySelector(selector);
let about = null, shownClasses = "";

function notify(text = "") {
  find("#notice").textContent = text;
  find("#notice").hidden = !text;
}

function tell(state, text = "") {
  find("#saved").dataset.state = state;
  find("#saved").textContent = text || { saved: "All changes saved", saving: "Saving" }[state];
  if (state === "saved") list?.wake?.();
}

function decide(text, choices) {
  const root = find("#conflict");
  find("p", root).textContent = text;
  root.hidden = false;
  for (const name of ["theirs", "mine"]) {
    const [label, work] = choices[name];
    Object.assign(find(`#${name}`), { textContent: label, onclick: () => { root.hidden = true; work(); } });
  }
  root.scrollIntoView({ block: "nearest" });
}

// Asks for a class, or for text; returns "" if the person thinks better of it.
function choose(text, { field, button, value = "" }) {
  const dialog = find("#choose"), select = find("select", dialog), input = find("input", dialog);
  find("p", dialog).textContent = text;
  find("label span", dialog).textContent = field;
  find("button.primary", dialog).textContent = button;
  select.hidden = Boolean(value);
  input.hidden = !value;
  input.value = value;
  select.replaceChildren(...about.classes.map(({ name }) => make("option", { textContent: name, value: name })));
  dialog.returnValue = "";
  dialog.showModal();
  if (value) input.select();
  return new Promise((resolve) => { dialog.onclose = () => resolve(dialog.returnValue && (value ? input.value.trim() : select.value)); });
}

async function send(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  notify();
  await list.ask();
}
const attempt = (work) => work.catch((error) => notify(error.message));

// ---- the parts ----

const player = new Player(find("#picture"), { shown: showFrame, changed: showPlaying });
const timeline = new Timeline(find("#timeline"), {
  seek: (frame) => { player.pause(); player.seek(frame); },
  select: (range) => work.select(range),
  move: (segments) => work.commit(segments),
});
const work = new Work(player, timeline, {
  changed: showWork, tell, notify, decide,
  chooseClass: (text) => choose(text, { field: "Class", button: "Fill" }),
});
const list = new List(find("#videos"), find("#counts"), {
  open: (id) => attempt(open(id)),
  heard: (found) => attempt(hear(found)),
  lost: (isLost) => {
    find("body").classList.toggle("lost", isLost);
    if (isLost) notify("The connection to the server is lost; trying again. What you change meanwhile is kept in this browser.");
    else if (find("#notice").textContent.startsWith("The connection")) notify();
  },
});

async function open(id) {
  const entry = list.videos.get(id);
  if (!entry) return;
  find("#conflict").hidden = true;
  notify();
  tell("saved", " ");
  list.show(id);
  history.replaceState(null, "", `${location.pathname}#${id}`); // the token goes, too
  find("#empty").hidden = true;
  find("#work").hidden = false;
  find("#name").textContent = entry.name;
  find(".screen .empty").textContent = entry.problem || "Its pictures are being made";
  if (matchMedia("(max-width: 900px)").matches) find(".videos").open = false;
  try {
    await work.open(entry, about);
    showWork();
  } catch (error) {
    find("#work").hidden = true;
    Object.assign(find("#empty"), { hidden: false, textContent: `${entry.name} cannot be labelled now.` });
    throw error;
  }
}

async function hear(found) {
  const isFirst = !about;
  about = found;
  work.about = found;
  find("#model").textContent = found.folder;
  if (found.problem) notify(found.problem);
  showClasses();
  showNext();
  const entry = list.videos.get(list.current);
  if (entry && work.entry?.id === entry.id) {
    find(".screen .empty").textContent = entry.problem || "Its pictures are being made";
    await work.hear(entry, found);
  }
  if (isFirst) {
    const wanted = location.hash.slice(1), first = list.ids.find((id) => !list.videos.get(id).problem);
    if (wanted && list.videos.has(wanted) || first) await open(list.videos.has(wanted) ? wanted : first);
    sendAllLeft();
  }
}

async function sendAllLeft() {
  for (const left of leftBehind(about.key)) {
    if (left.video === work.entry?.id) continue;
    const name = list.videos.get(left.video)?.name, result = name ? await sendLeftBehind(left) : "away";
    if (result === "saved") notify(`A change of ${name} that an earlier page could not save is saved now.`);
    else if (result === "conflict" || result === "refused") notify(`A change of ${name} from an earlier page is not saved; open it to choose.`);
  }
  setTimeout(sendAllLeft, LEFT_EVERY_MS);
}

// ---- showing ----

function showFrame(frame) {
  const painted = work.painted, segment = work.segments[segmentAt(work.segments, frame)], now = find(".now");
  const label = painted?.label ?? segment?.label ?? "";
  now.textContent = label ? `${label}${segment?.proposed && !painted ? "?" : ""}` : "";
  now.style.setProperty("--colour", timeline.colours.get(label) ?? "#888");
  find("#where").textContent = player.made ? `frame ${frame} of ${work.entry?.counted ? player.made : `${player.made}, more to come`} · ${clock(player.times[frame] ?? 0, 2)}` : "";
  const canvas = find("#timeline");
  Object.assign(canvas, { ariaValueNow: frame, ariaValueMax: Math.max(0, player.made - 1), ariaValueText: `frame ${frame}, ${label || "no label"}` });
  timeline.follow(frame);
  timeline.set({ cursor: frame, painting: painted });
}

function showPlaying() {
  find("[data-do=play]").textContent = player.playing ? "Pause" : "Play";
}

function showWork() {
  const isFitted = timeline.from === 0 && timeline.to >= timeline.total;
  timeline.set({ total: work.total, made: player.made, times: player.times, segments: timeline.drag?.hasMoved && timeline.drag.kind === "border" ? timeline.segments : work.segments, sure: work.sure, selection: work.selection, painting: work.painted });
  if (isFitted) timeline.fit();
  find(".screen .empty").hidden = player.made > 0;
  find("[data-do=undo]").disabled = !work.done.length;
  find("[data-do=redo]").disabled = !work.undone.length;
  find("#speed").value = String(player.speed);
  showMode();
  showRun();
  showFrame(player.frame);
}

function showMode() {
  const { painted, selection, segments } = work, mode = find("#mode"), bold = (textContent) => make("strong", { textContent });
  const at = (frame) => clock(timeline.timeOf(frame), 2);
  if (painted) mode.replaceChildren("Painting ", bold(painted.label), ` from ${at(work.painting.at)}: go to its last frame and press its key again, or the key of the next class at its first frame. Esc: no.`);
  else if (selection) {
    const { label, proposed } = segments[segmentAt(segments, selection.start)] ?? {};
    mode.replaceChildren("Selected: ", bold(label ?? "no label"), `${proposed ? ", a pre-label" : ""}, ${at(selection.start)} to ${at(selection.end)}. A class's key changes it${proposed ? ", Enter accepts it" : ""}, Esc lets it go.`);
  } else mode.replaceChildren(about?.classes.length ? "Press a class's key at its first frame, or click a segment." : "Add a class first.");
}

function showRun() {
  const { run } = about, { entry } = work;
  find("#run").hidden = !run;
  if (!run) return;
  const state = entry?.proposal, isReady = state === "ready", count = work.segments.filter((s) => s.proposed).length;
  find("#run-name").textContent = `Pre-labels of ${run.name}: ${isReady ? (count ? `${count} to accept` : "none left") : { waiting: "waiting", working: "being made", "": "not made" }[state] ?? state}`;
  for (const name of ["unsure", "accept", "acceptAll", "again"]) find(`[data-do=${name}]`).disabled = !isReady;
  const notes = [];
  if (work.isNewRun) notes.push("The pre-labels shown are of another run; Pre-label again takes this run's.");
  if (run.unknown.length) notes.push(`The run finds ${run.unknown.join(", ")}, which mapping.txt does not have: those parts stay without a label until you add the class and pre-label again.`);
  if (run.never.length) notes.push(`The run was not trained on ${run.never.join(", ")} and never proposes it.`);
  find("#run-note").textContent = notes.join(" ");
}

function showClasses() {
  const text = JSON.stringify([about.classes, about.run?.unknown]);
  if (text === shownClasses) return;
  shownClasses = text;
  timeline.set({ colours: new Map(about.classes.map(({ name, colour }) => [name, colour])) });
  find("#classes").replaceChildren(...about.classes.map(({ name, colour }, index) => {
    const swatch = make("span", { className: "swatch" }), key = keyOfClass(index);
    swatch.style.setProperty("--colour", colour);
    const use = make("button", { type: "button", className: "class", title: name, onclick: () => work.useClass(index) },
      swatch, make("span", { className: "text", textContent: name }), ...(key ? [make("kbd", { textContent: key.toUpperCase() })] : []));
    return make("li", {}, use, make("button", { type: "button", className: "rename", textContent: "✎", title: `Rename ${name}`, ariaLabel: `Rename ${name}`, onclick: () => attempt(rename(name)) }));
  }));
  suggest();
}

function suggest() {
  const root = find("#suggest"), unknown = about.run?.unknown ?? [];
  root.hidden = about.classes.length > 0 && !unknown.length;
  const add = (names) => attempt(names.reduce((before, name) => before.then(() => send("label/classes", { name })), Promise.resolve()));
  if (unknown.length) root.replaceChildren(make("button", { type: "button", textContent: unknown.length > 1 ? `Add the run's ${unknown.length} other classes` : `Add the run's class ${unknown[0]}`, onclick: () => add(unknown) }));
  else root.replaceChildren("Training needs a class for every frame; for those in which nothing happens:", make("button", { type: "button", textContent: "Add background", onclick: () => add(["background"]) }));
}

async function rename(old) {
  if (work.outbox?.isBusy) throw new Error("Rename the class when all changes are saved.");
  const name = await choose(`${old} gets a new name in mapping.txt and in the labels of all videos.`, { field: "Name", button: "Rename", value: old });
  work.isOwnRenaming = true;
  try { if (name && name !== old) await send("label/classes/rename", { old, new: name }); } finally { work.isOwnRenaming = false; }
}

function showNext() {
  const done = list.ids.filter((id) => list.videos.get(id).state === "done").length, quote = (text) => /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
  const root = quote(about.folder.replace(/\/$/, ""));
  find("#next").hidden = done < 2;
  if (done >= 2) find("#next").replaceChildren("Next, splits and a config from the videos that are done:", make("code", { textContent: `python -m data_pipeline.prepare \\\n  --videos=${root}/Videos \\\n  --annotations=${root}/groundTruth \\\n  --output=${root}` }));
}

// ---- keys, theme, start ----

function act(command) {
  if (command === "help") find("#keys").showModal();
  else if (command === "nextVideo" || command === "videoBefore") { const id = list.beside(command === "nextVideo" ? 1 : -1); if (id) attempt(open(id)); } else work.do(command);
}

document.addEventListener("keydown", (event) => {
  const { target } = event, isPressed = (event.key === " " || event.key === "Enter") && target.closest?.("button, summary, a");
  if (event.isComposing || isPressed || find("dialog[open]") || target.closest?.("input, select, textarea")) return;
  const meaning = meaningOf(event);
  if (!meaning || meaning.command === undefined && event.repeat) return;
  event.preventDefault();
  if (meaning.command) act(meaning.command); else work.useClass(meaning.classIndex);
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.do) act(button.dataset.do);
  if (event.detail && button && !button.closest("dialog")) button.blur(); // so that Space plays
});
addEventListener("pagehide", () => work.outbox?.leave());
addEventListener("beforeunload", (event) => { if (work.outbox?.isBusy) event.preventDefault(); });

function setTheme(theme) {
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  if (theme) document.documentElement.dataset.theme = theme;
  Object.assign(find("#theme"), { textContent: dark ? "Light" : "Dark", ariaLabel: `Switch to ${dark ? "light" : "dark"} colours`,
    onclick: () => { localStorage.setItem("theme", dark ? "light" : "dark"); setTheme(dark ? "light" : "dark"); } });
  timeline.redraw();
}

find("#speed").replaceChildren(...SPEEDS.map((speed) => make("option", { value: String(speed), textContent: `${speed}×` })));
find("#speed").onchange = ({ target }) => { player.setSpeed(Number(target.value)); target.blur(); };
find("#help").onclick = () => act("help");
find("#keys .body").append(makeHelp());
find("#add").onsubmit = (event) => {
  event.preventDefault();
  const input = find("#add input");
  attempt(send("label/classes", { name: input.value }).then(() => { input.value = ""; input.blur(); }));
};
setTheme(localStorage.getItem("theme"));
list.run();
