// The controls, the keys, and which parts are drawn after which changes.
"use strict";

const GLIDE = 450; // milliseconds in which points glide to a chosen checkpoint
const PACE = 700; // milliseconds per checkpoint while the page plays
const COLORINGS = ["task", "distribution", "cluster", "input", "output"]; // possible colourings of points
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Show another checkpoint, hidden state or split; points glide over the last step to a checkpoint. */
function go(changes) {
  const from = look.at;
  change({ marked: changes.split !== undefined && changes.split !== look.split ? null : look.marked, ...changes });
  if (changes.step === undefined) return;
  const to = look.step, began = performance.now();
  if (playing || calm.matches) return void change({ at: to });
  const way = Math.max(from, to) - 1, begin = to > from ? Math.max(from, way) : Math.min(from, to + 1);
  gliding = (now) => {
    const t = Math.min(1, Math.max(0, (now - began) / GLIDE)); // a frame may begin before the key is pressed
    change({ at: begin + (to - begin) * t });
    return t < 1;
  };
  run();
}

let gliding = null, playing = false, running = false;

/** Move the points at each frame, until they stand still. */
function run() {
  if (running) return;
  running = true;
  let last = performance.now();
  const frame = (now) => {
    const passed = Math.min(100, Math.max(0, now - last)); // the first frame may begin before `last`; a hidden tab has no frames
    last = now;
    if (playing) advance(passed);
    else if (gliding && !gliding(now)) gliding = null;
    running = playing || gliding !== null;
    if (running) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

function advance(passed) {
  const last = theRun().steps.length - 1;
  const at = Math.min(last, look.at + (passed / PACE) * Number(byId("speed").value));
  change({ step: Math.floor(at), at: calm.matches ? Math.floor(at) : at });
  if (at >= last) play(false);
}

function play(wanted = !playing) {
  const last = theRun().steps.length - 1;
  playing = wanted && last > 0;
  gliding = null;
  if (playing && look.at >= last) change({ step: 0, at: 0 });
  if (!playing) change({ at: look.step });
  byId("play").textContent = playing ? "pause" : "play";
  if (playing) run();
}

// -- controls ----------------------------------------------------------------------------------------

/** Choose a value of a control. Another colouring removes the highlight, which is a value of the old one. */
function choose(key, value) {
  change({ [key]: value, ...(key === "color" ? { lit: null } : {}) });
}

function choices(id, key, options) {
  const group = byId(id);
  group.append(...options.map(([value, label]) => {
    const input = make("input", { type: "radio", name: id, value, autocomplete: "off" });
    input.checked = look[key] === value;
    input.addEventListener("change", () => choose(key, value));
    return make("label", {}, input, label);
  }));
  watch([key], () => group.querySelectorAll("input").forEach((input) => { input.checked = input.value === look[key]; }));
}

function options(select, names) {
  byId(select).replaceChildren(...names.map((name, value) => make("option", { value }, name)));
}

function setUp() {
  byId("runs").hidden = story.runs.length === 1;
  document.querySelectorAll(".many").forEach((element) => { element.hidden = story.runs.length === 1; });
  byId("together").hidden = story.runs.length === 1 || !alike;
  options("run-name", story.runs.map((run) => `${run.name} (seed ${run.seed})`));
  fill("title", story.runs.map((run) => run.name).join(", "));
  byId("run-name").addEventListener("change", (event) => lookAt(Number(event.target.value)));
  byId("position").addEventListener("change", (event) => change({ position: event.target.value, lit: null }));
  byId("family").addEventListener("change", (event) => change({ family: event.target.value, lit: null, marked: null, target: null }));
  byId("split").addEventListener("change", (event) => go({ split: Number(event.target.value) }));
  byId("state").addEventListener("change", (event) => go({ state: event.target.value }));
  byId("step").addEventListener("input", (event) => { if (playing) play(false); go({ step: Number(event.target.value) }); });
  byId("play").addEventListener("click", () => play());
  byId("fit").addEventListener("change", (event) => change({ fit: event.target.checked }));
  byId("wrong").addEventListener("change", (event) => change({ wrong: event.target.checked }));
  byId("target").addEventListener("change", (event) => change({ target: event.target.value === "" ? null : Number(event.target.value) }));
  byId("edit").addEventListener("change", (event) => change({ edit: event.target.value }));
  byId("able").addEventListener("change", (event) => change({ able: event.target.checked }));
  byId("theme").addEventListener("click", () => change({ theme: { "": "dark", dark: "light", light: "" }[look.theme] }));
  choices("color", "color", COLORINGS.map((part) => [part, part]));
  choices("map", "map", MAPS);
  choices("effect", "effect", Object.entries(EFFECTS).map(([metric, [label]]) => [metric, label]));
  choices("together", "together", [["all", "all runs"], ["shown", "the shown run"]]);
  choices("many", "multiples", [
    ["states", "all hidden states"],
    ...(story.runs.some((run) => run.step_names?.length > 1) ? [["steps", "all models"]] : []),
    ...(story.runs.length > 1 ? [["runs", "all runs"]] : []),
  ]);
  byId("many").hidden = byId("many").querySelectorAll("input").length === 1;
  addEventListener("keydown", onKey);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
}

/** Return the `COLORINGS` that a run has. */
const colorings = (run) => COLORINGS.filter((part) => part === "cluster" || run.names[part]);

/** Show another run, with the same split, checkpoint, hidden state and colouring if it has them. */
function lookAt(run) {
  const next = runNow(run), split = next.splits.findIndex(({ name }) => name === theSplit().name);
  const step = Math.min(look.step, next.steps.length - 1);
  play(false);
  change({
    run, position: next.position, family: next.family, split: Math.max(0, split), state: next.states.includes(look.state) ? look.state : next.best,
    step, at: step, marked: null, lit: null, target: null, color: colorings(next).includes(look.color) ? look.color : "task",
  });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, select, button, summary, a");
  if (event.target !== document.body && !event.target.closest("[data-keys]")) return;
  if (field && !["c", "m", "n", "p"].includes(event.key)) return;
  if (field?.matches("select, input[type=range]") ) return;
  const states = theRun().states, state = states.indexOf(look.state), last = theRun().steps.length - 1;
  const onPage = event.target === document.body; // then arrows up and down scroll the page
  const actions = {
    " ": () => play(),
    ArrowLeft: () => go({ step: Math.max(0, look.step - 1) }),
    ArrowRight: () => go({ step: Math.min(last, look.step + 1) }),
    Home: onPage ? null : () => go({ step: 0 }),
    End: onPage ? null : () => go({ step: last }),
    ArrowUp: onPage ? null : () => go({ state: states[Math.min(states.length - 1, state + 1)] }),
    ArrowDown: onPage ? null : () => go({ state: states[Math.max(0, state - 1)] }),
    c: () => next("color", colorings(theRun())),
    m: () => next("map", MAPS.map(([map]) => map)),
    n: () => point(1),
    p: () => point(-1),
    Escape: () => { change({ marked: null, lit: null }); byId("tip").hidden = true; },
  };
  if (!actions[event.key]) return;
  if (playing && event.key.startsWith("Arrow")) play(false);
  event.preventDefault();
  actions[event.key]();
}

function next(key, all) {
  choose(key, all[(all.indexOf(look[key]) + 1) % all.length]);
}

// -- the map -----------------------------------------------------------------------------------------

let cloud = null, pointed = null;

function setUpCloud() {
  const canvas = byId("cloud");
  cloud = new Cloud(canvas, () => ({ run: look.run, split: look.split, state: look.state }), 5);
  cloud.over = (pen, ratio) => {
    paintMoves(pen, ratio);
    if (pointed !== null && !byId("tip").hidden) placeTip();
  };
  canvas.addEventListener("pointermove", (event) => showTip(cloud.nearest(event.offsetX, event.offsetY)));
  canvas.addEventListener("pointerleave", () => showTip(look.marked));
  canvas.addEventListener("click", (event) => {
    const nearest = cloud.nearest(event.offsetX, event.offsetY, 24);
    change({ marked: nearest === look.marked ? null : nearest });
    showTip(nearest);
  });
  watch(["run", "position", "split", "state", "step", "marked", "target"], () => {
    showTip(look.marked);
    byId("spoken").textContent = look.marked === null || playing ? "" : byId("tip").innerText;
  });
}

/** Show the description of a point beside it. */
function showTip(i) {
  pointed = i;
  const tip = byId("tip");
  if (i === null || !cloud.arrays || i >= theSplit().n) {
    tip.hidden = true;
    return;
  }
  tip.replaceChildren(...describePoint(cloud.arrays, i));
  tip.hidden = false;
  placeTip();
}

/** Put the description beside its point, inside the canvas, and off the arrow of the point if possible. */
function placeTip() {
  const tip = byId("tip"), [x, y] = cloud.coordinatesOf(pointed), canvas = byId("cloud");
  const lefts = [x + 14, x - 14 - tip.offsetWidth], tops = [y + 14, y - 14 - tip.offsetHeight];
  const by = moveBy(cloud.arrays, cloud.arrays.task.data[pointed])?.map((pixels) => (pixels * canvas.clientWidth) / canvas.width) ?? [0, 0];
  const covers = ([left, top]) => d3.range(0, 1.01, 0.1).filter((t) =>
    x + t * by[0] > left && x + t * by[0] < left + tip.offsetWidth && y + t * by[1] > top && y + t * by[1] < top + tip.offsetHeight).length;
  const places = d3.cross(lefts, tops).map(([left, top]) => [
    Math.max(0, Math.min(left, canvas.clientWidth - tip.offsetWidth)), Math.max(0, Math.min(top, canvas.clientHeight - tip.offsetHeight))]);
  const [left, top] = places[d3.minIndex(places, covers)];
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
}

/** Mark the next or the previous point, of the highlighted value if there is one, and of those that can be moved if a target is chosen. */
function point(by) {
  if (!cloud.arrays) return;
  const n = theSplit().n, value = values(cloud.arrays, look.state);
  let i = look.marked ?? (by > 0 ? -1 : n);
  for (let tries = 0; tries < n; tries++) {
    i = (i + by + n) % n;
    const isEdited = look.target === null || movedPoint(cloud.arrays, i) >= 0;
    if (isEdited && (look.lit === null || value[i] === look.lit)) break;
  }
  change({ marked: i });
}

let multiples = [];

function drawMultiples() {
  multiples.forEach((multiple) => multiple.remove());
  const ofRuns = look.multiples === "runs", ofSteps = look.multiples === "steps" && theRun().step_names !== null;
  const maps = ofRuns // in what each small map differs from the large one
    ? runsAt.map((_, run) => runNow(run)).map(({ splits, position, family }, run) => ({ run, position, family, split: splits.findIndex(({ name }) => name === theSplit().name) }))
        .filter(({ split, position, family }) => split >= 0 && position === theRun().position && family === theRun().family)
    : ofSteps ? theRun().steps.map((_, step) => ({ step })) : theRun().states.map((state) => ({ state }));
  multiples = [];
  fill("multiples", ...maps.map((choice) => {
    const canvas = make("canvas", { "aria-hidden": "true" }), label = make("span");
    const shown = () => ({ run: look.run, split: look.split, state: look.state, ...choice });
    const button = make("button", { type: "button", onclick: () => (ofRuns ? lookAt(choice.run) : go(choice)) }, label, canvas);
    const multiple = new Cloud(canvas, shown, 1.25);
    multiple.refresh = () => {
      const { run: index, split, state, step = look.step } = shown(), run = runNow(index);
      const score = run.scores[run.splits[split].name][state]?.ari?.[Math.min(step, run.steps.length - 1)]?.[0];
      label.textContent = `${ofRuns ? run.name : ofSteps ? stepName(step) : state} · ${fixed(score)}`;
      label.title = "ARI against the task";
      button.setAttribute("aria-pressed", String(ofRuns ? index === look.run : ofSteps ? step === look.step : state === look.state));
    };
    multiple.refresh();
    multiples.push(multiple);
    return button;
  }));
}

// -- which parts are drawn after which changes ------------------------------------------------------------------------------

/** Call `redraw` after changes of these keys, but only once the element is visible. */
function watchInSight(id, keys, redraw) {
  let stale = true, seen = false;
  const update = () => { if (stale && seen) { stale = false; redraw(); } };
  new IntersectionObserver(([entry]) => { seen = entry.isIntersecting; update(); }, { rootMargin: "200px" }).observe(byId(id));
  keys.push("wide", "painted");
  watch(keys, () => { stale = true; update(); });
  sections.push(() => { seen = true; update(); });
}

const sections = [];

/** Draw everything again in the colours of the theme. */
function repaint() {
  forgetColors();
  drawClouds();
  change({ painted: look.painted + 1 });
}

function drawHead() {
  const run = theRun(), { sizes } = run.world, { length: n } = run.steps;
  const contents = run.kind === "run" ? `${number(sizes.tasks)} tasks, ${number(sizes.inputs)} inputs, ${number(sizes.outputs)} outputs` : `${number(sizes.prompts)} prompts with ${number(sizes.labels)} labels`;
  const twin = run.step_names?.length === 2 && run.step_names[0] === "untrained";
  fill("subtitle", `Does the model sort what it reads by task? ${run.kind === "run" ? "A GPT-2 was trained on" : "A model was measured on"} ${contents}. ` +
    `There are ${run.step_names ? "" : `${number(n)} checkpoint${n > 1 ? "s" : ""} and `}${number(run.states.length)} hidden states${twin ? " of the model and of its untrained twin" : ""}; the seed is ${run.seed}.`);
  document.querySelectorAll(".series").forEach((element) => { element.hidden = run.step_names !== null; });
  document.querySelectorAll(".model").forEach((element) => { element.hidden = run.step_names === null; });
  byId("steps").hidden = run.step_names !== null && n === 1;
  options("split", run.splits.map(splitTitle));
  document.querySelectorAll(".of-families").forEach((element) => { element.hidden = !run.family; });
  for (const [key, label] of [["position", "positions"], ["family", "families"]]) {
    const values = distinct(run, key);
    byId(label).hidden = values.length === 1;
    byId(key).replaceChildren(...values.map((value) => make("option", { value }, value)));
  }
  byId("state").replaceChildren(...[...run.states].reverse().map((state) => make("option", { value: state }, state)));
  byId("color").querySelectorAll("input").forEach((input) => { input.parentElement.hidden = input.disabled = !colorings(run).includes(input.value); });
  byId("step").max = n - 1;
  byId("play").disabled = byId("step").disabled = n === 1;
}

function drawBar() {
  byId("run-name").value = look.run;
  byId("wrong").disabled = theSplit().arrays.right === undefined;
  byId("split").value = look.split;
  byId("position").value = theRun().position;
  byId("family").value = theRun().family;
  byId("state").value = look.state;
  byId("step").value = look.step;
  byId("step-name").textContent = theRun().step_names?.[look.step] ?? number(theRun().steps[look.step]);
  byId("step").setAttribute("aria-valuetext", stepName(look.step));
}

setUp();
watch(["theme"], () => {
  if (look.theme) document.documentElement.dataset.theme = look.theme;
  else delete document.documentElement.dataset.theme;
  byId("theme").textContent = look.theme || "system";
  byId("theme").setAttribute("aria-label", `Theme: ${look.theme || "as in the system"}`);
  repaint();
});
watch(["run", "family"], drawHead);
watch(["run", "position", "split", "state", "step"], drawBar);
watch(["run"], drawVerdict);
watch(["step"], () => { if (theStage()) drawVerdict(); });
setUpCloud();
watch(["run", "position", "split", "state", "step", "map", "color", "fit"], drawCloudTitle);
watch(["run", "position", "split", "state", "step", "color", "lit"], drawLegend);
watch(["run", "position", "split"], drawMoveTargets);
watch(["run", "position", "split", "state", "step", "map", "color", "lit", "marked", "target"], drawMovesNote);
watch(["run", "position", "split", "multiples"], drawMultiples);
watch(["run", "position", "split", "state", "step"], () => multiples.forEach((multiple) => multiple.refresh()));
watch(["run", "position", "split", "state", "at", "map", "color", "fit", "wrong", "lit", "marked", "target", "multiples"], drawClouds);
watchInSight("curves", ["run", "position", "state", "together"], drawCurves);
watchInSight("heat", ["run", "position", "split", "together"], drawHeat);
watchInSight("crossed", ["run", "position", "split", "step", "together"], drawCrossed);
watchInSight("shares", ["run", "position", "split", "step", "together"], drawShares);
watchInSight("contingency-title", ["run", "position", "split", "state", "step"], drawContingency);
watchInSight("order", ["run", "position", "split", "state"], drawOrder);
watch(["run", "position", "split"], drawEditChoices);
watchInSight("effects", ["run", "position", "split", "edit", "effect", "able", "together"], drawEffects);
watchInSight("effects-title", ["run", "position", "split", "state", "step", "edit", "effect", "able", "together"], drawEffectNumbers);
watchInSight("world", ["run"], drawWorld);
watchInSight("run", ["run"], drawRun);
watch(["step", "state"], moveMarks);

addEventListener("resize", () => change({ wide: innerWidth }));
addEventListener("beforeprint", () => {
  document.querySelectorAll("#verdicts details").forEach((details) => { details.open = true; });
  sections.forEach((draw) => draw());
  for (const cloud of clouds) cloud.draw();
});
