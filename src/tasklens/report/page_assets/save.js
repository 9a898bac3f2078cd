// Files that the page saves: the map as PNG and SVG, points and scores as CSV, and each chart as SVG.
"use strict";

const FORMULA = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/; // what a spreadsheet would run (OWASP, "CSV Injection")
const MOST_KEYS = 60; // entries of the legend of a saved map
const KEY = { height: 20, width: 190 }; // of such an entry, in pixels
const EDGE = 16; // around a saved map, in pixels
const FONT = "Helvetica, Arial, sans-serif";
// What a saved chart has of the style of the page.
const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "fill-opacity", "stroke-opacity",
  "font-size", "font-weight", "font-family", "font-variant-numeric", "text-anchor", "display", "visibility", "paint-order"];

/** Return the name of a file with the parts of what is shown. */
function fileName(what, ending) {
  const { name } = theRun(), step = theRun().step_names ? stepName(look.step) : `step${theRun().steps[look.step]}`;
  return [name, theSplit().name, look.state, step, what].map((part) => part.replace(/[^\p{L}\p{N}.-]+/gu, "-").slice(0, 60)).join("_") + `.${ending}`;
}

function download(name, blob) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  notify(`${name} is saved.`);
}

// -- tables ----------------------------------------------------------------------------------------

/** Return rows as CSV. Null is the empty field. A text that a spreadsheet would run as a formula gets an apostrophe before it. */
function csv(columns, rows) {
  const field = (value) => {
    if (typeof value !== "string") return value ?? "";
    return `"${(FORMULA.test(value) ? `'${value}` : value).replaceAll('"', '""')}"`;
  };
  return [columns, ...rows.map((row) => columns.map((column) => row[column]))].map((row) => `${row.map(field).join()}\n`).join("");
}

/** Return the shown points, or those that are selected, as rows. */
function pointRows(arrays) {
  const run = theRun(), { data, shape: [steps, n], half, middle } = arrays[`${look.map}/${look.state}`];
  const step = Math.min(look.step, steps - 1);
  const coordinate = (i, axis) => middle[step][axis] + half[step] * data[2 * (step * n + i) + axis];
  const same = { run: run.name, seed: run.seed, split: theSplit().name, family: look.family, position: look.position, state: look.state,
    step: run.steps[look.step], model: run.step_names?.[look.step] ?? null, map: look.map };
  return (look.selected ?? d3.range(n)).map((i) => ({ point: i, ...factsOf(arrays, i), x: coordinate(i, 0), y: coordinate(i, 1), ...same }));
}

/** Return the scores of all runs as rows: one per run, position, family, split, line, metric and checkpoint. */
function scoreRows() {
  return runsAt.flat().flatMap((run) => Object.entries(run.scores).flatMap(([split, lines]) => Object.entries(lines).flatMap(([line, metrics]) =>
    Object.entries(metrics).flatMap(([metric, values]) => values.map((value, i) => {
      const at = line.startsWith("control:") ? null : i; // a control has no checkpoint
      return value && { run: run.name, seed: run.seed, split, family: run.family, position: run.position, line, metric,
        step: run.steps[at] ?? null, model: run.step_names?.[at] ?? null, mean: value[0], low: value[1], high: value[2] };
    }).filter(Boolean)))));
}

async function savePoints() {
  const rows = pointRows(await arraysOf(look.run, look.split));
  if (!rows.length) return notify("No point is selected.");
  download(fileName(look.map, "csv"), new Blob([csv(Object.keys(rows[0]), rows)], { type: "text/csv" }));
}

function saveScores() {
  const rows = scoreRows();
  download(`${story.runs.map((run) => run.name).join("_").replace(/[^\p{L}\p{N}._-]+/gu, "-").slice(0, 100)}_scores.csv`, new Blob([csv(Object.keys(rows[0]), rows)], { type: "text/csv" }));
}

// -- pictures --------------------------------------------------------------------------------------

const svgBlob = (root) => new Blob(['<?xml version="1.0" encoding="UTF-8"?>\n', new XMLSerializer().serializeToString(root)], { type: "image/svg+xml" });

/** Return an element of SVG with a background, of a size in pixels. */
const canvasOf = (width, height, ...children) => svg("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}`, "font-family": FONT },
  svg("rect", { width: "100%", height: "100%", fill: css("--paper") }), ...children);

