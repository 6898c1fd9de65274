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

function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const nearby = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting && !entry.target.entry.drawn) draw(entry.target.entry);
}, { rootMargin: "600px" });

const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) if (target.clientWidth && target.clientWidth !== target.entry.width) draw(target.entry);
});

// `make()` returns what `plot` draws, anew for each theme and width.
function chart(parent, label, make, height = 360) {
  const box = element("div", { class: "chart", role: "img", "aria-label": label, style: `min-height: ${height}px` });
  parent.append(box);
  const entry = { box, make, height, drawn: false };
  charts.push(entry);
  box.entry = entry;
  nearby.observe(box);
  return { redraw: () => entry.drawn && draw(entry), box };
}

function draw(entry) {
  plot(entry.box, entry.make(), entry.height);
  entry.box.classList.add("drawn");
  entry.drawn = true;
  entry.width = entry.box.clientWidth;
  nearby.unobserve(entry.box);
  widths.observe(entry.box);
}

function redrawAll() {
  for (const entry of charts) draw(entry);
  for (const listener of themeListeners) listener();
}

function forget(parent) {
  for (let i = charts.length - 1; i >= 0; i--) {
    if (!parent.contains(charts[i].box)) continue;
    nearby.unobserve(charts[i].box);
    widths.unobserve(charts[i].box);
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
