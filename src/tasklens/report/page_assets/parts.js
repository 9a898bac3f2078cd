// The parts that are words and tables. Whatever a user's file says goes through `make`, as text.
"use strict";

const SIGNS = { holds: "✓", fails: "✗", undecided: "?" };

/** The verdict that the shown run takes part in: that of all runs, or its own. */
const theVerdict = () => (story.verdicts.length === 1 ? story.verdicts[0] : story.verdicts[look.run]);

function drawVerdict() {
  const verdict = theVerdict();
  if (!verdict) {
    fill("findings", make("p", {}, "There are no blocks above an embedding to hold the findings against."));
    fill("verdict-note");
    fill("half-way");
    return;
  }
  const over = verdict["intervals over"], alone = verdict.runs.length === 1;
  fill("verdict-note", "Findings of Wu and Varshney (arXiv 2402.12151), held against ",
    alone ? `the run ${verdict.runs[0].run} (seed ${verdict.runs[0].seed})` : `${verdict.runs.length} runs (seeds ${verdict.runs.map((run) => run.seed).join(", ")})`,
    over ? `. A check holds where the whole ${Math.round(100 * verdict.confidence)} % interval, over ${over}, is on the right side of its threshold.` : ".",
    alone ? " Another seed may differ by more than the intervals of one run say." : "");
  fill("findings", ...verdict.findings.map((finding) => make("details", { class: "finding" },
    make("summary", {},
      make("span", { class: finding.verdict, "aria-hidden": "true" }, SIGNS[finding.verdict]),
      make("b", { class: finding.verdict }, finding.verdict),
      make("span", {}, finding.sentence)),
    ...checksOf(finding))));
  const timings = verdict["half way"].filter((timing) => timing.step !== null);
  fill("half-way", timings.length ? make("details", {},
    make("summary", {}, `When each was half way from first to last, in steps, on ${timings[0].split}`),
    make("table", { class: "cells" }, make("tbody", {}, ...timings.map((timing) => make("tr", {},
      make("th", { scope: "row" }, timing.what), make("td", {}, number(Math.round(timing.step))),
      make("td", {}, timing.low === null ? "" : `${number(Math.round(timing.low))} to ${number(Math.round(timing.high))}`)))))) : null);
}

function checksOf(finding) {
  if (!finding.checks.length) return [make("p", { class: "check" }, "No data were held out.")];
  const statistics = [...new Set(finding.checks.map((check) => check.statistic))];
  return statistics.map((statistic) => {
    const checks = finding.checks.filter((check) => check.statistic === statistic);
    return make("div", { class: "check" },
      make("p", {}, statistic, " ", make("b", {}, checks[0].threshold), make("span", { class: "note" }, `: ${checks[0].reason}`)),
      make("table", {}, make("tbody", {}, ...checks.map((check) => make("tr", {},
        make("td", { class: check.verdict, title: check.verdict }, SIGNS[check.verdict], make("span", { class: "unseen" }, check.verdict)),
        make("td", { class: "where" }, check.split),
        make("td", {}, check.note || fixed(check.value)),
        make("td", {}, check.low === null ? "" : `[${fixed(check.low)}, ${fixed(check.high)}]`),
        make("td", { class: "wide" }, check.low === null || check.value === null ? "" : intervalBar(check)))))));
  });
}

/** An interval as a bar, with its value and the threshold. */
function intervalBar(check) {
  const limits = [check.above, check.below].filter((limit) => limit !== null);
  const every = [check.low, check.high, check.value, ...limits, 0, 1].filter((value) => value !== null);
  const scale = d3.scaleLinear([Math.min(...every), Math.max(...every)], [3, 137]);
  const svg = d3.create("svg").attr("viewBox", "0 0 140 14").attr("width", "100%").attr("height", 14).attr("role", "img")
    .attr("aria-label", `${fixed(check.value)}, from ${fixed(check.low)} to ${fixed(check.high)}, threshold ${check.threshold}`);
  svg.append("line").attr("x1", 3).attr("x2", 137).attr("y1", 7).attr("y2", 7).style("stroke", "var(--line)");
  for (const limit of limits) svg.append("line").attr("x1", scale(limit)).attr("x2", scale(limit)).attr("y1", 0).attr("y2", 14).style("stroke", "var(--ink)");
  const color = { holds: "var(--good)", fails: "var(--bad)", undecided: "var(--open)" }[check.verdict];
  svg.append("line").attr("x1", scale(check.low)).attr("x2", check.high === null ? 137 : scale(check.high)).attr("y1", 7).attr("y2", 7).style("stroke", color).style("stroke-width", 3);
  svg.append("circle").attr("cx", scale(check.value)).attr("cy", 7).attr("r", 3.5).style("fill", color);
  return svg.node();
}

// -- the map ---------------------------------------------------------------------------------------

