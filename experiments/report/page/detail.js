// One run: its numbers, curve, diagnostics, samples and embedding. The address names it, so it can be linked to.
function runDetail(run) {
  const parent = document.querySelector("#detail .run");
  forget(parent);
  const runs = DATA.runs;
  const facts = [
    ["run", runs.id[run]], ["seed", runs.seed[run]], ["dev", loss(runs.dev_loss[run])], [DATA.wording.unseen, loss(runs.dev_unseen_loss[run])],
    ["train", loss(runs.train_loss[run])], ["train at step 0", loss(runs.initial_loss[run])], ["steps", runs.n_steps[run].toLocaleString("en")],
    ["parameters", runs.n_params[run].toLocaleString("en")], ["seconds", runs.seconds[run]],
    ...(runs.diverged[run] === null ? [] : [["diverged at step", runs.diverged[run]]]), ...ownSettings(run),
  ];
  const left = element("div"), right = element("div");
  parent.append(runChoice(run), element("dl", { class: "settings" }, ...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(value))))),
    element("div", { class: "columns" }, left, right));
  left.append(element("h3", {}, "Curve"));
  runCurve(left, run);
  diagnosticsPlot(left, run);
  right.append(element("h3", {}, "Embedding"));
  embeddingPlot(right, run);
  runSamples(parent, run);
}

function ownSettings(run) {
  const study = DATA.studies.find((one) => one.cells.some((cell) => cell.runs.includes(run)));
  const cell = study?.cells.find((one) => one.runs.includes(run));
  return cell ? [["study", study.name], ...study.axes.map((axis, i) => [words(axis), setting(cell.values[i])]), ["as all in this study", study.fixed]] : [];
}

function runChoice(run) {
  const best = DATA.studies.map((study) => study.cells[0]).filter(Boolean);
  const options = best.flatMap((cell, i) => cell.runs.map((one) => element("option", { value: DATA.runs.id[one], selected: one === run }, `best of ${DATA.studies[i].name}, seed ${DATA.runs.seed[one]}`)));
  const tracked = DATA.runs.id.findIndex((_, one) => DATA.embeddings[one] && DATA.embeddings[one].steps.length > 1);
  if (tracked >= 0 && !best.some((cell) => cell.runs.includes(tracked))) {
    options.push(element("option", { value: DATA.runs.id[tracked], selected: tracked === run }, "with its embedding over training"));
  }
  const known = options.some((option) => option.value === DATA.runs.id[run]);
  const other = known ? [] : [element("option", { value: DATA.runs.id[run], selected: true }, `run ${DATA.runs.id[run]}`)];
  const choice = element("select", { onchange: () => { location.hash = `run-${choice.value}`; } }, ...other, ...options);
  return element("label", { class: "choice" }, "run ", choice, " (or choose a seed in a ranked table)");
}

function runCurve(parent, run) {
  const curve = DATA.curves[run];
  if (!curve) {
    parent.append(element("p", { class: "note" }, "Its curve is not in this page, but in the shards (experiments.export --rows)."));
    return;
  }
  const parts = [["train", curve[1], "#0072B2"], ["dev", curve[2], "#D55E00"], ["minibatch", curve[3], "#888888"]];
  chart(parent, `Train, dev and mean minibatch loss of run ${DATA.runs.id[run]} over training`, () => {
    const hover = (name, y) => y.map((value, i) => `${name} at step ${curve[0][i]}: ${loss(value)}`);
    const marks = parts.map(([name, y, colour]) => ({ kind: "line", x: curve[0], y, name, colour: themed(colour), dots: 4, hover: hover(name, y) }));
    const ends = parts.slice(0, 2).flatMap(([, y]) => y.slice(Math.floor(y.length / 4))).filter((v) => v !== null);
    const range = ends.length ? padded(Math.min(...ends), Math.max(...ends)) : undefined;
    return { x: axis("training step"), y: axis("loss", { range }), marks };
  }, 340);
}

function diagnosticsPlot(parent, run) {
  const diagnostics = DATA.diagnostics[run];
  if (!diagnostics) {
    parent.append(element("p", { class: "note" }, "No diagnostics in this page: a sweep with --diagnostics true records them."));
    return;
  }
  const choice = element("select", {}, ...Object.keys(diagnostics.statistics).map((name) => element("option", { value: name }, words(name))));
  parent.append(element("h3", {}, "Diagnostics"), element("label", { class: "choice" }, "statistic ", choice));
  const drawn = chart(parent, "A statistic of each layer or matrix over training", () => {
    const history = diagnostics.statistics[choice.value];
    const marks = history[0].map((_, part) => {
      const y = history.map((values) => values[part]), name = `layer or matrix ${part + 1}`;
      return { kind: "line", x: diagnostics.steps, y, name, colour: themed(SERIES[part % SERIES.length]), dots: 6, hover: y.map((value, i) => `${name} at step ${diagnostics.steps[i]}: ${value}`) };
    });
    return { x: axis("training step"), y: axis(words(choice.value)), marks };
  }, 300);
  choice.addEventListener("change", drawn.redraw);
}

function runSamples(parent, run) {
  const samples = DATA.samples[run];
  parent.append(element("h3", {}, "Samples"));
  if (!samples) {
    parent.append(element("p", { class: "note" }, "None in this page: ", element("code", {}, `python -m experiments.sample DIR --run ${DATA.runs.id[run]} --keep`), " and then experiments.report adds them."));
    return;
  }
  const n = samples.words.length, share = (count) => `${count} of ${n} (${((100 * count) / n).toFixed(0)} %)`;
  parent.append(element("p", {}, `${share(samples.new.filter(Boolean).length)} are not in the ${DATA.wording.training} (bold), ${share(samples.duplicates)} are duplicates; temperature ${samples.temperature}.`),
    element("ul", { class: DATA.wording.perplexity ? "sentences" : "words" }, ...samples.words.map((word, i) => element("li", { class: samples.new[i] ? "new" : null }, element("bdi", {}, word || "(the empty word)")))));
}
