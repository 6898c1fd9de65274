// The charts of one study. Every chart has the same numbers in a table of the page, or says them in its label.
const FITS = { best: "#0072B2", close: "#009E73", "under-fits": "#E69F00", "over-fits": "#CC79A7", diverged: "#888888" };
const SERIES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#888888", "#000000"];

function errorBars(points, colour, along = "y") {
  return { [`error_${along}`]: { type: "data", array: points.map(halfWidth), color: colour, thickness: 1.2, width: 4 } };
}

function mainEffects(section, study) {
  const parent = section.querySelector(".effects");
  if (!study.main.length) return;
  parent.append(element("h4", {}, "Main effects: mean dev loss over all other axes"));
  const grid = element("div", { class: "small-charts" });
  parent.append(grid);
  const all = study.main.flatMap((effect) => effect.points.flatMap((p) => [p[0] - halfWidth(p), p[0] + halfWidth(p)]));
  const range = padded(Math.min(...all), Math.max(...all));
  for (const effect of study.main) {
    const label = `Main effect of ${words(effect.axis)}: ${effect.names.map((name, i) => `${name} ${estimate(effect.points[i])}`).join("; ")}`;
    chart(grid, label, () => effectChart(effect, range), 260);
  }
}

function effectChart(effect, range) {
  const colours = effect.colours ? effect.colours.map(themed) : effect.names.map(() => themed(SERIES[0]));
  const traces = effect.points.map((point, i) => ({
    x: [i], y: [point[0]], mode: "markers", marker: { color: colours[i], size: 8 }, ...errorBars([point], colours[i]),
    hoverinfo: "text", hovertext: [inert(`${effect.names[i]}: ${estimate(point)}`)],
  }));
  if (effect.ordered) {
    traces.unshift({ x: effect.points.map((_, i) => i), y: effect.points.map((p) => p[0]), mode: "lines", line: { color: colours[0], width: 1.2 }, hoverinfo: "skip" });
  }
  const x = axisStyle(words(effect.axis), { tickvals: effect.names.map((_, i) => i), ticktext: effect.names.map(inert), range: [-0.5, effect.names.length - 0.5] });
  return { traces, layout: layout(x, axisStyle("dev loss", { range })) };
}

function padded(low, high) {
  const room = 0.06 * (high - low) || 0.01;
  return [low - room, high + room];
}

function interactionPlot(section, study) {
  const parent = section.querySelector(".interactions");
  if (!study.pairs.length) return;
  parent.append(element("h4", {}, "Interactions: mean dev loss over all other axes"));
  const name = (pair) => pair.axes.map(words).join(" × ");
  const choice = element("select", {}, ...study.pairs.map((pair, i) => element("option", { value: i }, name(pair))));
  parent.append(element("label", { class: "choice" }, "pair ", choice));
  const drawn = chart(parent, "Interaction of two axes; lines that are not parallel interact", () => pairChart(study.pairs[Number(choice.value)]), 340);
  choice.addEventListener("change", drawn.redraw);
}

function pairChart(pair) {
  const traces = pair.second.map((name, i) => {
    const colour = themed(SERIES[i % SERIES.length]);
    return {
      x: pair.first.map((_, k) => k), y: pair.points[i].map((p) => p[0]), name: inert(`${words(pair.axes[1])} ${name}`),
      mode: "lines+markers", line: { color: colour, width: 1.5 }, ...errorBars(pair.points[i], colour),
      hoverinfo: "text", hovertext: pair.first.map((first, k) => inert(`${first}, ${name}: ${estimate(pair.points[i][k])}`)),
    };
  });
  const x = axisStyle(words(pair.axes[0]), { tickvals: pair.first.map((_, k) => k), ticktext: pair.first.map(inert) });
  return { traces, layout: layout(x, axisStyle("dev loss"), { showlegend: true, legend: { orientation: "h", y: -0.28 } }) };
}

