// Parallel coordinates: one line a run, one axis a value that differs between the runs of a name, the last one the result.
function drawSweep() {
  const name = $("sweep-name").value;
  const metric = $("sweep-metric").value;
  const runs = runsOf(name);
  const finished = runs.filter((run) => typeof run.metrics[metric]?.value === "number");
  const configs = [...new Set(runs.map((run) => run.group))].map((g) => D.groups[g].config);
  const keys = [...new Set(configs.flatMap(Object.keys))].filter((key) => new Set(configs.map((c) => shown(c[key]))).size > 1);
  if (!finished.length || !keys.length) {
    $("sweep-told").textContent = "The runs of this name differ in their seeds only, or none is finished.";
    later($("parallel"), () => plot($("parallel"), "no values differ", [], {}));
    return;
  }
  // Keys that always change together (a head and its scale) need one axis.
  const column = (key) => shown(finished.map((run) => shown(D.groups[run.group].config[key])));
  const apart = keys.filter((key, i) => keys.findIndex((other) => alike(column(other)) === alike(column(key))) === i).slice(0, 9);
  const axes = apart.map((key) => axis(key, finished.map((run) => D.groups[run.group].config[key])));
  axes.push(axis(metric, finished.map((run) => run.metrics[metric].value)));
  const lines = finished.map((run, i) => ({ run, at: axes.map((a) => a.at[i]), value: run.metrics[metric].value, told: axes.map((a) => `${short(a.name)} ${a.texts[i]}`).join(", ") }));
  lines.sort((a, b) => (a.value - b.value) * (lowerWins(metric) ? 1 : -1));
  $("parallel").style.width = `${Math.max(axes.length * 150, $("parallel").parentElement.clientWidth - 4)}px`; // so that titles keep apart
  later($("parallel"), () => plot($("parallel"), `Parallel coordinates of ${name}`, lines.toReversed().map(trace), across(axes)));
  const more = keys.length > apart.length ? ` ${keys.length - apart.length} further values change together with these.` : "";
  $("sweep-told").textContent = `${finished.length} runs, best: ${lines[0].told}.${more}`;
}
function trace({ run, at, value, told }, _, all) {
  const values = all.map((line) => line.value), low = Math.min(...values), high = Math.max(...values);
  const line = { color: colour(high === low ? 0.5 : (value - low) / (high - low)), width: 2 };
  return { x: at.map((_, k) => k), y: at, mode: "lines", line, text: at.map(() => clipped(run.path)), hovertemplate: `%{text}<br>${clipped(told)}<extra></extra>` };
}
function across(axes) {
  const upright = axes.map((_, k) => ({ type: "line", x0: k, x1: k, y0: 0, y1: 1, line: { color: "#8a93a0", width: 1 } }));
  const ticks = axes.flatMap((a, k) => a.ticks.map(([y, text]) => ({ x: k, y, text: clipped(text.length > 18 ? text.slice(0, 17) + "…" : text), showarrow: false, bgcolor: css("--card"), xanchor: "left", xshift: 3, font: { size: 11 } })));
  const titles = axes.map((a) => (short(a.name).length > 20 ? "…" + short(a.name).slice(-19) : short(a.name)));
  return {
    margin: { l: 60, r: 90, t: 34, b: 16 }, hovermode: "closest", annotations: ticks, shapes: upright,
    xaxis: { side: "top", tickvals: axes.map((_, k) => k), ticktext: titles.map(clipped), range: [-0.05, axes.length - 0.9], showgrid: false, showline: false, fixedrange: true },
    yaxis: { visible: false, range: [-0.05, 1.05], fixedrange: true },
  };
}
const short = (name) => name.replace("._target_", "");
function runsOf(name) {
  return D.groups.flatMap((group) => (group.name === name ? group.runs : [])).map((place) => D.runs[place]);
}
// Results that the runs of the chosen name have.
function offerMetrics() {
  const runs = runsOf($("sweep-name").value), before = $("sweep-metric").value;
  const names = D.metrics.filter((metric) => runs.some((run) => typeof run.metrics[metric]?.value === "number"));
  fill($("sweep-metric"), names.map((name) => [name, name]), before);
}
function alike(text) {
  const numbers = new Map();
  return JSON.parse(text).map((value) => { if (!numbers.has(value)) numbers.set(value, numbers.size); return numbers.get(value); }).join();
}
function axis(name, values) {
  const texts = values.map((v) => (typeof v === "number" ? written(name, v) : brief(v)));
  const numeric = values.every((v) => typeof v === "number");
  const order = [...new Set(values.map((v) => (numeric ? v : shown(v))))].sort((a, b) => (a < b ? -1 : 1));
  const low = order[0], high = order.at(-1);
  const logarithmic = numeric && low > 0 && high / low >= 50;
  const scale = (v) => (logarithmic ? Math.log(v) : v);
  const place = (v) => (numeric ? (high === low ? 0.5 : (scale(v) - scale(low)) / (scale(high) - scale(low))) : order.length < 2 ? 0.5 : order.indexOf(shown(v)) / (order.length - 1));
  const few = order.length <= 8 ? order : numeric ? [low, high] : [order[0], order.at(-1)];
  const ticks = few.map((v) => [numeric ? place(v) : order.length < 2 ? 0.5 : order.indexOf(v) / (order.length - 1), numeric ? written(name, v) : brief(v)]);
  return { name, texts, ticks, at: values.map(place) };
}
const brief = (value) => (value === null || value === undefined ? "none" : shown(value).split(/[./]/).pop());
// Results in four digits, configured values as they are.
const written = (name, value) => (D.metrics.includes(name) ? number(value) : String(value));
// From blue over grey to yellow (the ends of cividis), which all common kinds of colour vision tell apart.
function colour(share) {
  const ends = dark.matches ? [[70, 120, 200], [150, 150, 140], [253, 231, 80]] : [[0, 50, 120], [120, 122, 120], [205, 165, 0]];
  const [a, b] = share < 0.5 ? [ends[0], ends[1]] : [ends[1], ends[2]];
  const t = share < 0.5 ? share * 2 : share * 2 - 1;
  return `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * t)).join()})`;
}
$("sweep-name").addEventListener("change", () => { offerMetrics(); drawSweep(); });
$("sweep-metric").addEventListener("change", drawSweep);
dark.addEventListener("change", drawSweep);
