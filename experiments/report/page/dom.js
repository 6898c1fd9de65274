// Elements are made from text only: nothing that comes from data is ever parsed as HTML.
const DATA = JSON.parse(document.getElementById("data").textContent);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function loss(value) {
  return value === null || value === undefined ? "–" : value.toFixed(4);
}

// [mean, low, high] as the tables of the sweep have it.
function estimate(value) {
  if (!value || value[0] === null) return "–";
  return value[1] === null ? loss(value[0]) : `${loss(value[0])} ± ${loss((value[2] - value[1]) / 2)}`;
}

function halfWidth(value) {
  return value[1] === null ? 0 : (value[2] - value[1]) / 2;
}

function setting(value) {
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}

function words(axis) {
  return axis.replaceAll("_", " ");
}

function describe(axes, values) {
  if (!axes.length) return "the one configuration";
  return axes.map((axis, i) => `${words(axis)} ${setting(values[i])}`).join(", ");
}
