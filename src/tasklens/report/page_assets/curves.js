// Curves of scores through training, and by hidden state. Marks of the checkpoint are moved, not drawn again.
"use strict";

const HIGH = 270; // of a panel, in pixels
const ROW = 12; // the height of a name at the end of a line
/** Return the y axis of scores from `low` to `top`. */
const scoreAxis = (low, top = 1) => ({ domain: [low, top], label: null, ticks: QUARTERS, tickFormat: String });
/** Return the heading of a panel. */
const heading = (split) => Plot.text([`ARI, ${split.name}`], { frameAnchor: "top-left", dx: -30, dy: -18, fontWeight: 600, fontSize: 12 });
/** Return the marks of controls: lines above all others, with an edge of paper. */
const controlMarks = (levels) => levels.flatMap((level) => [
  Plot.ruleY([level], { y: "mean", stroke: "var(--paper)", strokeWidth: 3.5, strokeOpacity: 0.7 }),
  Plot.ruleY([level], { y: "mean", stroke: GREY, strokeWidth: 1.4, strokeDasharray: LINES[level.line]?.[2], title: (row) => `${lineName(row.line)}: ${fixed(row.mean, 3)}` }),
]);
/** Return the controls of a split with their levels. */
const controlLevels = (run, split) => Object.keys(overFamilies(run)[split.name]).filter((line) => line.startsWith("control:"))
  .map((line) => ({ line, name: LINES[line]?.[1] ?? line, mean: course(split.name, line, "ari", overFamilies)?.[0]?.[0] }))
  .filter((level) => Number.isFinite(level.mean));
/** Return the margin at the right of a panel for these names. */
const marginFor = (names) => 18 + 6.2 * Math.max(0, ...names.map((name) => name.length));

function drawCurves() {
  if (theRun().step_names) return void drawLayers();
  const run = theRun(), steps = run.steps, wide = byId("curves").clientWidth || 640;
  const across = Math.max(1, Math.min(run.splits.length, Math.floor(wide / 230)));
  const width = Math.floor(wide / across), alone = steps.length === 1;
  const panels = run.splits.map((split) => {
    const rows = Object.keys(overFamilies(run)[split.name]).filter((line) => !line.startsWith("control:"))
      .flatMap((line) => (course(split.name, line, line === "model" ? "accuracy" : "ari", overFamilies) ?? [])
        .map((value, step) => value && { line, step, mean: value[0], low: value[1], high: value[2] }).filter(Boolean));
    return { split, rows, levels: controlLevels(run, split) };
  });
  const top = Math.max(1, ...panels.flatMap(({ rows }) => rows.map((row) => row.high)));
  const low = Math.min(0, ...panels.flatMap(({ rows }) => rows.map((row) => row.low)));
  const states = (rows) => rows.filter((row) => row.line !== "model");
  const bottom = alone ? 64 : 44, most = Math.floor((HIGH - 22 - bottom) / ROW), others = 1 + Math.max(...panels.map(({ levels }) => levels.length));
  const named = new Set(namedStates(run.states, 14 * (most - others - 1))).add(look.state);
  const right = marginFor([...alone ? [] : named, "accuracy", ...panels[0].levels.map(({ name }) => name)]);
  const axis = alone ? null : stepAxis(steps, width - 40 - right), x = (row) => (alone ? row.line : axis.place(steps[row.step]));
  const elements = panels.map(({ split, rows, levels }, index) => {
    const strong = (row) => (row.line === look.state ? 3 : row.line === "model" ? 1.4 : 1.3);
    const stroke = (row) => lineColor(row.line, run.states);
    const title = (row) => `${lineName(row.line)}\n${stepName(row.step)}: ${fixed(row.mean, 3)}` +
      (row.high - row.low > 0.0005 ? `\n${fixed(row.low, 3)} to ${fixed(row.high, 3)}` : "");
    const line = { x, y: "mean", z: "line", stroke, strokeWidth: strong }, accuracy = rows.filter((row) => row.line === "model");
    const marks = alone
      ? [Plot.ruleX(states(rows), { x, y1: "low", y2: "high", stroke }), Plot.dot(states(rows), { x, y: "mean", fill: stroke, r: 4 }),
         Plot.ruleY(accuracy, { y: "mean", strokeDasharray: "4 3" })]
      : [Plot.areaY(states(rows), { x, y1: "low", y2: "high", z: "line", fill: stroke, fillOpacity: 0.15 }),
         Plot.line(states(rows), line), Plot.line(accuracy, { ...line, strokeDasharray: "4 3" })];
    const plot = Plot.plot({
      width, height: HIGH, marginLeft: 40, marginRight: right, marginTop: 22, marginBottom: bottom, insetTop: 2,
      ariaLabel: `ARI by training step on ${split.name}`,
      x: alone ? { domain: run.states, ticks: namedStates(run.states, width - 40 - right), tickRotate: -60, label: null } : axis.scale,
      y: scoreAxis(low, top),
      marks: [Plot.ruleY([0], { stroke: "var(--line)" }), ...marks, ...controlMarks(levels), heading(split), Plot.tip(rows, Plot.pointer({ x, y: "mean", title, ...TIP }))],
    });
    const lines = rows.filter((row) => row.line === "model" || (!alone && named.has(row.line))).map((row) => ({ ...row, name: LINES[row.line]?.[1] ?? row.line }));
    nameEnds(plot, endLabels([...lines, ...levels], ROW * (top - low) / (HIGH - 24 - bottom), low, top), stroke, (row) => row.line === look.state);
    onPick(plot, (row) => go({ split: index, ...(row.line === "model" ? {} : { state: row.line }), step: row.step }));
    if (!alone) {
      markChange(plot, axis);
      follow(plot, (scale) => scale(axis.place(steps[look.step])));
    }
    return panelOf(plot, width);
  });
  fill("curves", ...elements);
}

