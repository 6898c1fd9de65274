// Charts in the page's colours; they are drawn when they come near the screen, and again when the scheme changes.
const dark = matchMedia("(prefers-color-scheme: dark)");
const ON_DARK = {
  "#000000": "#f0f0f0", "#332288": "#9a8cf0", "#882255": "#e07bb0", "#117733": "#4fc27a", "#0072B2": "#4aa8e0",
  "#888888": "#b0b0b0", "#AA4499": "#d07cc4",
};
let printing = false;
const charts = [];

function isDark() {
  return dark.matches && !printing;
}

function themed(colour) {
  return (isDark() && ON_DARK[colour]) || colour;
}

function translucent(colour, alpha) {
  const value = parseInt(themed(colour).slice(1), 16);
  return `rgba(${value >> 16}, ${(value >> 8) & 255}, ${value & 255}, ${alpha})`;
}

function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function axisStyle(title, more = {}) {
  const line = cssColour("--line");
  return { title: { text: inert(title), standoff: 8 }, gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true, ...more };
}

function layout(x, y, more = {}) {
  return {
    xaxis: x, yaxis: y, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { color: printing ? "#000000" : cssColour("--ink"), size: 12, family: "system-ui, sans-serif" },
    margin: { l: 56, r: 14, t: 14, b: 48 }, showlegend: false, dragmode: false, ...more,
  };
}

const nearby = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) drawOnce(entry.target);
}, { rootMargin: "600px" });

// `make()` returns {traces, layout}, anew for each theme.
function chart(parent, label, make, height = 360) {
  const box = element("div", { class: "chart", role: "img", "aria-label": label, style: `height: ${height}px; min-height: ${height}px` });
  parent.append(box);
  const entry = { box, make, drawn: false };
  charts.push(entry);
  box.entry = entry;
  nearby.observe(box);
  return { redraw: () => entry.drawn && draw(entry), box };
}

function drawOnce(box) {
  const waiting = () => box.isConnected && !box.entry.drawn;
  plotly.then(() => { if (waiting()) draw(box.entry); }, () => { if (waiting()) box.replaceWith(element("p", { class: "warning" }, NO_CHARTS)); });
}

function draw(entry) {
  const { traces, layout } = entry.make();
  if (printing) layout.width = entry.box.clientWidth;
  entry.drawn = true;
  nearby.unobserve(entry.box);
  Plotly.react(entry.box, traces, layout, { displayModeBar: false, responsive: true });
}

function redrawAll() {
  if (window.Plotly) for (const entry of charts) if (entry.box.isConnected) draw(entry);
  for (const listener of themeListeners) listener();
}

function forget(parent) {
  for (let i = charts.length - 1; i >= 0; i--) {
    if (!parent.contains(charts[i].box)) continue;
    nearby.unobserve(charts[i].box);
    if (charts[i].drawn) Plotly.purge(charts[i].box);
    charts.splice(i, 1);
  }
  parent.replaceChildren();
}

const themeListeners = [];
dark.addEventListener("change", () => {
  for (const entry of charts) if (entry.drawn) draw(entry);
  for (const listener of themeListeners) listener();
});
// Charts measure the screen, and paper is narrower: the page takes its width before they are drawn for it.
addEventListener("beforeprint", () => { printing = true; document.body.style.width = "680px"; redrawAll(); });
addEventListener("afterprint", () => { printing = false; document.body.style.width = ""; redrawAll(); });
