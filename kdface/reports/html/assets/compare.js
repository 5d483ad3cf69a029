// Two configurations side by side, and what distillation brings: differences paired by seed.
function drawCompare() {
  const [one, two] = [Number($("one").value), Number($("two").value)];
  const found = D.metrics.map((metric) => [metric, paired(metric, one, two)]).filter(([, gain]) => gain);
  const rows = found.map(([metric, gain]) => [metric, number(gain.before), number(gain.after), signed(gain.mean), gain.interval, gain.seeds.join(", ")]);
  show("gain", rows, "No seed is finished for both.", table(["metric", "#first", "#second", "#difference", "#95 % interval", "#seeds"], rows));
  const a = D.groups[one].config, b = D.groups[two].config;
  const keys = Object.keys({ ...a, ...b }).filter((key) => shown(a[key]) !== shown(b[key])).sort();
  const differing = keys.map((key) => [key, shown(a[key]), shown(b[key])]);
  show("differences", keys, "None.", table(["key", "first", "second"], differing));
}
// Second minus first over their common seeds: mean difference and half the width of its 95 % t-interval.
function paired(metric, one, two) {
  const value = (group) => new Map(D.groups[group].runs.map((r) => [D.runs[r].seed, D.runs[r].metrics[metric]?.value]).filter(([, v]) => typeof v === "number"));
  const first = value(one), second = value(two);
  const seeds = [...first.keys()].filter((seed) => second.has(seed)).sort((a, b) => a - b);
  if (!seeds.length) return null;
  const gains = seeds.map((seed) => second.get(seed) - first.get(seed));
  const n = gains.length, mean = gains.reduce((a, b) => a + b) / n;
  const before = seeds.reduce((sum, seed) => sum + first.get(seed), 0) / n;
  const equal = Math.max(...gains) - Math.min(...gains) < 1e-12;
  const half = n < 2 || equal ? null : D.t975[n - 2] * Math.sqrt(gains.reduce((sum, g) => sum + (g - mean) ** 2, 0) / (n - 1) / n);
  const interval = n < 2 ? "needs two seeds" : equal ? "none: all differences equal" : `${signed(mean - half)} to ${signed(mean + half)}`;
  return { before, after: before + mean, mean, half, interval, seeds };
}
function drawGains() {
  const metric = $("gain-metric").value;
  const found = D.gains.map((pair) => ({ ...pair, gain: paired(metric, pair.without, pair.with) })).filter(({ gain }) => gain);
  const reach = Math.max(...found.map(({ gain }) => Math.abs(gain.mean) + (gain.half ?? 0)), 1e-12);
  const rows = found.map(({ with: taught, without, also, gain }) => {
    const label = el("div", { class: "label" }, breakable(D.groups[taught].label), el("div", { class: "sd", text: `against ${D.groups[without].label}` }));
    if (also.length) label.append(el("div", { class: "sd warn", text: `also differ in ${also[0]}${also.length > 1 ? ` and ${also.length - 1} more` : ""}` }));
    return [label, signed(gain.mean), el("div", {}, gain.interval, whisker(gain, reach, lowerWins(metric))), number(gain.before), number(gain.after), gain.seeds.join(", ")];
  });
  show("gain-rows", rows, "No distilled configuration shares a finished seed with a partner without distillation.", table(["distilled", "#gain", "#95 % interval", "#without", "#with", "#seeds"], rows));
}
function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
// A dot with its interval around a line at no gain; better is always to the right.
function whisker({ mean, half }, reach, flipped) {
  const width = 150, x = (value) => width / 2 + ((flipped ? -value : value) / reach) * (width / 2 - 6);
  const kind = half === null || Math.abs(mean) <= half ? "open" : mean > 0 !== flipped ? "better" : "worse";
  const parts = [svg("line", { x1: width / 2, x2: width / 2, y1: 1, y2: 21, class: "zero" }), svg("circle", { cx: x(mean), cy: 11, r: 4.5, class: kind })];
  if (half !== null) parts.splice(1, 0, svg("line", { x1: x(mean - half), x2: x(mean + half), y1: 11, y2: 11, class: kind }));
  return svg("svg", { width, height: 22, viewBox: `0 0 ${width} 22`, class: "whisker", "aria-hidden": "true" }, ...parts);
}
for (const id of ["one", "two"]) $(id).addEventListener("change", drawCompare);
$("gain-metric").addEventListener("change", drawGains);
