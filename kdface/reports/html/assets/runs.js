// The table of configurations: filtered, sorted, ticked.
const STEP = 100; // rows shown at once; more on request
let sorting = { key: D.metrics[0] ?? "label", up: !D.metrics.length || lowerWins(D.metrics[0]) };
let limit = STEP;

function drawGroups() {
  const metrics = D.metrics.filter((m) => !m.includes("exact")).slice(0, 4);
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let rows = D.groups.map((group, index) => index).filter((index) => words.every((word) => haystack(index).includes(word)));
  const value = (g) => (sorting.key === "label" ? D.groups[g].label : over(g, sorting.key)?.mean ?? null);
  rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return (x < y ? -1 : x > y ? 1 : a - b) * (sorting.up ? 1 : -1);
  });
  const head = el("tr", {}, el("th", { scope: "col" }, el("span", { text: "Draw" })), heading("label", "Configuration"));
  head.append(...metrics.map((metric) => heading(metric, metric, true)), el("th", { scope: "col", text: "Seeds" }));
  const body = rows.slice(0, limit).map((group) => groupRow(group, metrics));
  $("groups").replaceChildren(el("thead", {}, head), el("tbody", {}, ...body));
  const hidden = rows.length - Math.min(limit, rows.length);
  $("more").replaceChildren(`${rows.length} of ${D.groups.length} configurations`);
  if (hidden) $("more").append(" ", el("button", { type: "button", text: `Show ${hidden} more`, onclick: () => { limit = Infinity; drawGroups(); } }));
}
function haystack(index) {
  const group = D.groups[index];
  group.text ??= [group.label, group.fingerprint, ...Object.entries(group.config).map(([k, v]) => `${k}=${shown(v)}`), ...group.runs.flatMap((place) => D.runs[place].tags)].join(" ").toLowerCase();
  return group.text;
}
function heading(key, text, right = false) {
  const sorted = sorting.key === key ? (sorting.up ? "ascending" : "descending") : "none";
  const sort = () => {
    const first = key === "label" || lowerWins(key);
    sorting = { key, up: sorting.key === key ? !sorting.up : first };
    drawGroups();
    $("groups").querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
  };
  return el("th", { scope: "col", class: right ? "n" : "", "aria-sort": sorted }, el("button", { type: "button", text: text.replaceAll("/", "/\u200b").replaceAll("@", "@\u200b"), "data-key": key, onclick: sort }));
}
function groupRow(index, metrics) {
  const group = D.groups[index];
  const tick = el("input", { type: "checkbox", "aria-label": `Draw ${group.label}`, "data-group": index, onchange: () => toggle(index) });
  tick.checked = ticked.has(index);
  tick.disabled = !tick.checked && ticked.size >= MOST;
  const seeds = el("div", { class: "seeds" });
  for (const place of group.runs) {
    const run = D.runs[place];
    const told = `seed ${run.seed}, ${run.status}: ${run.path}`;
    seeds.append(el("button", { type: "button", class: run.status, text: run.seed, title: told, "aria-label": told, onclick: () => showRun(place) }));
  }
  const row = el("tr", { class: tick.checked ? "on" : "" }, el("td", {}, tick), el("td", { class: "label" }, tick.checked ? swatch(index) : "", group.label));
  for (const metric of metrics) {
    const found = over(index, metric);
    const cell = el("td", { class: "n", text: found ? number(found.mean) : "" });
    if (found?.std != null) cell.append(el("span", { class: "sd", text: ` ± ${number(found.std)}` }));
    row.append(cell);
  }
  row.append(el("td", {}, seeds));
  return row;
}
function toggle(index) {
  if (ticked.has(index)) ticked.delete(index);
  else if (ticked.size < MOST) ticked.add(index);
  changed();
  $("groups").querySelector(`[data-group="${index}"]`)?.focus();
}
$("filter").addEventListener("input", () => { limit = STEP; drawGroups(); });
$("clear").addEventListener("click", () => { ticked.clear(); changed(); });
listeners.push(drawGroups);
