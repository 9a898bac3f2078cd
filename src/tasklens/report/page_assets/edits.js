// The section on use: heat maps of ARI and of the effect of an edit, and their numbers at a checkpoint.
"use strict";

const EDITS = {
  shift: "The difference of the centroids of both tasks is added to the hidden state.",
  swap: "What lies in the span of the centroids is replaced by the other centroid.",
  patch: "A real state of the other task with the same input, but another instruction, is put in its place: the ceiling.",
  patch_span: "Of a real state of the other task, only what lies in the span of the centroids is taken.",
  patch_rest: "Of a real state of the other task, only what lies outside the span of the centroids is taken.",
  third: "Control: the shift goes to a third task, and is scored against the answers of the other.",
  random: "Control: a random direction of the length of the shift is added. This is the floor.",
  within: "Control: the difference of two states of the same task is added, at the length of the shift.",
  shuffled: "Control: a shift between centroids of shuffled labels.",
  unembedding: "Control: the difference of the two answers' unembeddings is added.",
  erase: "What lies in the span of the centroids is made the same for all tasks.",
  erase_random: "Control: a random subspace of the dimension of the span is erased.",
  erase_within: "Control: the leading subspace within tasks, of the dimension of the span, is erased.",
};
const EDIT_ROLES = { patch: " (ceiling)", random: " (floor)", third: " (control)", within: " (control)", shuffled: " (control)", unembedding: " (control)", erase_random: " (control)", erase_within: " (control)" };
const EFFECTS = {
  becomes: ["becomes", "share of answers that become the other task's"],
  becomes_normalised: ["normalised", "share that becomes the other task's, from random directions (0) to a patch (1)", " It is that of pairs that the model can do, and not known if the patch does little more than random directions."],
  stays: ["stays", "share of answers that stay the own task's"],
  third: ["third", "share of answers that become a third task's"],
  logit_change: ["logits", "change of the other answer's logit minus that of the own answer's"],
};

// Columns of the table of all hidden states: name, edit and metric.
const COLUMNS = [
  ["shift becomes", "shift", "becomes"], ["patch becomes", "patch", "becomes"], ["random becomes", "random", "becomes"],
  ["shift normalised", "shift", "becomes_normalised"], ["shift stays", "shift", "stays"], ["random stays", "random", "stays"],
  ["erase stays", "erase", "stays"], ["errors repaired", "repair", "right"], ["errors repaired by random", "repair_random", "right"],
  ["AUROC of errors by distance", "distance", "auroc"],
];

/** Return the edits of the split; undefined if there are none. */
const theEdits = () => theRun().edits?.splits[theSplit().name];

const OVER_PAIRS = ["becomes", "stays", "third", "logit_change"];

/** Return the name of a metric over the chosen pairs. */
const effectName = (metric) => (look.able && OVER_PAIRS.includes(metric) ? `${metric}_able` : metric);

/** Return an effect at the checkpoints with edits, mean over the chosen runs, with null for what is unknown. */
function effectCourse(edit, metric, state) {
  const { steps } = theRun().edits, split = theSplit().name;
  const chosen = chosenRuns().some((run) => String(run.edits?.steps) !== String(steps)) ? [theRun()] : chosenRuns();
  const each = chosen.map((run) => run.edits.splits[split]?.effects[edit]?.[metric]?.[state]);
  return steps.map((_, e) => {
    const known = each.map((values) => values?.[e] ?? null).filter((value) => value !== null);
    return known.length ? d3.mean(known) : null;
  });
}

function drawEditChoices() {
  const edits = theEdits(), any = theRun().edits !== null;
  byId("edits").hidden = !edits;
  fill("no-edits", edits ? null : any
    ? `No hidden states of ${splitTitle(theSplit())} were edited: the centroids are those of this split. Choose another one.`
    : make("span", {}, "No hidden states of this run were edited. ", make("code", {}, "tasklens intervene RUN"), " edits them, and then ",
      make("code", {}, "tasklens report RUN"), " shows the effects."));
  if (!edits) return;
  const known = Object.keys(edits.effects).filter((edit) => "becomes" in edits.effects[edit]).sort((a, b) => order(a) - order(b));
  byId("edit").replaceChildren(...known.map((edit) => make("option", { value: edit }, `${edit}${EDIT_ROLES[edit] ?? ""}`)));
  if (!known.includes(look.edit)) change({ edit: known[0] });
}

