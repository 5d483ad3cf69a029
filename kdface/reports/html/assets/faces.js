// Pictures: the pairs that configurations find hardest, and what training shows of each dataset.
function drawHardest() {
  const found = D.hardest[$("pair-test").value];
  if (!found) return $("hardest-box").setAttribute("hidden", "");
  if (found.note) return $("hardest").replaceChildren(el("p", { class: "hint", text: found.note }));
  const groups = [...ticked].filter((g) => found.groups[g]);
  const kinds = [["impostor", "Different people, highest scores"], ["genuine", "The same person, lowest scores"]];
  const couple = (kind) => ({ score, faces }) => el("figure", { class: "couple" }, ...faces.map((key, side) => el("img", { src: found.pictures[key], alt: `${side ? "second" : "first"} image, ${kind} pair`, loading: "lazy" })), el("figcaption", { text: score.toFixed(3) }));
  const strips = groups.map((g) => el("div", { class: "strip" }, el("p", {}, swatch(g), D.groups[g].label), ...kinds.flatMap(([kind, text]) => [el("p", { class: "hint", text }), el("div", { class: "couples", tabindex: 0, role: "group", "aria-label": text }, ...found.groups[g][kind].map(couple(kind)))])));
  $("hardest").replaceChildren(...(strips.length ? strips : [el("p", { class: "empty", text: "The ticked configurations have no pairs here." })]));
}
function drawSheets() {
  $("sheets").replaceChildren(...D.sheets.map((sheet, k) => {
    const used = sheet.groups.length === 1 ? D.groups[sheet.groups[0]].label : `${sheet.groups.length} configurations`;
    const title = el("summary", {}, `${sheet.dataset}, ${sheet.augmentation} `, el("span", { class: "sd", text: `(${used})` }));
    if (sheet.note) return el("div", { class: "sheet" }, el("p", {}, `${sheet.dataset}, ${sheet.augmentation} `, el("span", { class: "sd", text: `(${used}) ${sheet.note}` })));
    const head = el("tr", {}, ...sheet.heads.map((text) => el("th", { scope: "col", text })));
    const rows = sheet.rows.map((row) => el("tr", {}, ...row.map((src, at) => el("td", {}, el("img", { src, alt: `a face, ${sheet.heads[at]}`, loading: "lazy" })))));
    return el("details", { class: "sheet", open: k === 0 }, title, el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Images of ${sheet.dataset}` }, el("table", { class: "pictures" }, el("thead", {}, head), el("tbody", {}, ...rows))));
  }));
}
$("pair-test").addEventListener("change", drawHardest);
listeners.push(drawHardest);
