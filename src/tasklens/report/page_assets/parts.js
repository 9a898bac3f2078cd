// The texts of the map and of its points.
"use strict";

function drawCloudTitle() {
  const run = theRun(), split = theSplit();
  const score = (metric, line = look.state) => fixed(theScores()[line]?.[metric]?.[look.step]?.[0]);
  const against = [["ari_input", "input"], ["ari_output", "output"]].map(([metric, part]) => [score(metric), part]).filter(([value]) => value !== "–");
  const accuracy = score("accuracy", "model");
  fill("cloud-title", make("b", {}, `${look.state}, ${stepName(look.step)}`), ` · ${splitTitle(split)}, ${number(split.n)} points`, distinct(run, "position").length > 1 ? `, at ${run.position}` : null,
    accuracy === "–" ? null : `. The model answers ${Math.round(100 * accuracy)} % right.`);
  fill("cloud-scores", against.length ? `ARI ${against.map(([value, part]) => `${value} against the ${part}`).join(", ")}. ` : null, symbolsNote() && `${symbolsNote()} `,
    look.map === "tsne" ? null : sharesShown());
  byId("cloud").setAttribute("aria-label", `Map (${mapName()}) of ${look.state} ${atStep(look.step)}, ` +
    `${splitTitle(split)}: ${split.n} points, coloured by the ${look.color}; ARI against the task ${score("ari")}`);
  fill("map-note", mapNote());
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
