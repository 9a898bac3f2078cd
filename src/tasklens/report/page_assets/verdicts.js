// The verdicts: each finding with its checks, where the clusters are, use, and the steps half way.
"use strict";

const NO_LAYERS = "The findings cannot be tested: the model has no blocks above an embedding.";
const SIGNS = { holds: "✓", fails: "✗", undecided: "?", untested: "–" };

/** Return the verdict on all runs, or on the shown run if there is one verdict per run. */
const wholeVerdict = () => (story.verdicts.length === 1 ? story.verdicts[0] : story.verdicts[look.run]);
/** Return the name of the shown stage of one model; null if there are no stages, or it has no verdict. */
const theStage = () => Object.keys(wholeVerdict()?.stages ?? {}).find((name) => name === stepName(look.step)) ?? null;
/** Return the verdict on the shown stage of one model; otherwise the whole verdict. */
const theVerdict = () => wholeVerdict()?.stages[theStage()] ?? wholeVerdict();

function drawVerdict() {
  const verdict = theVerdict();
  fill("title", verdict?.headline || (verdict ? "Does the model sort what it reads by task?" : NO_LAYERS));
  if (!verdict) {
    fill("findings", make("p", {}, NO_LAYERS));
    fill("verdict-note");
    fill("half-way");
    fill("use-findings");
    return;
  }
  const over = verdict["intervals over"], single = verdict.runs.length === 1, stages = Object.entries(wholeVerdict().stages);
  fill("verdict-note", verdict.where ? "The findings are of one model: do its hidden states form clusters by task, more than controls and on unseen data? Tested on "
    : "The findings are those of Wu and Varshney (arXiv 2402.12151), tested on ",
    single ? `the run ${verdict.runs[0].run} (seed ${verdict.runs[0].seed})` : `${verdict.runs.length} runs (seeds ${verdict.runs.map((run) => run.seed).join(", ")})`,
    stages.length ? `, for the model ${theStage() ?? stages.at(-1)[0]}` : "",
    over ? `. A check holds if its whole ${Math.round(100 * verdict.confidence)} % interval, over ${over}, is on the right side of its threshold.` : ".",
    theRun().positions.length > 1 ? ` They are those of the first position, ${theRun().positions[0].position}.` : "",
    verdict.where ? null : ` Final scores are those of ${stepName(theRun().steps.length - 1)}, whichever checkpoint is shown.`,
    single && !verdict.where ? " Another seed may differ by more than these intervals." : "",
    verdict["not judged"].length ? ` Not judged are ${verdict["not judged"].join(" and ")}: nothing tells a model to which task their instances belong.` : "");
  const doubt = verdict.doubt ? [make("p", { class: "doubt" }, `Not tested. ${verdict.doubt}.`)] : [];
  const shown = (finding) => findingDetails(finding, verdict.doubt);
  const where = verdict.where ? [make("div", { id: "where" }, ...verdict.where_text.map((line) => make("p", {}, line)), measurementTable(verdict.where.measurements))] : [];
  fill("findings", ...doubt, ...stages.length ? [stagesTable(stages)] : [], ...where, ...verdict.findings.map(shown),
    verdict["unseen data"].length ? make("details", {}, make("summary", {}, "Unseen data by kind, measured without a threshold"), measurementTable(verdict["unseen data"])) : null);
  const { untested, layers, findings, measurements } = verdict.use;
  fill("use-findings", make("h3", {}, "Use, apart from the findings"),
    untested ? make("p", { class: "note" }, `Not tested: ${untested}. `, make("code", {}, "tasklens intervene RUN"), " makes them.")
      : make("p", { class: "note" }, `The paper does not state that clusters are used. Tested in the best layer by ARI, ${[...new Set(layers)].join(" and ")}. Earlier tokens still carry the own task. `,
        make("a", { href: "#use" }, verdict.where ? "All layers" : "All layers and checkpoints")),
    ...findings.map(shown),
    measurements.length ? make("details", {}, make("summary", {}, "What was measured beside it, without a threshold"), measurementTable(measurements)) : null);
  const timings = verdict["half way"].filter((timing) => timing.step !== null);
  fill("half-way", timings.length ? make("details", {},
    make("summary", {}, `Step at which each curve was half way from its first to its last value, on ${timings[0].split}`),
    make("table", { class: "cells" }, make("tbody", {}, ...timings.map((timing) => make("tr", {},
      make("th", { scope: "row" }, timing.what), make("td", {}, number(Math.round(timing.step))),
      make("td", {}, timing.low === null ? "" : `${number(Math.round(timing.low))} to ${number(Math.round(timing.high))}`)))))) : null);
}

