// Charts as SVG: lines, bands, dots with error bars, bars and words over two axes. Labels are text nodes, never parsed.
// A chart is {x, y, marks}: two axes and what is drawn on them, in order. See `axis` and MARKS for what each may say.
const DASHES = { dash: "7 4", dot: "1.5 3.5", dashdot: "7 3 1.5 3" };
const FONT = "12px system-ui, sans-serif";
const REACH = 40;  // Pixels from the pointer to the nearest thing that has something to say.
const LINE_HEIGHT = 18;
const SLANTED = 90;  // Pixels of a label that stands at a slant.

// `range`: its ends, else those of the marks; `ticks`: [place, text] pairs, else round numbers; `limit`: where it ends at
// the latest, because what lies beyond would flatten all else and is written as a number at the edge.
function axis(title, more = {}) {
  return { title, ...more };
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined && value !== null) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function plot(box, spec, height) {
  const frame = frameOf(spec, box.clientWidth, height);
  const field = svg("svg", { class: "marks", x: frame.left, y: frame.top, width: frame.width, height: frame.height });
  const targets = [];
  for (const mark of spec.marks) MARKS[mark.kind](field, mark, frame, targets);
  const ring = svg("circle", { r: 8, fill: "none", stroke: "currentColor", visibility: "hidden" });
  field.append(ring);
  const tip = element("div", { class: "tip", hidden: true });
  const drawing = svg("svg", { width: frame.outer, height, role: "presentation" }, ...axesOf(spec, frame), field);
  box.replaceChildren(drawing, ...legendOf(spec.marks), tip);
  listenForPointer(drawing, frame, targets, ring, tip);
}

// Where the field of the marks lies, and how values become pixels in it.
function frameOf(spec, outer, height) {
  const ranges = { x: rangeOf(spec, "x"), y: rangeOf(spec, "y") };
  const yTicks = ticksOf(spec.y, ranges.y, height / 45), room = spec.y.title ? LINE_HEIGHT : 2;
  const left = Math.min(0.45 * outer, Math.max(...yTicks.map(([, text]) => textWidth(text)), 0) + 10 + room);
  const xTicks = ticksOf(spec.x, ranges.x, (outer - left) / 80), widest = Math.max(...xTicks.map(([, text]) => textWidth(text)), 0);
  const turned = widest + 6 > (outer - left - 14) / xTicks.length;
  const right = turned ? 14 : Math.max(14, widest / 2 + 2), slant = turned ? 0.6 * Math.min(widest, SLANTED) : 0;
  const frame = { outer, left, top: 10, width: Math.max(outer - left - right, 20), height: height - 54 - slant, slant, xTicks, yTicks };
  frame.isFar = { x: (value) => value > (spec.x.limit ?? Infinity), y: (value) => value > (spec.y.limit ?? Infinity) };
  const share = (value, range, log) => (log ? Math.log(value / range[0]) / Math.log(range[1] / range[0]) : (value - range[0]) / (range[1] - range[0]));
  frame.x = (value) => tenth(frame.width * share(value, ranges.x, spec.x.log));
  frame.y = (value) => tenth(frame.height * (spec.y.reversed ? share(value, ranges.y) : 1 - share(value, ranges.y)));
  return frame;
}

function tenth(value) {
  return Math.round(10 * value) / 10;
}

function rangeOf(spec, along) {
  if (spec[along].range) return spec[along].range;
  const values = spec.marks.flatMap((mark) => {
    if (mark.kind === "band" && along === "y") return [...mark.low, ...mark.high];
    const own = mark[along] || [], half = mark.errors && (mark.along || "y") === along ? mark.errors : null;
    return half ? own.flatMap((value, i) => (value === null ? [] : [value - half[i], value + half[i]])) : own;
  }).filter((value) => value !== null && value <= (spec[along].limit ?? Infinity));
  return values.length ? padded(values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))) : [0, 1];
}

// Much as far_off of experiments/analysis/style.py: twice as far from the best as about four fifths of the values reach.
function farOff(values) {
  const sorted = values.slice().sort((a, b) => a - b), reach = sorted[Math.ceil(0.8 * (sorted.length - 1))] - sorted[0];
  return reach > 0 && sorted.at(-1) > sorted[0] + 2 * reach ? sorted[0] + 2 * reach : Infinity;
}

// Of groups that share an axis: far off within its own group, and beyond what the others need.
function farOffSideBySide(groups) {
  return Math.max(...groups.map((values) => Math.min(farOff(values), Math.max(...values))));
}

function padded(low, high) {
  const room = 0.06 * (high - low) || 0.01;
  return [low - room, high + room];
}