/** Draw the ARI by hidden state, from the input up: a line per model, its untrained twin in grey, thin ones per family; a panel per split. */
function drawLayers() {
  const run = theRun(), wide = byId("curves").clientWidth || 640;
  const across = Math.max(1, Math.min(run.splits.length, Math.floor(wide / 280))), width = Math.floor(wide / across);
  const isTwin = (step) => run.step_names[step] === "untrained" && run.steps.length > 1, last = run.steps.length - 1;
  const stroke = (row) => (row.line ? lineColor(row.line, run.states) : isTwin(row.step) ? GREY : row.step === last ? "var(--ink)" : depthColor(row.step / last));
  fill("curves", ...run.splits.map((split, index) => {
    const rows = run.states.flatMap((state) => (course(split.name, state, "ari", overFamilies) ?? [])
      .map((value, step) => value && { state, step, mean: value[0], low: value[1], high: value[2] }).filter(Boolean));
    const levels = controlLevels(run, split), embed = rows.find((row) => row.state === "embed" && row.step === last)?.mean;
    if (Number.isFinite(embed)) levels.push({ line: "embed", name: "embed", mean: embed });
    const ofFamilies = runsAt[look.run].filter(({ family, position }) => family && position === run.position).flatMap((each) => run.states
      .map((state) => ({ state, family: each.family, mean: each.scores[split.name]?.[state]?.ari?.[last]?.[0] ?? NaN })));
    const trained = rows.filter((row) => !isTwin(row.step)), place = { x: "state", y: "mean", z: "step", stroke };
    const low = Math.min(0, ...rows.map((row) => row.low), ...levels.map((level) => level.mean ?? 0));
    const short = (name) => (name.length > 14 ? `${name.slice(0, 13)}…` : name);
    const ends = [...d3.rollup(rows, (all) => all.at(-1), (row) => row.step).values()].map((row) => ({ ...row, name: short(run.step_names[row.step]) }));
    const right = marginFor([...ends, ...levels].map(({ name }) => name));
    const plot = Plot.plot({
      width, height: HIGH, marginLeft: 40, marginRight: right, marginTop: 22, marginBottom: 64, insetTop: 2,
      ariaLabel: `ARI by hidden state on ${split.name}`,
      x: { type: "point", padding: 0, domain: run.states, ticks: namedStates(run.states, width - 40 - right), tickRotate: -60, label: null },
      y: scoreAxis(low),
      marks: [
        Plot.ruleY([0], { stroke: "var(--line)" }),
        Plot.areaY(trained, { ...place, y: undefined, y1: "low", y2: "high", stroke: null, fill: stroke, fillOpacity: 0.15 }),
        Plot.line(ofFamilies, { x: "state", y: "mean", z: "family", stroke: "var(--ink)", strokeWidth: 0.8, strokeOpacity: 0.4, title: "family" }),
        Plot.line(rows, { ...place, strokeWidth: (row) => (isTwin(row.step) ? 1.2 : 1.8) }),
        Plot.dot(trained, { x: "state", y: "mean", fill: stroke, r: (row) => (row.state === look.state ? 5 : 2) }),
        ...controlMarks(levels.filter(({ line }) => line !== "embed")),
        Plot.ruleY(levels.filter(({ line }) => line === "embed"), { y: "mean", stroke, strokeWidth: 1.2, strokeDasharray: "6 2", title: (row) => `embed: ${fixed(row.mean, 3)}` }),
        heading(split),
        Plot.tip(rows, Plot.pointer({ x: "state", y: "mean", ...TIP, title: (row) => `${row.state}, ${stepName(row.step)}: ${fixed(row.mean, 3)}` +
          (row.high - row.low > 0.0005 ? `\n${fixed(row.low, 3)} to ${fixed(row.high, 3)}` : "") })),
      ],
    });
    const lines = [...ends.map((row) => ({ ...row, line: null, key: row.name })), ...levels.map((row) => ({ ...row, key: row.line }))];
    nameEnds(plot, endLabels(lines, ROW * (1 - low) / (HIGH - 88), low), stroke, (row) => row.step === look.step);
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
