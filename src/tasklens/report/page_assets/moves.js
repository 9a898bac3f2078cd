// Where the edit "shift" moves points on a map that is a plane, and what the model then answers.
"use strict";

const OUTCOMES = ["becomes", "stays", "third", "other"];
// How an arrow is drawn after each outcome: dashes in pixels, and whether its head is filled.
const ARROWS = { becomes: [[], true], stays: [[7, 4], false], third: [[2, 3], false], other: [[2, 3], false] };

const theMoves = () => theSplit().moves;

/** Return the index of the checkpoint among those with edits, or -1. */
const editedAt = () => theRun().edits?.steps.indexOf(look.step) ?? -1;

/** Return the index of a point among those that are moved, or -1. */
const movedPoint = (arrays, i) => arrays["move/point"].data.indexOf(i);

/** Return the right answer of moved point `m` under task number `column` of the moves; 0 if unknown. */
const expectedOf = (arrays, m, column) => arrays["move/expected"].data[m * theMoves().tasks.length + column];

/** Return {outcome, answer} of a moved point after its move to `look.target`; null if it was not run. */
function moveOf(arrays, m) {
  const { tasks, answers } = theMoves(), e = editedAt(), given = arrays[`move/answer/${look.state}`];
  if (e < 0 || !given) return null;
  const to = tasks.indexOf(look.target), from = tasks.indexOf(arrays.task.data[arrays["move/point"].data[m]]);
  const code = given.data[(e * given.shape[1] + m) * tasks.length + to]; // 0: not run, 1: without a number
  if (code === 0) return null;
  const is = (column) => code > 1 && code - 1 === expectedOf(arrays, m, column);
  const before = theRun().answers[rowNow(arrays.answer)[arrays["move/point"].data[m]] - 1];
  const stays = from < 0 ? code > 1 && answers[code - 2] === before : is(from); // an unseen task has no own answer
  const outcome = is(to) ? "becomes" : stays ? "stays" : tasks.some((_, column) => is(column)) ? "third" : "other";
  return { outcome, answer: answers[code - 2] ?? null };
}

/** Return the moved points whose arrows are shown: the marked one, or those of the highlighted task. */
function chosenMoves(arrays) {
  if (look.target === null || !theMoves()) return [];
  const points = [...arrays["move/point"].data], task = arrays.task.data;
  const chosen = look.marked !== null ? (i) => i === look.marked
    : look.lit !== null && look.color === "task" ? (i) => task[i] === look.lit : () => false;
  return points.flatMap((i, m) => (chosen(i) && task[i] !== look.target ? [{ i, m, move: moveOf(arrays, m) }] : []))
    .filter(({ move }) => move);
}

/** Return by how many pixels of the canvas the chosen move takes a point of a task, [x, y]; null if no arrow is drawn. */
function moveBy(arrays, task) {
  const centroids = arrays[`move/${look.map}/${look.state}`], e = editedAt(), map = arrays[`${look.map}/${look.state}`];
  if (look.target === null || !centroids || !Number.isInteger(look.at) || look.depth !== null || e < 0) return null;
  const { tasks } = theMoves();
  if (!tasks.includes(task)) return null;
  const [from, to] = [task, look.target].map((each) => 2 * (e * tasks.length + tasks.indexOf(each)));
  const scale = cloud.scaleOf(map, look.step) * centroids.half[e];
  return [0, 1].map((axis) => (axis ? -scale : scale) * (centroids.data[to + axis] - centroids.data[from + axis]));
}

/** Paint the arrows of the chosen points. */
function paintMoves(pen, ratio) {
  const { arrays, points } = cloud;
  pen.save();
  pen.strokeStyle = pen.fillStyle = colors().ink;
  pen.lineWidth = 1.5 * ratio;
  for (const { i, move } of chosenMoves(arrays)) {
    const by = moveBy(arrays, arrays.task.data[i]);
    if (by) paintArrow(pen, points[2 * i], points[2 * i + 1], ...by, ARROWS[move.outcome], ratio);
  }
  pen.restore();
}

