// Samples of test and training images: maps of their embeddings, the hardest pairs, and contact sheets.
const MARKS = ["circle", "square", "diamond", "triangle-up", "cross"];
const FRAME = { showticklabels: false, showgrid: false, ticks: "", showline: true, mirror: true };
function drawMaps() {
  const test = $("map-test").value, found = D.maps[test] || {};
  const groups = [...ticked].filter((g) => found[g]), left = ticked.size - groups.length;
  const figures = groups.map((g) => {
    const box = el("div", { class: "map", role: "img" }), share = (100 * found[g].nearest).toFixed(1);
    const layout = { margin: { l: 4, r: 4, t: 4, b: 4 }, xaxis: FRAME, yaxis: { ...FRAME, scaleanchor: "x" }, hovermode: "closest" };
    later(box, () => plot(box, `Embedding map of ${D.groups[g].label} on ${test}`, people(found[g]), layout));
    return el("figure", {}, el("figcaption", {}, swatch(g), D.groups[g].label, el("span", { class: "sd", text: ` (seed ${found[g].seed}, nearest is same person: ${share} %)` })), box);
  });
  show("map-charts", groups, "The ticked configurations store no embeddings of this test.", ...figures);
  $("map-left").textContent = left && groups.length ? `${left} of the ticked configurations store no embeddings, or are not among the best ${D.leading}.` : "";
}
function people(map) {
  return [...new Set(map.person)].map((person, k) => {
    const at = map.person.map((p, i) => (p === person ? i : -1)).filter((i) => i >= 0);
    const marker = { color: colours()[k % MOST], symbol: MARKS[Math.floor(k / MOST) % MARKS.length], size: 7, line: { width: 0.5, color: "rgba(128,128,128,.6)" } };
    return { x: at.map((i) => map.x[i]), y: at.map((i) => map.y[i]), mode: "markers", name: `person ${person + 1}`, hoverinfo: "name", marker };
  });
}
const region = (label, options, ...children) => el("div", { tabindex: 0, "aria-label": label, ...options }, ...children);
function drawHardest() {
  const found = D.hardest[$("pair-test").value];
  if (!found) return $("hardest-box").setAttribute("hidden", "");
  if (found.note) return $("hardest").replaceChildren(el("p", { class: "hint", text: found.note }));
  const groups = [...ticked].filter((g) => found.groups[g]);
  const couple = (kind) => ({ score, faces }) => el("figure", { class: "couple" }, ...faces.map((key, side) => el("img", { src: found.pictures[key], alt: `${side ? "second" : "first"} image, ${kind} pair`, loading: "lazy" })), el("figcaption", { text: number(score) }));
  const kinds = [["impostor", "Different people, highest scores"], ["genuine", "Same person, lowest scores"]];
  const strips = groups.map((g) => el("div", { class: "strip" }, el("p", {}, swatch(g), D.groups[g].label), ...kinds.flatMap(([kind, text]) => [el("p", { class: "hint", text }), region(text, { class: "couples", role: "group" }, ...found.groups[g][kind].map(couple(kind)))])));
  show("hardest", groups, "The ticked configurations have no scores of this test.", ...strips);
}
function drawSheets() {
  $("sheets").replaceChildren(...D.sheets.map(({ dataset, augmentation, groups, note, picture }, k) => {
    const used = groups.length === 1 ? D.groups[groups[0]].label : `${groups.length} configurations`;
    const title = [`${dataset}, ${augmentation} `, el("span", { class: "sd", text: `(${used}) ${note ?? ""}` })];
    if (note) return el("p", { class: "sheet" }, ...title);
    const image = el("img", { src: picture, alt: `Images of ${dataset}, a row for each person, each followed by its views`, loading: "lazy" });
    return el("details", { class: "sheet", open: k === 0 }, el("summary", {}, ...title), region(`Images of ${dataset}`, { class: "scroll", role: "region" }, image));
  }));
}
$("map-test").addEventListener("change", drawMaps);
$("pair-test").addEventListener("change", drawHardest);
listeners.push(drawMaps, drawHardest);
