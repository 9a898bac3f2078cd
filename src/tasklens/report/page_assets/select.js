// What is known of single points, the selection by a lasso, its numbers, and the nearest points of a marked one.
"use strict";

const NEAREST = 10;
const MOST_LISTED = 100; // instances of a selection in its list

/** Return what is known of a point at the shown checkpoint, as text by column; `right` is a boolean, or null if unknown. */
function factsOf(arrays, i) {
  const run = theRun(), split = theSplit(), row = (key) => rowNow(arrays[key])[i];
  const part = (key) => (arrays[key] && run.names[key] ? { [key]: run.names[key][arrays[key].data[i]] } : {});
  return {
    instruction: split.instructions[arrays.instruction.data[i]], ...part("task"), ...part("distribution"), ...part("input"), ...part("output"),
    cluster: run.names.task[row(`cluster/${look.state}`)] ?? "no task",
    answer: row("answer") ? run.answers[row("answer") - 1] : "",
    right: arrays.right ? Boolean(row("right")) : null,
  };
}

/** Return a button with what is known of a point, which marks it. */
function pointButton(arrays, i) {
  const { instruction, task, input, output, right } = factsOf(arrays, i);
  const mark = right === null ? null : make("span", { class: right ? "holds" : "fails" }, right ? " ✓" : " ✗", make("span", { class: "unseen" }, right ? "right" : "wrong"));
  return make("button", { type: "button", value: i, onclick: () => { change({ marked: i }); reveal(i); } },
    swatch(arrays.task.data[i]), make("b", {}, task), ` ${input}${output === undefined ? "" : ` → ${output}`}`, mark, " ", make("code", {}, instruction));
}

// -- the lasso -------------------------------------------------------------------------------------

let lasso = null; // its corners, [x, y] in pixels of the page from the corner of the map, while it is drawn

/** Whether a drag selects instead of moving the map. */
const drawsLasso = (event) => look.lasso || event.shiftKey;

/** Return the points of the large map inside a polygon of pixels of the page. */
function pointsWithin(polygon) {
  const ratio = cloud.ratio(), corners = polygon.map(([x, y]) => [x * ratio, y * ratio]);
  return d3.range(cloud.points.length / 2).filter((i) => d3.polygonContains(corners, [cloud.points[2 * i], cloud.points[2 * i + 1]]));
}

function setUpLasso() {
  const canvas = byId("cloud");
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !drawsLasso(event)) return;
    canvas.setPointerCapture(event.pointerId);
    lasso = [[event.offsetX, event.offsetY]];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!lasso) return;
    lasso.push([event.offsetX, event.offsetY]);
    drawClouds();
  });
  canvas.addEventListener("pointercancel", () => { lasso = null; drawClouds(); });
  canvas.addEventListener("pointerup", () => {
    const [polygon] = [lasso, lasso = null];
    if (!polygon || d3.max(polygon, ([x, y]) => Math.hypot(x - polygon[0][0], y - polygon[0][1])) < 5) return; // a click
    const ignore = (event) => event.stopImmediatePropagation();
    canvas.addEventListener("click", ignore, true);
    setTimeout(() => canvas.removeEventListener("click", ignore, true)); // the click of this drag has come by then
    change({ selected: pointsWithin(polygon), find: "" });
  });
  byId("lasso").addEventListener("click", () => change({ lasso: !look.lasso }));
  byId("clear-selected").addEventListener("click", clearSelected);
  watch(["lasso"], () => {
    byId("lasso").setAttribute("aria-pressed", String(look.lasso));
    canvas.style.touchAction = look.lasso ? "none" : "pan-x pan-y";
  });
}

function clearSelected() {
  change({ selected: null, find: "" });
  byId("find").focus();
}

