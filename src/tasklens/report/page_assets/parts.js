// The parts that are text and tables. Strings from a user's files go through `make`, as text.
"use strict";

const SIGNS = { holds: "✓", fails: "✗", undecided: "?", untested: "–" };

/** Return the verdict on all runs, or on the shown run if there is one verdict per run. */
const wholeVerdict = () => (story.verdicts.length === 1 ? story.verdicts[0] : story.verdicts[look.run]);
/** Return the name of the shown stage of one model; null if there are no stages, or it has no verdict. */
const theStage = () => Object.keys(wholeVerdict()?.stages ?? {}).find((name) => name === stepName(look.step)) ?? null;
/** Return the verdict on the shown stage of one model; otherwise the whole verdict. */
const theVerdict = () => wholeVerdict()?.stages[theStage()] ?? wholeVerdict();

function drawVerdict() {
  const verdict = theVerdict();
  if (!verdict) {
    fill("findings", make("p", {}, "The findings cannot be tested: the model has no blocks above an embedding."));
    fill("verdict-note");
    fill("half-way");
    fill("use-findings");
    return;
  }
  const over = verdict["intervals over"], single = verdict.runs.length === 1, stages = Object.entries(wholeVerdict().stages);
  fill("verdict-note", verdict.where ? "The findings are of one model: do its hidden states form clusters by task, more than controls and on unseen data? Tested on "
    : "The findings are those of Wu and Varshney (arXiv 2402.12151), tested on ",
    single ? `the run ${verdict.runs[0].run} (seed ${verdict.runs[0].seed})` : `${verdict.runs.length} runs (seeds ${verdict.runs.map((run) => run.seed).join(", ")})`,
    stages.length ? `, for the model ${theStage() ?? stages.at(-1)[0]}` : "",
    over ? `. A check holds if its whole ${Math.round(100 * verdict.confidence)} % interval, over ${over}, is on the right side of its threshold.` : ".",
    theRun().positions.length > 1 ? ` They are those of the first position, ${theRun().positions[0].position}.` : "",
    single && !verdict.where ? " Another seed may differ by more than these intervals." : "",
    verdict["not judged"].length ? ` Not judged are ${verdict["not judged"].join(" and ")}: nothing tells a model to which task their instances belong.` : "");
  const doubt = verdict.doubt ? [make("p", { class: "doubt" }, `Not tested. ${verdict.doubt}.`)] : [];
  const shown = (finding) => findingDetails(finding, verdict.doubt);
  const where = verdict.where ? [make("div", { id: "where" }, ...verdict.where_text.map((line) => make("p", {}, line)), measurementTable(verdict.where.measurements))] : [];
  fill("findings", ...doubt, ...stages.length ? [stagesTable(stages)] : [], ...where, ...verdict.findings.map(shown),
    verdict["unseen data"].length ? make("details", {}, make("summary", {}, "Unseen data by kind, measured without a threshold"), measurementTable(verdict["unseen data"])) : null);
  const { untested, layers, findings, measurements } = verdict.use;
  fill("use-findings", make("h3", {}, "Use, apart from the findings"),
    untested ? make("p", { class: "note" }, `Not tested: ${untested}. `, make("code", {}, "tasklens intervene RUN"), " makes them.")
      : make("p", { class: "note" }, `The paper does not state that clusters are used. Tested in the best layer by ARI, ${[...new Set(layers)].join(" and ")}. Earlier tokens still carry the own task. `,
        make("a", { href: "#use" }, verdict.where ? "All layers" : "All layers and checkpoints")),
    ...findings.map(shown),
    measurements.length ? make("details", {}, make("summary", {}, "What was measured beside it, without a threshold"), measurementTable(measurements)) : null);
  const timings = verdict["half way"].filter((timing) => timing.step !== null);
  fill("half-way", timings.length ? make("details", {},
    make("summary", {}, `Step at which each curve was half way from its first to its last value, on ${timings[0].split}`),
    make("table", { class: "cells" }, make("tbody", {}, ...timings.map((timing) => make("tr", {},
      make("th", { scope: "row" }, timing.what), make("td", {}, number(Math.round(timing.step))),
      make("td", {}, timing.low === null ? "" : `${number(Math.round(timing.low))} to ${number(Math.round(timing.high))}`)))))) : null);
}

