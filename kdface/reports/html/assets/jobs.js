// What the ledgers of sweeps tell: how far their jobs came, and which of them failed or never began.
function drawJobs() {
  const states = ["done", "failed", "running", "interrupted", "pruned", "waiting"];
  const used = states.filter((state) => D.sweeps.some((sweep) => sweep.counts[state]));
  const head = el("tr", {}, el("th", { scope: "col", text: "sweep" }), ...[...used, "in all"].map((text) => el("th", { scope: "col", class: "n", text })));
  const body = D.sweeps.map((sweep) => {
    const counts = used.map((state) => sweep.counts[state] ?? 0);
    const cells = sweep.problem ? [] : [...counts, Object.values(sweep.counts).reduce((a, b) => a + b, 0)];
    const name = el("td", { class: "label" }, sweep.name);
    if (sweep.problem) name.append(el("div", { class: "sd warn", text: `could not be read: ${sweep.problem}` }));
    return el("tr", {}, name, ...cells.map((text) => el("td", { class: "n", text })));
  });
  $("sweeps").replaceChildren(el("thead", {}, head), el("tbody", {}, ...body));
  $("open-jobs").replaceChildren(...D.sweeps.filter((sweep) => sweep.jobs.length).map(openJobs));
}
function openJobs(sweep) {
  const told = { failed: "failed", waiting: "never began" };
  const title = Object.keys(told).map((state) => [sweep.counts[state], told[state]]).filter(([count]) => count).map((each) => each.join(" ")).join(", ");
  const items = sweep.jobs.map((job) => {
    const item = el("li", {}, el("span", { class: `status ${job.state}`, text: told[job.state] }), " ", el("code", { text: job.overrides }));
    if (job.why) item.append(el("div", { class: "sd", text: job.why }));
    return item;
  });
  return el("details", { open: sweep.counts.failed > 0 }, el("summary", {}, `${sweep.name}: ${title}`), el("ul", { class: "jobs" }, ...items));
}