/** Return a table of the findings by stage of one model, above each the best layer. */
function stagesTable(stages) {
  const row = (name, cell) => make("tr", {}, make("th", { scope: "row" }, name), ...stages.map(([, verdict], i) => make("td", {}, cell(verdict, i))));
  return make("div", { class: "scroll" }, make("table", { class: "cells", id: "stages" },
    make("thead", {}, make("tr", {}, make("th"), ...stages.map(([name]) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, row("best layer", (verdict) => verdict.where?.layer ?? "–"),
      ...stages[0][1].findings.map(({ finding }, f) => row(finding, (verdict) => verdict.findings[f].verdict)))));
}

/** Return a finding: a row with its verdict and the number that decides it, and all checks once it is opened. */
function findingDetails(finding, doubt) {
  const outcome = doubt ? "untested" : finding.verdict, { deciding } = finding;
  return make("details", { class: "finding" },
    make("summary", {},
      make("span", { class: outcome, "aria-hidden": "true" }, SIGNS[outcome]),
      make("b", { class: outcome }, doubt ? "not tested" : outcome),
      make("strong", {}, finding.finding),
      deciding ? make("span", { class: "deciding", title: deciding.statistic }, make("b", {}, deciding.number), ` ${deciding.interval}`) : make("span", { class: "deciding" }, "no data were held out"),
      make("span", { class: "on" }, deciding?.split ?? ""),
      make("span", { class: "sentence" }, finding.sentence)),
    ...checksOf(finding));
}

/** Return measurements with their intervals as a table; steps have no decimals. */
function measurementTable(measurements) {
  return make("div", { class: "scroll" }, make("table", { class: "measured" }, make("tbody", {}, ...measurements.map(({ what, split, each, value, low, high }) => {
    const digits = Math.max(...each.map((one) => Math.abs(one ?? 0))) >= 10 ? 0 : 2;
    return make("tr", {}, make("th", { scope: "row" }, what), make("td", {}, split), make("td", {}, fixed(value, digits)),
      make("td", {}, low === null ? "" : `[${fixed(low, digits)}, ${fixed(high, digits)}]`));
  }))));
}

function checksOf(finding) {
  if (!finding.checks.length) return [make("p", { class: "check" }, "No data were held out: nothing shows that this is so on unseen data.")];
  const statistics = [...new Set(finding.checks.map((check) => check.statistic))];
  return statistics.map((statistic) => {
    const checks = finding.checks.filter((check) => check.statistic === statistic);
    return make("div", { class: "check" },
      make("p", {}, statistic, " ", make("b", {}, checks[0].threshold), make("span", { class: "note" }, `: ${checks[0].reason}`)),
      make("table", {}, make("tbody", {}, ...checks.map((check) => make("tr", {},
        make("td", { class: check.verdict, title: check.verdict }, SIGNS[check.verdict], make("span", { class: "unseen" }, check.verdict)),
        make("td", { class: "split" }, check.split),
        make("td", { class: check.note ? "split" : null }, check.note || fixed(check.value)),
        make("td", {}, check.low === null ? "" : `[${fixed(check.low)}, ${fixed(check.high)}]`),
        make("td", { class: "wide" }, check.low === null || check.value === null ? "" : intervalBar(check)))))));
  });
}

/** Return an interval as a bar, with its value and the threshold. */
function intervalBar(check) {
  const limits = [check.above, check.below].filter((limit) => limit !== null);
  const all = [check.low, check.high, check.value, ...limits, 0, 1].filter((value) => value !== null);
  const scale = d3.scaleLinear([Math.min(...all), Math.max(...all)], [3, 137]);
  const svg = d3.create("svg").attr("viewBox", "0 0 140 14").attr("width", "100%").attr("height", 14).attr("role", "img")
    .attr("aria-label", `${fixed(check.value)}, from ${fixed(check.low)} to ${fixed(check.high)}, threshold ${check.threshold}`);
  svg.append("line").attr("x1", 3).attr("x2", 137).attr("y1", 7).attr("y2", 7).style("stroke", "var(--line)");
  for (const limit of limits) svg.append("line").attr("x1", scale(limit)).attr("x2", scale(limit)).attr("y1", 0).attr("y2", 14).style("stroke", "var(--ink)");
  const color = { holds: "var(--good)", fails: "var(--bad)", undecided: "var(--open)" }[check.verdict];
  svg.append("line").attr("x1", scale(check.low)).attr("x2", check.high === null ? 137 : scale(check.high)).attr("y1", 7).attr("y2", 7).style("stroke", color).style("stroke-width", 3);
  svg.append("circle").attr("cx", scale(check.value)).attr("cy", 7).attr("r", 3.5).style("fill", color);
  return svg.node();
}
