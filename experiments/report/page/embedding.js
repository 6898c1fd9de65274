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
  parent.append(element("p", { class: "note" }, `Tokens at their places in ${where}; vowels in orange.`));
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
  const isVowel = DATA.tokens.map((token) => VOWELS.has(token));
  const trace = {
    x: plane.x[step], y: plane.y[step], mode: "markers+text", text: DATA.tokens.map(inert), hoverinfo: "text", hovertext: DATA.tokens.map(inert),
    textfont: { size: 13 }, marker: { size: 22, opacity: 0.4, color: isVowel.map((vowel) => (vowel ? "#E69F00" : themed("#56B4E9"))) },
  };
  // One frame for all steps: tokens move, the axes do not.
  const range = (all) => padded(Math.min(...all.flat()), Math.max(...all.flat()));
  const name = (i) => (plane.projected ? `principal component ${i}` : `dimension ${i}`);
  return { traces: [trace], layout: layout(axisStyle(name(1), { range: range(plane.x) }), axisStyle(name(2), { range: range(plane.y) })) };
}
