// The first drawing.
function start() {
  const count = (status) => D.runs.filter((run) => run.status === status).length;
  $("title").textContent = D.title;
  const parts = [`${D.runs.length} runs`, `${count("done")} finished`, ...["running", "stopped"].filter(count).map((s) => `${count(s)} ${s}`)];
  $("counts").textContent = parts.join(" · ");
  const entries = (names) => names.map((name) => [name, name]);
  fill($("series"), entries(Object.keys(D.series)), "loss");
  fill($("test"), entries(Object.keys(D.curves)));
  const sizes = new Map();
  for (const group of D.groups) sizes.set(group.name, (sizes.get(group.name) || 0) + 1);
  const names = [...sizes.keys()].sort((a, b) => sizes.get(b) - sizes.get(a));
  fill($("sweep-name"), entries(names));
  fill($("sweep-metric"), entries(D.metrics));
  const best = D.metrics[0];
  const ranked = D.groups.map((_, g) => g).sort((a, b) => (over(b, best)?.mean ?? -1) - (over(a, best)?.mean ?? -1));
  if (!ticked.size) for (const group of ranked.slice(0, 5)) ticked.add(group);
  const groups = D.groups.map((group, g) => [String(g), group.label]);
  fill($("one"), groups, String(Math.min(...withTeacher(false), D.groups.length - 1)));
  fill($("two"), groups, String(Math.min(...withTeacher(true), D.groups.length - 1)));
  if ($("one").value === $("two").value && groups.length > 1) $("two").value = $("one").value === "0" ? "1" : "0";
  changed();
  drawSweep();
  drawCompare();
  drawFailures();
  if (D.live) setInterval(() => { if (!$("details").open) location.reload(); }, 30000);
}
// Distillation gain is what one mostly wants to see: by default the first without a teacher, and the first with one.
function withTeacher(wanted) {
  const has = (group) => Object.keys({ ...D.base, ...group.config }).some((key) => key.startsWith("teacher._target_"));
  return D.groups.map((group, g) => [has(group), g]).filter(([found]) => found === wanted).map(([, g]) => g);
}
start();
