// Parallel coordinates: one line a run, one axis a value that differs between the runs of a name, the last one the result.
const SVG = "http://www.w3.org/2000/svg";
let lines = [];
let picked = -1;

function drawSweep() {
  const name = $("sweep-name").value;
  const metric = $("sweep-metric").value;
  const runs = runsOf(name);
  const finished = runs.filter((run) => typeof run.metrics[metric]?.value === "number");
  const configs = [...new Set(runs.map((run) => run.group))].map((g) => D.groups[g].config);
  const keys = [...new Set(configs.flatMap(Object.keys))].filter((key) => new Set(configs.map((c) => shown(c[key]))).size > 1);
  picked = -1;
  $("parallel").classList.remove("picked");
  if (!finished.length || !keys.length) {
    $("parallel").replaceChildren(el("p", { class: "empty", text: "The runs of this name differ in their seeds only, or none is finished." }));
    $("sweep-told").textContent = "";
    return;
  }
  // Keys that always change together (a head and its scale) need one axis.
  const column = (key) => shown(finished.map((run) => shown(D.groups[run.group].config[key])));
  const apart = keys.filter((key, i) => keys.findIndex((other) => alike(column(other)) === alike(column(key))) === i).slice(0, 9);
  const axes = apart.map((key) => axis(key, finished.map((run) => D.groups[run.group].config[key])));
  axes.push(axis(metric, finished.map((run) => run.metrics[metric].value)));
  lines = finished.map((run, i) => ({ run, at: axes.map((a) => a.at[i]), value: run.metrics[metric].value, told: axes.map((a) => `${a.name.replace("._target_", "")} ${a.texts[i]}`).join(", ") }));
  lines.sort((a, b) => (a.value - b.value) * (lowerWins(metric) ? 1 : -1));
  $("parallel").replaceChildren(draw(axes));
  const more = keys.length > apart.length ? ` ${keys.length - apart.length} further values change together with these.` : "";
  $("sweep-told").textContent = `${finished.length} runs, best: ${lines[0].told}.${more} Arrow keys go from run to run.`;
}
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
function draw(axes) {
  const width = Math.max(axes.length * 175, $("parallel").clientWidth - 16), height = 336, top = 44, bottom = 306;
  const x = (k) => 12 + (k * (width - 84)) / (axes.length - 1);
  const y = (v) => bottom - v * (bottom - top);
  const svg = node("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const values = lines.map((line) => line.value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  for (const line of [...lines].reverse()) {
    const share = high === low ? 0.5 : (line.value - low) / (high - low);
    const points = line.at.map((v, k) => `${x(k).toFixed(1)},${y(v).toFixed(1)}`);
    const path = node("path", { d: "M" + points.join("L"), stroke: colour(share) });
    path.addEventListener("pointerenter", () => pick(lines.indexOf(line)));
    path.addEventListener("pointerleave", () => pick(-1));
    line.path = path;
    svg.append(path);
  }
  axes.forEach((a, k) => {
    svg.append(node("line", { x1: x(k), x2: x(k), y1: top, y2: bottom }));
    const anchor = k === 0 ? "start" : k === axes.length - 1 ? "end" : "middle";
    const at = k === 0 ? 4 : k === axes.length - 1 ? width - 4 : x(k);
    const title = node("text", { x: at, y: 18, "text-anchor": anchor });
    const named = a.name.replace("._target_", "");
    title.textContent = named.length > 20 ? "…" + named.slice(-19) : named;
    const whole = node("title", {});
    whole.textContent = a.name;
    title.append(whole);
    svg.append(title);
    for (const [v, text] of a.ticks) {
      const tick = node("text", { x: x(k) + 6, y: y(v) + 4, class: "tick" });
      tick.textContent = text.length > 18 ? text.slice(0, 17) + "…" : text;
      svg.append(tick);
    }
  });
  return svg;
}
function node(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
// From blue over grey to yellow (the ends of cividis), which all common kinds of colour vision tell apart.
function colour(share) {
  const ends = dark.matches ? [[70, 120, 200], [150, 150, 140], [253, 231, 80]] : [[0, 50, 120], [120, 122, 120], [205, 165, 0]];
  const [a, b] = share < 0.5 ? [ends[0], ends[1]] : [ends[1], ends[2]];
  const t = share < 0.5 ? share * 2 : share * 2 - 1;
  return `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * t)).join()})`;
}
function pick(index) {
  lines[picked]?.path.classList.remove("pick");
  picked = index;
  $("parallel").classList.toggle("picked", index >= 0);
  if (index < 0) return;
  lines[index].path.classList.add("pick");
  $("sweep-told").textContent = `${index + 1} of ${lines.length}: ${lines[index].run.path}: ${lines[index].told}`;
}
$("parallel").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !lines.length) return;
  event.preventDefault();
  pick((picked + step + lines.length) % lines.length);
});
$("sweep-name").addEventListener("change", () => { offerMetrics(); drawSweep(); });
$("sweep-metric").addEventListener("change", drawSweep);
dark.addEventListener("change", drawSweep);
