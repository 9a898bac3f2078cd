// What all charts share, heat maps and bars, by Observable Plot.
"use strict";

const TIP = { fill: "var(--paper)", stroke: "var(--line)" };
const SHARE = { type: "linear", domain: [0, 1], scheme: "cividis", clamp: true }; // colours of values from 0 to 1

/** Add a line at the checkpoint to a plot. */
function follow(plot, x) {
  const scale = plot.scale("x"), [y1, y2] = plot.scale("y").range;
  const mark = d3.create("svg:line").attr("class", "now").attr("y1", y1).attr("y2", y2).node();
  keep(plot, mark, () => [x(scale.apply), 0]);
}

/** Add a mark to a plot at the pixels that `translation` returns; `moveMarks` moves it to them again. */
function keep(plot, mark, translation) {
  mark.move = () => {
    const pixels = translation();
    mark.style.display = pixels.includes(undefined) ? "none" : ""; // what is shown is not in this plot
    if (!pixels.includes(undefined)) mark.setAttribute("transform", `translate(${pixels})`);
  };
  plot.append(mark);
  mark.move();
}

/** Call `pick` with the datum under the mouse after a click on a plot. */
function onPick(plot, pick) {
  plot.style.cursor = "pointer";
  plot.addEventListener("click", () => plot.value && pick(plot.value));
}

/** Return an element of some width for one of several plots side by side. */
function panelOf(plot, width) {
  const panel = make("div", { class: "panel" }, plot);
  panel.style.width = `${width}px`;
  return panel;
}

function moveMarks() {
  for (const mark of document.querySelectorAll(".now, .spot")) mark.move();
}

/** Return the axis of some checkpoints, or all, at equal distances; ticks have at least 48 pixels each. */
function checkpointAxis(steps, width, domain = d3.range(steps.length)) {
  const every = Math.ceil((domain.length * 48) / width), last = domain.length - 1;
  const ticks = domain.filter((_, i) => i === last || (i % every === 0 && last - i >= every));
  const names = theRun().step_names;
  return { type: "band", domain, ticks, tickFormat: (i) => names?.[i] ?? shortStep(steps[i]), label: names ? null : "step" };
}

/**
 * Return a heat map of hidden states by checkpoints. Cells are {state, step, value}; `describe` returns the text of a
 * cell. With `numbers`, values are written into cells that have room.
 */
function heatMap({ title, ariaLabel, cells, width, color = SHARE, describe, checkpoints, numbers = false }) {
  const run = theRun(), states = [...run.states].reverse(), axis = checkpointAxis(run.steps, width - 66, checkpoints);
  const known = cells.filter((cell) => cell.value !== null), [low, high] = color.domain;
  const plot = Plot.plot({
    width, height: 52 + 20 * states.length, marginLeft: 54, marginRight: 12, marginTop: 22, marginBottom: 30, padding: 0, ariaLabel,
    x: axis,
    y: { domain: states, label: null, tickSize: 0, padding: 0.05 },
    color: { ...color, unknown: "var(--raised)" },
    marks: [
      Plot.cell(cells, { x: "step", y: "state", fill: "value" }),
      numbers && (width - 66) / axis.domain.length >= 28
        ? Plot.text(known, { x: "step", y: "state", text: (cell) => fixed(cell.value, high > 9.99 ? 1 : 2), fontSize: 10,
          fill: (cell) => ((cell.value - low) / (high - low) > 0.46 ? "#000" : "#fff") }) : null,
      Plot.text([title], { frameAnchor: "top-left", dy: -16, fontWeight: 600, fontSize: 12 }),
      Plot.tip(cells, Plot.pointer({ x: "step", y: "state", ...TIP, title: describe })),
    ],
  });
  onPick(plot, ({ state, step }) => go({ state, step }));
  const x = plot.scale("x"), y = plot.scale("y");
  for (const kind of ["spot under", "spot"]) {
    const spot = d3.create("svg:rect").attr("class", kind).attr("width", x.bandwidth).attr("height", y.bandwidth).node();
    keep(plot, spot, () => [x.apply(look.step), y.apply(look.state)]);
  }
  return panelOf(plot, width);
}

/** Draw heat maps of the ARI against task, distribution, input and output: hidden states by checkpoints. */
function drawHeat() {
  const run = theRun(), split = theSplit(), wide = byId("heat").clientWidth || 1000;
  const metrics = [["ari", "task"], ["ari_distribution", "distribution"], ["ari_input", "input"], ["ari_output", "output"]]
    .filter(([metric]) => run.states.some((state) => course(split.name, state, metric)));
  const across = Math.max(1, Math.min(metrics.length, Math.floor(wide / 300))), width = Math.floor(wide / across);
  fill("heat", ...metrics.map(([metric, part]) => {
    const cells = run.states.flatMap((state) => (course(split.name, state, metric) ?? [])
      .map((value, step) => ({ state, step, value: value?.[0] ?? null })));
    return heatMap({
      title: `ARI against the ${part}`, cells, width,
      ariaLabel: `ARI against the ${part}, by hidden state and checkpoint, on ${splitTitle(split)}`,
      describe: (cell) => `${cell.state}, ${stepName(cell.step)}\nARI against the ${part}: ${fixed(cell.value, 3)}`,
    });
  }), legend({ color: SHARE, label: "ARI", width: 180 }));
}

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

