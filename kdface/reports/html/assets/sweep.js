// Parallel coordinates: one line per run, one axis per value that differs between the runs of a name, the last one the result.
function drawSweep() {
  const name = $("sweep-name").value, metric = $("sweep-metric").value;
  const runs = runsOf(name), finished = runs.filter((run) => typeof run.metrics[metric]?.value === "number");
  const configs = [...new Set(runs.map((run) => run.group))].map((g) => D.groups[g].config);
  const keys = [...new Set(configs.flatMap(Object.keys))].filter((key) => new Set(configs.map((c) => shown(c[key]))).size > 1);
  if (!finished.length || !keys.length) {
    $("sweep-told").textContent = "The runs of this name differ only in their seeds, or none is finished.";
    later($("parallel"), () => plot($("parallel"), "no values differ", [], {}));
    return;
  }
  // Keys that always change together (a head and its scale) need only one axis: the place of the first equal value.
  const values = (key) => finished.map((run) => D.groups[run.group].config[key]);
  const pattern = (key) => values(key).map(shown).map((value, _, all) => all.indexOf(value)).join();
  const apart = keys.filter((key, i) => keys.findIndex((other) => pattern(other) === pattern(key)) === i).slice(0, 9);
  const axes = [...apart.map((key) => sweepAxis(key, values(key))), sweepAxis(metric, finished.map((run) => run.metrics[metric].value))];
  const lines = finished.map((run, i) => ({ run, at: axes.map((a) => a.at[i]), value: run.metrics[metric].value, told: axes.map((a) => `${short(a.name)} ${a.texts[i]}`).join(", ") }));
  lines.sort((a, b) => (a.value - b.value) * (lowerWins(metric) ? 1 : -1));
  $("parallel").style.width = `${Math.max(axes.length * 150, $("parallel").parentElement.clientWidth - 4)}px`; // so that titles keep apart
  later($("parallel"), () => plot($("parallel"), `Parallel coordinates of ${name}`, lines.toReversed().map(trace), across(axes)));
  const more = keys.length - apart.length;
  $("sweep-told").textContent = `${finished.length} runs, best: ${lines[0].told}.${more ? ` ${more} more values change together with these.` : ""}`;
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
  return D.groups.filter((group) => group.name === name).flatMap((group) => group.runs).map((place) => D.runs[place]);
}
// Results that the runs of the chosen name have.
function offerMetrics() {
  const runs = runsOf($("sweep-name").value);
  const names = D.metrics.filter((metric) => runs.some((run) => typeof run.metrics[metric]?.value === "number"));
  fill("sweep-metric", names);
}
// Places from 0 to 1: numbers by size, on a logarithmic axis if they span a factor of 50, other values by name.
function sweepAxis(name, values) {
  const numeric = values.every((v) => typeof v === "number");
  const text = (v) => (numeric ? (D.metrics.includes(name) ? number(v) : String(v)) : brief(v)); // configured values as they are
  const keyed = numeric ? values : values.map(shown);
  const order = [...new Set(keyed)].sort((a, b) => (a < b ? -1 : 1)), low = order[0], high = order.at(-1);
  const scale = (v) => (!numeric ? order.indexOf(v) : low > 0 && high / low >= 50 ? Math.log(v) : v);
  const place = (v) => (low === high ? 0.5 : (scale(v) - scale(low)) / (scale(high) - scale(low)));
  const ticks = (order.length <= 8 ? order : [low, high]).map((v) => [place(v), text(v)]);
  return { name, texts: values.map(text), ticks, at: keyed.map(place) };
}
const brief = (value) => (value === null || value === undefined ? "none" : shown(value).split(/[./]/).pop());
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
