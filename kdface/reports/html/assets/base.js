// What all parts share: the data, the ticked configurations, and how numbers and elements are written.
// Text from run folders is only ever set as text, never as markup.
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const MOST = 8;
const DASHES = ["solid", "dash", "dot", "dashdot"];
const LENGTHS = { solid: [99, 99], dash: [8, 12], dot: [3, 6], dashdot: [10, 13] }; // of a swatch: drawn, period
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const colours = () => D.palette[dark.matches ? "dark" : "light"];
const KEPT = "kdface:" + location.pathname;
const keyOf = (g) => `${D.groups[g].name} ${D.groups[g].fingerprint}`;
const ticked = new Set(restored());
const listeners = []; // called when the ticked configurations, a select or the colour scheme change

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
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}
// A table; each cell is text or an element. Heads that begin with "#" are of numbers. On a phone, heads stand in the cells.
function table(heads, rows) {
  const titles = heads.map((head) => head.replace("#", "")), kinds = heads.map((head) => (head.startsWith("#") ? "n" : ""));
  const head = el("tr", {}, ...titles.map((text, k) => el("th", { scope: "col", class: kinds[k] }, breakable(text))));
  const cell = (value, k) => el("td", { class: kinds[k], "data-label": titles[k] }, value === "" || value instanceof Node ? value : breakable(value));
  return el("table", { class: "stack" }, el("thead", {}, head), el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell)))));
}
const show = (id, rows, none, ...made) => $(id).replaceChildren(...(rows.length ? made : [el("p", { class: "empty", text: none })]));
const pairs = (rows) => el("table", {}, el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((text) => el("td", { text }))))));
// Names may break behind their separators.
function breakable(text) {
  const parts = document.createDocumentFragment();
  for (const part of String(text).split(/(?<=[/@._=])/)) parts.append(part, el("wbr"));
  return parts;
}
function fill(id, names, chosen = $(id).value) {
  $(id).replaceChildren(...names.map((name) => el("option", { value: name, text: name, selected: name === chosen })));
}
function number(value) {
  if (value === null || value === undefined) return "n/a";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value), far = size >= 1e5 || (size > 0 && size < 5e-5); // 0.0000 would be no number but 0
  return (far ? value.toExponential(2) : Number.isInteger(value) ? String(value) : value.toFixed(4)).replaceAll("-", "−");
}
const signed = (value) => (value >= 0 ? "+" : "") + number(value);
function shown(value) {
  return typeof value === "string" ? value : value === undefined ? "(not set)" : JSON.stringify(value);
}
// Mean, sample standard deviation and number of the seeds of a configuration that have a metric.
const over = (group, metric) => D.groups[group].results[metric] ?? null;
const lowerWins = (metric) => D.lower.includes(metric);
function look(group) {
  const place = [...ticked].indexOf(group);
  return place < 0 ? null : { color: colours()[place % MOST], dash: DASHES[place % DASHES.length] };
}
function swatch(group) {
  const { color, dash } = look(group), [drawn, period] = LENGTHS[dash];
  const node = el("span", { class: "swatch", "aria-hidden": "true" });
  node.style.backgroundImage = `repeating-linear-gradient(90deg, ${color} 0 ${drawn}px, transparent 0 ${period}px)`;
  return node;
}
// The legend of a section's charts.
function legend(section, groups) {
  document.querySelector(`#${section} .key`).replaceChildren(...groups.map((group) => el("span", {}, swatch(group), D.groups[group].label)));
}
