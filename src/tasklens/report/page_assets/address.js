// What a reader chose, in the address of the page: `#step=900&state=block5`, with names instead of numbers.
"use strict";

const WRITTEN_AFTER = 300; // milliseconds after a change: browsers limit how often an address may change

/** Whether the address names what is shown. Without "=" it is that of a section. */
const addressGiven = (hash = location.hash) => hash.includes("=");

/** Return how a choice is written as one of some names; `names` returns them in the order of the choice's numbers. */
const byName = (names) => ({
  write: (value) => (value === null ? "" : names()[value] ?? ""),
  read: (text) => { const value = names().indexOf(text); return value < 0 ? undefined : value; },
});
const oneOf = (names) => ({ write: (value) => value ?? "", read: (text) => (names().includes(text) ? text : undefined) });
const oneOfInputs = (id) => oneOf(() => [...byId(id).querySelectorAll("input")].map((input) => input.value));
const flag = { write: String, read: (text) => ({ true: true, false: false })[text] };
const numbersOf = (text) => text.split(",").map(Number);
const isPoint = (i) => Number.isInteger(i) && i >= 0 && i < theSplit().n;
/** Return a value if its text is not empty and it is valid; an empty text is null. */
const unlessEmpty = (text, value, valid) => (text === "" ? null : valid ? value : undefined);

/** The keys of `look` in the address, in an order in which each can be read with those before it. */
const IN_ADDRESS = {
  run: byName(() => story.runs.map(({ name }, i, all) => (all.findIndex((run) => run.name === name) === i ? name : `${name} (${i + 1})`))),
  position: oneOf(() => distinct(theRun(), "position")),
  family: oneOf(() => distinct(theRun(), "family")),
  split: byName(() => theRun().splits.map(({ name }) => name)),
  state: oneOf(() => theRun().states),
  step: {
    write: (step) => (step === theRun().steps.length - 1 ? "" : stepNames()[step]),
    read: (text) => { const step = text === "" ? theRun().steps.length - 1 : stepNames().indexOf(text); return step < 0 ? undefined : step; },
  },
  map: oneOfInputs("map"),
  color: oneOf(() => colorings(theRun())),
  lit: {
    write: (value) => (value === null ? "" : valueName(value)),
    read: (text) => (text === "" ? null : d3.range(theSplit().n + valueNames().length).find((value) => valueName(value) === text)),
  },
  find: { write: String, read: String },
  selected: { // what was found by a search is found again
    write: (points) => (points && !look.find ? points.join() : ""),
    read: (text) => unlessEmpty(text, numbersOf(text), numbersOf(text).every(isPoint)),
  },
  marked: { write: (i) => i ?? "", read: (text) => unlessEmpty(text, Number(text), isPoint(Number(text))) },
  target: {
    write: (task) => (task === null ? "" : theRun().names.task[task]),
    read: (text) => { const task = theRun().names.task.indexOf(text); return unlessEmpty(text, task, theMoves()?.tasks.includes(task)); },
  },
  zoom: {
    write: ({ k, x, y }) => [k, x, y].map((value) => +value.toFixed(3)).join(),
    read: (text) => { const [k, x, y] = numbersOf(text); return [k, x, y].every(Number.isFinite) ? withinLimits({ k, x, y }) : undefined; },
  },
  beside: { // state|step|run: what is that of the first map is empty
    write: (beside) => (beside === null ? "" : [beside.state ?? "", beside.step === null ? "" : stepNames(runNow(beside.run))[beside.step], IN_ADDRESS.run.write(beside.run)].join("|")),
    read: (text) => unlessEmpty(text, besideOf(text), besideOf(text)),
  },
  fit: flag,
  names: flag,
  wrong: flag,
  edit: oneOf(() => Object.keys(theEdits()?.effects ?? { [look.edit]: 0 })),
  effect: oneOfInputs("effect"),
  able: flag,
  together: oneOfInputs("together"),
  multiples: oneOfInputs("many"),
  theme: oneOf(() => ["", "light", "dark"]),
};

