// Keys: commands, and the keys of classes.

import { make } from "./draw.js";

const COMMANDS = [
  ["Space", "play", "Play or pause"],
  [",", "back", "A frame back; also ←", "ArrowLeft"],
  [".", "forward", "A frame forward; also →", "ArrowRight"],
  ["Shift ←", "back10", "Ten frames back", "Shift+ArrowLeft"],
  ["Shift →", "forward10", "Ten frames forward", "Shift+ArrowRight"],
  ["↑", "borderBefore", "To the border before", "ArrowUp"],
  ["↓", "borderAfter", "To the next border", "ArrowDown"],
  ["Home", "first", "To the first frame"],
  ["End", "last", "To the last frame"],
  ["<", "slower", "Slower"],
  [">", "faster", "Faster"],
  ["Esc", "cancel", "End painting without a change; let the selection go", "Escape"],
  ["S", "split", "Split the segment at the frame", "s"],
  ["M", "merge", "Merge the segment with the next one", "m"],
  ["B", "border", "Put the nearest border before the frame", "b"],
  ["Del", "remove", "Take the label away", "Delete", "Backspace"],
  ["Enter", "accept", "Accept the pre-labels of the segment"],
  ["Shift Enter", "acceptAll", "Accept all pre-labels", "Shift+Enter"],
  ["N", "unsure", "To the next least sure segment", "n"],
  ["U", "gap", "To the next frames without a label", "u"],
  ["Ctrl Z", "undo", "Undo", "Mod+z"],
  ["Ctrl Y", "redo", "Redo", "Mod+y", "Mod+Shift+z"],
  ["+", "closer", "Zoom in", "="],
  ["-", "wider", "Zoom out", "_"],
  ["0", "whole", "Show the whole video"],
  ["Page ↓", "nextVideo", "The next video", "PageDown"],
  ["Page ↑", "videoBefore", "The video before", "PageUp"],
  ["?", "help", "These keys"],
];
const CLASS_KEYS = [..."123456789qwertyiopadfghjklzxcv"]; // the other letters are commands

export const keyOfClass = (index) => CLASS_KEYS[index] ?? "";

const known = new Map();
for (const [shown, command, , ...keys] of COMMANDS) {
  for (const key of [shown === "Space" ? " " : shown, ...keys]) known.set(key, command);
}

// Returns {command} or {classIndex} of a key, or null.
export function meaningOf(event) {
  const mod = event.ctrlKey || event.metaKey, letter = event.key.length === 1;
  if (event.altKey && !mod) return null;
  const key = letter && event.shiftKey && mod ? event.key.toLowerCase() : event.key;
  const full = (mod ? "Mod+" : "") + (event.shiftKey && (!letter || mod) ? "Shift+" : "") + key;
  const command = known.get(full) ?? (mod ? null : known.get(letter && !event.shiftKey ? key.toLowerCase() : key));
  if (command) return { command };
  const index = mod || event.shiftKey ? -1 : CLASS_KEYS.indexOf(event.key.toLowerCase());
  return index < 0 ? null : { classIndex: index };
}

export function makeHelp() {
  const rows = COMMANDS.map(([shown, , text]) =>
    make("div", {}, make("dt", {}, ...shown.split(" ").map((key) => make("kbd", { textContent: key }))), make("dd", { textContent: text })));
  return make("dl", { className: "keys" }, ...rows);
}
