// Studies first, then the run that the address names.
function buildStudy(section) {
  const study = DATA.studies[Number(section.dataset.study)];
  let passing = null;
  const update = rankedTable(section, study, (entry) => passing === null || passing.has(entry.cell));
  parallelCoordinates(section, study, (cells) => { passing = cells; update(); });
  mainEffects(section, study);
  interactionPlot(section, study);
  differencesPlot(section, study);
  schemesPlot(section, study);
  learningCurves(section, study);
  fittingPlot(section, study);
}

function showNamedRun() {
  const id = location.hash.startsWith("#run-") ? location.hash.slice(5) : null;
  const run = id === null ? DATA.best : DATA.runs.id.indexOf(id);
  if (run < 0) return;
  runDetail(run);
  if (id === null) return;
  const detail = document.getElementById("detail");
  detail.scrollIntoView();
  detail.focus({ preventScroll: true });
}

document.querySelectorAll("section.study").forEach(buildStudy);
showNamedRun();
addEventListener("hashchange", () => { if (location.hash.startsWith("#run-")) showNamedRun(); });
document.documentElement.dataset.ready = "yes";