/** Return the checkpoints of a run, by default the shown one, as they are written: training steps or names of models. */
const stepNames = (run = theRun()) => run.step_names ?? run.steps.map(String);

/** Return what a second map shows by its text in the address; null if the page does not have it. */
function besideOf(text) {
  const [state, step, ...name] = text.split("|"), run = IN_ADDRESS.run.read(name.join("|")), other = run === undefined ? null : runNow(run);
  const at = step === "" ? null : stepNames(other ?? theRun()).indexOf(step);
  if (!other || at === -1 || (state !== "" && !other.states.includes(state))) return null;
  return { run, split: Math.max(0, other.splits.findIndex(({ name: each }) => each === theSplit().name)), state: state || null, step: at };
}

let usual = null; // the texts of the first choices, which an address leaves out

/** Return what differs from the first choices, as an address without its "#". */
function addressNow() {
  const given = new URLSearchParams();
  for (const [key, { write }] of Object.entries(IN_ADDRESS)) {
    const text = String(write(look[key]));
    if (text !== usual[key]) given.set(key, text);
  }
  return String(given).replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%7C", "|"); // as easy to read as possible
}

/** Show what the address names; a notice names what this page does not have. */
function readAddress(hash) {
  const given = new URLSearchParams(hash.slice(1)), before = { ...look };
  const unknown = [...given.keys()].filter((key) => !(key in IN_ADDRESS));
  for (const [key, { read }] of Object.entries(IN_ADDRESS)) {
    const value = read(given.get(key) ?? usual[key]) ?? undefined;
    if (value === undefined && given.get(key)) unknown.push(key);
    // What the first run has, another may lack.
    look[key] = value ?? read(usual[key]) ?? (key === "state" ? theRun().best : key === "position" || key === "family" ? theRun()[key] : key === "split" ? 0 : null);
  }
  const wanted = { ...look, at: look.step, depth: null };
  Object.assign(look, before);
  play(false);
  change(wanted);
  if (unknown.length) notify(`The address asks for what this page does not have: ${unknown.map((key) => `${key}=${given.get(key)}`).join(", ")}.`, true);
}

let written = 0;

/** Write the choices into the address, after a moment and not while the page plays. */
function writeAddress() {
  written ||= setTimeout(() => {
    written = 0;
    if (playing) writeAddress();
    else putAddress();
  }, WRITTEN_AFTER);
}

function putAddress() {
  const text = addressNow(), page = location.href.split("#")[0];
  if (text === location.hash.slice(1) || (!text && !addressGiven())) return;
  try {
    history.replaceState(history.state, "", text ? `${page}#${text}` : page);
  } catch {
    // A page inside another one may not change its address.
  }
}

function setUpAddress() {
  usual = Object.fromEntries(Object.entries(IN_ADDRESS).map(([key, { write }]) => [key, String(write(look[key]))]));
  if (addressGiven()) readAddress(location.hash);
  addEventListener("hashchange", ({ newURL }) => { // `location` may have been written since
    const { hash } = new URL(newURL);
    if (addressGiven(hash)) readAddress(hash);
  });
  byId("copy-link").addEventListener("click", copyLink);
  watch([...Object.keys(IN_ADDRESS), "at", "depth"], writeAddress);
}

async function copyLink() {
  putAddress();
  try {
    await navigator.clipboard.writeText(location.href);
    notify("The link is copied.");
  } catch {
    notify(`The browser does not let the page copy. The link is ${location.href}`, true);
  }
}

// -- notices ---------------------------------------------------------------------------------------

let hiding = 0;

/** Show a line at the edge of the window, for some seconds or until it is closed. */
function notify(text, stays = false) {
  clearTimeout(hiding);
  const close = () => { byId("notice").hidden = true; };
  fill("notice", text, " ", make("button", { type: "button", onclick: close }, "close"));
  byId("notice").hidden = false;
  if (!stays) hiding = setTimeout(close, 5000);
}
