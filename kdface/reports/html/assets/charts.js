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
  const plain = { gridcolor: css("--faint"), linecolor: css("--line"), zeroline: false, automargin: true };
  await lib.react(node, traces, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: css("--ink"), family: "inherit", size: 12 },
    margin: { l: 58, r: 12, t: layout.title ? 34 : 10, b: 46 }, showlegend: false, dragmode: narrow ? false : "zoom",
    hoverlabel: { namelength: -1, font: { size: 12 } }, modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--ink") },
    ...layout,
    xaxis: { ...plain, ...layout.xaxis }, yaxis: { ...plain, ...layout.yaxis },
  }, { responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover", modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] });
}
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// A line with a band from low to high in its colour.
function banded(group, x, { y, low, high }, { mode, shape } = {}) {
  const { color, dash } = look(group), few = y.filter((v) => v !== null).length < 12;
  const shared = { legendgroup: String(group), showlegend: false };
  const line = { ...shared, x: x.map((v, i) => (y[i] === null ? null : v)), y, name: clipped(D.groups[group].label), mode: mode ?? (few ? "lines+markers" : "lines"), line: { color, dash, shape, width: 2 }, connectgaps: true };
  if (!low) return [line];
  // A closed outline, since Plotly's filling between two lines breaks at missing values.
  const kept = x.map((_, i) => i).filter((i) => low[i] !== null && high[i] !== null), back = kept.toReversed();
  const outline = { x: [...kept, ...back].map((i) => x[i]), y: [...kept.map((i) => high[i]), ...back.map((i) => low[i])] };
  return [{ ...shared, ...outline, fill: "toself", fillcolor: color + "2b", line: { width: 0 }, mode: "lines", hoverinfo: "skip" }, line];
}
const clipped = (text) => (text.length > 60 ? text.slice(0, 59) + "…" : text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");


// One chart per method, since losses of different methods cannot be compared; with the learning rate, and the steps at
// which the weight of the teacher changes.
function drawLearning() {
  const name = $("series").value, found = D.series[name] || {};
  const groups = [...ticked].filter((g) => found[g]);
  legend("curves", groups);
  const methods = [...new Set(groups.map((g) => D.groups[g].method))];
  $("learning").replaceChildren(...(methods.length ? methods : [""]).map((method) => {
    const box = el("div", { class: "chart", role: "img" });
    const members = groups.filter((g) => D.groups[g].method === method);
    const traces = members.flatMap((g) => banded(g, found[g].x, found[g]));
    const rate = D.series.lr?.[members[0]];
    if (rate && name !== "lr") traces.unshift({ x: rate.x, y: rate.y, name: "learning rate", yaxis: "y2", mode: "lines", line: { color: "#8a93a0", width: 1 } });
    const told = `${name} of ${method}: ${members.map((g) => D.groups[g].label).join("; ") || "none"}`;
    later(box, () => plot(box, told, traces, learningLayout(method, name, members.map((g) => found[g].x))));
    return box;
  }));
}
function learningLayout(method, name, steps) {
  const weight = D.series.guidance?.[[...ticked].find((g) => D.groups[g].method === method)] ?? { x: [], y: [] };
  const changes = weight.x.filter((_, i) => i && weight.y[i] !== weight.y[i - 1]).slice(0, 8);
  const all = steps.flat();
  return {
    title: { text: clipped(method), font: { size: 14 } }, margin: { l: 58, r: 62, t: 34, b: 46 },
    xaxis: { title: { text: "Step" }, dtick: Math.max(...all) - Math.min(...all) < 6 ? 1 : undefined },
    yaxis: { title: { text: clipped(name) }, type: $("log").checked ? "log" : "linear" },
    yaxis2: { overlaying: "y", side: "right", showgrid: false, zeroline: false, rangemode: "tozero", automargin: true, tickmode: "auto", nticks: 4, tickformat: ".2~g", title: { text: "learning rate" } },
    shapes: changes.map((x) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: "#8a93a0", dash: "dot", width: 1.5 } })),
  };
}
const RATES = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8];
const DEVIATES = { tickvals: [-4.7534, -4.2649, -3.719, -3.0902, -2.3263, -1.6449, -0.8416, 0, 0.8416], ticktext: RATES.map((r) => (r < 1e-3 ? r.toExponential(0) : String(r))) };
const axis = (text, more = {}) => ({ title: { text }, ...more });
const titled = (text, xaxis, yaxis) => ({ title: { text, font: { size: 14 } }, xaxis, yaxis });
// A test's charts by section: where its curves are, x and y with its band for each configuration, and the layout.
const CURVES = [
  { section: "errors", select: "test", data: D.curves, charts: {
    roc: [(c) => [D.far.slice(c.first), { y: c.tar, low: c.low, high: c.high }], rocLayout],
    det: [(c) => [D.far_probit.slice(c.first), { y: c.fnmr_tar, low: c.fnmr_high, high: c.fnmr_low }], () => titled("DET", axis("False match rate", DEVIATES), axis("False non-match rate", DEVIATES))],
  } },
  { section: "identification", select: "cmc-test", data: D.cmc, charts: {
    cmc: [(c) => [c.y.map((_, k) => k + 1), c, { mode: "lines+markers" }], (found, narrow) => ({
      xaxis: axis("Rank", { dtick: narrow ? 5 : 1, tick0: 0, range: [0.5, Math.max(...found.map((c) => c.y.length), 1) + 0.5] }), yaxis: axis("Identification rate"),
    })],
  } },
  { section: "discard", select: "edc-test", data: D.edc, charts: { edc: [(c) => [D.discard, c, { shape: "hv" }], discardLayout] } },
];
function rocLayout(found) {
  const least = D.far[Math.min(...found.map((c) => c.first))];
  return titled("ROC", axis("False accept rate", { type: "log", exponentformat: "power", dtick: least > 0.05 ? "D2" : 1 }), axis("True accept rate"));
}
// As in the PDFs: from zero unless all errors are close together, with E(0) if all curves start there.
function discardLayout(found) {
  const errors = found.map((c) => c.y), starts = [...new Set(errors.map((y) => y[0]))];
  const close = Math.min(...errors.flat()) >= 0.8 * Math.max(...errors.flat());
  const level = { type: "line", xref: "paper", x0: 0, x1: 1, y0: starts[0], y1: starts[0], line: { dash: "dot", width: 1 } };
  return {
    xaxis: axis("Discarded pairs", { tickformat: ".0%", range: [0, D.discard.at(-1) * 1.01] }),
    yaxis: axis("False non-match rate", { rangemode: close ? "normal" : "tozero" }), shapes: starts.length === 1 ? [level] : [],
  };
}
for (const { section, select, data, charts } of CURVES) {
  const draw = () => {
    const test = $(select).value, found = data[test] || {};
    const groups = [...ticked].filter((g) => found[g]);
    legend(section, groups);
    for (const [id, [line, layout]] of Object.entries(charts)) {
      const traces = groups.flatMap((g) => banded(g, ...line(found[g])));
      later($(id), () => plot($(id), `${id.toUpperCase()} on ${test}`, traces, layout(groups.map((g) => found[g]), $(id).clientWidth < 520)));
    }
  };
  $(select).addEventListener("change", draw);
  listeners.push(draw);
}
for (const id of ["series", "log"]) $(id).addEventListener("change", drawLearning);
dark.addEventListener("change", changed);
listeners.push(drawLearning);
