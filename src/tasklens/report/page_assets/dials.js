// The dials beside the map: ARI, decodability and use of the shown hidden state, each beside its controls.
"use strict";

const DIALS = [
  { name: "ARI", what: "clusters against the task", read: readAri },
  { name: "decodability", what: "a classifier that predicts the task", read: readDecodability },
  { name: "use", what: "answers that follow a shift", read: readUse },
];
// Marks of what a value is compared with: paths around the origin, which lies on the arc.
const MARKS = { begin: "M0 -7V7", control: "M0 -6L4 -13H-4Z", ceiling: "M-4 -10H4M0 -10V7" };

/** Return the mean of a score at a checkpoint over the chosen runs; null if it is not known. */
const scoreAt = (metric, step, line = look.state) => course(theSplit().name, line, metric)?.[step]?.[0] ?? null;

/** Return what a score at the first checkpoint is beside the shown one: that of step 0, or of the untrained twin. */
function beginning(metric) {
  const run = theRun(), named = run.step_names !== null;
  const isUntrained = named ? run.step_names[0] === "untrained" : run.steps.length > 1;
  return isUntrained && look.step > 0 ? [{ mark: "begin", name: stepName(0), value: scoreAt(metric, 0) }] : [];
}

function readAri() {
  const controls = Object.keys(theScores()).filter((line) => line.startsWith("control:")).map((line) => ({ line, value: scoreAt("ari", 0, line) }));
  const highest = d3.greatest(controls.filter(({ value }) => value !== null), ({ value }) => value);
  return {
    value: scoreAt("ari", look.step),
    beside: [...beginning("ari"), ...highest ? [{ mark: "control", name: lineName(highest.line).replace("control: ", ""), value: highest.value }] : []],
  };
}

function readDecodability() {
  const metric = scoreAt("probe_task", look.step) === null ? "centroid_task" : "probe_task";
  const value = scoreAt(metric, look.step);
  return value === null ? { value, beside: [], note: "not measured" } : { value, beside: beginning(metric) };
}

/** Read the effect of the shift, between those of random directions and of a real state of the other task. */
function readUse() {
  const edits = theEdits();
  if (!edits) return { value: null, beside: [], note: theRun().edits ? "not edited on this split" : "not edited in this run" };
  const { steps } = theRun().edits, e = steps.indexOf(look.step), before = d3.greatest(steps.filter((step) => step <= look.step)) ?? steps[0];
  const effect = (edit, at) => effectCourse(edit, "becomes", look.state)[at];
  if (e < 0) {
    const last = effect("shift", steps.indexOf(before));
    return { value: null, beside: [], note: `not edited ${theRun().step_names ? "in this model" : "at this step"}${last === null ? "" : `; ${fixed(last)} ${atStep(before)}`}` };
  }
  const beside = [["control", "random direction", "random"], ["ceiling", "real state", "patch"]]
    .filter(([, , edit]) => edit in edits.effects).map(([mark, name, edit]) => ({ mark, name, value: effect(edit, e) }));
  const value = effect("shift", e);
  return { value, beside: value === null ? [] : beside, note: value === null ? "this hidden state was not edited" : "" };
}

/** Return the angle of a value on a dial in degrees, from 0 at the left to 180 at the right. */
const angleOf = (value) => 180 * Math.max(0, Math.min(1, value));

function setUpDials() {
  fill("dials", ...DIALS.map(({ name, what }, i) => {
    const svg = d3.create("svg").attr("viewBox", "0 0 120 70").attr("aria-hidden", "true");
    for (const kind of ["track", "arc"]) svg.append("path").attr("class", kind).attr("d", "M12 62A48 48 0 0 1 108 62").attr("pathLength", 100);
    svg.append("g").attr("class", "marks");
    svg.append("text").attr("class", "value").attr("x", 60).attr("y", 60);
    return make("div", { class: "dial", id: `dial-${i}`, role: "img" }, svg.node(),
      make("p", {}, make("b", {}, name)), make("p", { class: "what" }, what), make("div", { class: "beside" }));
  }));
}

function drawDials() {
  DIALS.forEach(({ name, what, read }, i) => {
    const { value, beside, note } = read(), known = beside.filter((each) => each.value !== null), dial = d3.select(`#dial-${i}`);
    const texts = [...known.map((each) => `${each.name} ${fixed(each.value)}`), ...note ? [note] : []];
    dial.attr("aria-label", `${name}, ${what}, in ${look.state} ${atStep(look.step)}: ${[value === null ? "not known" : fixed(value), ...texts].join("; ")}`);
    dial.select(".arc").style("stroke-dasharray", `${100 * Math.max(0, Math.min(1, value ?? 0))} 200`);
    dial.select(".value").text(fixed(value));
    dial.select(".marks").selectAll("path").data(known).join("path").attr("d", ({ mark }) => MARKS[mark])
      .attr("transform", (each) => `rotate(${angleOf(each.value) - 90} 60 62) translate(60 14)`);
    dial.select(".beside").node().replaceChildren(...known.map((each) => make("p", { class: "mark" }, markIcon(each.mark), make("span", {}, each.name), make("b", {}, fixed(each.value)))),
      ...note ? [make("p", {}, note)] : []);
  });
}

/** Return a mark of a dial as an element, for the text below. */
function markIcon(mark) {
  const svg = d3.create("svg").attr("class", "swatch").attr("viewBox", mark === "control" ? "-8 -17 16 16" : "-8 -9 16 16").attr("aria-hidden", "true");
  svg.append("path").attr("d", MARKS[mark]);
  return svg.node();
}
