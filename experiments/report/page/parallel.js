// Parallel coordinates on a plain canvas: thousands of lines in a few milliseconds, and no WebGL, which remote desktops
// and old phones lack. A brush is a range of places on an axis, set by dragging or, by keyboard, with two lists.
const CIVIDIS = ["#00224e", "#2a3f6d", "#575d6d", "#7d7c78", "#a69d75", "#d3c164", "#fee838"];
const TOP = 52, BOTTOM = 26, CLICK = 5, NARROW = 100;

function parallelCoordinates(section, study, changed) {
  const parent = section.querySelector(".parallel");
  const runs = study.cells.flatMap((cell, i) => cell.runs.map((run) => ({ cell: i, run })))
    .filter(({ run }) => DATA.runs.diverged[run] === null && DATA.runs.dev_loss[run] !== null);
  if (!parent || !runs.length) return;
  const axes = [...study.axes.map((axis, k) => categoryAxis(words(axis), runs.map(({ cell }) => study.cells[cell].values[k]))),
    lossAxis(runs.map(({ run }) => DATA.runs.dev_loss[run]))];
  const brushes = axes.map(() => null);
  const canvas = element("canvas", { role: "img", "aria-label": parallelLabel(study, runs.length) });
  const status = element("p", { class: "count", role: "status" });
  const limits = limitControls(axes, brushes, refresh);
  parent.append(canvas, status, limits.box);
  let alive = runs.map(() => true);

  function refresh() {
    alive = runs.map((_, i) => axes.every((axis, k) => inside(axis.places[i], brushes[k])));
    const n = alive.filter(Boolean).length;
    status.textContent = `${n.toLocaleString("en")} of ${runs.length.toLocaleString("en")} runs pass`;
    limits.show();
    redraw();
    changed(passing());
  }
  function redraw() { drawLines(canvas, axes, brushes, alive, runs.length); }
  listenForBrushes(canvas, axes, brushes, refresh);
  new ResizeObserver(redraw).observe(canvas);
  themeListeners.push(redraw);
  status.textContent = `${runs.length.toLocaleString("en")} runs`;

  // The cells of which a run passes; null where nothing is brushed.
  function passing() {
    return brushes.some(Boolean) ? new Set(runs.filter((_, i) => alive[i]).map(({ cell }) => study.cells[cell])) : null;
  }
}

function parallelLabel(study, n) {
  return `Parallel coordinates of ${n} runs over ${study.axes.map(words).join(", ")} and dev loss; the ranked table holds the same numbers`;
}

function categoryAxis(title, values) {
  const known = [...new Set(values)].sort(compare);
  const place = new Map(known.map((value, i) => [value, known.length > 1 ? i / (known.length - 1) : 0.5]));
  return { title, spread: 0.08 / Math.max(known.length - 1, 1), places: values.map((value) => place.get(value)), ticks: known.map((value) => [place.get(value), setting(value)]) };
}

// Most runs lie close together and a few far above: the axis ends at the 95th percentile, or before what is far off; later
// ones stand on its end.
function lossAxis(values) {
  const sorted = values.slice().sort((a, b) => a - b);
  const low = sorted[0], high = Math.max(Math.min(sorted[Math.ceil(0.95 * (sorted.length - 1))], farOff(sorted)), low + 1e-4);
  const place = (value) => Math.min((value - low) / (high - low), 1);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((t) => [t, (t === 1 && sorted.at(-1) > high ? "≥ " : "") + loss(low + t * (high - low))]);
  return { title: "dev loss", spread: 0, places: values.map(place), ticks };
}

function inside(place, brush) {
  return !brush || (place >= brush[0] - 1e-9 && place <= brush[1] + 1e-9);
}

function axisX(k, n, width) {
  const margin = Math.min(64, width * 0.12);
  return n === 1 ? width / 2 : margin + (k * (width - 2 * margin)) / (n - 1);
}

function placeY(place, height) {
  return height - BOTTOM - place * (height - TOP - BOTTOM);
}

// Runs of one value fan out a little by their loss, or they would hide one another.
function lineY(axis, i, lossPlace, height) {
  return placeY(axis.places[i] + axis.spread * (lossPlace - 0.5), height);
}

function colourAt(share) {
  const scaled = share * (CIVIDIS.length - 1), i = Math.min(Math.floor(scaled), CIVIDIS.length - 2), t = scaled - i;
  const channel = (colour, shift) => (parseInt(colour.slice(1), 16) >> shift) & 255;
  const mixed = [16, 8, 0].map((shift) => Math.round(channel(CIVIDIS[i], shift) * (1 - t) + channel(CIVIDIS[i + 1], shift) * t));
  return `rgb(${mixed.join(",")})`;
}

