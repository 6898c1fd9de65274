// The charts of one study. Every chart has the same numbers in a table of the page, or says them in its label.
const FITS = { best: "#0072B2", close: "#009E73", "under-fits": "#E69F00", "over-fits": "#CC79A7", diverged: "#888888" };
const SERIES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#888888", "#000000"];

function mainEffects(section, study) {
  const parent = section.querySelector(".effects");
  if (!study.main.length) return;
  parent.append(element("h4", {}, "Main effects: dev loss minus that of the axis’s best value, over all other axes, paired by seed"));
  const grid = element("div", { class: "small-charts" });
  parent.append(grid);
  const limit = farOffSideBySide(study.main.map((effect) => effect.points.map((p) => p[0])));
  const near = study.main.flatMap((effect) => effect.points).filter((p) => p[0] <= limit);
  const range = padded(Math.min(...near.map((p) => p[0] - halfWidth(p))), Math.max(...near.map((p) => p[0] + halfWidth(p))));
  for (const effect of study.main) {
    const label = `Main effect of ${words(effect.axis)}: ${effect.names.map((name, i) => `${name} ${estimate(effect.points[i])}`).join("; ")}`;
    chart(grid, label, () => effectChart(effect, axis("minus the best value", { range, limit })), 260);
  }
}

function effectChart(effect, y) {
  const colours = effect.colours ? effect.colours.map(themed) : effect.names.map(() => themed(SERIES[0]));
  const marks = effect.points.map((point, i) => ({
    kind: "dots", x: [effect.places[i]], y: [point[0]], colour: colours[i], errors: [halfWidth(point)], hover: [`${effect.names[i]}: ${estimate(point)}`],
  }));
  if (effect.ordered) marks.unshift({ kind: "line", x: effect.places, y: effect.points.map((p) => p[0]), colour: colours[0], width: 1.2 });
  return { x: nameAxis(words(effect.axis), effect.names, effect.places), y, marks };
}

// One place a name, half a place of room on either side.
function nameAxis(title, names, places = names.map((_, i) => i)) {
  return axis(title, { ticks: names.map((name, i) => [places[i], name]), range: [-0.5, names.length - 0.5] });
}

function interactionPlot(section, study) {
  const parent = section.querySelector(".interactions");
  if (!study.pairs.length) return;
  parent.append(element("h4", {}, "Interactions: dev loss minus that of the best pair of values, over all other axes, paired by seed"));
  const name = (pair) => pair.axes.map(words).join(" × ");
  const choice = element("select", {}, ...study.pairs.map((pair, i) => element("option", { value: i }, name(pair))));
  parent.append(element("label", { class: "choice" }, "pair ", choice));
  const drawn = chart(parent, "Interaction of two axes; lines that are not parallel interact", () => pairChart(study.pairs[Number(choice.value)]), 340);
  choice.addEventListener("change", drawn.redraw);
}