function ticksOf(one, [low, high], most) {
  if (one.ticks) return one.ticks.filter(([place]) => place >= low && place <= high);
  const rough = (high - low) / Math.max(most, 2), power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), first = Math.ceil(low / step);
  const places = Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
  return places.map((place) => [place, (place + 0).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })]);
}

const ruler = document.createElement("canvas").getContext("2d");
function textWidth(text) {
  ruler.font = FONT;
  return ruler.measureText(text).width;
}

function shortened(text, room) {
  if (textWidth(text) <= room) return text;
  let end = text.length;
  while (end > 1 && textWidth(`${text.slice(0, end)}…`) > room) end -= 1;
  return `${text.slice(0, end)}…`;
}

function axesOf(spec, frame) {
  const { left, top, width, height } = frame, bottom = top + height, made = [];
  for (const [place, text] of frame.xTicks) {
    const x = tenth(left + frame.x(place));
    made.push(svg("line", { class: "grid", x1: x, x2: x, y1: top, y2: bottom }), xLabel(x, bottom + 16, text, frame));
  }
  for (const [place, text] of frame.yTicks) {
    const y = tenth(top + frame.y(place)), room = left - 8 - (spec.y.title ? LINE_HEIGHT : 2);
    made.push(svg("line", { class: "grid", x1: left, x2: left + width, y1: y, y2: y }),
      svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, shortened(text, room)));
  }
  made.push(svg("text", { x: left + width / 2, y: bottom + 37 + frame.slant, "text-anchor": "middle" }, spec.x.title));
  if (spec.y.title) made.push(svg("text", { transform: `translate(13 ${top + height / 2}) rotate(-90)`, "text-anchor": "middle" }, spec.y.title));
  return made;
}

// Labels that do not fit beside one another stand at a slant.
function xLabel(x, y, text, frame) {
  if (!frame.slant) return svg("text", { x, y, "text-anchor": "middle" }, text);
  return svg("text", { transform: `translate(${x + 4} ${y - 4}) rotate(-35)`, "text-anchor": "end" }, shortened(text, Math.min(SLANTED, 1.2 * x)));
}

// `x` and `y` are lists of one number a point (null: none there); `hover` one text a point; `name` puts it in the legend.
const MARKS = {
  // `low` and `high` instead of `y`.
  band(field, { x, low, high, colour, alpha = 0.12 }, frame) {
    const edge = (values) => x.map((value, i) => `${frame.x(value)} ${frame.y(values[i])}`);
    field.append(svg("path", { d: `M${[...edge(low), ...edge(high).reverse()].join("L")}Z`, fill: colour, "fill-opacity": alpha }));
  },
  // `dots`: the width of a dot at each point.
  line(field, { x, y, colour, width = 1.6, dash, dots = 0, errors, hover }, frame, targets) {
    const kept = known(x, y), d = `M${kept.map((i) => `${frame.x(x[i])} ${frame.y(y[i])}`).join("L")}`;
    if (kept.length > 1) field.append(svg("path", { d, fill: "none", stroke: colour, "stroke-width": width, "stroke-dasharray": DASHES[dash], "stroke-linejoin": "round" }));
    if (dots || hover) MARKS.dots(field, { x, y, colour, size: dots, errors, hover }, frame, targets);
  },
  // `errors`: half widths of intervals, `along` x or y.
  dots(field, { x, y, colour, size = 8, star = false, alpha = 1, errors, along = "y", hover, words }, frame, targets) {
    for (const i of known(x, y).filter((i) => frame.isFar.x(x[i]) || frame.isFar.y(y[i]))) farDot(field, x[i], y[i], colour, hover && hover[i], frame, targets);
    const kept = known(x, y).filter((i) => !frame.isFar.x(x[i]) && !frame.isFar.y(y[i])), at = kept.map((i) => [frame.x(x[i]), frame.y(y[i])]);
    if (errors) field.append(svg("path", { class: "errors", d: kept.map((i) => errorBar(x[i], y[i], errors[i], along, frame)).join(""), stroke: colour }));
    // A line of no length with round ends is a dot: thousands of them are one element.
    if (star) field.append(svg("path", { d: at.map(starPath).join(""), fill: colour, class: "star" }));
    else if (size) field.append(svg("path", { class: "dots", d: at.map(([px, py]) => `M${px} ${py}h0`).join(""), stroke: colour, "stroke-width": size, "stroke-linecap": "round", "stroke-opacity": alpha }));
    if (words) kept.forEach((i, k) => field.append(svg("text", { x: at[k][0], y: at[k][1] + 4, "text-anchor": "middle" }, words[i])));
    if (hover) kept.forEach((i, k) => targets.push({ left: at[k][0], right: at[k][0], y: at[k][1], text: hover[i] }));
  },
  // One horizontal bar, from the left to `x` at the height `y`; an `open` one is pale with an edge.
  bar(field, { x: [x], y: [y], colour, open, hover }, frame, targets) {
    const right = frame.x(x), top = frame.y(y + 0.4), bottom = frame.y(y - 0.4);
    field.append(svg("rect", { x: 0, y: top, width: Math.max(right, 1), height: bottom - top, fill: colour, "fill-opacity": open ? 0.3 : 1, stroke: colour }));
    targets.push({ left: 0, right, y: frame.y(y), text: hover[0] });
  },
  // A vertical line.
  rule(field, { x: [x], colour }, frame) {
    field.append(svg("line", { x1: frame.x(x), x2: frame.x(x), y1: 0, y2: frame.height, stroke: colour, "stroke-width": 1.5, "stroke-dasharray": DASHES.dot }));
  },
};

