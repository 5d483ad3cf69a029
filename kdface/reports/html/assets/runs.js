// The table of each paper's configurations: filtered, sorted, ticked.
const STEP = 100; // rows shown at once; more on request
const sorting = {}; // paper -> the column that its table is sorted by, and whether it rises
let limit = STEP;

function drawGroups() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = D.groups.map((_, index) => index).filter((index) => words.every((word) => haystack(index).includes(word)));
  let room = limit;
  $("groups").replaceChildren(...D.papers.map((paper) => {
    const rows = sorted(paper, kept.filter((index) => paper.groups.includes(index))).slice(0, Math.max(room, 0));
    room -= rows.length;
    return rows.length ? paperTable(paper, rows) : "";
  }));
  const hidden = Math.max(kept.length - limit, 0);
  $("more").replaceChildren(`${kept.length} of ${D.groups.length} configurations`);
  if (hidden) $("more").append(" ", el("button", { type: "button", text: `Show ${hidden} more`, onclick: () => { limit = Infinity; drawGroups(); } }));
}
function haystack(index) {
  const group = D.groups[index];
  group.text ??= [group.label, group.fingerprint, ...Object.entries(group.config).map(([k, v]) => `${k}=${shown(v)}`), ...group.runs.flatMap((place) => D.runs[place].tags)].join(" ").toLowerCase();
  return group.text;
}
// At first by the paper's first metric, best first.
const order = ({ name, metrics: [first] }) => sorting[name] ?? { key: first ?? "Configuration", up: !first || lowerWins(first) };
function sorted(paper, rows) {
  const { key, up } = order(paper);
  const value = (g) => (key === "Configuration" ? D.groups[g].label : over(g, key)?.mean ?? null);
  return rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return (x < y ? -1 : x > y ? 1 : a - b) * (up ? 1 : -1);
  });
}
function paperTable(paper, rows) {
  const cells = (index) => [tick(index), el("div", { class: "label" }, ticked.has(index) ? swatch(index) : "", breakable(D.groups[index].label)), ...paper.metrics.map((metric) => result(over(index, metric)) ?? ""), seeds(index)];
  const made = table(["Draw", "Configuration", ...paper.metrics.map((metric) => `#${metric}`), "Seeds"], rows.map(cells));
  rows.forEach((index, k) => made.tBodies[0].rows[k].classList.toggle("on", ticked.has(index)));
  for (const head of [...made.tHead.rows[0].cells].slice(1, -1)) sortable(head, paper);
  return el("div", {}, el("h3", { text: paper.name }), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Configurations of ${paper.name}` }, made));
}
function sortable(head, paper) {
  const now = order(paper), key = head.textContent;
  const sort = () => {
    sorting[paper.name] = { key, up: now.key === key ? !now.up : key === "Configuration" || lowerWins(key) };
    drawGroups();
    $("groups").querySelector(`[data-key="${CSS.escape(`${paper.name} ${key}`)}"]`)?.focus();
  };
  head.setAttribute("aria-sort", now.key !== key ? "none" : now.up ? "ascending" : "descending");
  head.replaceChildren(el("button", { type: "button", "data-key": `${paper.name} ${key}`, onclick: sort }, breakable(key)));
}
const result = (found) => found && el("span", {}, number(found.mean), el("span", { class: "sd", text: found.spread === null ? "" : ` ± ${number(found.spread)}` }));
function tick(index) {
  const box = el("input", { type: "checkbox", "aria-label": `Draw ${D.groups[index].label}`, "data-group": index, onchange: () => toggle(index) });
  box.checked = ticked.has(index);
  box.disabled = !box.checked && ticked.size >= MOST;
  return box;
}
function seeds(index) {
  const button = (place) => {
    const { seed, status, path } = D.runs[place], title = `seed ${seed}, ${status}: ${path}`;
    return el("button", { type: "button", class: status, text: seed, title, "aria-label": title, onclick: () => showRun(place) });
  };
  return el("div", { class: "seeds" }, ...D.groups[index].runs.map(button));
}
function toggle(index) {
  if (!ticked.delete(index) && ticked.size < MOST) ticked.add(index);
  changed();
  $("groups").querySelector(`[data-group="${index}"]`)?.focus();
}
$("filter").addEventListener("input", () => { limit = STEP; drawGroups(); });
$("clear").addEventListener("click", () => { ticked.clear(); changed(); });
listeners.push(drawGroups);