/** What the values of the colouring are called. */
function valueNames() {
  const run = theRun();
  return look.color === "cluster" ? run.names.task.map((task) => `cluster of ${task}`) : run.names[look.color];
}

const valueName = (value) => valueNames()[value] ?? `cluster of no task (${value - theRun().names.task.length + 1})`;

async function drawLegend() {
  const arrays = await arraysNow();
  if (!arrays) return;
  const counts = d3.rollup(values(arrays, look.state), (all) => all.length, (value) => value);
  const shown = `${look.run} ${look.color} ${look.lit} ${[...counts]}`;
  if (byId("legend").dataset.shown === shown) return;
  byId("legend").dataset.shown = shown;
  const present = [...counts.keys()].sort((a, b) => a - b), focused = document.activeElement?.closest("#legend button")?.value;
  fill("legend", ...present.map((value) => make("button", {
    type: "button", value, "aria-pressed": String(look.lit === value), title: `${valueName(value)}: ${counts.get(value)} points`,
    onclick: () => change({ lit: look.lit === value ? null : value }),
  }, swatch(value), make("span", {}, valueName(value)))));
  if (focused !== undefined) byId("legend").querySelector(`[value="${focused}"]`)?.focus();
}

function drawCloudTitle() {
  const run = theRun(), split = theSplit(), step = run.steps[look.step];
  const score = (metric, line = look.state) => fixed(theScores()[line]?.[metric]?.[look.step]?.[0]);
  const share = split.shown_variance[look.state][look.step];
  fill("cloud-title", make("b", {}, `${layerName(look.state)}, step ${number(step)}`), ` · ${split.title}, ${number(split.n)} points`, make("br"),
    `ARI ${score("ari")} against the task, ${score("ari_input")} the input, ${score("ari_output")} the output; accuracy ${score("accuracy", "model")}`,
    look.map === "pca" ? make("span", {}, make("br"), `the map shows ${Math.round(100 * share)} % of the variance`) : null);
  byId("cloud").setAttribute("aria-label", `${look.map === "tsne" ? "t-SNE" : "PCA"} map of ${layerName(look.state)} at step ${step}, ` +
    `${split.title}: ${split.n} points, coloured by the ${look.color}; ARI against the task ${score("ari")}`);
  fill("map-note", look.map === "tsne"
    ? "t-SNE, begun at every checkpoint where it ended at the one before and held near there by a spring (dynamic t-SNE, Rauber, Falcão and Telea 2016); the first checkpoint's layers start one from the other in the same way. Only who is near whom carries meaning: distances, sizes and the ways that points take do not."
    : "The first two principal components of the last checkpoint, for all checkpoints of the layer: one basis, so places compare over time, after the mean of each checkpoint is taken off. What varies in other directions is not seen." +
      (look.fit ? " Each checkpoint is scaled to fill the frame." : ""));
}

/** What is known of a point, as elements. */
function tellPoint(arrays, i) {
  const run = theRun(), split = theSplit(), at = look.step * split.n + i;
  const name = (part) => arrays[part] ? run.names[part][arrays[part].data[i]] : null;
  const task = run.world.tasks[arrays.task.data[i]], answer = arrays.answer.data[at];
  const cluster = arrays[`cluster/${look.state}`].data[at], right = arrays.right ? Boolean(arrays.right.data[at]) : null;
  const line = (label, ...rest) => make("p", {}, make("span", { class: "note" }, `${label} `), ...rest);
  const instruction = split.instructions[arrays.instruction.data[i]];
  return [
    make("p", { class: "said" }, run.kind === "run" ? `${instruction} ${name("input")} ${name("output") ?? ""}` : instruction),
    line("task", swatch(arrays.task.data[i]), " ", name("task")),
    ...task.regexes.map((regex) => line("regex", make("code", {}, regex))),
    line("input", name("input"), name("output") === null ? null : ` → ${name("output")}`),
    answer ? line("the model says", run.answers[answer - 1], right === null ? null : right ? " ✓ right" : " ✗ wrong") : null,
    line("in the cluster of", run.names.task[cluster] ?? "no task", cluster === arrays.task.data[i] ? "" : " (not its own)"),
  ].filter(Boolean);
}

