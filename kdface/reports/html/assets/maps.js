// Maps of embeddings: one a configuration, the same images of the same people in each.
const MARKS = ["circle", "square", "diamond", "triangle-up", "cross"];
function drawMaps() {
  const test = $("map-test").value, found = D.maps[test] || {};
  const groups = [...ticked].filter((g) => found[g]);
  const left = [...ticked].filter((g) => !found[g]).length;
  const boxes = groups.map((g) => el("figure", {}, el("figcaption", {}, swatch(g), D.groups[g].label), el("div", { class: "map", role: "img" })));
  $("map-charts").replaceChildren(...(boxes.length ? boxes : [el("p", { class: "empty", text: "The ticked configurations keep no embeddings of this test." })]));
  const told = "t-SNE of the cosine distances between a few images of the people who have most; a colour and mark is a person. Distances between far groups mean little. Beside it, the share of images whose nearest other one, in all dimensions, shows the same person.";
  $("map-told").textContent = told + (left && boxes.length ? ` No map for ${left} of the ticked configurations: only those that keep embeddings, and of these the best ${D.leading}, have one.` : "");
  groups.forEach((g, k) => {
    const box = boxes[k].lastChild;
    boxes[k].firstChild.append(el("span", { class: "sd", text: ` seed ${found[g].seed}: nearest is the same person ${(100 * found[g].nearest).toFixed(1)} %` }));
    later(box, () => plot(box, `Embedding map of ${D.groups[g].label} on ${test}`, people(found[g]), bare));
  });
}
const bare = (() => {
  const axis = { showticklabels: false, showgrid: false, ticks: "", zeroline: false, showline: true, mirror: true };
  return { margin: { l: 4, r: 4, t: 4, b: 4 }, xaxis: axis, yaxis: { ...axis, scaleanchor: "x" }, hovermode: "closest" };
})();
function people(map) {
  const colors = PALETTE[dark.matches ? "dark" : "light"];
  const numbers = [...new Set(map.person)];
  return numbers.map((person, k) => {
    const at = map.person.map((p, i) => (p === person ? i : -1)).filter((i) => i >= 0);
    const marker = { color: colors[k % colors.length], symbol: MARKS[Math.floor(k / colors.length) % MARKS.length], size: 7, line: { width: 0.5, color: "rgba(128,128,128,.6)" } };
    return { x: at.map((i) => map.x[i]), y: at.map((i) => map.y[i]), mode: "markers", name: `person ${person + 1}`, hoverinfo: "name", marker };
  });
}
$("map-test").addEventListener("change", drawMaps);
listeners.push(drawMaps);
