// Parts of the page that draw: elements, timelines, bars of scores, figures.

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function clock(seconds, digits = 0) {
  const whole = Math.floor(seconds / 60);
  const rest = (seconds - 60 * whole).toFixed(digits);
  return `${whole}:${rest.padStart(digits ? digits + 3 : 2, "0")}`;
}

export function milliseconds(value) {
  return value >= 9950 ? `${(value / 1000).toFixed(0)} s`
    : value >= 995 ? `${(value / 1000).toFixed(1)} s` : `${Math.round(value)} ms`;
}

export function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 120 ? "#111" : "#fff";
}

const SPACINGS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400];
const ROW = 38, GAP = 6, AXIS = 22;

// Draws rows of segments, [{name, segments}], between two moments in seconds.
export function drawTimeline(canvas, rows, { from, to, colours, cursor = null }) {
  const width = canvas.clientWidth, height = rows.length * (ROW + GAP) + AXIS;
  const scale = window.devicePixelRatio || 1;
  if (!width) return;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const style = getComputedStyle(canvas), pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = `13px ${style.fontFamily}`;
  pen.textBaseline = "middle";
  const left = rows.length > 1 ? 84 : 0, span = Math.max(to - from, 1e-6);
  const x = (time) => left + ((time - from) / span) * (width - left);
  rows.forEach((row, index) => {
    const y = index * (ROW + GAP);
    pen.fillStyle = style.color;
    if (left) pen.fillText(row.name, 0, y + ROW / 2);
    pen.fillStyle = style.borderTopColor;
    pen.fillRect(left, y, width - left, ROW);
    for (const segment of row.segments) drawSegment(pen, segment, x, y, left, colours);
  });
  drawAxis(pen, style, { from, to, x, y: height - AXIS, width });
  if (cursor !== null) {
    pen.fillStyle = style.color;
    pen.fillRect(x(cursor) - 1, 0, 2, height - AXIS);
  }
}

function drawSegment(pen, segment, x, y, left, colours) {
  const start = Math.max(left, x(segment.time_s[0])), end = x(segment.time_s[1]);
  if (end <= left) return;
  const colour = colours.get(segment.label) ?? "#888888", size = Math.max(1, end - start);
  pen.fillStyle = colour;
  pen.fillRect(start, y, size > 3 ? size - 1 : size, ROW);
  if (pen.measureText(segment.label).width + 12 <= size) {
    pen.fillStyle = inkOn(colour);
    pen.fillText(segment.label, start + 6, y + ROW / 2);
  }
}

function drawAxis(pen, style, { from, to, x, y, width }) {
  const least = ((to - from) * 70) / Math.max(1, width);
  const spacing = SPACINGS.find((value) => value >= least) ?? 86400;
  pen.fillStyle = style.color;
  for (let time = Math.ceil(from / spacing) * spacing; time <= to; time += spacing) {
    const text = clock(time), size = pen.measureText(text).width;
    pen.fillRect(Math.min(x(time), width - 1), y - GAP + 2, 1, 5);
    pen.fillText(text, Math.min(Math.max(0, x(time) - size / 2), width - size), y + 12);
  }
}

// Returns a list of bars and the function that sets them.
export function makeScores(classes) {
  const rows = classes.map(({ name, colour }) => {
    const fill = make("i"), value = make("span", { className: "value" });
    fill.style.setProperty("--colour", colour);
    const item = make("li", {}, make("span", { className: "name", textContent: name, title: name }),
      make("span", { className: "bar", ariaHidden: "true" }, fill), value);
    return { item, fill, value };
  });
  const list = make("ul", { className: "scores", ariaLabel: "Probability of every class" },
    ...rows.map((row) => row.item));
  const set = (scores, best) => rows.forEach(({ item, fill, value }, index) => {
    fill.style.width = `${100 * scores[index]}%`;
    value.textContent = `${Math.round(100 * scores[index])} %`;
    item.classList.toggle("best", index === best);
  });
  return { list, set };
}

// Shows figures, [[name, text, explanation]], in a description list.
export function showFigures(list, figures) {
  if (list.children.length !== figures.length) {
    list.replaceChildren(...figures.map(([name, , title]) =>
      make("div", { title: title ?? "" }, make("dt", { textContent: name }), make("dd"))));
  }
  figures.forEach(([, text], index) => {
    const value = list.children[index].lastChild;
    if (value.textContent !== text) value.textContent = text;
  });
}

export function makeTable(segments, colours) {
  const rows = segments.map((segment) => {
    const swatch = make("span", { className: "swatch" });
    swatch.style.setProperty("--colour", colours.get(segment.label));
    return make("tr", {}, make("td", {}, swatch, segment.label),
      ...segment.time_s.map((time) => make("td", { textContent: clock(time, 1) })),
      make("td", { textContent: `${Math.round(100 * segment.confidence)} %` }));
  });
  const heads = ["Action", "From", "To", "Sure"].map((textContent) =>
    make("th", { textContent, scope: "col" }));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)),
    make("tbody", {}, ...rows));
  return { table, rows };
}
