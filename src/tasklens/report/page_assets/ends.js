// Axes of steps and of hidden states, colours of lines, and names at their ends: what the curves share.
"use strict";

const MANY = 50; // up to this many evenly spaced checkpoints are drawn on a linear axis
const QUARTERS = [0, 0.25, 0.5, 0.75, 1];
const GREY = "var(--faint)";
const LINES = { // what is no hidden state: whole and short name, and dashes
  model: ["accuracy", "accuracy", "4 3"],
  "control:length": ["control: instruction length", "length", "none"],
  "control:symbols": ["control: bag of symbols", "symbols", "7 3"],
  "control:input": ["control: input token", "input", "1 3"],
  "control:input_class": ["control: class of the input", "class", "1 5"],
};
const lineName = (line) => LINES[line]?.[0] ?? line;
const FIXED = { wte: ["#5a7d00", "#9ab83c"], embed: ["#0f86c8", "#5db4ea"], ln_f: ["#00838f", "#35b8c4"] }; // on light and dark ground

/** Return a colour of the scale of depth, from 0 to 1: its contrast with the ground rises, at least 3. */
const depthColor = (depth) => d3.interpolateInferno(isDark() ? 0.5 + 0.5 * depth : 0.64 - 0.52 * depth);

/** Return the colour of a line: of blocks by depth, accuracy black, controls grey. */
function lineColor(line, states) {
  if (line === "model") return "var(--ink)";
  if (!states.includes(line)) return GREY;
  if (FIXED[line]) return FIXED[line][Number(isDark())];
  const blocks = states.filter((state) => !FIXED[state]);
  return depthColor(blocks.indexOf(line) / Math.max(1, blocks.length - 1));
}

const shortStep = (step) => step >= 1000 && step % 100 === 0 ? `${step / 1000}k` : number(step);

/**
 * Return the axis of steps: `place(step)` is its coordinate, linear up to a step and then logarithmic. Few even
 * steps have a linear axis: then `linear` is null. Both ends and the change of the scale have a tick; no two touch.
 */
function stepAxis(steps, width) {
  const spacings = d3.pairs(steps, (a, b) => b - a), [first, last] = [steps[0], steps.at(-1)], spacing = d3.max(spacings);
  const linear = last > 4 * spacing ? spacing : steps.find((step) => step > 0);
  const isLinear = (steps.length <= MANY && new Set(spacings).size <= 1) || last <= 4 * linear;
  const place = isLinear ? (step) => step : (step) => step <= linear ? step / linear / 1.8 : 1 / 1.8 + Math.log10(step / linear);
  const powers = d3.range(String(last).length - 1, -1, -1).map((p) => 10 ** p);
  const round = isLinear ? d3.ticks(first, last, 4) : [linear, ...powers, ...last < 100 * linear ? [2, 5].flatMap((m) => powers.map((p) => m * p)) : []];
  const at = (step) => width * (place(step) - place(first)) / (place(last) - place(first)), wide = (step) => 6.5 * shortStep(step).length + 8;
  const kept = [];
  for (const step of [first, last, ...round.filter((tick) => isLinear || tick >= linear)]) {
    const free = kept.every((other) => Math.abs(at(step) - at(other)) >= (wide(step) + wide(other)) / 2);
    if (step >= first && step <= last && free) kept.push(step);
  }
  const labels = new Map(kept.map((step) => [place(step), shortStep(step)]));
  return {
    place, linear: isLinear ? null : linear,
    scale: { type: "linear", domain: [place(first), place(last)], ticks: [...labels.keys()], tickFormat: (x) => labels.get(x),
      label: isLinear ? "training step" : `training step (linear to ${shortStep(linear)}, then log)`, labelArrow: "none", labelAnchor: "center" },
  };
}

/** Mark in a plot where the scale of steps changes: by a dotted line, and a long tick across the axis. */
function markChange(plot, { place, linear }) {
  if (linear === null) return;
  const x = plot.scale("x").apply(place(linear)), [bottom, top] = plot.scale("y").range;
  const mark = d3.create("svg:g").attr("class", "change").attr("transform", `translate(${x},0)`);
  mark.append("line").attr("y1", top).attr("y2", bottom).attr("stroke-dasharray", "1 3").attr("stroke", GREY);
  mark.append("line").attr("y1", bottom - 5).attr("y2", bottom + 6).attr("stroke-width", 1.5).attr("stroke", "var(--ink)");
  plot.append(mark.node());
}

/** Return numbers at least `least` apart between `low` and `high` that are nearest to some sorted numbers: isotonic regression. */
function spread(heights, least, low, high) {
  const pools = []; // [sum, size] of neighbours that share a height, without the room of those below
  heights.forEach((height, i) => {
    pools.push([height - i * least, 1]);
    for (let n = pools.length; n > 1 && pools[n - 2][0] / pools[n - 2][1] >= pools[n - 1][0] / pools[n - 1][1]; n--) {
      const [sum, size] = pools.pop();
      pools[n - 2][0] += sum;
      pools[n - 2][1] += size;
    }
  });
  const most = Math.max(low, high - (heights.length - 1) * least);
  return pools.flatMap(([sum, size]) => Array(size).fill(Math.min(Math.max(sum / size, low), most))).map((height, i) => height + i * least);
}

/** Return the right ends of lines, with heights for their names at least `span` apart. */
function endLabels(rows, span, low = 0, high = 1) {
  const ends = [...d3.rollup(rows, (all) => all.at(-1), (row) => row.key ?? row.line).values()].sort((a, b) => a.mean - b.mean);
  const heights = spread(ends.map((row) => row.mean), span, low, high);
  return ends.map((row, i) => ({ ...row, labelY: heights[i] }));
}

/** Name the ends of lines in a plot, at the right of its frame, with a thin leader from each line to its name. */
function nameEnds(plot, ends, color, isBold) {
  const x = Math.max(...plot.scale("x").range), y = plot.scale("y").apply;
  const names = d3.create("svg:g").attr("class", "ends");
  for (const row of ends) {
    names.append("path").attr("d", `M${x + 2},${y(row.mean)}h2L${x + 10},${y(row.labelY)}`).attr("fill", "none").attr("stroke", color(row)).attr("stroke-width", 0.8);
    names.append("text").attr("x", x + 12).attr("y", y(row.labelY)).attr("dy", "0.32em").attr("text-anchor", "start").attr("fill", color(row))
      .attr("font-weight", isBold(row) ? 800 : 500).text(row.name);
  }
  plot.append(names.node());
}

/** Return the hidden states that are named along an axis of this width, 14 pixels each: of many, both ends and round blocks. */
function namedStates(states, width) {
  const n = states.length, most = Math.max(3, Math.floor(width / 14)), every = [1, 2, 5, 10, 20, 50].find((spacing) => n <= spacing * most) ?? 100;
  if (every === 1) return states;
  const least = n / most; // names that are nearer to an end would overlap
  return states.filter((state, i) => i === 0 || i === n - 1
    || (Number(state.match(/^block(\d+)$/)?.[1] ?? NaN) % every === 0 && Math.min(i, n - 1 - i) >= least));
}
