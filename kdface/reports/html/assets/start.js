// The first drawing.
function start() {
  const count = (status) => D.runs.filter((run) => run.status === status).length;
  const unread = D.runs.filter((run) => run.group === null).length;
  $("counts").textContent = [`${D.runs.length} runs`, `${count("done")} finished`, ...["running", "stopped"].filter(count).map((s) => `${count(s)} ${s}`), ...(unread ? [`${unread} unreadable`] : [])].join(" · ");
  fill("series", Object.keys(D.series), "loss");
  for (const [id, found] of [["test", D.curves], ["cmc-test", D.cmc], ["edc-test", D.edc], ["map-test", D.maps], ["pair-test", D.hardest]]) fill(id, Object.keys(found));
  fill("gain-metric", D.metrics.filter((metric) => D.gains.some((pair) => paired(metric, pair.without, pair.with))));
  const some = { curves: D.series, errors: D.curves, identification: D.cmc, discard: D.edc, gains: D.gains, maps: D.maps, faces: { ...D.sheets, ...D.hardest } };
  for (const [id, found] of Object.entries(some)) if (!Object.keys(found).length) leaveOut(id);
  const sizes = new Map();
  for (const { name } of D.groups) sizes.set(name, (sizes.get(name) || 0) + 1);
  const names = [...sizes.keys()].sort((a, b) => sizes.get(b) - sizes.get(a));
  fill("sweep-name", names);
  if (sizes.get(names[0]) < 2) leaveOut("sweep");
  offerMetrics();
  if (!ticked.size) for (const group of leading()) ticked.add(group);
  // The two best finished configurations of the first paper with two.
  const done = D.papers.map((paper) => paper.groups.filter((g) => D.groups[g].runs.some((r) => D.runs[r].status === "done")));
  const [best, next] = done.find((groups) => groups.length > 1) ?? [D.ranked[0], D.ranked[1] ?? D.ranked[0]];
  for (const [id, chosen] of [["one", next], ["two", best]]) $(id).replaceChildren(...D.groups.map(({ label }, g) => el("option", { value: g, text: label, selected: g === chosen })));
  changed();
  drawSweep();
  if (D.groups.length) drawCompare();
  else for (const id of ["overview", "sweep", "compare"]) leaveOut(id);
  drawGains();
  drawSheets();
  if (D.live) setInterval(() => { if (!$("details").open) location.reload(); }, 30000);
}
// The best configurations, and the best two of each chart that they would leave empty, since methods differ in their tests.
function leading() {
  const charts = [D.curves, D.cmc, D.edc].map((tests) => Object.values(tests)[0]).filter(Boolean);
  const empty = charts.filter((found) => !D.ranked.slice(0, 5).some((group) => found[group]));
  const others = empty.flatMap((found) => D.ranked.filter((group) => found[group]).slice(0, 2));
  return new Set([...D.ranked.slice(0, Math.min(5, MOST - others.length)), ...others]);
}
// A section without content.
function leaveOut(id) {
  $(id).hidden = true;
  document.querySelector(`nav a[href="#${id}"]`)?.remove();
}
start();
