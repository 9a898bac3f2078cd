// What all charts share, and heat maps, by Observable Plot.
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

/** Return a legend; screen readers skip its drawing, which shows nothing beyond its text. */
function legend(options) {
  const made = Plot.legend(options);
  (made.matches("svg") ? [made] : made.querySelectorAll("svg")).forEach((svg) => svg.setAttribute("aria-hidden", "true"));
  return made;
}

/** Return the scale of colours of values from 0 to 1. */
const colorBar = (label) => legend({ color: SHARE, label, width: 180 });

/** Return a heat map of a square matrix whose rows and columns have names. */
function matrixPlot(matrix, names, title, wide) {
  const cells = matrix.flatMap((row, i) => row.map((value, j) => ({ a: i, b: j, value })));
  const few = names.length <= 30, short = names.map((name) => shortened(name, 16));
  const named = few ? 12 + 6.2 * d3.max(short, (name) => name.length) : 12, side = Math.min(wide, named + 6 + Math.max(230, 13 * names.length));
  const labels = { domain: names.map((_, i) => i), tickFormat: (i) => short[i], label: null, tickSize: 0 };
  return Plot.plot({
    width: side, height: side + 18, marginLeft: named, marginBottom: named, marginTop: 24, marginRight: 6, ariaLabel: title,
    x: { ...labels, tickRotate: -90, axis: few ? "bottom" : null }, y: { ...labels, axis: few ? "left" : null },
    color: SHARE,
    marks: [
      Plot.cell(cells, { x: "b", y: "a", fill: "value", inset: 0.5 }),
      Plot.text([title], { frameAnchor: "top-left", dy: -18, fontWeight: 600, fontSize: 11 }),
      Plot.tip(cells, Plot.pointer({ x: "b", y: "a", title: (cell) => `${names[cell.a]}, ${names[cell.b]}: ${fixed(cell.value)}`, ...TIP })),
    ],
  });
}