/** Paint the lasso, and rings around the nearest points of the marked one. */
function paintSelection(pen, ratio) {
  pen.save();
  pen.strokeStyle = colors().ink;
  pen.lineWidth = 1.25 * ratio;
  for (const i of nearestNow(cloud.arrays)) {
    pen.beginPath();
    pen.arc(cloud.points[2 * i], cloud.points[2 * i + 1], cloud.radius * ratio * 1.5 + 1, 0, 2 * Math.PI);
    pen.stroke();
  }
  if (lasso) {
    pen.beginPath();
    lasso.forEach(([x, y]) => pen.lineTo(x * ratio, y * ratio));
    pen.closePath();
    pen.setLineDash([5 * ratio, 4 * ratio]);
    pen.stroke();
  }
  pen.restore();
}

// -- what was selected -----------------------------------------------------------------------------

async function drawSelected() {
  byId("selected").hidden = look.selected === null;
  const arrays = look.selected && (await arraysNow());
  if (!arrays || !look.selected) return;
  const facts = look.selected.map((i) => factsOf(arrays, i)), right = facts.filter((fact) => fact.right).length;
  fill("selected-title", `${number(facts.length)} of ${number(theSplit().n)} points are selected`,
    arrays.right && facts.length ? `: ${number(right)} with a right answer and ${number(facts.length - right)} with a wrong one ${atStep(look.step)}.` : ".");
  const title = (text) => make("th", { scope: "col" }, text), { tasks } = theRun().world;
  const table = (part) => make("div", { class: "scroll" }, make("table", { class: "measured" },
    make("thead", {}, make("tr", {}, title(part), title("points"), arrays.right ? title("right") : null)),
    make("tbody", {}, ...d3.sort(d3.group(facts, (fact) => fact[part]), ([, all]) => -all.length).map(([name, all]) => {
      const value = tasks.findIndex((task) => task.name === name);
      return make("tr", {}, make("th", { scope: "row" }, value < 0 ? null : swatch(value), " ", name), make("td", {}, number(all.length)),
        arrays.right ? make("td", {}, number(all.filter((fact) => fact.right).length)) : null);
    }))));
  fill("selected-by", ...(facts.length ? ["task", "cluster"].map(table) : []));
  fill("selected-list", ...look.selected.slice(0, MOST_LISTED).map((i) => make("li", {}, pointButton(arrays, i))),
    facts.length > MOST_LISTED ? make("li", { class: "note" }, `and ${number(facts.length - MOST_LISTED)} more; "save" has all`) : null);
}

// -- the nearest points ----------------------------------------------------------------------------

/** Return the points that are nearest to a point on a map at a checkpoint, the nearest first. */
function nearestOn({ data, shape: [steps, n] }, point, step) {
  const frame = 2 * n * Math.min(step, steps - 1), [x, y] = [data[frame + 2 * point], data[frame + 2 * point + 1]];
  const distance = (i) => (data[frame + 2 * i] - x) ** 2 + (data[frame + 2 * i + 1] - y) ** 2;
  return d3.sort(d3.range(n).filter((i) => i !== point), distance).slice(0, NEAREST);
}

let nearest = { key: null, points: [] };

/** Return the points that are nearest to the marked one on the shown map; none if no point is marked. */
function nearestNow(arrays) {
  const map = arrays?.[`${look.map}/${look.state}`];
  if (look.marked === null || !map || look.marked >= map.shape[1]) return [];
  const key = [look.run, look.position, look.family, look.split, look.map, look.state, look.step, look.marked].join("\n");
  if (nearest.key !== key) nearest = { key, points: nearestOn(map, look.marked, look.step) };
  return nearest.points;
}

async function drawNearest() {
  byId("nearest").hidden = look.marked === null;
  const arrays = look.marked !== null && (await arraysNow());
  if (!arrays || look.marked === null) return;
  const points = nearestNow(arrays), { task, input } = arrays;
  const same = (part) => points.filter((i) => part.data[i] === part.data[look.marked]).length;
  fill("nearest-title", `The ${points.length} nearest points on the map: ${same(task)} of the same task, ${same(input)} with the same input.`);
  fill("nearest-list", ...points.map((i) => make("li", {}, pointButton(arrays, i))));
}
