// What teaching brings: each configuration that is taught, against its partner that is not.
function drawGains() {
  const metric = $("gain-metric").value;
  const rows = D.gains.map((each) => ({ ...each, gain: paired(metric, each.without, each.with) })).filter((each) => each.gain);
  const reach = Math.max(...rows.map(({ gain }) => Math.abs(gain.mean) + (gain.half ?? 0)), 1e-12);
  const head = ["taught", "gain", "95 % interval", "without", "with", "seeds"].map((text, k) => el("th", { scope: "col", class: k ? "n" : "", text }));
  head.splice(3, 0, el("th", { scope: "col" }, el("span", { class: "out", text: "drawn" })));
  const body = rows.map(({ with: taught, without, also, gain }) => {
    const label = el("td", { class: "label" }, D.groups[taught].label, el("div", { class: "sd", text: `against ${D.groups[without].label}` }));
    if (also.length) label.append(el("div", { class: "sd warn", text: `they differ in ${also[0]}${also.length > 1 ? ` and ${also.length - 1} more` : ""} too` }));
    const cells = [signed(gain.mean), gain.interval, number(gain.before), number(gain.after), gain.seeds.join(", ")].map((text) => el("td", { class: "n", text }));
    cells.splice(2, 0, el("td", {}, whisker(gain, reach, lowerWins(metric))));
    return el("tr", {}, label, ...cells);
  });
  const none = el("tr", {}, el("td", { text: "No configuration that is taught has a partner that is not and shares a finished seed." }));
  $("gain-rows").replaceChildren(...(rows.length ? [el("thead", {}, el("tr", {}, ...head))] : []), el("tbody", {}, ...(rows.length ? body : [none])));
}
const SVG = "http://www.w3.org/2000/svg";
function node(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
// A dot and its interval about a line at no gain; to the right is always the better side.
function whisker({ mean, half }, reach, flipped) {
  const width = 150, x = (value) => width / 2 + ((flipped ? -value : value) / reach) * (width / 2 - 6);
  const svg = node("svg", { width, height: 22, viewBox: `0 0 ${width} 22`, class: "whisker", "aria-hidden": "true" });
  svg.append(node("line", { x1: width / 2, x2: width / 2, y1: 1, y2: 21, class: "zero" }));
  const clear = half !== null && Math.abs(mean) > half;
  const kind = !clear ? "open" : (flipped ? -mean : mean) > 0 ? "better" : "worse";
  if (half !== null) svg.append(node("line", { x1: x(mean - half), x2: x(mean + half), y1: 11, y2: 11, class: kind }));
  svg.append(node("circle", { cx: x(mean), cy: 11, r: 4.5, class: kind }));
  return svg;
}
$("gain-metric").addEventListener("change", drawGains);
