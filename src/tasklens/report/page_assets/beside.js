// A second large map beside the first: of another checkpoint, hidden state or run. `look.beside` is {run, split, state,
// step}; if `step` or `state` is null, it follows the checkpoint or the hidden state of the first map.
"use strict";

let besideCloud = null;

/** Return what the second map shows at first: the first checkpoint or the untrained twin, otherwise the next state. */
function besideAtFirst() {
  const { run, split, state, step } = look, { states, step_names } = theRun();
  const first = Math.max(0, step_names?.indexOf("untrained") ?? 0), next = states[states.indexOf(state) + 1] ?? states.at(-2) ?? state;
  return step === first ? { run, split, state: next, step: null } : { run, split, state: byLayers() ? null : state, step: first };
}

const besideRun = () => runNow(look.beside.run);
const besideState = () => look.beside.state ?? (besideRun().states.includes(look.state) ? look.state : besideRun().best);
const besideStep = () => Math.min(look.beside.step ?? look.step, besideRun().steps.length - 1);

/** Change what the second map shows; another run may lack its split, hidden state or checkpoint. */
function changeBeside(changes) {
  const wanted = { ...look.beside, ...changes }, run = runNow(wanted.run);
  const split = Math.max(0, run.splits.findIndex(({ name }) => name === theSplit().name));
  const state = wanted.state === null || run.states.includes(wanted.state) ? wanted.state : run.best;
  change({ beside: { run: wanted.run, split, state, step: wanted.step === null ? null : Math.min(wanted.step, run.steps.length - 1) } });
}

/** Return whether both maps show the same instances in the same order, so that point i is the same one in both. */
function isLinked(a = cloud.arrays, b = besideCloud.arrays) {
  if (!look.beside) return false;
  const { run, split } = look.beside;
  if (run === look.run && split === look.split) return true;
  if (!a || !b || a === b || theSplit().n !== besideRun().splits[split].n) return false; // one may not be unpacked yet
  const key = [look.run, look.split, run, split, look.position, look.family].join(" ");
  if (besideCloud.linked?.key !== key) besideCloud.linked = { key, same: theSplit().instructions.length > 0 && d3.range(theSplit().n).every((i) => textsOf(theRun(), look.split, a, i) === textsOf(besideRun(), split, b, i)) };
  return besideCloud.linked.same;
}

/** Return the text, the task and the input of an instance. */
const textsOf = (run, split, arrays, i) => JSON.stringify([run.splits[split].instructions[arrays.instruction.data[i]],
  ...["task", "input"].map((part) => run.names[part][arrays[part].data[i]])]);

const sameTasks = () => !look.beside || String(besideRun().names.task) === String(theRun().names.task);

function setUpBeside() {
  const canvas = byId("beside-cloud");
  besideCloud = new Cloud(canvas, () => {
    if (!look.beside) return { run: look.run, split: look.split, state: look.state }; // it is out of sight
    const { run, split, state, step } = look.beside;
    const layer = state === null && run === look.run ? { state: drawnState(), depth: look.depth } : { state: besideState() };
    return { run, split, ...layer, ...(step === null ? {} : { step: besideStep() }) };
  }, 5);
  besideCloud.zoomed = true;
  besideCloud.seen = false;
  besideCloud.showsSame = isLinked;
  besideCloud.names = (pen, ratio) => { if (sameTasks()) Cloud.prototype.names.call(besideCloud, pen, ratio); };
  besideCloud.over = (pen, ratio) => { if (isLinked()) paintPointed(pen, ratio); };
  canvas.addEventListener("pointermove", (event) => { if (isLinked()) showTip(besideCloud.nearest(event.offsetX, event.offsetY)); });
  canvas.addEventListener("pointerleave", () => showTip(look.marked));
  canvas.addEventListener("click", (event) => {
    const nearest = besideCloud.nearest(event.offsetX, event.offsetY, 24);
    if (isLinked()) change({ marked: nearest === look.marked ? null : nearest });
  });
  byId("compare").addEventListener("change", (event) => change({ beside: event.target.checked ? besideAtFirst() : null }));
  byId("beside-run").addEventListener("change", (event) => changeBeside({ run: Number(event.target.value) }));
  byId("beside-state").addEventListener("change", (event) => changeBeside({ state: event.target.value === "" ? null : event.target.value }));
  byId("beside-step").addEventListener("change", (event) => changeBeside({ step: event.target.value === "" ? null : Number(event.target.value) }));
  watch(["run", "position", "family", "split"], () => { if (look.beside) changeBeside({}); });
  watch(["beside", "run", "position", "family"], drawBesideChoices);
  watch(["beside", "run", "position", "family", "split", "state", "step"], drawBesideTitle);
}