function drawLines(canvas, axes, brushes, alive, n) {
  const width = canvas.clientWidth, height = Math.max(280, Math.min(420, width * 0.6)), scale = devicePixelRatio || 1;
  if (!width) return;
  canvas.style.height = `${height}px`;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const losses = axes.at(-1).places, faint = cssColour("--faint");
  const order = [...Array(n).keys()].sort((a, b) => alive[a] - alive[b] || losses[b] - losses[a]);
  const alpha = Math.max(0.12, Math.min(0.85, 60 / n));
  for (const i of order) {
    pen.globalAlpha = alive[i] ? (brushes.some(Boolean) ? Math.max(alpha, 0.5) : alpha) : 0.06;
    pen.strokeStyle = alive[i] ? colourAt(isDark() ? 1 - 0.75 * losses[i] : 0.92 * losses[i]) : faint;
    pen.lineWidth = alive[i] ? 1.4 : 1;
    pen.beginPath();
    axes.forEach((axis, k) => pen[k ? "lineTo" : "moveTo"](axisX(k, axes.length, width), lineY(axis, i, losses[i], height)));
    pen.stroke();
  }
  pen.globalAlpha = 1;
  axes.forEach((axis, k) => drawAxis(pen, axis, brushes[k], axisX(k, axes.length, width), width, height, k, axes.length));
}

function drawAxis(pen, axis, brush, x, width, height, k, n) {
  const ink = cssColour("--ink");
  pen.strokeStyle = ink;
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x, placeY(0, height));
  pen.lineTo(x, placeY(1, height));
  pen.stroke();
  if (brush) {
    pen.fillStyle = cssColour("--accent");
    pen.globalAlpha = 0.35;
    const top = placeY(brush[1], height) - 4;
    pen.fillRect(x - 7, top, 14, placeY(brush[0], height) + 4 - top);
    pen.globalAlpha = 1;
  }
  const last = k === n - 1 && n > 1;
  drawTicks(pen, axis, x, height, last, width / n < NARROW);
  drawTitle(pen, axis.title, x, width / n, k, n, ink);
}

// The last axis has its labels inside the frame; where there is little room, outside and with fewer digits.
function drawTicks(pen, axis, x, height, last, narrow) {
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = last && !narrow ? "right" : "left";
  const step = Math.ceil(axis.ticks.length / 14);
  for (const [place, text] of axis.ticks.filter((_, i) => i % step === 0)) {
    const y = placeY(place, height), at = x + (!last ? 8 : narrow ? 3 : -8);
    const digits = last && narrow ? text.replace(/^≥ /, "≥").replace(/\d+\.\d{3,}$/, (number) => Number(number).toFixed(2)) : text;
    const short = digits.length > 14 ? `${digits.slice(0, 13)}…` : digits;
    pen.lineWidth = 4;
    pen.strokeStyle = cssColour("--paper");
    pen.strokeText(short, at, y);
    pen.fillStyle = cssColour("--ink");
    pen.fillText(short, at, y);
  }
}

// Neighbouring titles stand on two levels where there is little room.
function drawTitle(pen, title, x, room, k, n, ink) {
  pen.font = "600 12px system-ui, sans-serif";
  pen.fillStyle = ink;
  pen.textBaseline = "alphabetic";
  pen.textAlign = k === 0 ? "left" : k === n - 1 ? "right" : "center";
  const from = k === 0 ? -8 : k === n - 1 ? 8 : 0;
  pen.fillText(title, Math.max(x + from, 2), room < 150 && k % 2 ? 14 : 30);
}

function listenForBrushes(canvas, axes, brushes, refresh) {
  let from = null, axis = 0;
  const share = (event) => {
    const box = canvas.getBoundingClientRect();
    return (box.height - BOTTOM - (event.clientY - box.top)) / (box.height - TOP - BOTTOM);
  };
  canvas.addEventListener("pointerdown", (event) => {
    const box = canvas.getBoundingClientRect();
    const distances = axes.map((_, k) => Math.abs(axisX(k, axes.length, box.width) - (event.clientX - box.left)));
    axis = distances.indexOf(Math.min(...distances));
    from = { share: share(event), y: event.clientY };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => { if (from && Math.abs(event.clientY - from.y) > CLICK) set(event); });
  canvas.addEventListener("pointerup", (event) => {
    if (from && Math.abs(event.clientY - from.y) <= CLICK) { brushes[axis] = null; refresh(); }
    from = null;
  });
  canvas.addEventListener("pointercancel", () => { from = null; });
  function set(event) {
    const ends = [from.share, share(event)].map((end) => Math.max(0, Math.min(1, end)));
    brushes[axis] = [Math.min(...ends), Math.max(...ends)];
    refresh();
  }
}

function limitControls(axes, brushes, refresh) {
  const pairs = axes.map((axis, k) => {
    const list = (end) => element("select", { "aria-label": `${axis.title}, ${end}`, onchange: read },
      element("option", { value: "" }, "any"), ...axis.ticks.map(([place, text]) => element("option", { value: place }, text)));
    const lists = [list("from"), list("to")];
    function read() {
      const [low, high] = lists.map((one) => one.value);
      brushes[k] = low === "" && high === "" ? null : [low === "" ? 0 : Number(low), high === "" ? 1 : Number(high)];
      refresh();
    }
    return lists;
  });
  const sets = axes.map((axis, k) => element("fieldset", {}, element("legend", {}, axis.title), pairs[k][0], element("span", {}, "to"), pairs[k][1]));
  const clear = element("button", { type: "button", class: "clear", onclick: () => { brushes.fill(null); refresh(); } }, "keep all runs");
  function show() {
    pairs.forEach(([low, high], k) => { if (!brushes[k]) { low.value = ""; high.value = ""; } });
  }
  return { box: element("details", {}, element("summary", {}, "limits"), element("div", { class: "limits" }, ...sets), clear), show };
}