function pairChart(pair) {
  const marks = pair.second.map((name, i) => ({
    kind: "line", x: pair.places, y: pair.points[i].map((p) => p[0]), name: `${words(pair.axes[1])} ${name}`,
    colour: themed(SERIES[i % SERIES.length]), dots: 6, errors: pair.points[i].map(halfWidth),
    hover: pair.first.map((first, k) => `${first}, ${name}: ${estimate(pair.points[i][k])}`),
  }));
  return { x: nameAxis(words(pair.axes[0]), pair.first, pair.places), y: axis("minus the best pair", { limit: farOff(pair.points.flat().map((p) => p[0])) }), marks };
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
  const names = cells.map((cell) => describe(study.axes, cell.values));
  const narrow = innerWidth < 700;
  const marks = cells.map((cell, i) => ({
    kind: "dots", x: [values[i][0]], y: [i], colour: themed(FITS[cell.fit]), errors: [halfWidth(values[i])], along: "x", hover: [`${i + 1}. ${names[i]}: ${estimate(values[i])}`],
  }));
  const ranks = nameAxis(narrow ? "rank" : "", narrow ? names.map((_, i) => String(i + 1)) : names);
  return { x: axis("dev loss minus the best", { limit: farOff(values.map((v) => v[0])) }), y: { ...ranks, reversed: true }, marks };
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
  const curves = study.curves.filter((curve) => curve.dev[0][0] !== null).reverse(), starts = curves.map((curve) => curve.dev[0][0]);
  const uniform = DATA.uniform, most = 1.1 * Math.max(uniform, ...starts);
  const marks = curves.map((curve, i) => ({
    kind: "bar", x: [starts[i]], y: [i], colour: themed(curve.colour), open: curve.dash !== "solid", hover: [`${curve.label}: ${estimate(curve.dev[0])} at step 0`],
  }));
  const ticks = [1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500].map((place) => [place, String(place)]);
  const x = axis("dev loss at step 0", { log: true, range: [Math.min(1, 0.8 * Math.min(...starts)), most], ticks });
  return { x, y: nameAxis("", curves.map((curve) => curve.label)), marks: [...marks, { kind: "rule", x: [uniform], colour: cssColour("--faint") }] };
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
  const early = Math.min(...study.curves.map((curve) => curve.dev[Math.floor(curve.dev.length / 4)][0] ?? low));
  const y = axis("dev loss", { range: [low - 0.15 * spread, Math.max(low + 3 * spread, early + 0.5 * spread)] });
  const x = axis("training step", { range: padded(0, Math.max(...study.curves.map((curve) => curve.steps.at(-1)))) });
  const alpha = Math.min(0.12, 0.6 / shown.length);  // Many bands would hide their lines.
  return { x, y, marks: shown.flatMap((curve) => curveMarks(curve, withTrain, alpha)) };
}

function curveMarks(curve, withTrain, alpha) {
  const line = { kind: "line", x: curve.steps, colour: themed(curve.colour), dash: curve.dash };
  const marks = [];
  if (curve.dev.every((point) => point[1] !== null)) {
    marks.push({ kind: "band", x: curve.steps, low: curve.dev.map((p) => p[1]), high: curve.dev.map((p) => p[2]), colour: line.colour, alpha });
  }
  const hover = curve.steps.map((step, i) => `${curve.label}\nstep ${step}: ${estimate(curve.dev[i])}`);
  marks.push({ ...line, y: curve.dev.map((p) => p[0]), width: 1.8, hover });
  if (withTrain) marks.push({ ...line, y: curve.train, width: 0.8 });
  return marks;
}

function fittingPlot(section, study) {
  const label = "Train loss against dev loss, one point a configuration, named by its fit; the ranked table holds the numbers";
  chart(section.querySelector(".fitting"), label, () => fittingChart(study), 420);
}

function fittingChart(study) {
  const cells = study.cells.filter((cell) => cell.dev[0] !== null && cell.train[0] !== null);
  const marks = Object.keys(FITS).map((fit) => fittingDots(study, cells.filter((cell) => cell.fit === fit), fit)).filter((mark) => mark.x.length);
  const train = cells.map((cell) => cell.train[0]), dev = cells.map((cell) => cell.dev[0]), limits = [farOff(train), farOff(dev)];
  const both = [...train, ...dev].filter((value) => value <= Math.max(...limits)).sort((a, b) => a - b), ends = both.length ? [both[0], both.at(-1)] : [];
  const diagonal = { kind: "line", x: ends, y: ends, dash: "dot", width: 1, colour: cssColour("--faint"), name: "dev = train" };
  return { x: axis("train loss", { limit: limits[0] }), y: axis("dev loss", { limit: limits[1] }), marks: [diagonal, ...marks.reverse()] };
}

function fittingDots(study, cells, fit) {
  return {
    kind: "dots", x: cells.map((cell) => cell.train[0]), y: cells.map((cell) => cell.dev[0]), name: fit, colour: themed(FITS[fit]), star: fit === "best",
    hover: cells.map((cell) => `${describe(study.axes, cell.values)}: train ${estimate(cell.train)}, dev ${estimate(cell.dev)}, ${fit}`),
  };
}
