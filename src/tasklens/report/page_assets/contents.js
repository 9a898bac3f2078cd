// The section on the contents of clusters: agreement, variance, tasks by clusters, tasks by checkpoint.
"use strict";

const FAINT = 0.1; // an ARI up to this is hardly a colour; if all are, a sentence says so
const DIAGONAL = 0.95; // from this share of points in the clusters of their tasks on, a sentence replaces the table
const EXCEPTIONS = 12; // the largest number of exceptions to it that are listed

/** Draw heat maps of the ARI against task, distribution, input and output: hidden states by checkpoints. */
function drawHeat() {
  const run = theRun(), split = theSplit(), wide = byId("heat").clientWidth || 1000;
  const parts = [["ari", "task"], ["ari_distribution", "distribution"], ["ari_input", "input"], ["ari_output", "output"]]
    .filter(([metric]) => run.states.some((state) => course(split.name, state, metric)))
    .map(([metric, part]) => ({ part, cells: run.states.flatMap((state) => (course(split.name, state, metric) ?? [])
      .map((value, step) => ({ state, step, value: value?.[0] ?? null }))) }))
    .map((each) => ({ ...each, highest: d3.greatest(each.cells, ({ value }) => value ?? -Infinity) }));
  const drawn = parts.filter(hasContent), faint = parts.filter((each) => !hasContent(each));
  const across = Math.max(1, Math.min(drawn.length, Math.floor(wide / 300))), width = Math.min(Math.floor(wide / across), 66 + 120 * run.steps.length);
  fill("heat", ...drawn.map(({ part, cells }) => heatMap({
    title: `ARI against the ${part}`, cells, width, numbers: true,
    ariaLabel: `ARI against the ${part}, by hidden state and checkpoint, on ${splitTitle(split)}`,
    describe: (cell) => `${cell.state}, ${stepName(cell.step)}\nARI against the ${part}: ${fixed(cell.value, 3)}`,
  })), drawn.length ? colorBar("ARI") : null, ...faint.map(({ part, highest }) => make("p", {},
    `The ARI against the ${part} is at most ${fixed(highest.value)}: in ${highest.state} ${atStep(highest.step)}. A heat map would be of one colour.`)));
}

const hasContent = ({ highest }) => highest.value > FAINT;

/** Show the scores against each column that is crossed with the task, by hidden state at the checkpoint. */
function drawCrossed() {
  const run = theRun(), split = theSplit(), head = (text) => make("th", { scope: "col" }, text);
  const scores = { ari_of: "ARI of it", ari_within: "ARI within", probe_of: "probe of it", probe_within: "probe within", probe_across: "probe across" };
  fill("crossed", ...run.crossed.flatMap((name) => [
    make("h3", {}, `Against ${name} ${atStep(look.step)}, ${splitTitle(split)}`),
    make("div", { class: "scroll" }, make("table", { class: "cells" },
      make("thead", {}, make("tr", {}, make("th"), ...Object.values(scores).map(head))),
      make("tbody", {}, ...run.states.map((state) => make("tr", {}, make("th", { scope: "row" }, state),
        ...Object.keys(scores).map((score) => make("td", {}, fixed(course(split.name, state, `${score}_${name}`)?.[look.step]?.[0])))))))),
    make("p", { class: "note" }, `The clusters and a linear probe against ${name} itself, then against the task. Within: the points with one value of ${name}, clustered and learned alone, mean over values. Across: the probe learns the task from the other values.`),
  ]));
}

// Lines of the parts of an instance are black or grey, and have dashes: colours are those of tasks.
const PARTS = {
  task: { stroke: "var(--ink)", dashes: "none" }, distribution: { stroke: "var(--ink)", dashes: "7 3" },
  input: { stroke: "var(--faint)", dashes: "4 3" }, output: { stroke: "var(--faint)", dashes: "1.5 3" },
};

