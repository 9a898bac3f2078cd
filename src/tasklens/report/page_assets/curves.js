// Curves of scores through training, and by hidden state. Marks of the checkpoint are moved, not drawn again.
"use strict";

const MANY = 50; // up to this many evenly spaced checkpoints are drawn on a linear axis
const END_LABELS = 14; // the largest number of labels at the ends of lines
const GREY = "var(--faint)";
const DASHES = { "control:length": "none", "control:symbols": "5 3", "control:input": "1 3", "control:input_class": "1 5" };

/** Return the colour of a line: blocks from dark to light, accuracy black, controls grey. */
function lineColor(line, states) {
  if (line === "model") return "var(--ink)";
  if (!states.includes(line)) return GREY;
  const fixedColors = { wte: "#a6761d", embed: "#d95f02", ln_f: "#e7298a" };
  if (fixedColors[line]) return fixedColors[line];
  const blocks = states.filter((state) => !fixedColors[state]);
  const height = blocks.indexOf(line) / Math.max(1, blocks.length - 1); // from the first block, 0, to the last
  return d3.interpolateViridis(isDark() ? 0.45 + 0.55 * height : 0.55 * height);
}

const lineName = (line) => ({ model: "accuracy", "control:length": "control: instruction length",
  "control:symbols": "control: bag of symbols", "control:input": "control: input token", "control:input_class": "control: class of the input" })[line] ?? line;

/** Return the axis of steps: linear up to some step, so that step 0 shows, and then logarithmic. */
function stepAxis(steps) {
  const spacings = d3.pairs(steps, (a, b) => b - a), last = steps.at(-1);
  if (steps.length <= MANY && new Set(spacings).size <= 1) return { type: "linear", ticks: 4 };
  const spacing = d3.max(spacings), linear = last > 4 * spacing ? spacing : steps.find((step) => step > 0);
  const several = last < 100 * linear ? [1, 2, 5] : [1];
  const ticks = d3.range(String(last).length).flatMap((p) => several.map((m) => m * 10 ** p));
  return {
    type: "symlog", constant: linear / 2,
    ticks: [...(steps[0] === 0 ? [0] : []), ...ticks.filter((tick) => tick >= linear && tick <= last)],
  };
}

/** Return the labels at the ends of lines, moved up or down if they would overlap. */
function endLabels(rows, span) {
  const ends = [...d3.rollup(rows, (all) => all.at(-1), (row) => row.line).values()].map((row) => ({ ...row, labelY: row.mean }));
  ends.sort((a, b) => a.mean - b.mean);
  ends.forEach((row, i) => { if (i) row.labelY = Math.max(row.labelY, ends[i - 1].labelY + span); });
  const over = Math.max(0, (ends.at(-1)?.labelY ?? 0) - Math.max(1, ends.at(-1)?.mean ?? 1) - span);
  for (let i = ends.length - 1, most = Infinity; over && i >= 0; i--) {
    ends[i].labelY = Math.min(ends[i].labelY, most, i === ends.length - 1 ? ends[i].labelY - over : Infinity);
    most = ends[i].labelY - span;
  }
  return ends;
}

/** Return the hidden states that are named along an axis of this width, 14 pixels each: of many, both ends and round blocks. */
function namedStates(states, width) {
  const n = states.length, most = Math.max(3, Math.floor(width / 14)), every = [1, 2, 5, 10, 20, 50].find((spacing) => n <= spacing * most) ?? 100;
  if (every === 1) return states;
  const least = n / most; // names that are nearer to an end would overlap
  return states.filter((state, i) => i === 0 || i === n - 1
    || (Number(state.match(/^block(\d+)$/)?.[1] ?? NaN) % every === 0 && Math.min(i, n - 1 - i) >= least));
}

const shortStep = (step) => step >= 1000 && step % 100 === 0 ? `${step / 1000}k` : number(step);