/** Return the map as it is on the screen as SVG, with a title and a legend. */
function mapSvg() {
  const { canvas, arrays } = cloud, ratio = cloud.ratio(), [width, height] = [canvas.clientWidth, canvas.clientHeight], top = 58;
  const value = values(arrays, drawnState()), pen = new SvgPen();
  cloud.draw();
  cloud.paint(pen, value, ratio, look.wrong && rightNow(arrays, look.step));
  const counts = d3.rollup(value, (all) => all.length, (each) => each), present = d3.sort(counts.keys());
  const shown = present.length > MOST_KEYS ? present.slice(0, MOST_KEYS - 1) : present, rows = Math.max(1, Math.floor((height - 20) / KEY.height));
  const keyAt = (i) => `translate(${EDGE + width + 14 + KEY.width * Math.floor(i / rows)} ${top + 20 + KEY.height * (i % rows)})`;
  const text = (content, attributes = {}) => svg("text", { "font-size": 12, fill: css("--ink"), ...attributes }, content);
  const short = (name) => (name.length > 26 ? `${name.slice(0, 25)}…` : name);
  const keys = shown.map((each, i) => {
    const { path, fill, outline } = sprite(symbolNumber(each, look.color), 6).symbol;
    return svg("g", { transform: keyAt(i), class: "key" }, svg("path", { d: path, transform: "translate(7 7) scale(6)", fill, stroke: outline, "stroke-width": 0.2 }),
      text(short(valueName(each)), { x: 20, y: 11 }));
  });
  if (shown.length < present.length) keys.push(svg("g", { transform: keyAt(shown.length), class: "more" }, text(`and ${number(present.length - shown.length)} more`, { y: 11 })));
  const run = theRun(), ari = fixed(theScores()[look.state]?.ari?.[look.step]?.[0]);
  return canvasOf(2 * EDGE + width + 14 + KEY.width * Math.ceil(keys.length / rows), top + height + EDGE,
    svg("title", {}, `${run.name}: ${look.state} ${atStep(look.step)}`),
    text(`${look.state}, ${stepName(look.step)}: ARI ${ari} against the task`, { x: EDGE, y: 26, "font-size": 17, "font-weight": 600 }),
    text(`${run.name}, ${splitTitle(theSplit())}, ${number(theSplit().n)} points; ${mapName()} of the hidden state`, { x: EDGE, y: 46, fill: css("--faint") }),
    svg("svg", { x: EDGE, y: top, width, height, viewBox: `0 0 ${canvas.width} ${canvas.height}`, class: "map" },
      svg("rect", { width: "100%", height: "100%", fill: colors().paper }), ...pen.elements),
    text(look.color, { x: EDGE + width + 14, y: top + 8, "font-weight": 600 }), ...keys);
}

const saveSvg = () => download(fileName(look.map, "svg"), svgBlob(mapSvg()));

/** Save the same picture with twice as many pixels. */
async function savePng() {
  const root = mapSvg(), [width, height] = ["width", "height"].map((side) => Math.ceil(2 * root.getAttribute(side)));
  const image = new Image(width, height), canvas = make("canvas", { width, height });
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(root))}`;
  await image.decode();
  canvas.getContext("2d").drawImage(image, 0, 0, width, height);
  canvas.toBlob((blob) => download(fileName(look.map, "png"), blob));
}

/** Return the charts of a figure, as they are on the page, as one SVG. */
function chartSvg(figure) {
  const frame = figure.getBoundingClientRect(), place = ({ left, top }) => ({ x: left - frame.left, y: top - frame.top });
  const charts = [...figure.querySelectorAll("svg")].filter((chart) => !chart.parentElement.closest("svg, details")).map((chart) => {
    const box = chart.getBoundingClientRect(), copy = chart.cloneNode(true), styled = [copy, ...copy.querySelectorAll("*")];
    [chart, ...chart.querySelectorAll("*")].forEach((element, i) => {
      const style = getComputedStyle(element);
      for (const name of STYLES) styled[i].setAttribute(name, style.getPropertyValue(name));
    });
    copy.querySelectorAll("style").forEach((element) => element.remove());
    for (const [key, value] of Object.entries({ ...place(box), width: box.width, height: box.height })) copy.setAttribute(key, value);
    return copy;
  });
  // What is text of the page beside the charts, such as that of legends.
  const texts = [], walker = document.createTreeWalker(figure, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { currentNode: node } = walker, range = document.createRange();
    if (!node.data.trim() || node.parentElement.closest("svg, details, style")) continue;
    range.selectNodeContents(node);
    const { x, y } = place(range.getBoundingClientRect()), style = getComputedStyle(node.parentElement), size = parseFloat(style.fontSize);
    texts.push(svg("text", { x, y: y + size, "font-size": size, "font-weight": style.fontWeight, fill: style.color }, node.data.trim()));
  }
  const ends = charts.map((chart) => Number(chart.getAttribute("y")) + Number(chart.getAttribute("height")));
  return canvasOf(Math.ceil(frame.width) + 2 * EDGE, Math.ceil(Math.max(...ends)) + 2 * EDGE,
    svg("g", { transform: `translate(${EDGE} ${EDGE})` }, ...charts, ...texts));
}

/** Put a button below each figure that has none. */
function addChartButtons() {
  for (const figure of document.querySelectorAll("main figure:not(:has(+ .save-chart))")) {
    const save = () => download(fileName(figure.id || figure.querySelector("svg").getAttribute("aria-label"), "svg"), svgBlob(chartSvg(figure)));
    figure.after(make("button", { type: "button", class: "save-chart", onclick: save }, "save as SVG"));
  }
}

function setUpSaving() {
  const canFilm = typeof MediaRecorder === "function" && MediaRecorder.isTypeSupported("video/webm") && "captureStream" in HTMLCanvasElement.prototype;
  for (const [id, save] of Object.entries({ "save-svg": saveSvg, "save-png": savePng, "save-points": savePoints, "save-scores": saveScores, "save-film": film })) {
    byId(id).addEventListener("click", save);
  }
  watch(["run"], () => { byId("save-film").disabled = !canFilm || lastFrame() === 0; });
  if (!canFilm) fill("save-film", "film: this browser cannot record WebM");
  watch(["selected"], () => fill("save-points", look.selected ? `${number(look.selected.length)} selected points as CSV` : "points as CSV"));
  new MutationObserver(addChartButtons).observe(document.querySelector("main"), { childList: true, subtree: true });
  addChartButtons();
}
