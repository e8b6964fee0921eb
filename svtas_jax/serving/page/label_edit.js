// Changes of labels. Segments are {start, end, label, proposed}, ascending, without
// overlaps, end exclusive; gaps have no label. Every function returns new ones.

export const segmentAt = (segments, frame) => segments.findIndex((s) => s.start <= frame && frame < s.end);

export function clear(segments, start, end) {
  const kept = [];
  for (const s of segments) {
    if (s.end <= start || s.start >= end) { kept.push(s); continue; }
    if (s.start < start) kept.push({ ...s, end: start });
    if (s.end > end) kept.push({ ...s, start: end });
  }
  return kept;
}

// Gives frames a class; joins them with neighbours of the same class.
export function paint(segments, start, end, label) {
  const kept = clear(segments, start, end), fits = (s) => s.label === label && !s.proposed;
  const added = { start, end, label, proposed: false };
  const others = kept.filter((s) => {
    if (fits(s) && s.end === start) { added.start = s.start; return false; }
    if (fits(s) && s.start === end) { added.end = s.end; return false; }
    return true;
  });
  return [...others, added].sort((a, b) => a.start - b.start);
}

export function split(segments, frame) {
  const at = segmentAt(segments, frame), s = segments[at];
  if (!s || s.start === frame) return segments;
  return [...segments.slice(0, at), { ...s, end: frame }, { ...s, start: frame }, ...segments.slice(at + 1)];
}

// Lets a segment swallow the next one, and the gap between them.
export function merge(segments, at) {
  const s = segments[at], next = segments[at + 1];
  if (!s || !next) return segments;
  return [...segments.slice(0, at), { ...s, end: next.end }, ...segments.slice(at + 2)];
}

// Borders: {frame, left, right}, indices of the segments that end and begin there, or -1.
export function borders(segments) {
  const found = new Map();
  segments.forEach((s, index) => {
    found.set(s.start, { frame: s.start, left: found.get(s.start)?.left ?? -1, right: index });
    found.set(s.end, { frame: s.end, left: index, right: -1 });
  });
  return [...found.values()].sort((a, b) => a.frame - b.frame);
}

// Moves a border, as far as every segment keeps a frame.
export function moveBorder(segments, { left, right }, frame, total) {
  const least = left >= 0 ? segments[left].start + 1 : right > 0 ? segments[right - 1].end : 0;
  const most = right >= 0 ? segments[right].end - 1 : segments[left + 1]?.start ?? total;
  const to = Math.min(most, Math.max(least, frame));
  return segments.map((s, index) => index === left ? { ...s, end: to } : index === right ? { ...s, start: to } : s);
}

export function accept(segments, start, end) {
  return segments.map((s) => s.proposed && s.start < end && s.end > start ? { ...s, proposed: false } : s);
}

export function gaps(segments, total) {
  const found = [];
  let at = 0;
  for (const s of [...segments, { start: total, end: total }]) {
    if (s.start > at) found.push({ start: at, end: s.start });
    at = Math.max(at, s.end);
  }
  return found;
}

// Puts what a run proposes into the gaps; of classes that the folder has.
export function propose(segments, proposed, total, classes) {
  const added = [];
  for (const gap of gaps(segments, total)) {
    for (const [start, end, label] of proposed) {
      const from = Math.max(start, gap.start), to = Math.min(end, gap.end);
      if (from < to && classes.has(label)) added.push({ start: from, end: to, label, proposed: true });
    }
  }
  return [...segments, ...added].sort((a, b) => a.start - b.start);
}

export const equal = (a, b) => a.length === b.length && a.every((s, n) =>
  s.start === b[n].start && s.end === b[n].end && s.label === b[n].label && s.proposed === b[n].proposed);
export const toRows = (segments) => segments.map((s) => [s.start, s.end, s.label, s.proposed]);
export const fromRows = (rows) => rows.map(([start, end, label, proposed]) => ({ start, end, label, proposed }));