function known(x, y) {
  return x.map((_, i) => i).filter((i) => x[i] !== null && y[i] !== null);
}

// An arrow at the edge towards a dot that lies beyond it, with its place in words.
function farDot(field, x, y, colour, text, frame, targets) {
  const right = frame.isFar.x(x), up = frame.isFar.y(y);
  const px = right ? frame.width - 4 : frame.x(x), py = up ? 4 : frame.y(y);
  const words = right && up ? "↗" : right ? `${x.toFixed(3)} →` : `${y.toFixed(3)} →`;
  const turn = up && !right ? `translate(${px + 4} ${py}) rotate(-90)` : `translate(${px} ${py + (up ? 10 : 4)})`;
  field.append(svg("text", { transform: turn, "text-anchor": "end", fill: colour, class: "far" }, words));
  if (text) targets.push({ left: px, right: px, y: py, text });
}

function errorBar(x, y, half, along, frame) {
  if (!half) return "";
  if (along === "x") return `M${frame.x(x - half)} ${frame.y(y)}H${frame.x(x + half)}m0 -3v6M${frame.x(x - half)} ${frame.y(y) - 3}v6`;
  return `M${frame.x(x)} ${frame.y(y - half)}V${frame.y(y + half)}m-3 0h6M${frame.x(x) - 3} ${frame.y(y - half)}h6`;
}

function starPath([x, y]) {
  const corner = (i) => { const angle = (Math.PI * i) / 5, r = i % 2 ? 3.6 : 8.5; return `${tenth(x + r * Math.sin(angle))} ${tenth(y - r * Math.cos(angle))}`; };
  return `M${Array.from({ length: 10 }, (_, i) => corner(i)).join("L")}Z`;
}

function legendOf(marks) {
  const named = marks.filter((mark) => mark.name);
  if (!named.length) return [];
  return [element("ul", { class: "key" }, ...named.map((mark) => {
    const swatch = mark.kind === "dots" ? element("span", { class: "spot", style: `background: ${mark.colour}` }) : element("span", { class: `stroke ${mark.dash || "solid"}`, style: `border-color: ${mark.colour}` });
    return element("li", {}, swatch, " ", mark.name);
  }))];
}

// Says what is nearest to the pointer, and rings it.
function listenForPointer(drawing, frame, targets, ring, tip) {
  const hide = () => { tip.hidden = true; ring.setAttribute("visibility", "hidden"); };
  const point = (event) => {
    const box = drawing.getBoundingClientRect(), x = event.clientX - box.left - frame.left, y = event.clientY - box.top - frame.top;
    const away = (one) => Math.hypot(x - Math.max(one.left, Math.min(one.right, x)), y - one.y);
    const nearest = targets.reduce((best, one) => (best && away(best) <= away(one) ? best : one), null);
    if (!nearest || away(nearest) > REACH) return hide();
    ring.setAttribute("cx", nearest.right);
    ring.setAttribute("cy", nearest.y);
    ring.setAttribute("visibility", "visible");
    tip.textContent = nearest.text;
    tip.hidden = false;
    placeTip(tip, frame.left + nearest.right, frame.top + nearest.y, frame.outer);
  };
  drawing.addEventListener("pointermove", point);
  drawing.addEventListener("pointerdown", point);
  drawing.addEventListener("pointerleave", hide);
}

function placeTip(tip, x, y, outer) {
  tip.style.left = "0";
  tip.style.left = `${Math.max(0, Math.min(x + 12, outer - tip.offsetWidth))}px`;
  tip.style.top = y > tip.offsetHeight + 14 ? `${y - tip.offsetHeight - 12}px` : `${y + 14}px`;
}
