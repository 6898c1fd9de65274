// A run's embedding in a plane, at its last step or at every evaluation.
const VOWELS = new Set("aeiouAEIOU");

function embeddingPlot(parent, run) {
  const plane = DATA.embeddings[run];
  if (!plane) {
    parent.append(element("p", { class: "note" }, "Its embedding is not in this page (only the best runs' are, and those of few tokens)."));
    return;
  }
  const state = { step: plane.steps.length - 1 };
  const where = plane.projected ? `the first two principal components (${Math.round(100 * plane.explained)} % of the variance)` : "its own dimensions";
  parent.append(element("p", { class: "note" }, `${DATA.wording.dots} at their places in ${where}${DATA.wording.perplexity ? "." : "; vowels in orange."}`));
  const drawn = chart(parent, `Embedding of the ${DATA.tokens.length} tokens in ${where}`, () => embeddingChart(plane, state.step), 420);
  if (plane.steps.length > 1) parent.append(stepSlider(plane, state, drawn.redraw));
}

function stepSlider(plane, state, redraw) {
  const shown = element("output", {}, `step ${plane.steps[state.step]}`);
  const slider = element("input", { type: "range", class: "step", min: 0, max: plane.steps.length - 1, step: 1, "aria-label": "training step" });
  slider.value = state.step;
  slider.addEventListener("input", () => {
    state.step = Number(slider.value);
    shown.textContent = `step ${plane.steps[state.step]}`;
    slider.setAttribute("aria-valuetext", shown.textContent);
    redraw();
  });
  return element("p", {}, element("label", {}, "training step ", slider), " ", shown);
}

function embeddingChart(plane, step) {
  const tokens = DATA.tokens.map((_, i) => i);
  const some = (kept, colour) => ({
    kind: "dots", x: kept.map((i) => plane.x[step][i]), y: kept.map((i) => plane.y[step][i]), colour, size: 22, alpha: 0.4, words: kept.map((i) => DATA.tokens[i]), hover: kept.map((i) => DATA.tokens[i]),
  });
  const isVowel = (i) => !DATA.wording.perplexity && VOWELS.has(DATA.tokens[i]);
  // One frame for all steps: tokens move, the axes do not.
  const range = (all) => padded(Math.min(...all.flat()), Math.max(...all.flat()));
  const name = (i) => (plane.projected ? `principal component ${i}` : `dimension ${i}`);
  const marks = [some(tokens.filter((i) => !isVowel(i)), themed("#56B4E9")), some(tokens.filter(isVowel), "#E69F00")];
  return { x: axis(name(1), { range: range(plane.x) }), y: axis(name(2), { range: range(plane.y) }), marks };
}
