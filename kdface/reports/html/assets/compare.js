// Two configurations side by side: results seed by seed, and the values in which they differ.
function drawCompare() {
  const one = Number($("one").value), two = Number($("two").value);
  const rows = D.metrics.map((metric) => gainRow(metric, one, two)).filter(Boolean);
  const head = ["metric", "first", "second", "difference", "95 % interval", "seeds"];
  if (rows.length) $("gain").replaceChildren(el("thead", {}, el("tr", {}, ...head.map((text, k) => el("th", { scope: "col", class: k ? "n" : "", text })))), el("tbody", {}, ...rows));
  else $("gain").replaceChildren(el("tbody", {}, el("tr", {}, el("td", { text: "They share no seed that both have finished." }))));
  const a = D.groups[one].config, b = D.groups[two].config;
  const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((key) => shown(a[key]) !== shown(b[key])).sort();
  const differing = keys.map((key) => el("tr", {}, el("td", { class: "v", text: key }), el("td", { class: "v", text: shown(a[key]) }), el("td", { class: "v", text: shown(b[key]) })));
  const titles = ["key", D.groups[one].label, D.groups[two].label].map((text) => el("th", { scope: "col", text }));
  if (keys.length) $("differences").replaceChildren(el("thead", {}, el("tr", {}, ...titles)), el("tbody", {}, ...differing));
  else $("differences").replaceChildren(el("tbody", {}, el("tr", {}, el("td", { text: "none" }))));
}
// Second less first on the seeds that both have: mean difference and half the width of its 95 % t-interval.
function paired(metric, one, two) {
  const value = (group) => new Map(D.groups[group].runs.map((r) => [D.runs[r].seed, D.runs[r].metrics[metric]?.value]).filter(([, v]) => typeof v === "number"));
  const first = value(one), second = value(two);
  const seeds = [...first.keys()].filter((seed) => second.has(seed)).sort((a, b) => a - b);
  if (!seeds.length) return null;
  const gains = seeds.map((seed) => second.get(seed) - first.get(seed));
  const n = gains.length, mean = gains.reduce((a, b) => a + b) / n;
  const before = seeds.reduce((sum, seed) => sum + first.get(seed), 0) / n;
  const deviation = n > 1 ? Math.sqrt(gains.reduce((sum, g) => sum + (g - mean) ** 2, 0) / (n - 1)) : 0;
  const equal = Math.max(...gains) - Math.min(...gains) < 1e-12;
  const half = n < 2 || equal ? null : (D.t975[n - 2] * deviation) / Math.sqrt(n);
  const interval = n < 2 ? "needs two seeds" : equal ? "none: all differences equal" : `${signed(mean - half)} to ${signed(mean + half)}`;
  return { before, after: before + mean, mean, half, interval, seeds };
}
function gainRow(metric, one, two) {
  const gain = paired(metric, one, two);
  if (!gain) return null;
  const cells = [number(gain.before), number(gain.after), signed(gain.mean), gain.interval, gain.seeds.join(", ")];
  return el("tr", {}, el("td", { text: metric }), ...cells.map((text) => el("td", { class: "n", text })));
}
const signed = (value) => (value >= 0 ? "+" : "−") + number(Math.abs(value));
$("one").addEventListener("change", drawCompare);
$("two").addEventListener("change", drawCompare);