function differencesPlot(section, study) {
  const cells = study.cells.filter((cell) => cell.n).slice(0, 40);
  if (cells.length < 2) return;
  const parent = section.querySelector(".differences");
  const out = study.cells.length > cells.length ? `, the ${cells.length} best` : "";
  parent.append(element("h4", {}, `Differences to the best, paired by seed${out}`));
  chart(parent, "Dev loss of each configuration minus the best one's, with 95 % intervals: the column “to best” of the ranked table", () => forest(study, cells), 90 + 20 * cells.length);
}

function forest(study, cells) {
  const values = cells.map((cell) => cell.to_best || [0, 0, 0]);
  const colour = themed("#0072B2");
  const names = cells.map((cell) => describe(study.axes, cell.values));
  const narrow = innerWidth < 700;
  const ticks = narrow ? names.map((_, i) => String(i + 1)) : names.map(inert);
  const traces = [{
    x: values.map((v) => v[0]), y: cells.map((_, i) => i), mode: "markers", marker: { color: cells.map((cell) => themed(FITS[cell.fit])), size: 8 },
    ...errorBars(values, colour, "x"), hoverinfo: "text", hovertext: names.map((name, i) => inert(`${i + 1}. ${name}: ${estimate(values[i])}`)),
  }];
  const y = axisStyle(narrow ? "rank" : "", { tickvals: cells.map((_, i) => i), ticktext: ticks, autorange: "reversed" });
  return { traces, layout: layout(axisStyle("dev loss minus the best"), y) };
}

function schemesPlot(section, study) {
  const parent = section.querySelector(".schemes");
  const place = study.axes.indexOf("init");
  if (!parent || study.curves.length < 2 || place < 0) return;
  const label = "Dev loss at step 0 on a logarithmic axis, by configuration; dotted: uniform";
  parent.append(element("p", { class: "note" }, `${label}.`));
  chart(parent, label, () => schemeChart(study), 120 + 22 * study.curves.length);
}

function schemeChart(study) {
  const curves = study.curves.slice().reverse();
  const bars = {
    type: "bar", orientation: "h", y: curves.map((_, i) => i), x: curves.map((c) => c.dev[0][0]), hoverinfo: "text",
    marker: { color: curves.map((c) => themed(c.colour)), pattern: { shape: curves.map((c) => (c.dash === "solid" ? "" : "/")) } },
    hovertext: curves.map((c) => inert(`${c.label}: ${estimate(c.dev[0])} at step 0`)),
  };
  const uniform = Math.log(DATA.tokens.length);
  const line = { type: "line", x0: uniform, x1: uniform, y0: 0, y1: 1, yref: "paper", line: { color: cssColour("--faint"), dash: "dot" } };
  const y = axisStyle("", { tickvals: curves.map((_, i) => i), ticktext: curves.map((c) => inert(c.label.length > 34 ? `${c.label.slice(0, 33)}…` : c.label)) });
  return { traces: [bars], layout: layout(axisStyle("dev loss at step 0", { type: "log", tickvals: [1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500] }), y, { shapes: [line] }) };
}

function learningCurves(section, study) {
  if (!study.curves.length) return;
  const withTrain = section.querySelector(".with-train"), parent = section.querySelector(".curves");
  const out = study.cells.length > study.curves.length ? `the ${study.curves.length} best of ${study.cells.length}` : "all";
  const label = `Dev loss over training of ${out} configurations, mean and 95 % interval over seeds`;
  const hidden = new Set();
  const drawn = chart(parent, label, () => curveChart(study, withTrain.checked, hidden), 420);
  parent.append(curveLegend(study, hidden, drawn.redraw), element("p", { class: "note" }, `${label}.`));
  withTrain.addEventListener("change", drawn.redraw);
}

