// The legend of the maps: the values of the colouring, with their counts.
"use strict";

// Of more values than `most`, `few` are listed, those with the most points, and the others can be searched for.
const LISTED = { most: 60, few: 24 };
const SYMBOLS = COLORS * SHAPES.length;

/** Return the names of the values of the colouring. */
function valueNames() {
  const run = theRun();
  return look.color === "cluster" ? run.names.task.map((task) => `cluster of ${task}`) : run.names[look.color];
}

const valueName = (value) => valueNames()[value] ?? `cluster of no task (${value - theRun().names.task.length + 1})`;

/** Return the sentence on the number of symbols if values share them; null otherwise. */
function symbolsNote() {
  const n = look.color === "cluster" ? 0 : valueNames().length;
  return n > SYMBOLS ? `There are ${SYMBOLS} symbols for ${number(n)} ${look.color}s: several ${look.color}s share each of them.` : null;
}

let sought = ""; // what is searched for in a long legend

async function drawLegend() {
  const arrays = await arraysNow();
  if (!arrays) return;
  const counts = d3.rollup(values(arrays, look.state), (all) => all.length, (value) => value);
  const shown = `${look.run} ${look.position} ${look.family} ${look.color} ${look.lit} ${sought} ${[...counts]}`;
  if (byId("legend").dataset.shown === shown) return;
  byId("legend").dataset.shown = shown;
  const present = d3.sort(counts.keys()), isLong = present.length > LISTED.most, focused = document.activeElement?.closest("#legend button")?.value;
  byId("legend-search").hidden = !isLong;
  if (!isLong) sought = byId("sought").value = "";
  byId("sought").placeholder = `${number(present.length)} ${look.color}s`;
  const lower = sought.toLowerCase(), matching = present.filter((value) => valueName(value).toLowerCase().includes(lower));
  const listed = isLong ? d3.sort(d3.sort(matching, (value) => -counts.get(value)).slice(0, LISTED.few)) : matching;
  if (look.lit !== null && counts.has(look.lit) && !listed.includes(look.lit)) listed.unshift(look.lit);
  const first = [Number(focused ?? NaN), look.lit].find((value) => listed.includes(value)) ?? listed[0]; // the stop of the tab key
  const more = matching.filter((value) => !listed.includes(value)).length;
  fill("legend", ...listed.map((value) => make("button", {
    type: "button", value, "aria-pressed": String(look.lit === value), tabindex: value === first ? 0 : -1,
    title: `${valueName(value)}: ${counts.get(value)} points`, onclick: () => change({ lit: look.lit === value ? null : value }),
  }, swatch(value, look.color), make("span", { class: "name" }, valueName(value)), make("span", { class: "count", "aria-hidden": "true" }, number(counts.get(value))))));
  const rest = !listed.length ? `No ${look.color} has this in its name.` : more ? `and ${number(more)} more` : null;
  fill("legend-note", [rest, symbolsNote()].filter(Boolean).join(". "));
  if (focused !== undefined) (byId("legend").querySelector(`[value="${focused}"]`) ?? byId("legend").firstElementChild)?.focus();
}

/** Set up the keys of the legend, which is one stop of the tab key: arrows go from value to value. */
function setUpLegend() {
  byId("sought").addEventListener("input", (event) => { sought = event.target.value; drawLegend(); });
  byId("legend").addEventListener("keydown", (event) => {
    const buttons = [...byId("legend").children], last = buttons.length - 1, i = buttons.indexOf(event.target);
    const to = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: last }[event.key];
    if (to === undefined || i < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const next = buttons[Math.max(0, Math.min(last, to))];
    buttons.forEach((button) => { button.tabIndex = button === next ? 0 : -1; });
    next.focus();
  });
}
