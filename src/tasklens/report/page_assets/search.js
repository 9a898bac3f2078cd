// The search for points by their texts, and the keys of the tools.
"use strict";

/** Return the terms of a search: words, "several words" in quotes, or FIELD:VALUE of a whole value. */
function termsOf(text) {
  return [...text.toLowerCase().matchAll(/(?:(instruction|task|distribution|input|output|answer|cluster):)?(?:"([^"]*)"?|(\S+))/g)]
    .map(([, field, quoted, word]) => ({ field, value: quoted ?? word })).filter(({ value }) => value);
}

/** Return the points in which all terms of a search occur. */
function pointsWith(arrays, text) {
  const terms = termsOf(text);
  return d3.range(theSplit().n).filter((i) => {
    const { right, cluster, ...facts } = factsOf(arrays, i), all = Object.values(facts).map((value) => value.toLowerCase());
    return terms.every(({ field, value }) => (field ? ({ ...facts, cluster })[field]?.toLowerCase() === value : all.some((fact) => fact.includes(value))));
  });
}

/** Select the points that match the search. */
async function search() {
  if (byId("find").value.trim() !== look.find) byId("find").value = look.find;
  if (!look.find) return void fill("matches");
  const text = look.find, arrays = await arraysNow();
  if (!arrays || text !== look.find) return;
  const selected = pointsWith(arrays, text);
  if (String(selected) !== String(look.selected)) change({ selected });
  fill("matches", selected.length ? `${number(selected.length)} of ${number(theSplit().n)} points` : "no point matches");
}

/** Mark the next or the previous of the selected points. */
function stepThrough(by) {
  const { selected, marked } = look;
  if (!selected?.length) return;
  const after = by > 0 ? selected.find((i) => i > (marked ?? -1)) : selected.findLast((i) => i < (marked ?? Infinity));
  const next = after ?? selected.at(by > 0 ? 0 : -1);
  change({ marked: next });
  reveal(next);
  fill("matches", `${number(selected.indexOf(next) + 1)} of ${number(selected.length)}`);
}

function setUpSearch() {
  const field = byId("find");
  field.addEventListener("input", () => {
    const find = field.value.trim();
    change(find ? { find } : { find, selected: null });
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") stepThrough(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") {
      change({ find: "", selected: null });
      byId("cloud").focus();
    } else return;
    event.preventDefault();
  });
  watch(["find", "run", "position", "family", "split", "state", "step"], search);
}

// -- keys ------------------------------------------------------------------------------------------

/** Return the actions of the tools by key. */
const toolKeys = () => ({
  "+": () => zoomBy(ZOOM_STEP),
  "=": () => zoomBy(ZOOM_STEP),
  "-": () => zoomBy(1 / ZOOM_STEP),
  0: () => zoomTo(UNZOOMED),
  l: () => change({ lasso: !look.lasso }),
  "/": () => byId("find").focus(),
  "?": () => byId("help").showModal(),
});
/** The actions of arrows with Shift, which move the map. */
const PANS = {
  ArrowLeft: () => panBy(PAN_STEP, 0), ArrowRight: () => panBy(-PAN_STEP, 0),
  ArrowUp: () => panBy(0, PAN_STEP), ArrowDown: () => panBy(0, -PAN_STEP),
};

function setUpTools() {
  setUpZoom();
  setUpLasso();
  setUpSearch();
  setUpSaving();
  byId("show-help").addEventListener("click", () => byId("help").showModal());
  watch(["run", "position", "family", "split", "state", "step", "selected"], drawSelected);
  watch(["run", "position", "family", "split", "state", "step", "map", "marked"], drawNearest);
}
