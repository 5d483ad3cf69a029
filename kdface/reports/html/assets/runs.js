// The table of each paper's configurations: filtered, sorted, ticked.
const STEP = 100; // rows shown at once; more on request
const sorting = {}; // paper -> the column that its table is sorted by, and whether it rises; at first by its first metric
let limit = STEP;

function drawGroups() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = D.groups.map((_, index) => index).filter((index) => words.every((word) => haystack(index).includes(word)));
  let room = limit;
  const tables = D.papers.map((paper) => {
    const rows = sorted(paper, kept.filter((index) => paper.groups.includes(index))).slice(0, Math.max(room, 0));
    room -= rows.length;
    return rows.length ? paperTable(paper, rows) : "";
  });
  $("groups").replaceChildren(...tables);
  const hidden = Math.max(kept.length - limit, 0);
  $("more").replaceChildren(`${kept.length} of ${D.groups.length} configurations`);
  if (hidden) $("more").append(" ", el("button", { type: "button", text: `Show ${hidden} more`, onclick: () => { limit = Infinity; drawGroups(); } }));
}
function sorted(paper, rows) {
  const { key, up } = sorting[paper.name] ?? { key: paper.metrics[0] ?? "label", up: !paper.metrics.length || lowerWins(paper.metrics[0]) };
  const value = (g) => (key === "label" ? D.groups[g].label : over(g, key)?.mean ?? null);
  return rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return (x < y ? -1 : x > y ? 1 : a - b) * (up ? 1 : -1);
  });
}
// Only what some configuration of the paper has a number of is a column.
function paperTable(paper, rows) {
  const head = el("tr", {}, el("th", { scope: "col" }, el("span", { text: "Draw" })), heading(paper, "label", "Configuration"));
  head.append(...paper.metrics.map((metric) => heading(paper, metric, metric, true)), el("th", { scope: "col", text: "Seeds" }));
  const table = el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows.map((group) => groupRow(group, paper.metrics))));
  return el("div", {}, el("h3", { text: paper.name }), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Configurations of ${paper.name}` }, table));
}
function haystack(index) {
  const group = D.groups[index];
  group.text ??= [group.label, group.fingerprint, ...Object.entries(group.config).map(([k, v]) => `${k}=${shown(v)}`), ...group.runs.flatMap((place) => D.runs[place].tags)].join(" ").toLowerCase();
  return group.text;
}
function heading(paper, key, text, right = false) {
  const now = sorting[paper.name] ?? { key: paper.metrics[0], up: lowerWins(paper.metrics[0]) };
  const sort = () => {
    sorting[paper.name] = { key, up: now.key === key ? !now.up : key === "label" || lowerWins(key) };
    drawGroups();
    $("groups").querySelector(`[data-key="${CSS.escape(`${paper.name} ${key}`)}"]`)?.focus();
  };
  return el("th", { scope: "col", class: right ? "n" : "", "aria-sort": now.key !== key ? "none" : now.up ? "ascending" : "descending" }, el("button", { type: "button", text: text.replaceAll("/", "/\u200b").replaceAll("@", "@\u200b"), "data-key": `${paper.name} ${key}`, onclick: sort }));
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
