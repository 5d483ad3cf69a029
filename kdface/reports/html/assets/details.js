// Where the numbers of one run are from; and the runs that did not finish.
function showRun(place) {
  const run = D.runs[place];
  const group = D.groups[run.group];
  $("details-title").textContent = run.path;
  const rows = [
    ["status", run.status],
    ["configuration", `${group.label} (fingerprint ${group.fingerprint})`],
    ["seed", run.seed],
    ["tags", run.tags.join(", ")],
    ["step", run.step],
    ["training time", run.seconds === null ? "" : `${run.seconds} s`],
    ["command", run.command],
    ...computedWith(run.environment),
    ["symptoms", run.symptoms.join("; ")],
    ["could not be read", run.problem],
  ];
  const parts = [table(rows.filter(([, value]) => value !== "" && value !== null))];
  parts.push(...run.sources.flatMap((source) => results(run, source)));
  const data = Object.entries(run.data).map(([part, c]) => [part, c.images == null ? `fingerprint ${String(c.fingerprint).slice(0, 12)}` : `${c.name}: ${c.images} images of ${c.people} people, fingerprint ${String(c.fingerprint).slice(0, 12)}${c.terms ? `; terms: ${c.terms}` : ""}`]);
  if (data.length) parts.push(el("h3", { text: "Data (data.json)" }), table(data));
  const config = Object.entries({ ...D.base, ...group.config }).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => [key, shown(value)]);
  parts.push(el("details", {}, el("summary", { text: "Configuration (config.yaml)" }), table(config)));
  $("details-body").replaceChildren(...parts);
  $("details").showModal();
}
// The metrics that are from one file; what is not training's own may be of other code and of another machine.
function results(run, source) {
  const metrics = Object.entries(run.metrics).filter(([name]) => source.tests.includes(name.split("/")[0]));
  const rows = metrics.map(([name, m]) => [name, number(m.value) + (m.std != null ? ` ± ${number(m.std)} over folds` : "")]);
  const title = el("h3", { text: `Results at step ${source.step} (${source.file})` });
  if (source === run.sources[0] && source.file === "results.json") return rows.length ? [title, table(rows)] : [];
  const made = computedWith(source.environment);
  return [title, table([...(made.length ? made : [["code, machine", "not told in this file"]]), ...rows])];
}
function computedWith({ commit, changed, machine, precision, packages }) {
  return [
    ["code", commit && commit + (changed ? ", with uncommitted changes" : "")],
    ["machine", [machine, precision].filter(Boolean).join(", ")],
    ["versions", Object.entries(packages ?? {}).map(([name, version]) => `${name} ${version}`).join(", ")],
  ].filter(([, value]) => value);
}
function table(rows) {
  return el("table", {}, el("tbody", {}, ...rows.map(([name, value]) => el("tr", {}, el("td", { text: name }), el("td", { text: value })))));
}
function drawFailures() {
  const open = D.runs.filter((run) => run.status !== "done" || run.problem);
  if (!open.length) $("failed").replaceChildren(el("p", { class: "empty", text: "Every run is finished." }));
  else $("failed").replaceChildren(...open.map(failure));
}
function failure(run) {
  const told = { stopped: "stopped", running: "running", done: "finished" }[run.status];
  const title = el("p", {}, el("span", { class: `status ${run.status}`, text: told }), `${run.group === null ? "" : ` at step ${run.step}`}: ${run.path}`);
  const parts = [title];
  if (run.problem) parts.push(el("p", { text: `could not be read: ${run.problem}` }));
  if (run.log) {
    const last = run.log.trimEnd().split("\n").pop();
    const text = el("pre", { tabindex: 0, "aria-label": `End of output.log of ${run.path}`, text: run.log });
    const box = el("details", { ontoggle: () => { text.scrollTop = text.scrollHeight; } }, el("summary", {}, el("code", { text: last })), text);
    parts.push(box);
  }
  if (!run.log && run.status !== "done") parts.push(el("p", { class: "hint", text: "It has no output.log." }));
  return el("div", { class: "failed" }, ...parts);
}
$("details").addEventListener("click", (event) => { if (event.target === $("details")) $("details").close(); });
