// Where the numbers of one run are from.
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
$("details").addEventListener("click", (event) => { if (event.target === $("details")) $("details").close(); });