function drawCurves() {
  if (theRun().step_names) return void drawLayers();
  const run = theRun(), steps = run.steps, wide = byId("curves").clientWidth || 640;
  const across = Math.max(1, Math.min(run.splits.length, Math.floor(wide / 190)));
  const width = Math.floor(wide / across), alone = steps.length === 1;
  const panels = run.splits.map((split) => {
    const rows = [], levels = [];
    for (const line of Object.keys(overFamilies(run)[split.name])) {
      const values = course(split.name, line, line === "model" ? "accuracy" : "ari", overFamilies);
      if (!values) continue;
      if (line.startsWith("control:")) levels.push({ line, mean: values[0]?.[0] });
      else values.forEach((value, i) => value && rows.push({ line, x: alone ? line : steps[i], step: i, mean: value[0], low: value[1], high: value[2] }));
    }
    return { split, rows, levels };
  });
  const top = Math.max(1, ...panels.flatMap(({ rows }) => rows.map((row) => row.high)));
  const low = Math.min(0, ...panels.flatMap(({ rows }) => rows.map((row) => row.low)));
  const states = (rows) => rows.filter((row) => row.line !== "model");
  const ends = namedStates(run.states, 14 * END_LABELS);
  const elements = panels.map(({ split, rows, levels }, index) => {
    const strong = (row) => (row.line === look.state ? 3 : row.line === "model" ? 1.4 : 1.3);
    const stroke = (row) => lineColor(row.line, run.states);
    const title = (row) => `${lineName(row.line)}\n${stepName(row.step)}: ${fixed(row.mean, 3)}` +
      (row.high - row.low > 0.0005 ? `\n${fixed(row.low, 3)} to ${fixed(row.high, 3)}` : "");
    const line = { x: "x", y: "mean", z: "line", stroke, strokeWidth: strong };
    const marks = alone
      ? [Plot.ruleX(states(rows), { x: "x", y1: "low", y2: "high", stroke }), Plot.dot(states(rows), { x: "x", y: "mean", fill: stroke, r: 4 }),
         Plot.ruleY(rows.filter((row) => row.line === "model"), { y: "mean", strokeDasharray: "4 3" })]
      : [Plot.areaY(states(rows), { x: "x", y1: "low", y2: "high", z: "line", fill: stroke, fillOpacity: 0.15 }),
         Plot.line(states(rows), line),
         Plot.line(rows.filter((row) => row.line === "model"), { ...line, strokeDasharray: "4 3" }),
         Plot.text(endLabels(states(rows).filter(({ line }) => line === look.state || ends.includes(line)), 0.055 * (top - low)), { x: "x", y: "labelY", text: "line", fill: stroke, dx: 5, textAnchor: "start", fontWeight: (row) => (row.line === look.state ? 800 : 500) })];
    const plot = Plot.plot({
      width, height: alone ? 270 : 240, marginLeft: 34, marginRight: alone ? 12 : 44, marginTop: 22, marginBottom: alone ? 64 : 34, insetTop: 2,
      ariaLabel: `ARI by training step on ${split.name}`,
      x: alone ? { domain: run.states, ticks: namedStates(run.states, width - 46), tickRotate: -60, label: null } : { ...stepAxis(steps), tickFormat: shortStep, label: "step" },
      y: { domain: [low, top], label: null, ticks: 5 },
      marks: [
        Plot.ruleY([0], { stroke: "var(--line)" }),
        ...levels.map((level) => Plot.ruleY([level], { y: "mean", stroke: GREY, strokeWidth: 0.8, strokeDasharray: DASHES[level.line], title: (row) => `${lineName(row.line)}: ${fixed(row.mean, 3)}` })),
        ...marks,
        Plot.text([`ARI, ${split.name}`], { frameAnchor: "top-left", dx: -30, dy: -18, fontWeight: 600, fontSize: 12 }),
        Plot.tip(rows, Plot.pointer({ x: "x", y: "mean", title, ...TIP })),
      ],
    });
    onPick(plot, (row) => go({ split: index, ...(row.line === "model" ? {} : { state: row.line }), step: row.step }));
    if (!alone) follow(plot, (scale) => scale(steps[look.step]));
    return panelOf(plot, width);
  });
  fill("curves", ...elements);
}

