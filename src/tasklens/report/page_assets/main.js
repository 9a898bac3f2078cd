// The controls, the keys, and what is drawn when.
"use strict";

const GLIDE = 450; // milliseconds from one checkpoint to another when it is chosen
const PACE = 700; // milliseconds a checkpoint when it plays
const COLORINGS = ["task", "cluster", "input", "output"]; // what points can be coloured by
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Look at another checkpoint, layer or split; points glide to a checkpoint that is near. */
function go(changes) {
  const from = look.at;
  change({ marked: changes.split !== undefined && changes.split !== look.split ? null : look.marked, ...changes });
  if (changes.step === undefined) return;
  const to = look.step, began = performance.now();
  if (playing || calm.matches) return void change({ at: to });
  const way = Math.max(from, to) - 1, begin = to > from ? Math.max(from, way) : Math.min(from, to + 1);
  gliding = (now) => {
    const t = Math.min(1, Math.max(0, (now - began) / GLIDE)); // a frame may have begun before the key was pressed
    change({ at: begin + (to - begin) * t });
    return t < 1;
  };
  run();
}

let gliding = null, playing = false, running = false;

/** Call what moves once a frame while anything does. */
function run() {
  if (running) return;
  running = true;
  let last = performance.now();
  const frame = (now) => {
    const passed = Math.min(100, Math.max(0, now - last)); // the first frame may have begun earlier; a hidden tab has none
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

/** Choose one of several; what is highlighted is a value of the colouring, and goes with it. */
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
  byId("which-run").hidden = story.runs.length === 1;
  document.querySelectorAll(".many").forEach((element) => { element.hidden = story.runs.length === 1; });
  byId("together").hidden = story.runs.length === 1 || !alike;
  options("run-name", story.runs.map((one) => `${one.name} (seed ${one.seed})`));
  fill("title", story.runs.map((one) => one.name).join(", "));
  byId("run-name").addEventListener("change", (event) => lookAt(Number(event.target.value)));
  byId("split").addEventListener("change", (event) => go({ split: Number(event.target.value) }));
  byId("state").addEventListener("change", (event) => go({ state: event.target.value }));
  byId("step").addEventListener("input", (event) => { if (playing) play(false); go({ step: Number(event.target.value) }); });
  byId("play").addEventListener("click", () => play());
  byId("fit").addEventListener("change", (event) => change({ fit: event.target.checked }));
  byId("wrong").addEventListener("change", (event) => change({ wrong: event.target.checked }));
  byId("theme").addEventListener("click", () => change({ theme: { "": "dark", dark: "light", light: "" }[look.theme] }));
  choices("color", "color", COLORINGS.map((part) => [part, part]));
  choices("map", "map", [["tsne", "t-SNE"], ["pca", "PCA"]]);
  choices("together", "together", [["all", "all runs"], ["one", "the run above"]]);
  choices("many", "multiples", [["layers", "all layers"], ["runs", "all runs"]]);
  addEventListener("keydown", onKey);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
}

/** Those of `COLORINGS` that a run has. */
const colorings = (one) => COLORINGS.filter((part) => part === "cluster" || one.names[part]);

/** Look at another run, at the same place as far as it has that. */
function lookAt(which) {
  const next = story.runs[which], split = next.splits.findIndex((one) => one.name === theSplit().name);
  const step = Math.min(look.step, next.steps.length - 1);
  play(false);
  change({
    run: which, split: Math.max(0, split), state: next.states.includes(look.state) ? look.state : next.best,
    step, at: step, marked: null, lit: null, color: colorings(next).includes(look.color) ? look.color : "task",
  });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, select, button, summary, a");
  if (event.target !== document.body && !event.target.closest("[data-keys]")) return;
  if (field && !["c", "m", "n", "p"].includes(event.key)) return;
  if (field?.matches("select, input[type=range]") ) return;
  const states = theRun().states, state = states.indexOf(look.state), last = theRun().steps.length - 1;
  const onPage = event.target === document.body; // where arrows up and down scroll
  const actions = {
    " ": () => play(),
    ArrowLeft: () => go({ step: Math.max(0, look.step - 1) }),
    ArrowRight: () => go({ step: Math.min(last, look.step + 1) }),
    Home: onPage ? null : () => go({ step: 0 }),
    End: onPage ? null : () => go({ step: last }),
    ArrowUp: onPage ? null : () => go({ state: states[Math.min(states.length - 1, state + 1)] }),
    ArrowDown: onPage ? null : () => go({ state: states[Math.max(0, state - 1)] }),
    c: () => next("color", colorings(theRun())),
    m: () => next("map", ["tsne", "pca"]),
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
  canvas.addEventListener("pointermove", (event) => tell(cloud.nearest(event.offsetX, event.offsetY)));
  canvas.addEventListener("pointerleave", () => tell(look.marked));
  canvas.addEventListener("click", (event) => {
    const found = cloud.nearest(event.offsetX, event.offsetY, 24);
    change({ marked: found === look.marked ? null : found });
    tell(found);
  });
  watch(["run", "split", "state", "step", "marked"], () => {
    tell(look.marked);
    byId("spoken").textContent = look.marked === null || playing ? "" : byId("tip").innerText;
  });
  watch(["at"], () => { if (pointed !== null && !byId("tip").hidden) placeTip(); });
}

/** Show what is known of a point beside it. */
function tell(i) {
  pointed = i;
  const tip = byId("tip");
  if (i === null || !cloud.arrays || i >= theSplit().n) {
    tip.hidden = true;
    return;
  }
  tip.replaceChildren(...tellPoint(cloud.arrays, i));
  tip.hidden = false;
  placeTip();
}

function placeTip() {
  const tip = byId("tip"), [x, y] = cloud.placeOf(pointed), canvas = byId("cloud");
  const right = x + 14 + tip.offsetWidth < canvas.clientWidth, below = y + 14 + tip.offsetHeight < canvas.clientHeight;
  tip.style.left = `${Math.max(0, right ? x + 14 : x - 14 - tip.offsetWidth)}px`;
  tip.style.top = `${Math.max(0, below ? y + 14 : y - 14 - tip.offsetHeight)}px`;
}

/** Mark the next point, or the one before, of those that are highlighted; and say what it is. */
function point(by) {
  if (!cloud.arrays) return;
  const n = theSplit().n, value = values(cloud.arrays, look.state);
  let i = look.marked ?? (by > 0 ? -1 : n);
  for (let tries = 0; tries < n; tries++) {
    i = (i + by + n) % n;
    if (look.lit === null || value[i] === look.lit) break;
  }
  change({ marked: i });
}

let multiples = [];

function drawMultiples() {
  multiples.forEach((one) => one.remove());
  const ofRuns = look.multiples === "runs" && story.runs.length > 1;
  const places = ofRuns
    ? story.runs.map((one, i) => ({ run: i, split: one.splits.findIndex((split) => split.name === theSplit().name), state: null }))
        .filter((place) => place.split >= 0)
    : theRun().states.map((state) => ({ run: null, split: null, state }));
  multiples = [];
  fill("multiples", ...places.map((place) => {
    const canvas = make("canvas", { "aria-hidden": "true" }), label = make("span");
    const here = () => ({ run: place.run ?? look.run, split: place.split ?? look.split, state: place.state ?? look.state });
    const button = make("button", { type: "button", onclick: () => (ofRuns ? lookAt(place.run) : go({ state: place.state })) }, label, canvas);
    const own = new Cloud(canvas, here, 1.25);
    own.refresh = () => {
      const { run: which, split, state } = here(), one = story.runs[which];
      const score = one.scores[one.splits[split].name][state]?.ari?.[Math.min(look.step, one.steps.length - 1)]?.[0];
      label.textContent = `${ofRuns ? one.name : layerName(state).replace(/,.*/, "")} · ${fixed(score)}`;
      label.title = "ARI against the task";
      button.setAttribute("aria-pressed", String(ofRuns ? which === look.run : state === look.state));
    };
    own.refresh();
    multiples.push(own);
    return button;
  }));
}

// -- what is drawn when ------------------------------------------------------------------------------

/** Have what follows the checkpoint drawn when it is in sight, and not before. */
function watchInSight(id, keys, redraw) {
  let stale = true, seen = false;
  const update = () => { if (stale && seen) { stale = false; redraw(); } };
  new IntersectionObserver(([entry]) => { seen = entry.isIntersecting; update(); }, { rootMargin: "200px" }).observe(byId(id));
  keys.push("wide", "painted");
  watch(keys, () => { stale = true; update(); });
  sections.push(() => { seen = true; update(); });
}

const sections = [];

/** Have everything drawn in the colours of the theme. */
function repaint() {
  forgetColors();
  drawClouds();
  change({ painted: look.painted + 1 });
}

function drawHead() {
  const one = theRun(), { sizes } = one.world;
  const what = one.kind === "run" ? `${number(sizes.tasks)} tasks, ${number(sizes.inputs)} inputs, ${number(sizes.outputs)} outputs` : `${number(sizes.prompts)} prompts with ${number(sizes.labels)} labels`;
  fill("subtitle", `Does the model sort what it reads by task? ${one.kind === "run" ? "A GPT-2 trained in a world of" : "A model probed on"} ${what}: ` +
    `${number(one.steps.length)} checkpoint${one.steps.length > 1 ? "s" : ""}, ${number(one.states.length)} layers, seed ${one.seed}.`);
  options("split", one.splits.map((split) => split.title));
  byId("state").replaceChildren(...[...one.states].reverse().map((state) => make("option", { value: state }, layerName(state))));
  byId("color").querySelectorAll("input").forEach((input) => { input.parentElement.hidden = input.disabled = !colorings(one).includes(input.value); });
  byId("step").max = one.steps.length - 1;
  byId("play").disabled = byId("step").disabled = one.steps.length === 1;
}

function drawBar() {
  byId("run-name").value = look.run;
  byId("wrong").disabled = theSplit().arrays.right === undefined;
  byId("split").value = look.split;
  byId("state").value = look.state;
  byId("step").value = look.step;
  const step = number(theRun().steps[look.step]);
  byId("step-name").textContent = step;
  byId("step").setAttribute("aria-valuetext", `step ${step}`);
}

setUp();
watch(["theme"], () => {
  if (look.theme) document.documentElement.dataset.theme = look.theme;
  else delete document.documentElement.dataset.theme;
  byId("theme").textContent = look.theme || "system";
  byId("theme").setAttribute("aria-label", `Theme: ${look.theme || "as the system says"}`);
  repaint();
});
watch(["run"], drawHead);
watch(["run", "split", "state", "step"], drawBar);
watch(["run"], drawVerdict);
setUpCloud();
watch(["run", "split", "state", "step", "map", "color", "fit"], drawCloudTitle);
watch(["run", "split", "state", "step", "color", "lit"], drawLegend);
watch(["run", "split", "multiples"], drawMultiples);
watch(["run", "split", "state", "step"], () => multiples.forEach((one) => one.refresh()));
watch(["run", "split", "state", "at", "map", "color", "fit", "wrong", "lit", "marked", "multiples"], drawClouds);
watchInSight("curves", ["run", "state", "together"], drawCurves);
watchInSight("heat", ["run", "split", "together"], drawHeat);
watchInSight("shares", ["run", "split", "step", "together"], drawShares);
watchInSight("contingency-title", ["run", "split", "state", "step"], drawContingency);
watchInSight("order", ["run", "split", "state"], drawOrder);
watchInSight("world", ["run"], drawWorld);
watchInSight("run", ["run"], drawRun);
watch(["step", "state"], moveMarks);

addEventListener("resize", () => change({ wide: innerWidth }));
addEventListener("beforeprint", () => {
  document.querySelectorAll("#findings details").forEach((details) => { details.open = true; });
  sections.forEach((draw) => draw());
  for (const one of clouds) one.draw();
});
