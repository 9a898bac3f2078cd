// The data of the page, what is shown of them, and the functions that draw it again after a change.
"use strict";

const story = JSON.parse(document.getElementById("story").textContent);

/** Each run at each of its measured positions, with each of its families of tasks. */
const runsAt = story.runs.map((run) => run.positions.map((at) => ({ ...run, ...at })));

const UNZOOMED = { k: 1, x: 0, y: 0 }; // the zoom that shows the whole map

const look = {
  run: 0,
  position: runsAt[0][0].position,
  family: runsAt[0][0].family, // the family of tasks whose points are shown; empty if all tasks are one
  split: Math.min(1, runsAt[0][0].splits.length - 1),
  state: runsAt[0][0].best,
  step: story.runs[0].steps.length - 1, // index of the checkpoint
  at: story.runs[0].steps.length - 1, // the same, but between two checkpoints while points glide
  depth: null, // between the indices of two hidden states while points glide from one to the other
  color: "task",
  map: "tsne",
  fit: true,
  names: true, // whether groups of points are named on the large map
  wrong: false, // whether points with a right answer are dimmed
  lit: null, // the value that is highlighted
  marked: null, // the point that is marked
  selected: null, // the points that are selected; all others are dimmed
  find: "", // the search by which they were selected
  zoom: UNZOOMED,
  lasso: false, // whether a drag on the map selects instead of moving it
  target: null, // the task to which points are moved
  edit: "shift",
  effect: "becomes",
  able: false, // whether effects are those of pairs that the model can do
  together: "all", // scores are those of "all" runs, or of the run that is "shown"
  // Of several trained models the small maps are those of all models, side by side.
  multiples: story.runs[0].step_names?.filter((name) => name !== "untrained").length > 1 ? "steps" : "states",
  beside: null, // what the second map shows, {run, split, state, step}; a step of null is that of the first map
  theme: "", // "light", "dark", or empty: as in the system
  wide: innerWidth, // width of the window; what depends on it is drawn again when it changes
  painted: 0, // how often the colours have changed
};

const watchers = [];

/** Call `redraw` now, and after each change of one of these keys of `look`. */
function watch(keys, redraw) {
  watchers.push({ keys, redraw });
  redraw();
}

function change(changes) {
  const changed = Object.keys(changes).filter((key) => look[key] !== changes[key]);
  Object.assign(look, changes);
  if (changed.includes("family")) changed.push("position"); // another family has other points and scores
  for (const { keys, redraw } of watchers) if (changed.some((key) => keys.includes(key))) redraw();
}

/** Return the index of the shown position and family among those of a run; the first if the run does not have it. */
const positionIn = (run) => Math.max(0,
  runsAt[run].findIndex(({ position }) => position === look.position),
  runsAt[run].findIndex(({ position, family }) => position === look.position && family === look.family));
/** Return a run at the shown position. */
const runNow = (run) => runsAt[run][positionIn(run)];
const theRun = () => runNow(look.run);
const theSplit = () => theRun().splits[look.split];
const theScores = () => theRun().scores[theSplit().name];

/** Return the distinct positions or families of a run. */
const distinct = (run, key) => [...new Set(run.positions.map((at) => at[key]))];

/** Whether all runs have the same checkpoints, hidden states and splits, so that they can be averaged. */
const alike = runsAt.every(([run]) =>
  ["steps", "states"].every((key) => String(run[key]) === String(runsAt[0][0][key])) &&
  String(run.splits.map((split) => split.name)) === String(runsAt[0][0].splits.map((split) => split.name)));

/** Return the runs whose scores are shown, all at the shown position. */
function chosenRuns() {
  const together = alike && look.together === "all" ? runsAt.map((_, run) => runNow(run)) : [theRun()];
  return together.filter(({ position, family }) => position === theRun().position && family === theRun().family); // never over several
}

/** Return what the checkpoint with an index is called: its training step, or the name of a model. */
const stepName = (i, run = theRun()) => run.step_names?.[i] ?? `step ${number(run.steps[i])}`;
/** Return the same within a sentence. */
const atStep = (i, run = theRun()) => (run.step_names ? `of the ${run.step_names[i]} model` : `at step ${number(run.steps[i])}`);

/** Whether a run is of one model and its untrained twin. */
const hasTwin = (run = theRun()) => run.step_names?.length === 2 && run.step_names[0] === "untrained";

/** Return the scores of a run over all families of tasks. */
const overFamilies = (run) => run.means ?? run.scores;

/** Return the scores of a line by step over the chosen runs, by default in the shown family: [mean, low, high] or null each. */
function course(split, line, metric, scoresOf = (run) => run.scores) {
  const each = chosenRuns().map((run) => scoresOf(run)[split]?.[line]?.[metric]).filter(Boolean);
  if (!each.length) return null;
  return each[0].map((_, i) => {
    const known = each.map((values) => values[i]).filter((value) => value && value[0] !== null);
    if (!known.length) return null;
    return [
      known.reduce((sum, value) => sum + value[0], 0) / known.length,
      Math.min(...known.map((value) => value[1])),
      Math.max(...known.map((value) => value[2])),
    ];
  });
}

// -- elements: strings become text, never markup ---------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null).map((child) => child instanceof Node ? child : String(child)));
  return element;
}

const byId = (id) => document.getElementById(id);
const fill = (id, ...children) => byId(id).replaceChildren(...children.filter((child) => child !== null));
const number = (value) => value.toLocaleString("en-US");
const fixed = (value, digits = 2) => value === null || value === undefined ? "–" : value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1");

/** Return the name of a split and, if it is a split of a training run, what it is. */
const splitTitle = (split) => split.meaning ? `${split.name} (${split.meaning})` : split.name;