/** Draw the ARI by hidden state, from the input up: a line per model, its untrained twin in grey, thin ones per family; a panel per split. */
function drawLayers() {
  const run = theRun(), wide = byId("curves").clientWidth || 640;
  const across = Math.max(1, Math.min(run.splits.length, Math.floor(wide / 280))), width = Math.floor(wide / across);
  const isTwin = (step) => run.step_names[step] === "untrained" && run.steps.length > 1, last = run.steps.length - 1;
  const stroke = (row) => (isTwin(row.step) ? GREY : row.step === last ? "var(--ink)" : d3.interpolateViridis(0.25 + 0.5 * row.step / last));
  fill("curves", ...run.splits.map((split, index) => {
    const rows = run.states.flatMap((state) => (course(split.name, state, "ari", overFamilies) ?? [])
      .map((value, step) => value && { state, step, mean: value[0], low: value[1], high: value[2] }).filter(Boolean));
    const levels = Object.keys(overFamilies(run)[split.name]).filter((line) => line.startsWith("control:"))
      .map((line) => ({ line, mean: course(split.name, line, "ari", overFamilies)?.[0]?.[0] }));
    levels.push({ line: "embed", mean: rows.find((row) => row.state === "embed" && row.step === last)?.mean });
    const ofFamilies = runsAt[look.run].filter(({ family, position }) => family && position === run.position).flatMap((each) => run.states
      .map((state) => ({ state, family: each.family, mean: each.scores[split.name]?.[state]?.ari?.[last]?.[0] ?? NaN })));
    const trained = rows.filter((row) => !isTwin(row.step)), place = { x: "state", y: "mean", z: "step", stroke };
    const low = Math.min(0, ...rows.map((row) => row.low), ...levels.map((level) => level.mean ?? 0));
    const plot = Plot.plot({
      width, height: 270, marginLeft: 34, marginRight: 12, marginTop: 22, marginBottom: 64, insetTop: 2,
      ariaLabel: `ARI by hidden state on ${split.name}`,
      x: { type: "point", domain: run.states, ticks: namedStates(run.states, width - 46), tickRotate: -60, label: null },
      y: { domain: [low, 1], label: null, ticks: 5 },
      marks: [
        Plot.ruleY([0], { stroke: "var(--line)" }),
        ...levels.filter((level) => Number.isFinite(level.mean)).map((level) => Plot.ruleY([level], { y: "mean", stroke: level.line === "embed" ? lineColor("embed", run.states) : GREY, strokeWidth: 0.8,
          strokeDasharray: DASHES[level.line] ?? "6 2", title: (row) => `${row.line === "embed" ? "layer 0" : lineName(row.line)}: ${fixed(row.mean, 3)}` })),
        Plot.areaY(trained, { ...place, y: undefined, y1: "low", y2: "high", stroke: null, fill: stroke, fillOpacity: 0.15 }),
        Plot.line(ofFamilies, { x: "state", y: "mean", z: "family", stroke: "var(--ink)", strokeWidth: 0.8, strokeOpacity: 0.4, title: "family" }),
        Plot.line(rows, { ...place, strokeWidth: (row) => (isTwin(row.step) ? 1.2 : 1.8) }),
        Plot.dot(trained, { x: "state", y: "mean", fill: stroke, r: (row) => (row.state === look.state ? 5 : 2) }),
        Plot.text([`ARI, ${split.name}`], { frameAnchor: "top-left", dx: -30, dy: -18, fontWeight: 600, fontSize: 12 }),
        Plot.tip(rows, Plot.pointer({ x: "state", y: "mean", ...TIP, title: (row) => `${row.state}, ${stepName(row.step)}: ${fixed(row.mean, 3)}` +
          (row.high - row.low > 0.0005 ? `\n${fixed(row.low, 3)} to ${fixed(row.high, 3)}` : "") })),
      ],
    });
    onPick(plot, (row) => go({ split: index, state: row.state, step: row.step }));
    return panelOf(plot, width);
  }));
}

/** Write the values of the curves at the checkpoint as a table, which screen readers can read. */
function drawCurveNumbers() {
  const run = theRun();
  const lines = [...run.states].reverse().concat("model").filter((line) => run.splits.some((split) => overFamilies(run)[split.name][line]));
  const cell = (split, line) => fixed(course(split.name, line, line === "model" ? "accuracy" : "ari", overFamilies)?.[look.step]?.[0]);
  fill("curve-numbers-title", `Numbers ${atStep(look.step)}`);
  fill("curve-numbers", make("table", { class: "cells" },
    make("thead", {}, make("tr", {}, make("th"), ...run.splits.map((split) => make("th", { scope: "col" }, splitTitle(split))))),
    make("tbody", {}, ...lines.map((line) => make("tr", {}, make("th", { scope: "row" }, lineName(line)),
      ...run.splits.map((split) => make("td", {}, cell(split, line))))))));
}