/** Draw the shares of variance by hidden state at the checkpoint. */
function drawShares() {
  const run = theRun(), split = theSplit();
  const kinds = ["task", "distribution", "input", "output"].filter((kind) => run.states.some((state) => course(split.name, state, `variance_${kind}`)));
  const rows = run.states.flatMap((state) => kinds.map((kind) => ({ state, kind, share: course(split.name, state, `variance_${kind}`)?.[look.step]?.[0] ?? null })))
    .filter((row) => row.share !== null);
  fill("shares-title", `Variance by hidden state ${atStep(look.step)}, ${splitTitle(split)}`);
  const color = { domain: kinds, range: kinds.map((kind) => `var(--${kind})`) }, width = byId("shares").clientWidth || 480;
  fill("shares", Plot.plot({
    width, height: 250, marginBottom: 60, marginTop: 20,
    ariaLabel: `Share of variance between ${kinds.map((kind) => `${kind}s`).join(", ")} by hidden state, ${stepName(look.step)}`,
    x: { domain: kinds, axis: null, padding: 0.08 }, y: { domain: [0, 1], label: "share of variance", ticks: 5 },
    fx: { domain: run.states, ticks: namedStates(run.states, width - 60), label: null, tickRotate: -60, padding: 0.18 }, color,
    marks: [
      Plot.barY(rows, { fx: "state", x: "kind", y: "share", fill: "kind", tip: TIP,
        title: (row) => `${row.state}\nbetween ${row.kind}s: ${fixed(row.share, 3)}` }),
      Plot.ruleY([0]),
    ],
  }), legend({ color: { ...color, type: "ordinal" } }));
}

/** Return a legend; screen readers skip its drawing, which shows nothing beyond its text. */
function legend(options) {
  const made = Plot.legend(options);
  (made.matches("svg") ? [made] : made.querySelectorAll("svg")).forEach((svg) => svg.setAttribute("aria-hidden", "true"));
  return made;
}

/** Return a heat map of a square matrix whose rows and columns have names. */
function matrixPlot(matrix, names, title, wide) {
  const cells = matrix.flatMap((row, i) => row.map((value, j) => ({ a: i, b: j, value })));
  const side = Math.min(wide, 320), few = names.length <= 12;
  const labels = { domain: names.map((_, i) => i), tickFormat: (i) => names[i], label: null, tickSize: 0 };
  return Plot.plot({
    width: side, height: side, marginLeft: few ? 62 : 12, marginBottom: few ? 56 : 12, marginTop: 24, marginRight: 6, ariaLabel: title,
    x: { ...labels, tickRotate: -60, axis: few ? "bottom" : null }, y: { ...labels, axis: few ? "left" : null },
    color: SHARE,
    marks: [
      Plot.cell(cells, { x: "b", y: "a", fill: "value", inset: 0.5 }),
      Plot.text([title], { frameAnchor: "top-left", dy: -18, fontWeight: 600, fontSize: 11 }),
      Plot.tip(cells, Plot.pointer({ x: "b", y: "a", title: (cell) => `${names[cell.a]}, ${names[cell.b]}: ${fixed(cell.value)}`, ...TIP })),
    ],
  });
}

/** Draw the overlap of each task with its cluster by checkpoint, in the order in which the tasks formed. */
function drawOrder() {
  const run = theRun(), followed = theSplit().followed[look.state];
  const order = followed.tasks.map((_, i) => i).sort((a, b) => (followed.formed[a] ?? Infinity) - (followed.formed[b] ?? Infinity) || a - b);
  const cells = order.flatMap((i) => run.steps.map((step, at) => ({ i, at, value: followed.overlap[at][i] })));
  const formed = order.filter((i) => followed.formed[i] !== null).map((i) => ({ i, at: run.steps.indexOf(followed.formed[i]) }));
  const names = (i) => run.names.task[followed.tasks[i]], when = (i) => run.step_names ? fixed(followed.overlap.at(-1)[i]) : followed.formed[i] === null ? "never" : `step ${number(followed.formed[i])}`;
  const short = (i) => (names(i).length > 22 ? `${names(i).slice(0, 21)}…` : names(i));
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
  fill("order", plot);
}
