// Charts by Plotly, which is unpacked when the first one comes into view.
let library = null;
function plotly() {
  library ??= (async () => {
    const packed = await fetch("data:application/gzip;base64," + $("library").textContent); // decodes faster than atob
    const code = await new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).blob();
    // By an address, and not as text, it is compiled beside the main thread: the page can be scrolled meanwhile.
    const src = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    await new Promise((resolve, reject) => document.head.append(el("script", { src, onload: resolve, onerror: reject })));
    URL.revokeObjectURL(src);
    return window.Plotly;
  })();
  return library;
}
const pending = new Map(); // element -> what draws it, once it is seen
const seen = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { seen.add(entry.target); flush(entry.target); }
}, { rootMargin: "150px" });
function later(node, draw) {
  pending.set(node, draw);
  watcher.observe(node);
  if (seen.has(node)) flush(node);
}
function flush(node) {
  const draw = pending.get(node);
  pending.delete(node);
  draw?.();
}
async function plot(node, label, traces, layout) {
  node.setAttribute("aria-label", label);
  if (!traces.length) {
    window.Plotly?.purge(node);
    node.replaceChildren(el("p", { class: "empty", text: ticked.size ? "The ticked configurations have no such values." : "Tick configurations above to draw them." }));
    return;
  }
  const lib = await plotly();
  node.querySelector(".empty")?.remove();
  const narrow = node.clientWidth < 520;
  const axis = { gridcolor: css("--faint"), linecolor: css("--line"), zeroline: false, automargin: true };
  await lib.react(node, traces, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: css("--ink"), family: "inherit", size: 12 },
    margin: { l: 58, r: 12, t: layout.title ? 34 : 10, b: 46 }, showlegend: false, dragmode: narrow ? false : "zoom",
    hoverlabel: { namelength: -1, font: { size: 12 } }, modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--ink") },
    ...layout,
    xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  }, { responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover", modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] });
}
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// A line with a band from low to high in its colour.
function banded(group, x, y, low, high, extra = {}) {
  const { color, dash } = look(group);
  const name = clipped(D.groups[group].label);
  const line = { x, y, name, mode: y.filter((v) => v !== null).length < 12 ? "lines+markers" : "lines", line: { color, dash, width: 2 }, legendgroup: String(group), connectgaps: true, ...extra };
  if (!low) return [line];
  // A closed outline: Plotly's own filling between two lines breaks where a value is missing.
  const kept = x.map((_, i) => i).filter((i) => low[i] !== null && high[i] !== null && x[i] !== null);
  const outline = { x: [...kept.map((i) => x[i]), ...kept.map((i) => x[i]).reverse()], y: [...kept.map((i) => high[i]), ...kept.map((i) => low[i]).reverse()] };
  const shade = { ...outline, fill: "toself", fillcolor: color + "2b", line: { width: 0 }, mode: "lines", hoverinfo: "skip", showlegend: false, legendgroup: String(group) };
  return [shade, line];
}
const clipped = (text) => (text.length > 60 ? text.slice(0, 59) + "…" : text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");

// One chart a method, for losses of different methods cannot be compared; with the learning rate, and where the weight
// of the teaching changes.
function drawLearning() {
  const name = $("series").value, found = D.series[name] || {};
  const groups = [...ticked].filter((g) => found[g]);
  legend("curves", groups);
  const methods = [...new Set(groups.map((g) => D.groups[g].method))];
  const charts = (methods.length ? methods : [""]).map((method) => {
    const box = el("div", { class: "chart", role: "img" });
    const members = groups.filter((g) => D.groups[g].method === method);
    later(box, () => plot(box, `${name} of ${method}: ${members.map((g) => D.groups[g].label).join("; ") || "none"}`, learning(found, members, name), layout(method, name, members)));
    return box;
  });
  $("learning").replaceChildren(...charts);
}
function learning(found, members, name) {
  const traces = members.flatMap((g) => banded(g, found[g].x, found[g].y, found[g].low, found[g].high));
  const rate = D.series.lr?.[members[0]];
  if (rate && name !== "lr") traces.unshift({ x: rate.x, y: rate.y, name: "learning rate", yaxis: "y2", mode: "lines", line: { color: "#8a93a0", width: 1 } });
  return traces;
}
function layout(method, name, members) {
  const weight = D.series.guidance?.[members[0]] ?? { x: [], y: [] };
  const changes = weight.x.filter((_, i) => i && weight.y[i] !== weight.y[i - 1]).slice(0, 8);
  return {
    title: { text: clipped(method), font: { size: 14 } }, margin: { l: 58, r: 62, t: 34, b: 46 },
    xaxis: { title: { text: "Step" } }, yaxis: { title: { text: clipped(name) }, type: $("log").checked ? "log" : "linear" },
    yaxis2: { overlaying: "y", side: "right", showgrid: false, zeroline: false, rangemode: "tozero", automargin: true, tickmode: "auto", nticks: 4, tickformat: ".2~g", title: { text: "learning rate" } },
    shapes: changes.map((x) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: "#8a93a0", dash: "dot", width: 1.5 } })),
  };
}
function drawErrors() {
  const found = D.curves[$("test").value] || {};
  const groups = [...ticked].filter((g) => found[g]);
  legend("errors", groups);
  const from = (g, values) => values.slice(found[g].first);
  const band = (g, x, kind) => {
    const c = found[g];
    const [y, low, high] = kind === "roc" ? [c.tar, c.low, c.high] : [c.fnmr_tar, c.fnmr_high, c.fnmr_low];
    return banded(g, x, y, c.n > 1 ? low : null, high);
  };
  const roc = groups.flatMap((g) => band(g, from(g, D.far), "roc"));
  const probits = (g) => from(g, D.far_probit);
  const det = groups.flatMap((g) => band(g, probits(g).map((v, i) => (found[g].fnmr_tar[i] === null ? null : v)), "det"));
  const rates = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8];
  const ticks = { tickvals: [-4.7534, -4.2649, -3.719, -3.0902, -2.3263, -1.6449, -0.8416, 0, 0.8416], ticktext: rates.map((r) => (r < 1e-3 ? r.toExponential(0) : String(r))) };
  const test = $("test").value;
  later($("roc"), () => plot($("roc"), `ROC on ${test}`, roc, { title: { text: "ROC", font: { size: 14 } }, xaxis: { type: "log", title: { text: "False accept rate" }, exponentformat: "power", dtick: 1 }, yaxis: { title: { text: "True accept rate" } } }));
  later($("det"), () => plot($("det"), `DET on ${test}`, det, { title: { text: "DET", font: { size: 14 } }, xaxis: { title: { text: "False match rate" }, ...ticks }, yaxis: { title: { text: "False non-match rate" }, ...ticks } }));
}
function drawCmc() {
  const test = $("cmc-test").value, found = D.cmc[test] || {};
  legend("identification", [...ticked].filter((g) => found[g]));
  const ranks = (g) => found[g].y.map((_, k) => k + 1);
  const traces = [...ticked].filter((g) => found[g]).flatMap((g) => banded(g, ranks(g), found[g].y, found[g].low, found[g].high, { mode: "lines+markers" }));
  later($("cmc"), () => plot($("cmc"), `CMC on ${test}`, traces, { xaxis: { title: { text: "Rank" }, dtick: $("cmc").clientWidth < 520 ? 5 : 1, tick0: 0, range: [0.5, Math.max(...traces.map((t) => Math.max(...t.x)), 1) + 0.5] }, yaxis: { title: { text: "Identification rate" } } }));
}
function drawEdc() {
  const test = $("edc-test").value, found = D.edc[test] || {};
  const traces = [...ticked].filter((g) => found[g]).flatMap((g) => banded(g, D.discard, found[g].y, found[g].low, found[g].high));
  legend("discard", [...ticked].filter((g) => found[g]));
  // As the PDFs: from zero unless all errors lie close together, and E(0) where all begin there.
  const errors = [...ticked].filter((g) => found[g]).map((g) => found[g].y), start = new Set(errors.map((y) => y[0]));
  const close = Math.min(...errors.flat()) >= 0.8 * Math.max(...errors.flat()), none = { type: "line", xref: "paper", x0: 0, x1: 1, y0: [...start][0], y1: [...start][0], line: { dash: "dot", width: 1 } };
  later($("edc"), () => plot($("edc"), `Error versus discard on ${test}`, traces, { xaxis: { title: { text: "Discarded pairs" }, tickformat: ".0%", range: [0, D.discard.at(-1) * 1.01] }, yaxis: { title: { text: "False non-match rate" }, rangemode: close ? "normal" : "tozero" }, shapes: start.size === 1 ? [none] : [] }));
}
$("series").addEventListener("change", drawLearning);
$("log").addEventListener("change", drawLearning);
$("test").addEventListener("change", drawErrors);
$("cmc-test").addEventListener("change", drawCmc);
$("edc-test").addEventListener("change", drawEdc);
dark.addEventListener("change", changed);
listeners.push(drawLearning, drawErrors, drawCmc, drawEdc);