// plotly's own legend is cut off on a phone and deaf to a keyboard.
function curveLegend(study, hidden, redraw) {
  const swatches = study.curves.map((curve) => element("span", { class: `stroke ${curve.dash}` }));
  const colour = () => swatches.forEach((swatch, i) => { swatch.style.borderColor = themed(study.curves[i].colour); });
  themeListeners.push(colour);
  colour();
  const items = study.curves.map((curve, i) => {
    const box = element("input", { type: "checkbox", onchange: () => { hidden[box.checked ? "delete" : "add"](i); redraw(); } });
    box.checked = true;
    return element("li", {}, element("label", {}, box, " ", swatches[i], " ", curve.label));
  });
  return element("ul", { class: "legend" }, ...items);
}

function curveChart(study, withTrain, hidden) {
  const shown = study.curves.filter((_, i) => !hidden.has(i));
  const ends = study.curves.map((curve) => curve.dev.at(-1)[0]).filter((end) => end !== null).sort((a, b) => a - b);
  const low = Math.min(ends[0], ...(withTrain ? study.curves.map((c) => c.train.at(-1)).filter((v) => v !== null) : []));
  const spread = Math.max(ends[Math.ceil(0.9 * (ends.length - 1))] - low, 0.02);
  const y = axisStyle("dev loss", { range: [low - 0.15 * spread, low + 3 * spread] });
  return { traces: shown.flatMap((curve) => curveTraces(curve, withTrain)), layout: layout(axisStyle("training step"), y) };
}

function curveTraces(curve, withTrain) {
  const colour = themed(curve.colour), line = { color: colour, dash: curve.dash, width: 1.8 };
  const common = { x: curve.steps };
  const hovertext = curve.steps.map((step, i) => inert(`${curve.label}\nstep ${step}: ${estimate(curve.dev[i])}`));
  const traces = [];
  if (curve.dev.every((point) => point[1] !== null)) {
    const edge = { ...common, mode: "lines", line: { width: 0 }, hoverinfo: "skip" };
    traces.push({ ...edge, y: curve.dev.map((p) => p[2]) }, { ...edge, y: curve.dev.map((p) => p[1]), fill: "tonexty", fillcolor: translucent(curve.colour, 0.12) });
  }
  traces.push({ ...common, y: curve.dev.map((p) => p[0]), mode: "lines", line, hoverinfo: "text", hovertext });
  if (withTrain) traces.push({ ...common, y: curve.train, mode: "lines", line: { ...line, width: 0.8 }, hoverinfo: "skip" });
  return traces;
}

function fittingPlot(section, study) {
  const label = "Train loss against dev loss, one point a configuration, named by its fit; the ranked table holds the numbers";
  chart(section.querySelector(".fitting"), label, () => fittingChart(study), 420);
}

function fittingChart(study) {
  const known = study.cells.filter((cell) => cell.dev[0] !== null);
  const traces = Object.keys(FITS).map((fit) => fittingTrace(study, known.filter((cell) => cell.fit === fit), fit)).filter((trace) => trace.x.length);
  const low = Math.min(...known.flatMap((cell) => [cell.train[0], cell.dev[0]])), high = Math.max(...known.map((cell) => Math.max(cell.train[0], cell.dev[0])));
  traces.push({ x: [low, high], y: [low, high], mode: "lines", line: { dash: "dot", width: 1, color: cssColour("--faint") }, name: "dev = train", hoverinfo: "skip" });
  return { traces, layout: layout(axisStyle("train loss"), axisStyle("dev loss"), { showlegend: true, legend: { orientation: "h", y: -0.2 } }) };
}

function fittingTrace(study, cells, fit) {
  return {
    x: cells.map((cell) => cell.train[0]), y: cells.map((cell) => cell.dev[0]), mode: "markers", name: fit,
    marker: { color: themed(FITS[fit]), size: fit === "best" ? 13 : 8, symbol: fit === "best" ? "star" : "circle" },
    hoverinfo: "text", hovertext: cells.map((cell) => inert(`${describe(study.axes, cell.values)}: train ${estimate(cell.train)}, dev ${estimate(cell.dev)}, ${fit}`)),
  };
}