/** Paint an arrow from a pixel by (dx, dy). */
function paintArrow(pen, x, y, dx, dy, [dashes, filled], ratio) {
  const length = Math.hypot(dx, dy), head = Math.min(9 * ratio, length / 2);
  if (length < 1) return;
  const [ux, uy] = [dx / length, dy / length], [endX, endY] = [x + dx, y + dy];
  pen.setLineDash(dashes.map((dash) => dash * ratio));
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(endX - ux * head, endY - uy * head);
  pen.stroke();
  pen.setLineDash([]);
  pen.beginPath();
  pen.moveTo(endX, endY);
  pen.lineTo(endX - ux * head - uy * head * 0.45, endY - uy * head + ux * head * 0.45);
  pen.lineTo(endX - ux * head + uy * head * 0.45, endY - uy * head - ux * head * 0.45);
  pen.closePath();
  if (filled) pen.fill();
  else {
    pen.fillStyle = colors().paper;
    pen.fill();
    pen.fillStyle = pen.strokeStyle;
  }
  pen.stroke();
}

/** Return the lines about the move of a point to the chosen task, for its description. */
function describeMove(arrays, i) {
  if (look.target === null || !theMoves()) return [];
  const names = theRun().names.task, m = movedPoint(arrays, i), own = arrays.task.data[i];
  const line = (...rest) => [make("p", {}, make("span", { class: "note" }, "moved to "), swatch(look.target), ` ${names[look.target]}: `, ...rest)];
  if (m < 0) return line("this point was not edited");
  if (own === look.target) return line("this is its own task");
  const move = moveOf(arrays, m), expected = expectedOf(arrays, m, theMoves().tasks.indexOf(look.target));
  if (!move) return line(editedAt() < 0 ? "no edits here" : theMoves().tasks.includes(own)
    ? "not run, as both tasks have the same answer, or one is unknown" : "not run, as this is the answer without a move, or it is unknown");
  const meaning = { becomes: `✓ the answer of ${names[look.target]}`, stays: theMoves().tasks.includes(own) ? `= the answer of ${names[own]}` : "= as without a move",
    third: "✗ the answer of a third task", other: "✗ an answer of no task" }[move.outcome];
  const wanted = move.outcome === "becomes" || !expected ? "" : `; ${names[look.target]} has ${theMoves().answers[expected - 1]}`;
  return line(`the model answers ${move.answer ?? "something else"} ${meaning}${wanted}`);
}

function drawMoveTargets() {
  const moves = theMoves(), names = theRun().names.task;
  byId("moves").hidden = !moves;
  if (!moves) return void change({ target: null });
  byId("target").replaceChildren(make("option", { value: "" }, "no task"), ...moves.tasks.map((task) => make("option", { value: task }, names[task])));
  if (!moves.tasks.includes(look.target)) change({ target: null });
}

/** Describe the arrows in words. */
async function drawMovesNote() {
  byId("target").value = look.target ?? "";
  const arrays = theMoves() && (await arraysNow());
  if (!arrays || !theMoves()) return;
  fill("moves-note", movesNote(arrays));
}

function movesNote(arrays) {
  const { edits, names, splits } = theRun(), { tasks } = theMoves(), target = names.task[look.target];
  if (look.target === null) return `Choose a task to see what a shift to its centroid does: ${number(arrays["move/point"].shape[0])} of the points were edited.`;
  if (editedAt() < 0) return `There are no edits ${atStep(look.step)}. There are some ${listed(edits.steps.map((i) => atStep(i)))}.`;
  const chosen = chosenMoves(arrays);
  if (!chosen.length) return look.marked === null && (look.lit === null || look.color !== "task")
    ? `Mark a point (n or p), or highlight another task in the legend, to move it to ${target}.`
    : `Nothing of this was moved to ${target}.`;
  const counts = d3.rollup(chosen, (all) => all.length, ({ move }) => move.outcome);
  const ofKnown = chosen.some(({ i }) => tasks.includes(arrays.task.data[i]));
  const label = { becomes: `of ${target} (filled head)`, stays: ofKnown ? "of the own task (dashed)" : "as without a move (dashed)", third: "of a third task (dotted)", other: "of no task (dotted)" };
  const drawn = look.map === "tsne" ? " t-SNE cannot place a new point: choose another map to see the arrows."
    : !ofKnown ? " There are no arrows, because the map has no centroid of an unseen task."
    : arrays[`move/pca/${look.state}`] ? " An arrow is the difference of the centroids." + (splits.length > 1 ? "" : " Those of the edits are of the other half of the instances.")
    : " There are no arrows, because the map is of standardised or normalised states, and edits are not.";
  const parts = OUTCOMES.filter((outcome) => counts.has(outcome)).map((outcome) => `${number(counts.get(outcome))} ${label[outcome]}`);
  return `Answers after the move: ${parts.join(", ")}.${drawn}`;
}

const listed = (all) => (all.length > 12 ? `${all.slice(0, 11).join(", ")}, ... ${all.at(-1)}` : all.join(", "));