/** Draw the shares of variance by hidden state at the checkpoint: a line per part of an instance. */
function drawShares() {
  const run = theRun(), split = theSplit(), width = byId("shares").clientWidth || 480;
  const lines = Object.keys(PARTS).map((part) => run.states.map((state) => ({ state, line: `${part}s`, part, mean: course(split.name, state, `variance_${part}`)?.[look.step]?.[0] ?? null }))
    .filter((row) => row.mean !== null)).filter((rows) => rows.length);
  const rows = lines.flat(), place = { x: "state", y: "mean" };
  fill("shares-title", `Variance by hidden state ${atStep(look.step)}, ${splitTitle(split)}`);
  fill("shares", Plot.plot({
    width, height: 250, marginBottom: 60, marginTop: 20, marginRight: 78,
    ariaLabel: `Share of variance between ${lines.map(([row]) => row.line).join(", ")} by hidden state, ${stepName(look.step)}`,
    x: { type: "point", domain: run.states, ticks: namedStates(run.states, width - 120), label: null, tickRotate: -60 },
    y: { domain: [0, 1], label: "share of variance", ticks: 5 },
    marks: [
      Plot.ruleY([0], { stroke: "var(--line)" }),
      ...lines.map((line) => Plot.line(line, { ...place, stroke: PARTS[line[0].part].stroke, strokeWidth: 1.8, strokeDasharray: PARTS[line[0].part].dashes })),
      Plot.dot(rows, { ...place, fill: (row) => PARTS[row.part].stroke, r: 2.2 }),
      Plot.text(endLabels(rows, 0.07), { x: "state", y: "labelY", text: "line", fill: (row) => PARTS[row.part].stroke, dx: 8, textAnchor: "start" }),
      Plot.tip(rows, Plot.pointer({ ...place, ...TIP, title: (row) => `${row.state}\nbetween ${row.line}: ${fixed(row.mean, 3)}` })),
    ],
  }));
}

/** Show the number of points of each task in each cluster: as a sentence with its exceptions if a cluster is a task. */
async function drawContingency() {
  const arrays = await arraysNow();
  if (!arrays) return;
  const { state, step } = look, n = theSplit().n, tasks = arrays.task.data, clusters = rowNow(arrays[`cluster/${state}`]);
  const pairs = d3.rollups(d3.range(n), (all) => all.length, (i) => tasks[i], (i) => clusters[i])
    .flatMap(([task, counts]) => counts.map(([cluster, count]) => ({ task, cluster, count })));
  const own = d3.sum(pairs, ({ task, cluster, count }) => (task === cluster ? count : 0)), table = contingencyTable(pairs);
  fill("contingency-title", `Tasks and clusters: ${state}, ${stepName(step)}`);
  if (own < DIAGONAL * n) return void fill("contingency", make("div", { class: "scroll" }, table), colorBar("share of the task"));
  const names = theRun().names.task, others = d3.sort(pairs.filter(({ task, cluster }) => task !== cluster), ({ count }) => -count);
  const many = new Set(pairs.map(({ cluster }) => cluster)).size, open = Boolean(byId("contingency").querySelector("details")?.open);
  fill("contingency",
    make("p", {}, own === n ? `Each of the ${many} clusters is one task: all ${number(n)} points are in the cluster of their task.`
      : `Each of the ${many} clusters is one task, with few exceptions: ${number(n - own)} of ${number(n)} points are in another cluster.`),
    others.length ? make("ul", { class: "exceptions" }, ...others.slice(0, EXCEPTIONS).map(({ task, cluster, count }) =>
      make("li", {}, `${number(count)} of `, swatch(task), ` ${names[task]} in the cluster of `, ...cluster in names ? [swatch(cluster), ` ${names[cluster]}`] : ["no task"])),
    others.length > EXCEPTIONS ? make("li", {}, `and ${number(d3.sum(others.slice(EXCEPTIONS), ({ count }) => count))} more`) : null) : null,
    make("details", { open }, make("summary", {}, "The whole table"), make("div", { class: "scroll" }, table), colorBar("share of the task")));
}

