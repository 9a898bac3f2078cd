// What the page is told, what is looked at, and who wants to know when that changes.
"use strict";

const story = JSON.parse(document.getElementById("story").textContent);

const look = {
  run: 0,
  split: Math.min(1, story.runs[0].splits.length - 1),
  state: story.runs[0].best,
  step: story.runs[0].steps.length - 1, // which checkpoint
  at: story.runs[0].steps.length - 1, // the same while it glides there: any number between two
  color: "task",
  map: "tsne",
  fit: true,
  wrong: false, // whether what is answered right is dimmed
  lit: null, // the value that is highlighted
  marked: null, // the point that is marked
  together: "all", // whether scores are those of all runs, or of "one"
  multiples: "layers",
  theme: "", // "light", "dark", or as the system says
  wide: innerWidth, // of the window: what is as wide as it is drawn anew when this changes
  painted: 0, // how often the colours have changed
};

const watchers = [];

/** Have `redraw` called now and whenever one of the keys of `look` has changed. */
function watch(keys, redraw) {
  watchers.push({ keys, redraw });
  redraw();
}

function change(changes) {
  const changed = Object.keys(changes).filter((key) => look[key] !== changes[key]);
  Object.assign(look, changes);
  for (const { keys, redraw } of watchers) if (changed.some((key) => keys.includes(key))) redraw();
}

const theRun = () => story.runs[look.run];
const theSplit = () => theRun().splits[look.split];
const theScores = () => theRun().scores[theSplit().name];

/** Runs that hold the same checkpoints, layers and splits: they can be averaged. */
const alike = story.runs.every((run) =>
  ["steps", "states"].every((key) => String(run[key]) === String(story.runs[0][key])) &&
  String(run.splits.map((split) => split.name)) === String(story.runs[0].splits.map((split) => split.name)));

/** The score of a line by step over the runs that are asked for: [mean, low, high] or null. */
function course(split, line, metric) {
  const runs = alike && look.together === "all" ? story.runs : [theRun()];
  const each = runs.map((run) => run.scores[split]?.[line]?.[metric]).filter(Boolean);
  if (!each.length) return null;
  return each[0].map((_, i) => {
    const here = each.map((values) => values[i]).filter((value) => value && value[0] !== null);
    if (!here.length) return null;
    return [
      here.reduce((sum, value) => sum + value[0], 0) / here.length,
      Math.min(...here.map((value) => value[1])),
      Math.max(...here.map((value) => value[2])),
    ];
  });
}

// -- elements: text is always text ---------------------------------------------------------------

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

const LAYERS = { wte: "word embedding", embed: "layer 0, word + position", ln_f: "final norm" };
const layerName = (state) => LAYERS[state] ?? state.replace(/^block(\d+)$/, "block $1");
const shortName = (state) => state === "embed" ? "0" : state.replace(/^block/, "");
