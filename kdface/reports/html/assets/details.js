// Where the numbers of a run come from.
function showRun(place) {
  const run = D.runs[place], group = D.groups[run.group];
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
  const parts = [pairs(rows.filter(([, value]) => value !== "" && value !== null)), ...run.sources.flatMap((source) => results(run, source))];
  const data = Object.entries(run.data).map(([part, card]) => [part, dataset(card)]);
  if (data.length) parts.push(el("h3", { text: "Data (data.json)" }), pairs(data));
  const config = Object.entries({ ...D.base, ...group.config }).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => [key, shown(value)]);
  parts.push(el("details", {}, el("summary", { text: "Configuration (config.yaml)" }), pairs(config)));
  $("details-body").replaceChildren(...parts);
  $("details").showModal();
}
function dataset({ name, images, people, fingerprint, terms }) {
  const parts = [images == null ? "" : `${name}: ${images} images of ${people} people`, `fingerprint ${String(fingerprint).slice(0, 12)}`, terms && `terms: ${terms}`];
  return parts.filter(Boolean).join("; ");
}
// The metrics from one file; a later evaluation may come from other code and another machine than the training.
function results(run, source) {
  const metrics = Object.entries(run.metrics).filter(([name]) => source.tests.includes(name.split("/")[0]));
  const rows = metrics.map(([name, m]) => [name, number(m.value) + (m.std != null ? ` ± ${number(m.std)} over folds` : "")]);
  const made = computedWith(source.environment);
  if (source.file !== "results.json") rows.unshift(...(made.length ? made : [["code, machine", "not recorded in this file"]]));
  return rows.length ? [el("h3", { text: `Results at step ${source.step} (${source.file})` }), pairs(rows)] : [];
}
function computedWith({ commit, changed, machine, precision, packages }) {
  return [
    ["code", commit && commit + (changed ? ", with uncommitted changes" : "")],
    ["machine", [machine, precision].filter(Boolean).join(", ")],
    ["versions", Object.entries(packages ?? {}).map(([name, version]) => `${name} ${version}`).join(", ")],
  ].filter(([, value]) => value);
}
$("details").addEventListener("click", (event) => { if (event.target === $("details")) $("details").close(); });