/** Return the place of an edit in the list; edits of the user come last. */
const order = (edit) => (edit in EDITS ? Object.keys(EDITS).indexOf(edit) : Infinity);

/** Draw the heat maps of the ARI and of the effect, at the checkpoints with edits. */
function drawEffects() {
  const run = theRun(), split = theSplit();
  byId("edit").value = look.edit;
  byId("able").disabled = look.effect === "becomes_normalised";
  if (!theEdits()) return void fill("effects");
  const { steps } = run.edits, wide = byId("effects").clientWidth || 1000, width = Math.floor(wide / (wide < 640 ? 1 : 2));
  const [, title] = EFFECTS[look.effect], metric = effectName(look.effect);
  const cellsOf = (values) => run.states.flatMap((state) => steps.map((step, e) => ({ state, step, value: values(state)?.[e] ?? null })));
  const ari = cellsOf((state) => { const all = course(split.name, state, "ari", overFamilies); return all && steps.map((step) => all[step]?.[0] ?? null); });
  const effects = cellsOf((state) => effectCourse(look.edit, metric, state));
  const values = effects.map((cell) => cell.value).filter((value) => value !== null);
  const logits = { ...SHARE, domain: [Math.min(0, d3.min(values) ?? 0), Math.max(1, d3.max(values) ?? 1)] };
  const color = look.effect === "logit_change" ? logits : SHARE;
  const map = (options) => heatMap({ width, checkpoints: steps, numbers: true, ...options });
  const describe = (what) => (cell) => `${cell.state}, ${stepName(cell.step)}\n${what}: ${fixed(cell.value, 3)}`;
  const highest = d3.greatest(effects, (cell) => cell.value ?? -Infinity);
  fill("edit-note", `${EDITS[look.edit] ?? "An edit of yours."} Shown is the ${title}.${EFFECTS[look.effect][2] ?? ""}` +
    (values.length ? ` The largest is ${fixed(highest.value)}, in ${highest.state} ${atStep(highest.step)}.` : ""));
  fill("effects",
    map({ title: "ARI of the clusters against the task", cells: ari, describe: describe("ARI"), ariaLabel: `ARI against the task by hidden state and checkpoint with edits, on ${splitTitle(split)}` }),
    map({ title: `${look.edit}: ${(title.length + look.edit.length) * 7 > width - 70 ? EFFECTS[look.effect][0] : title}`, cells: effects, color, describe: describe(`${look.edit}, ${title}`),
      ariaLabel: `${look.edit}: ${title}, by hidden state and checkpoint, on ${splitTitle(split)}` }),
    legend({ color: SHARE, label: "ARI, share", width: 180 }),
    color === SHARE ? null : legend({ color, label: "logits", width: 180 }));
}

/** Describe the shown cell in words, and write the numbers of the nearest checkpoint with edits as a table. */
function drawEffectNumbers() {
  const run = theRun(), split = theSplit();
  if (!theEdits()) return;
  const { steps } = run.edits, e = d3.leastIndex(steps, (a, b) => Math.abs(a - look.step) - Math.abs(b - look.step));
  const step = stepName(steps[e]), [pairs, able] = theEdits().pairs[e];
  const value = (edit, metric, state) => fixed(effectCourse(edit, metric, state)[e]);
  const ari = (state) => fixed(course(split.name, state, "ari", overFamilies)?.[steps[e]]?.[0]);
  fill("effect-shown", steps[e] === look.step
    ? `${look.state}, ${step}: ARI ${ari(look.state)}; ${look.edit}, ${EFFECTS[look.effect][1]}: ${value(look.edit, effectName(look.effect), look.state)}. `
    : `There are no edits ${atStep(look.step)}. There are some ${listed(steps.map((i) => atStep(i)))}. `,
    `Pairs of an instance and another task ${atStep(steps[e])}: ${number(pairs)}; the model can do both tasks of ${number(able)}.`);
  const rows = COLUMNS.filter(([, edit]) => edit in theEdits().effects)
    .map(([name, edit, metric]) => [name, (state) => value(edit, effectName(metric), state)]);
  fill("effects-title", `All hidden states ${atStep(steps[e])}, ${splitTitle(split)}`);
  const columns = [["ARI", ari], ...rows];
  fill("effects-table", make("table", { class: "cells" },
    make("thead", {}, make("tr", {}, make("th"), ...columns.map(([name]) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...[...run.states].reverse().map((state) => make("tr", {}, make("th", { scope: "row" }, state),
      ...columns.map(([, cell]) => make("td", {}, cell(state))))))));
}