/** Return a table of the findings by stage of one model, above each the best layer. */
function stagesTable(stages) {
  const row = (name, cell) => make("tr", {}, make("th", { scope: "row" }, name), ...stages.map(([, verdict], i) => make("td", {}, cell(verdict, i))));
  return make("div", { class: "scroll" }, make("table", { class: "cells", id: "stages" },
    make("thead", {}, make("tr", {}, make("th"), ...stages.map(([name]) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, row("best layer", (verdict) => verdict.where?.layer ?? "–"),
      ...stages[0][1].findings.map(({ finding }, f) => row(finding, (verdict) => verdict.findings[f].verdict)))));
}

function findingDetails(finding, doubt) {
  const outcome = doubt ? "untested" : finding.verdict;
  return make("details", { class: "finding" },
    make("summary", {},
      make("span", { class: outcome, "aria-hidden": "true" }, SIGNS[outcome]),
      make("b", { class: outcome }, doubt ? "not tested" : outcome),
      make("span", {}, finding.sentence)),
    ...checksOf(finding));
}

/** Return measurements with their intervals as a table; steps have no decimals. */
function measurementTable(measurements) {
  return make("div", { class: "scroll" }, make("table", { class: "measured" }, make("tbody", {}, ...measurements.map(({ what, split, each, value, low, high }) => {
    const digits = Math.max(...each.map((one) => Math.abs(one ?? 0))) >= 10 ? 0 : 2;
    return make("tr", {}, make("th", { scope: "row" }, what), make("td", {}, split), make("td", {}, fixed(value, digits)),
      make("td", {}, low === null ? "" : `[${fixed(low, digits)}, ${fixed(high, digits)}]`));
  }))));
}

function checksOf(finding) {
  if (!finding.checks.length) return [make("p", { class: "check" }, "No data were held out: nothing shows that this is so on unseen data.")];
  const statistics = [...new Set(finding.checks.map((check) => check.statistic))];
  return statistics.map((statistic) => {
    const checks = finding.checks.filter((check) => check.statistic === statistic);
    return make("div", { class: "check" },
      make("p", {}, statistic, " ", make("b", {}, checks[0].threshold), make("span", { class: "note" }, `: ${checks[0].reason}`)),
      make("table", {}, make("tbody", {}, ...checks.map((check) => make("tr", {},
        make("td", { class: check.verdict, title: check.verdict }, SIGNS[check.verdict], make("span", { class: "unseen" }, check.verdict)),
        make("td", { class: "split" }, check.split),
        make("td", { class: check.note ? "split" : null }, check.note || fixed(check.value)),
        make("td", {}, check.low === null ? "" : `[${fixed(check.low)}, ${fixed(check.high)}]`),
        make("td", { class: "wide" }, check.low === null || check.value === null ? "" : intervalBar(check)))))));
  });
}

/** Return an interval as a bar, with its value and the threshold. */
function intervalBar(check) {
  const limits = [check.above, check.below].filter((limit) => limit !== null);
  const all = [check.low, check.high, check.value, ...limits, 0, 1].filter((value) => value !== null);
  const scale = d3.scaleLinear([Math.min(...all), Math.max(...all)], [3, 137]);
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

/** Return the names of the values of the colouring. */
function valueNames() {
  const run = theRun();
  return look.color === "cluster" ? run.names.task.map((task) => `cluster of ${task}`) : run.names[look.color];
}

const valueName = (value) => valueNames()[value] ?? `cluster of no task (${value - theRun().names.task.length + 1})`;

async function drawLegend() {
  const arrays = await arraysNow();
  if (!arrays) return;
  const counts = d3.rollup(values(arrays, look.state), (all) => all.length, (value) => value);
  const shown = `${look.run} ${look.position} ${look.color} ${look.lit} ${[...counts]}`;
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
  const run = theRun(), split = theSplit();
  const score = (metric, line = look.state) => fixed(theScores()[line]?.[metric]?.[look.step]?.[0]);
  fill("cloud-title", make("b", {}, `${look.state}, ${stepName(look.step)}`), ` · ${splitTitle(split)}, ${number(split.n)} points`, distinct(run, "position").length > 1 ? `, at ${run.position}` : null, make("br"),
    `ARI: ${score("ari")} against the task, ${score("ari_input")} against the input, ${score("ari_output")} against the output. Accuracy: ${score("accuracy", "model")}.`,
    look.map === "tsne" ? null : make("span", {}, make("br"), sharesShown()));
  byId("cloud").setAttribute("aria-label", `Map (${mapName()}) of ${look.state} ${atStep(look.step)}, ` +
    `${splitTitle(split)}: ${split.n} points, coloured by the ${look.color}; ARI against the task ${score("ari")}`);
  fill("map-note", mapNote());
}

/** Return the description of a point as elements. */
function describePoint(arrays, i) {
  const run = theRun(), split = theSplit(), at = look.step * split.n + i;
  const name = (part) => arrays[part] ? run.names[part][arrays[part].data[i]] : null;
  const task = run.world.tasks[arrays.task.data[i]], answer = arrays.answer.data[at];
  const cluster = arrays[`cluster/${look.state}`].data[at], right = arrays.right ? Boolean(arrays.right.data[at]) : null;
  const line = (label, ...rest) => make("p", {}, make("span", { class: "note" }, `${label} `), ...rest);
  const instruction = split.instructions[arrays.instruction.data[i]];
  return [
    make("p", { class: "instruction" }, run.kind === "run" ? `${instruction} ${name("input")} ${name("output") ?? ""}` : instruction),
    line("task", swatch(arrays.task.data[i]), " ", name("task")),
    ...task.regexes.map((regex) => line("regex", make("code", {}, regex))),
    arrays.distribution ? line("distribution", name("distribution")) : null,
    line("input", name("input"), name("output") === null ? null : ` → ${name("output")}`),
    answer ? line("the model answers", run.answers[answer - 1], right === null ? null : right ? " ✓ right" : " ✗ wrong") : null,
    line("cluster of", run.names.task[cluster] ?? "no task", cluster === arrays.task.data[i] ? "" : " (not the task of the point)"),
    ...describeMove(arrays, i),
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
  fill("contingency-title", `Tasks and clusters: ${state}, ${stepName(step)}`);
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
  fill("sizes", ...Object.entries(sizes).flatMap(([name, count]) => [make("dt", {}, name), make("dd", {}, number(count))]));
  fill("same-output", same_output ? matrixPlot(same_output, names, "Inputs with the same output", byId("same-output").clientWidth || 300) : null);
  fill("same-symbols", matrixPlot(same_symbols, names, run.kind === "run" ? "Similarity of instructions" : "Similarity of texts", byId("same-symbols").clientWidth || 300));
  fill("overlap-note", run.kind === "run"
    ? "First matrix: the share of inputs that two tasks map to the same output. Second matrix: the cosine of the mean counts of symbols in the instructions of two tasks, in the first split that has them. The languages of two tasks share no string."
    : "The cosine of the mean counts of tokens in the texts of two labels, up to the measured position, in the first split.");
  fill("tasks", make("h3", {}, run.kind === "run" ? "The measured tasks" : "The labels"), ...tasks.map((task, i) => make("details", { class: "task" },
    make("summary", {}, swatch(i), make("b", {}, task.name), ...task.regexes.map((regex) => make("code", {}, regex))),
    task.n_strings ? make("p", {}, `${number(task.n_strings)} strings are in the language; ${number(task.n_examples)} of them were drawn.`) : make("p", {}, `${number(task.n_examples)} prompts.`),
    task.examples.length ? make("p", {}, make("span", { class: "note" }, "examples: "), ...task.examples.flatMap((text, k) => [k ? " · " : "", make("code", {}, text)])) : null,
    task.function.length ? make("p", { class: "pairs" }, make("span", { class: "note" }, "function:"), ...task.function.map(([x, y]) => make("code", {}, `${x} → ${y}`))) : null)));
}

// Names, licences and hashes of the models; a trained one has no licence.
function aboutModels(run) {
  if (!run.models.length) return [];
  const title = make("h3", {}, run.models.length > 1 ? "Models" : "Model");
  if (run.kind === "run") return run.models.flatMap(({ name, weights }) => [title, make("p", {}, `${name}, trained by this run; `
    + (weights ? `SHA-256 of the weights of the last checkpoint: ${weights}` : "its weights are not kept"))]);
  const head = [run.step_names ? "model" : "step", "name", "licence", "SHA-256 of the weights"];
  const rows = run.models.map(({ step, name, licence, weights }) => [run.step_names?.[run.steps.indexOf(step)] ?? number(step), name, licence, weights]);
  return [title, make("div", { class: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((text) => make("td", {}, text)))))))];
}

function drawRun() {
  const run = theRun(), { command, versions, machine } = run.origin;
  const table = (entries) => make("div", { class: "scroll" }, make("table", {}, make("tbody", {}, ...entries.filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]) => make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, value))))));
  const again = run.kind === "run" ? "tasklens run config.toml --out another-directory" : command;
  const times = Object.entries(run.stages).map(([stage, mark]) => [stage, mark.seconds === undefined ? null
    : `${number(mark.seconds)} s` + Object.entries({ precision: mark.precision, device: mark.device, threads: mark.threads }).filter(([, v]) => v !== undefined).map(([k, v]) => `, ${k} ${v}`).join("")]);
  fill("origin",
    make("h3", {}, "Command"), make("pre", {}, command ?? ""),
    run.kind === "run" && again !== command ? make("p", { class: "note" }, "or, with the settings below: ", make("code", {}, again)) : null,
    ...aboutModels(run),
    make("h3", {}, "Time by stage"), table(times),
    make("h3", {}, "Machine and versions"), table([...Object.entries(machine ?? {}), ...Object.entries(versions ?? {})]),
    make("details", {}, make("summary", {}, "All settings (config.toml)"), make("pre", {}, run.settings)),
    make("details", {}, make("summary", {}, `SHA-256 of ${number(Object.keys(run.hashes).length)} files`),
      make("pre", {}, Object.entries(run.hashes).map(([path, hash]) => `${hash}  ${path}`).join("\n"))));
  fill("made", `Made by tasklens ${story.version}: `, make("code", {}, story.command), ". This page contains all its data and loads nothing else.");
}
