// The small maps: of all hidden states, of checkpoints through training, of all models, or of all runs.
"use strict";

const MOST_CHECKPOINTS = 6; // as `tasklens.figure_forming` shows by default

let multiples = [];

/** Return the kinds of small maps that some run has, with their names: [key, label] each. */
function kindsOfMultiples() {
  const longest = d3.max(story.runs.filter(isTraining), (run) => run.steps.length) ?? 0;
  return [
    ["states", "all hidden states"],
    ...(longest > 1 ? [["checkpoints", `${Math.min(longest, MOST_CHECKPOINTS)} checkpoints`]] : []),
    ...(story.runs.some((run) => run.step_names?.length > 1) ? [["steps", "all models"]] : []),
    ...(story.runs.length > 1 ? [["runs", "all runs"]] : []),
  ];
}

/** Whether the checkpoints of a run are those of a training, and not models with names. */
const isTraining = (run) => run.step_names === null && run.steps.length > 1;

/** Return in what each small map differs from the large one. */
function choicesOfMultiples() {
  const run = theRun(), { length } = run.steps;
  if (look.multiples === "runs") return runsAt.map((_, i) => runNow(i))
    .map(({ splits, position, family }, i) => ({ run: i, position, family, split: splits.findIndex(({ name }) => name === theSplit().name) }))
    .filter(({ split, position, family }) => split >= 0 && position === run.position && family === run.family);
  if (look.multiples === "steps" && run.step_names !== null) return d3.range(length).map((step) => ({ step }));
  if (look.multiples === "checkpoints" && isTraining(run)) {
    const n = Math.min(length, MOST_CHECKPOINTS);
    return d3.range(n).map((i) => ({ step: Math.round((i * (length - 1)) / (n - 1)) }));
  }
  return run.states.map((state) => ({ state }));
}

function drawMultiples() {
  multiples.forEach((multiple) => multiple.remove());
  multiples = [];
  fill("multiples", ...choicesOfMultiples().map((choice) => {
    const canvas = make("canvas", { "aria-hidden": "true" }), label = make("span"), [key] = Object.keys(choice);
    const shown = () => ({ run: look.run, split: look.split, state: look.state, ...choice });
    const button = make("button", { type: "button", onclick: () => (choice.run === undefined ? go(choice) : lookAt(choice.run)) }, label, canvas);
    const multiple = new Cloud(canvas, shown, 1.25);
    multiple.refresh = () => {
      const { run: index, split, state, step = look.step } = shown(), run = runNow(index);
      const score = run.scores[run.splits[split].name][state]?.ari?.[Math.min(step, run.steps.length - 1)]?.[0];
      label.textContent = `${choice.run !== undefined ? run.name : choice.step !== undefined ? stepName(step) : state} · ${fixed(score)}`;
      label.title = "ARI against the task";
      button.setAttribute("aria-pressed", String(choice[key] === look[key]));
    };
    multiple.refresh();
    multiples.push(multiple);
    return button;
  }));
}
