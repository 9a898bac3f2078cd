// The controls, the keys, the title and the bar.
"use strict";

const COLORINGS = ["task", "distribution", "cluster", "input", "output"]; // possible colourings of points

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
  fill("runs-shown", make("b", {}, "tasklens"), ` ${story.runs.map((run) => run.name).join(", ")}`);
  byId("run-name").addEventListener("change", (event) => lookAt(Number(event.target.value)));
  byId("position").addEventListener("change", (event) => change({ position: event.target.value, lit: null }));
  byId("family").addEventListener("change", (event) => change({ family: event.target.value, lit: null, marked: null, selected: null, target: null }));
  byId("split").addEventListener("change", (event) => go({ split: Number(event.target.value) }));
  byId("state").addEventListener("change", (event) => { if (playing && byLayers()) play(false); go({ state: event.target.value }); });
  byId("step").addEventListener("input", (event) => { if (playing) play(false); go({ step: Number(event.target.value) }); });
  byId("layer").addEventListener("input", (event) => { if (playing) play(false); go({ state: theRun().states[event.target.value] }); });
  byId("play").addEventListener("click", () => play());
  byId("fit").addEventListener("change", (event) => change({ fit: event.target.checked }));
  byId("names").addEventListener("change", (event) => change({ names: event.target.checked }));
  byId("wrong").addEventListener("change", (event) => change({ wrong: event.target.checked }));
  byId("target").addEventListener("change", (event) => change({ target: event.target.value === "" ? null : Number(event.target.value) }));
  byId("edit").addEventListener("change", (event) => change({ edit: event.target.value }));
  byId("able").addEventListener("change", (event) => change({ able: event.target.checked }));
  for (const key of ["fit", "names", "wrong", "able"]) watch([key], () => { byId(key).checked = look[key]; });
  byId("theme").addEventListener("click", () => change({ theme: { "": "dark", dark: "light", light: "" }[look.theme] }));
  choices("color", "color", COLORINGS.map((part) => [part, part]));
  choices("map", "map", MAPS);
  choices("effect", "effect", Object.entries(EFFECTS).map(([metric, [label]]) => [metric, label]));
  choices("together", "together", [["all", "all runs"], ["shown", "the shown run"]]);
  choices("many", "multiples", kindsOfMultiples());
  byId("many").hidden = byId("many").querySelectorAll("input").length === 1;
  setUpLegend();
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
    step, at: step, marked: null, selected: null, lit: null, target: null, color: colorings(next).includes(look.color) ? look.color : "task",
  });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, select, button, summary, a");
  if (event.target !== document.body && !event.target.closest("[data-keys]")) return;
  if (field && !["c", "m", "n", "p", ...Object.keys(toolKeys())].includes(event.key)) return;
  if (field?.matches("select, input[type=range], input[type=search]")) return;
  const states = theRun().states, state = states.indexOf(look.state), last = theRun().steps.length - 1;
  const byStep = theRun().steps.length > 1; // otherwise arrows to the left and the right change the hidden state
  const toState = (i) => go({ state: states[Math.max(0, Math.min(states.length - 1, i))] });
  const onPage = event.target === document.body; // then arrows up and down scroll the page
  const actions = {
    " ": () => play(),
    ArrowLeft: () => (byStep ? go({ step: Math.max(0, look.step - 1) }) : toState(state - 1)),
    ArrowRight: () => (byStep ? go({ step: Math.min(last, look.step + 1) }) : toState(state + 1)),
    Home: onPage ? null : () => (byStep ? go({ step: 0 }) : toState(0)),
    End: onPage ? null : () => (byStep ? go({ step: last }) : toState(states.length)),
    ArrowUp: onPage ? null : () => toState(state + 1),
    ArrowDown: onPage ? null : () => toState(state - 1),
    c: () => next("color", colorings(theRun())),
    m: () => next("map", MAPS.map(([map]) => map)),
    n: () => point(1),
    p: () => point(-1),
    ...toolKeys(),
    ...(event.shiftKey ? PANS : {}),
    Escape: () => { change({ marked: null, lit: null, selected: null, find: "" }); byId("tip").hidden = true; },
  };
  if (!actions[event.key]) return;
  if (playing && event.key.startsWith("Arrow") && !event.shiftKey) play(false);
  event.preventDefault();
  actions[event.key]();
}

function next(key, all) {
  choose(key, all[(all.indexOf(look[key]) + 1) % all.length]);
}

function drawHead() {
  const run = theRun(), { sizes } = run.world, { length: n } = run.steps;
  const contents = run.kind === "run" ? `${number(sizes.tasks)} tasks, ${number(sizes.inputs)} inputs, ${number(sizes.outputs)} outputs` : `${number(sizes.prompts)} prompts with ${number(sizes.labels)} labels`;
  fill("subtitle", `${run.kind === "run" ? "A GPT-2 was trained on" : "A model was measured on"} ${contents}. ` +
    `There are ${run.step_names ? "" : `${number(n)} checkpoint${n > 1 ? "s" : ""} and `}${number(run.states.length)} hidden states${hasTwin(run) ? " of the model and of its untrained twin" : ""}; the seed is ${run.seed}.`
    + (run.positions.some(({ position }) => position !== run.positions[0].position) ? ` The result is that of the first position, ${run.positions[0].position}.` : ""));
  document.querySelectorAll(".series").forEach((element) => { element.hidden = run.step_names !== null; });
  document.querySelectorAll(".model").forEach((element) => { element.hidden = run.step_names === null; });
  byId("steps").hidden = n === 1;
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
  byId("play").disabled = lastFrame() === 0;
  byId("step").disabled = n === 1;
  byId("layers").hidden = !byLayers();
  byId("layer").max = run.states.length - 1;
}

function drawBar() {
  byId("run-name").value = look.run;
  byId("wrong").disabled = theSplit().arrays.right === undefined;
  byId("split").value = look.split;
  byId("position").value = theRun().position;
  byId("family").value = theRun().family;
  byId("state").value = look.state;
  byId("step").value = look.step;
  byId("layer").value = theRun().states.indexOf(look.state);
  byId("layer").setAttribute("aria-valuetext", look.state);
  byId("step-name").textContent = theRun().step_names?.[look.step] ?? number(theRun().steps[look.step]);
  byId("step").setAttribute("aria-valuetext", stepName(look.step));
}