async function drawContingency() {
  const arrays = await arraysNow();
  if (!arrays) return;
  const { state, step } = look, run = theRun(), n = theSplit().n, clusters = rowNow(arrays[`cluster/${state}`]);
  const tasks = arrays.task.data, rows = [...new Set(tasks)].sort((a, b) => a - b), columns = [...new Set([...rows, ...clusters])].sort((a, b) => a - b);
  const counts = new Map();
  for (let i = 0; i < n; i++) counts.set(`${tasks[i]} ${clusters[i]}`, (counts.get(`${tasks[i]} ${clusters[i]}`) ?? 0) + 1);
  const sizes = d3.rollup(tasks, (all) => all.length, (task) => task);
  fill("contingency-title", `Tasks and clusters: ${layerName(state)}, step ${number(run.steps[step])}`);
  const head = (value) => make("th", { scope: "col", title: valueOfCluster(value) }, value < run.names.task.length ? swatch(value) : "–");
  const cell = (task, cluster) => {
    const count = counts.get(`${task} ${cluster}`) ?? 0, share = count / sizes.get(task);
    const td = make("td", { title: `${run.names.task[task]}, ${valueOfCluster(cluster)}: ${count}` }, count || "");
    if (count) td.style.cssText = `background: ${d3.interpolateCividis(share)}; color: ${share > 0.46 ? "#000" : "#fff"}`;
    return td;
  };
  fill("contingency", make("table", { class: "cells" },
    make("thead", {}, make("tr", {}, make("th", {}, "task \\ cluster"), ...columns.map(head))),
    make("tbody", {}, ...rows.map((task) => make("tr", {}, make("th", { scope: "row", title: run.names.task[task] }, run.names.task[task]), ...columns.map((cluster) => cell(task, cluster)))))));
}

const valueOfCluster = (cluster) => `cluster of ${theRun().names.task[cluster] ?? "no task"}`;

// -- the world and the run -------------------------------------------------------------------------

function drawWorld() {
  const run = theRun(), { tasks, sizes, same_output, same_symbols } = run.world, names = tasks.map((task) => task.name);
  fill("sizes", ...Object.entries(sizes).flatMap(([what, count]) => [make("dt", {}, what), make("dd", {}, number(count))]));
  fill("same-output", same_output ? matrixPlot(same_output, names, "Inputs with the same output", byId("same-output").clientWidth || 300) : null);
  fill("same-symbols", matrixPlot(same_symbols, names, run.kind === "run" ? "Likeness of their instructions" : "Likeness of their texts", byId("same-symbols").clientWidth || 300));
  fill("overlap-note", run.kind === "run"
    ? "Of two tasks, the share of inputs that both map to the same output; and how alike their instructions are: the cosine of the mean counts of symbols, in the first subset. Their languages share no string."
    : "How alike the texts of two labels are: the cosine of the mean counts of tokens before what is measured, in the first split.");
  fill("tasks", make("h3", {}, run.kind === "run" ? "The tasks that are measured" : "The labels"), ...tasks.map((task, i) => make("details", { class: "task" },
    make("summary", {}, swatch(i), make("b", {}, task.name), ...task.regexes.map((regex) => make("code", {}, regex))),
    task.n_strings ? make("p", {}, `${number(task.n_strings)} strings in its language, ${number(task.n_examples)} of them drawn.`) : make("p", {}, `${number(task.n_examples)} prompts.`),
    task.examples.length ? make("p", {}, make("span", { class: "note" }, "for example: "), ...task.examples.flatMap((text, k) => [k ? " · " : "", make("code", {}, text)])) : null,
    task.function.length ? make("p", { class: "pairs" }, make("span", { class: "note" }, "its function:"), ...task.function.map(([x, y]) => make("code", {}, `${x} → ${y}`))) : null)));
}

function drawRun() {
  const run = theRun(), { command, versions, machine } = run.about;
  const table = (entries) => make("div", { class: "scroll" }, make("table", {}, make("tbody", {}, ...entries.filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]) => make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, value))))));
  const again = run.kind === "run" ? "tasklens run config.toml --out another-directory" : command;
  const times = Object.entries(run.stages).map(([stage, mark]) => [stage, mark.seconds === undefined ? null
    : `${number(mark.seconds)} s` + Object.entries({ precision: mark.precision, device: mark.device, threads: mark.threads }).filter(([, v]) => v !== undefined).map(([k, v]) => `, ${k} ${v}`).join("")]);
  fill("about",
    make("h3", {}, "To make it again"), make("pre", {}, command ?? ""),
    run.kind === "run" && again !== command ? make("p", { class: "note" }, "or, from the settings below: ", make("code", {}, again)) : null,
    make("h3", {}, "Time by stage"), table(times),
    make("h3", {}, "Machine and versions"), table([...Object.entries(machine ?? {}), ...Object.entries(versions ?? {})]),
    make("details", {}, make("summary", {}, "All settings (config.toml)"), make("pre", {}, run.settings)),
    make("details", {}, make("summary", {}, `SHA-256 of ${number(Object.keys(run.hashes).length)} files`),
      make("pre", {}, Object.entries(run.hashes).map(([path, hash]) => `${hash}  ${path}`).join("\n"))));
  fill("made", `Made by tasklens ${story.version}: `, make("code", {}, story.command), ". This page holds all it shows and fetches nothing.");
}
