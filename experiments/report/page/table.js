// The ranked table of a study: sorted by any column, searched, and narrowed by the brushes of the parallel coordinates.
const PAGE = 40;

function rankedTable(section, study, kept) {
  const place = section.querySelector(".ranked");
  const search = section.querySelector(".search");
  const columns = tableColumns(study);
  const entries = [...study.cells.map((cell, i) => cellEntry(study, cell, i)), ...DATA.baselines.map(baselineEntry)];
  const state = { column: "dev", descending: false, shown: PAGE };
  const heads = columns.map((column) => headCell(column, state, update));
  const body = element("tbody");
  place.append(element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body));
  search.addEventListener("input", () => { state.shown = PAGE; update(); });

  function update() {
    const query = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = entries.filter((entry) => query.every((word) => entry.text.includes(word)) && kept(entry));
    const column = columns.find((one) => one.key === state.column);
    matches.sort((a, b) => compare(a.values[column.key], b.values[column.key]) * (state.descending ? -1 : 1));
    keepUnknownLast(matches, column.key);
    body.replaceChildren(...matches.slice(0, state.shown).map((entry) => entryRow(study, columns, entry)));
    heads.forEach((head, i) => head.setAttribute("aria-sort", sortName(columns[i].key, state)));
    describeCount(section, matches, entries, state, update);
  }
  update();
  return update;
}

function tableColumns(study) {
  const axes = study.axes.length ? study.axes.map((axis, i) => ({ key: `axis${i}`, title: words(axis), show: (e) => setting(e.values[`axis${i}`]) }))
    : [{ key: "axis0", title: "configuration", show: () => "the one" }];
  return [
    { key: "rank", title: "rank", show: (e) => String(e.values.rank) },
    { key: "dev", title: "dev", show: (e) => estimate(e.cell.dev) },
    ...(DATA.wording.perplexity ? [{ key: "perplexity", title: "dev perplexity", show: (e) => (e.cell.dev[0] === null ? "–" : Math.exp(e.cell.dev[0]).toFixed(1)) }] : []),
    { key: "to_best", title: "to best", show: (e) => (e.cell.to_best ? signed(e.cell.to_best) : "best") },
    ...axes,
    { key: "unseen", title: "dev, unseen", show: (e) => estimate(e.cell.unseen) },
    { key: "train", title: "train", show: (e) => estimate(e.cell.train) },
    { key: "n_params", title: "parameters", show: (e) => e.cell.n_params.toLocaleString("en") },
    { key: "fit", title: "fit", show: (e) => e.cell.fit },
    { key: "n", title: "runs, by seed", show: null },
  ];
}

function signed(value) {
  const text = estimate(value);
  return text.startsWith("-") || text === "–" ? text : `+${text}`;
}

function cellEntry(study, cell, i) {
  const values = {
    rank: i + 1, dev: cell.dev[0], perplexity: cell.dev[0], to_best: cell.to_best ? cell.to_best[0] : 0, n: cell.n, unseen: cell.unseen[0],
    train: cell.train[0], n_params: cell.n_params, fit: cell.fit,
  };
  study.axes.forEach((_, k) => { values[`axis${k}`] = cell.values[k]; });
  const ids = cell.runs.map((run) => DATA.runs.id[run]).join(" ");
  return { cell, values, text: `${describe(study.axes, cell.values)} ${study.axes.join(" ")} ${cell.fit} ${ids}`.toLowerCase() };
}

function baselineEntry(baseline) {
  return { baseline, values: { dev: baseline.dev, perplexity: baseline.dev, train: baseline.train }, text: baseline.name.toLowerCase() };
}

function headCell(column, state, update) {
  const sort = () => {
    state.descending = state.column === column.key && !state.descending;
    state.column = column.key;
    update();
  };
  return element("th", { scope: "col" }, element("button", { type: "button", onclick: sort }, column.title));
}

function sortName(key, state) {
  return key !== state.column ? "none" : state.descending ? "descending" : "ascending";
}

function compare(a, b) {
  if (typeof a === "string" && typeof b === "string") return a < b ? -1 : a > b ? 1 : 0;
  return a === b ? 0 : a < b ? -1 : 1;
}

function keepUnknownLast(matches, key) {
  const known = matches.filter((entry) => entry.values[key] !== undefined && entry.values[key] !== null);
  const unknown = matches.filter((entry) => !known.includes(entry));
  matches.splice(0, matches.length, ...known, ...unknown);
}

function entryRow(study, columns, entry) {
  return entry.baseline ? baselineRow(study, columns, entry.baseline) : cellRow(columns, entry);
}

function cellRow(columns, entry) {
  const cells = columns.map((column, i) => {
    if (!column.show) return element("td", { class: "runs" }, ...runLinks(entry.cell), diverged(entry.cell));
    return element(i ? "td" : "th", i ? {} : { scope: "row" }, column.show(entry));
  });
  return element("tr", { class: entry.cell.fit === "best" ? "best" : null }, ...cells);
}

function diverged(cell) {
  return cell.n_diverged ? `${cell.n} done, ${cell.n_diverged} diverged` : `n = ${cell.n}`;
}

function runLinks(cell) {
  return cell.runs.slice().sort((a, b) => DATA.runs.seed[a] - DATA.runs.seed[b]).flatMap((run) => {
    const label = `seed ${DATA.runs.seed[run]}, run ${DATA.runs.id[run]}`;
    return [element("a", { href: `#run-${DATA.runs.id[run]}`, "aria-label": label, title: label }, String(DATA.runs.seed[run])), " "];
  });
}

function baselineRow(study, columns, baseline) {
  const named = columns.filter((column) => column.key.startsWith("axis"));
  const cells = columns.filter((column) => !named.includes(column) || column === named[0]).map((column, i) => {
    if (column === named[0]) return element("td", { class: "name", colspan: named.length }, baseline.name);
    const known = { rank: "–", dev: loss(baseline.dev), train: loss(baseline.train) };
    return element(i ? "td" : "th", i ? {} : { scope: "row" }, known[column.key] || "");
  });
  return element("tr", { class: "baseline" }, ...cells);
}

function describeCount(section, matches, entries, state, update) {
  const cells = matches.filter((entry) => entry.cell).length;
  const all = entries.filter((entry) => entry.cell).length;
  section.querySelector(".count").textContent = `${cells} of ${all} configurations, ${matches.length - cells} baselines`;
  const rest = matches.length - state.shown;
  const show = (n) => () => { state.shown += n; update(); };
  section.querySelector(".more").replaceChildren(...(rest <= 0 ? [] : [
    element("button", { type: "button", onclick: show(200) }, `show ${Math.min(200, rest)} more`), " ",
    element("button", { type: "button", onclick: show(rest) }, `show all ${matches.length.toLocaleString("en")}`),
  ]));
}
