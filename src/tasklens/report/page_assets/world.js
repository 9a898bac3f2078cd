// The sections on the world and on the run.
"use strict";

const EVEN = 0.1; // if two tasks are never more alike than any others by this, a sentence replaces the matrix

/** Return a matrix of values from 0 to 1 between tasks as elements: its drawing, or a sentence if all pairs are about equal. */
function matrixOrSentence(matrix, names, title, unit, other, note) {
  const pairs = d3.cross(d3.range(names.length), d3.range(names.length)).filter(([i, j]) => i < j && matrix[i][j] !== null);
  const [low, high] = d3.extent(pairs, ([i, j]) => matrix[i][j]), most = d3.greatest(pairs, ([i, j]) => matrix[i][j]);
  const explained = make("p", { class: "note" }, note);
  if (high - low >= EVEN) return [make("figure", {}, matrixPlot(matrix, names, title, Math.min(560, byId("matrices").clientWidth)), colorBar(unit), explained)];
  if (!pairs.length) return [];
  return [make("div", { class: "whole" }, make("p", {}, make("b", {}, title), `: ${fixed(low) === fixed(high) ? "" : `${fixed(low)} to `}${fixed(high)} for any two ${other}` +
    (fixed(low) === fixed(high) ? "." : `, the most for ${names[most[0]]} and ${names[most[1]]}.`)), explained)];
}

function drawWorld() {
  const run = theRun(), { tasks, sizes, same_output, same_symbols } = run.world, names = tasks.map((task) => task.name);
  fill("sizes", ...Object.entries(sizes).flatMap(([name, count]) => [make("dt", {}, name), make("dd", {}, number(count))]));
  const training = run.kind === "run", other = training ? "tasks" : "labels";
  fill("matrices",
    ...same_output ? matrixOrSentence(same_output, names, "Inputs with the same output", "share", other, "The share of inputs that two tasks map to the same output.") : [],
    ...matrixOrSentence(same_symbols, names, training ? "Similarity of instructions" : "Similarity of texts", "cosine", other, training
      ? "The cosine of the mean counts of symbols in the instructions of two tasks, in the first split that has them. The languages of two tasks share no string."
      : "The cosine of the mean counts of tokens in the texts of two labels, up to the measured position, in the first split."));
  fill("tasks", make("h3", {}, run.kind === "run" ? "The measured tasks" : "The labels"), ...tasks.map((task, i) => make("details", { class: "task" },
    make("summary", {}, swatch(i), make("b", {}, task.name), ...task.regexes.map((regex) => make("code", {}, regex))),
    task.n_strings ? make("p", {}, `${number(task.n_strings)} strings are in the language; ${number(task.n_examples)} of them were drawn.`) : make("p", {}, `${number(task.n_examples)} prompts.`),
    task.examples.length ? make("p", {}, make("span", { class: "note" }, "examples: "), ...task.examples.flatMap((text, k) => [k ? " · " : "", make("code", {}, text)])) : null,
    task.function.length ? make("p", { class: "pairs" }, make("span", { class: "note" }, "function:"), ...task.function.map(([x, y]) => make("code", {}, `${x} → ${y}`))) : null)));
}

// Names, licences and hashes of the models; a trained one has no licence.
function aboutModels(run) {
  if (!run.models.length) return [];
  const title = make("h3", {}, run.models.length > 1 ? "Models" : "Model");
  if (run.kind === "run") return run.models.flatMap(({ name, weights }) => [title, make("p", {}, `${name}, trained by this run; `
    + (weights ? `SHA-256 of the weights of the last checkpoint: ${weights}` : "its weights are not kept"))]);
  const head = [run.step_names ? "model" : "step", "name", "licence", "SHA-256 of the weights"];
  const rows = run.models.map(({ step, name, licence, weights }) => [run.step_names?.[run.steps.indexOf(step)] ?? number(step), name, licence, weights]);
  return [title, make("div", { class: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((text) => make("td", {}, text)))))))];
}

function drawRun() {
  const run = theRun(), { command, versions, machine } = run.origin;
  const table = (entries) => make("div", { class: "scroll" }, make("table", {}, make("tbody", {}, ...entries.filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]) => make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, value))))));
  const again = run.kind === "run" ? "tasklens run config.toml --out another-directory" : command;
  const times = Object.entries(run.stages).map(([stage, mark]) => [stage, mark.seconds === undefined ? null
    : `${number(mark.seconds)} s` + Object.entries({ precision: mark.precision, device: mark.device, threads: mark.threads }).filter(([, v]) => v !== undefined).map(([k, v]) => `, ${k} ${v}`).join("")]);
  fill("origin",
    make("h3", {}, "Command"), make("pre", {}, command ?? ""),
    run.kind === "run" && again !== command ? make("p", { class: "note" }, "or, with the settings below: ", make("code", {}, again)) : null,
    ...aboutModels(run),
    make("h3", {}, "Time by stage"), table(times),
    make("h3", {}, "Machine and versions"), table([...Object.entries(machine ?? {}), ...Object.entries(versions ?? {})]),
    make("details", {}, make("summary", {}, "All settings (config.toml)"), make("pre", {}, run.settings)),
    make("details", {}, make("summary", {}, `SHA-256 of ${number(Object.keys(run.hashes).length)} files`),
      make("pre", {}, Object.entries(run.hashes).map(([path, hash]) => `${hash}  ${path}`).join("\n"))));
  fill("made", `Made by tasklens ${story.version}: `, make("code", {}, story.command), ". This page contains all its data and loads nothing else.");
}
