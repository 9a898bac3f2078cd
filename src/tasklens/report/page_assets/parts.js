// The texts of the map and of its points.
"use strict";

function drawCloudTitle() {
  const run = theRun(), split = theSplit();
  const score = (metric, line = look.state) => fixed(theScores()[line]?.[metric]?.[look.step]?.[0]);
  const share = split.shown_variance[look.state][look.step];
  const against = [["ari_input", "input"], ["ari_output", "output"]].map(([metric, part]) => [score(metric), part]).filter(([value]) => value !== "–");
  const accuracy = score("accuracy", "model");
  fill("cloud-title", make("b", {}, `${look.state}, ${stepName(look.step)}`), ` · ${splitTitle(split)}, ${number(split.n)} points`, distinct(run, "position").length > 1 ? `, at ${run.position}` : null,
    accuracy === "–" ? null : `. The model answers ${Math.round(100 * accuracy)} % right.`);
  fill("cloud-scores", against.length ? `ARI ${against.map(([value, part]) => `${value} against the ${part}`).join(", ")}. ` : null, symbolsNote() && `${symbolsNote()} `,
    look.map === "pca" ? `The map shows ${Math.round(100 * share)} % of the variance.` : null);
  byId("cloud").setAttribute("aria-label", `${look.map === "tsne" ? "t-SNE" : "PCA"} map of ${look.state} ${atStep(look.step)}, ` +
    `${splitTitle(split)}: ${split.n} points, coloured by the ${look.color}; ARI against the task ${score("ari")}`);
  const single = run.step_names !== null;
  fill("map-note", single && look.map === "tsne"
    ? "This is dynamic t-SNE (Rauber, Falcão and Telea 2016): the map of each model starts from the map of the model before, the untrained twin first, and each hidden state of the first from the one below it. Only the neighbours of a point have a meaning. Distances and sizes of clusters have none."
    : single ? "The map has the first two principal components of the hidden state of the last model, for all models. The mean of each is subtracted. Variance in other directions is not shown."
    : look.map === "tsne"
    ? "This is dynamic t-SNE (Rauber, Falcão and Telea 2016): the map of each checkpoint starts from the map of the checkpoint before, and a spring holds each point near its former coordinates. At the first checkpoint, each hidden state starts from the one below it. Only the neighbours of a point have a meaning. Distances, sizes of clusters and paths of points have none."
    : "The map has the first two principal components of the hidden state at the last checkpoint, for all checkpoints. The mean of each checkpoint is subtracted. The coordinates of different checkpoints can be compared. Variance in other directions is not shown." +
      (look.fit ? " Each checkpoint is scaled to fit the frame." : ""));
}

/** Return the description of a point as elements. */
function describePoint(arrays, i) {
  const run = theRun(), split = theSplit(), at = look.step * split.n + i;
  const name = (part) => arrays[part] ? run.names[part][arrays[part].data[i]] : null;
  const task = run.world.tasks[arrays.task.data[i]], answer = arrays.answer.data[at];
  const cluster = arrays[`cluster/${look.state}`].data[at], right = arrays.right ? Boolean(arrays.right.data[at]) : null;
  const line = (label, ...rest) => make("p", {}, make("span", { class: "note" }, `${label} `), ...rest);
  const instruction = split.instructions[arrays.instruction.data[i]];
  return [
    make("p", { class: "instruction" }, run.kind === "run" ? `${instruction} ${name("input")} ${name("output") ?? ""}` : instruction),
    line("task", swatch(arrays.task.data[i]), " ", name("task")),
    ...task.regexes.map((regex) => line("regex", make("code", {}, regex))),
    arrays.distribution ? line("distribution", name("distribution")) : null,
    line("input", name("input"), name("output") === null ? null : ` → ${name("output")}`),
    answer ? line("the model answers", run.answers[answer - 1], right === null ? null : right ? " ✓ right" : " ✗ wrong") : null,
    line("cluster of", run.names.task[cluster] ?? "no task", cluster === arrays.task.data[i] ? "" : " (not the task of the point)"),
    ...describeMove(arrays, i),
  ].filter(Boolean);
}
