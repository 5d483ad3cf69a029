// What all parts share: the data, which configurations are ticked, and how numbers and elements are written.
// Text from run folders is only ever set as text, never as markup.
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const MOST = 8;
const DASHES = ["solid", "dash", "dot", "dashdot"];
const dark = window.matchMedia("(prefers-color-scheme: dark)");
// Okabe and Ito's colours; the dark ones of them lightened where the page is dark.
const PALETTE = {
  light: ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A6B00", "#56B4E9", "#333333", "#7A5195"],
  dark: ["#56B4E9", "#FF9D57", "#3FCF9F", "#E6A3C8", "#F0C04A", "#9AD6FF", "#D8DEE6", "#BBA0E0"],
};
const KEPT = "kdface:" + location.pathname;
const keyOf = (g) => `${D.groups[g].name} ${D.groups[g].fingerprint}`;
const ticked = new Set(restored());
const listeners = [];

function restored() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT)) || [];
    return kept.map((key) => D.groups.findIndex((_, g) => keyOf(g) === key)).filter((g) => g >= 0);
  } catch { return []; }
}
function changed() {
  try { sessionStorage.setItem(KEPT, JSON.stringify([...ticked].map(keyOf))); } catch { /* a private window keeps nothing */ }
  for (const listener of listeners) listener();
}
function el(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "text") node.textContent = value;
    else if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}
function fill(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => el("option", { value, text, selected: value === chosen })));
}
function number(value) {
  if (value === null || value === undefined) return "n/a";
  if (typeof value !== "number") return String(value);
  if (Math.abs(value) >= 1e5) return value.toExponential(2);
  return Number.isInteger(value) ? String(value) : value.toFixed(4);
}
function shown(value) {
  return typeof value === "string" ? value : value === undefined ? "(not set)" : JSON.stringify(value);
}
// Mean and sample standard deviation of a metric over the seeds of a configuration.
function over(group, metric) {
  // A copy of a run elsewhere below the folder is no second seed.
  const bySeed = new Map(D.groups[group].runs.map((r) => [D.runs[r].seed, D.runs[r].metrics[metric]?.value]));
  const values = [...bySeed.values()].filter((v) => typeof v === "number");
  if (!values.length) return null;
  const mean = values.reduce((a, b) => a + b) / values.length;
  const squares = values.reduce((a, b) => a + (b - mean) ** 2, 0);
  return { mean, n: values.length, std: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : null };
}
function look(group) {
  const place = [...ticked].indexOf(group);
  const colors = PALETTE[dark.matches ? "dark" : "light"];
  return place < 0 ? null : { color: colors[place % colors.length], dash: DASHES[place % DASHES.length] };
}
// The key of a section's charts: which line is which of the configurations that are drawn there.
function swatch(group) {
  const { color, dash } = look(group);
  const node = el("span", { class: "swatch", "aria-hidden": "true" });
  node.style.backgroundImage = `repeating-linear-gradient(90deg, ${color} 0 ${{ solid: 99, dash: 8, dot: 3, dashdot: 10 }[dash]}px, transparent 0 ${{ solid: 99, dash: 12, dot: 6, dashdot: 13 }[dash]}px)`;
  return node;
}
function legend(section, groups) {
  document.querySelector(`#${section} .key`).replaceChildren(...groups.map((group) => el("span", {}, swatch(group), D.groups[group].label)));
}
const lower = new Set(D.lower);
const lowerWins = (metric) => lower.has(metric);