/** Paint a ring around the point under the mouse, which may be that of the other map. */
function paintPointed(pen, ratio) {
  if (pointed === null || pointed === look.marked) return;
  pen.save();
  pen.strokeStyle = colors().ink;
  pen.lineWidth = 2 * ratio;
  pen.beginPath();
  pen.arc(besideCloud.points[2 * pointed], besideCloud.points[2 * pointed + 1], besideCloud.radius * ratio * 1.9 + 2, 0, 7);
  pen.stroke();
  pen.restore();
}

function drawBesideChoices() {
  byId("compare").checked = look.beside !== null;
  byId("beside").hidden = look.beside === null;
  byId("clusters").classList.toggle("compared", look.beside !== null);
  if (!look.beside) return;
  const run = besideRun(), option = (value, text, chosen) => make("option", { value, selected: value === chosen }, text);
  byId("beside-runs").hidden = story.runs.length === 1;
  byId("beside-steps").hidden = run.steps.length === 1;
  fill("beside-run", ...story.runs.map((each, i) => option(i, `${each.name} (seed ${each.seed})`, look.beside.run)));
  fill("beside-state", option("", "as in the first map", look.beside.state ?? ""), ...[...run.states].reverse().map((state) => option(state, state, look.beside.state)));
  fill("beside-step", option("", "as in the first map", look.beside.step ?? ""), ...run.steps.map((_, i) => option(i, stepName(i, run), look.beside.step)));
}

/** State the scores of both maps. */
async function drawBesideTitle() {
  if (!look.beside) return;
  const arrays = await Promise.all([arraysNow(), arraysOf(look.beside.run, look.beside.split)]);
  if (!look.beside || !arrays[0]) return;
  const run = besideRun(), split = run.splits[look.beside.split], state = besideState(), step = besideStep();
  const score = (each, name, line, metric, at) => fixed(each.scores[name]?.[line]?.[metric]?.[at]?.[0]);
  const both = (metric, line) => [score(run, split.name, line ?? state, metric, step), score(theRun(), theSplit().name, line ?? look.state, metric, look.step)];
  const [ari, accuracy] = [both("ari"), both("accuracy", "model")], link = isLinked(...arrays);
  const isOther = look.beside.run !== look.run;
  fill("beside-title", make("b", {}, `${isOther ? `${run.name}: ` : ""}${state}, ${stepName(step, run)}`), ` · ARI ${ari[0]} (first map ${ari[1]})`,
    accuracy.includes("–") ? null : `, accuracy ${accuracy[0]} (first map ${accuracy[1]})`, ". ",
    split.name === theSplit().name ? null : `It shows ${splitTitle(split)}: its run has no ${theSplit().name}. `,
    link ? null : "Both maps show different instances, so that points are not linked. ",
    sameTasks() ? null : "Its tasks are others than those of the legend. ");
  byId("beside-cloud").setAttribute("aria-label", `Second map (${mapName()}) of ${state} ${atStep(step, run)}, ${splitTitle(split)}: ${number(split.n)} points; ARI against the task ${ari[0]}`);
}