function contingencyTable(pairs) {
  const run = theRun(), counts = new Map(pairs.map(({ task, cluster, count }) => [`${task} ${cluster}`, count]));
  const rows = d3.sort(new Set(pairs.map(({ task }) => task))), columns = d3.sort(new Set([...rows, ...pairs.map(({ cluster }) => cluster)]));
  const sizes = d3.rollup(pairs, (all) => d3.sum(all, ({ count }) => count), ({ task }) => task);
  const clusterName = (cluster) => `cluster of ${run.names.task[cluster] ?? "no task"}`;
  const head = (value) => make("th", { scope: "col", title: clusterName(value) }, value < run.names.task.length ? swatch(value) : "–");
  const cell = (task, cluster) => {
    const count = counts.get(`${task} ${cluster}`) ?? 0, share = count / sizes.get(task);
    const td = make("td", { title: `${run.names.task[task]}, ${clusterName(cluster)}: ${count}` }, count || "");
    if (count) td.style.cssText = `background: ${d3.interpolateCividis(share)}; color: ${share > 0.46 ? "#000" : "#fff"}`;
    return td;
  };
  return make("table", { class: "cells" },
    make("thead", {}, make("tr", {}, make("th", {}, "task \\ cluster"), ...columns.map(head))),
    make("tbody", {}, ...rows.map((task) => make("tr", {}, make("th", { scope: "row", title: run.names.task[task] }, run.names.task[task]), ...columns.map((cluster) => cell(task, cluster))))));
}

/** Draw the overlap of each task with its cluster by checkpoint, in the order in which the tasks formed. */
function drawOrder() {
  const run = theRun(), followed = theSplit().followed[look.state];
  const order = followed.tasks.map((_, i) => i).sort((a, b) => (followed.formed[a] ?? Infinity) - (followed.formed[b] ?? Infinity) || a - b);
  const cells = order.flatMap((i) => run.steps.map((step, at) => ({ i, at, value: followed.overlap[at][i] })));
  const formed = order.filter((i) => followed.formed[i] !== null).map((i) => ({ i, at: run.steps.indexOf(followed.formed[i]) }));
  const names = (i) => run.names.task[followed.tasks[i]], when = (i) => run.step_names ? fixed(followed.overlap.at(-1)[i]) : followed.formed[i] === null ? "never" : `step ${number(followed.formed[i])}`;
  const short = (i) => shortened(names(i));
  const longest = 12 + 6.6 * Math.max(...order.map((i) => short(i).length));
  fill("order-title", `${run.step_names ? "Tasks and their clusters" : "Tasks in the order in which they formed"}: ${look.state}, ${splitTitle(theSplit())}`);
  const width = Math.min(byId("order").clientWidth || 900, 1000);
  const plot = Plot.plot({
    width, height: 50 + 18 * order.length, marginLeft: longest, marginRight: 84, marginTop: 8, marginBottom: 32,
    ariaLabel: `Overlap of each task with its cluster, by checkpoint: ${order.map((i) => `${names(i)} ${when(i)}`).join(", ")}`,
    x: checkpointAxis(run.steps, width - longest - 84),
    y: { domain: order, tickFormat: short, label: null, tickSize: 0 },
    color: SHARE,
    marks: [
      Plot.cell(cells, { x: "at", y: "i", fill: "value", inset: 0.5 }),
      Plot.dot(run.step_names ? [] : formed, { x: "at", y: "i", r: 4, stroke: "white", strokeWidth: 2 }),
      Plot.text(order, { y: (i) => i, text: when, frameAnchor: "right", dx: 8, textAnchor: "start" }),
      Plot.tip(cells, Plot.pointer({ x: "at", y: "i", ...TIP,
        title: (cell) => `${names(cell.i)}, ${stepName(cell.at)}\noverlap ${fixed(cell.value)}${run.step_names ? "" : `; formed: ${when(cell.i)}`}` })),
    ],
  });
  follow(plot, (scale) => scale(look.step) + plot.scale("x").bandwidth / 2);
  onPick(plot, ({ at }) => go({ step: at }));
  fill("order", plot, colorBar("overlap (Jaccard index)"));
}
