// Colours and shapes. Ten colours and seven shapes make 70 symbols before the first repeats. The first
// seven symbols differ in colour and in shape. The colours of paper are those of `style.PALETTE`.
"use strict";

const COLORS = 10;
// Paths in a box from -1 to 1, of about equal area.
const SHAPES = [
  "M.85 0A.85 .85 0 1 1 -.85 0A.85 .85 0 1 1 .85 0Z", // circle
  "M0 -1L.95 .75H-.95Z", // triangle
  "M-.75 -.75H.75V.75H-.75Z", // square
  "M0 -1.05L1.05 0L0 1.05L-1.05 0Z", // diamond
  "M-.32 -1H.32V-.32H1V.32H.32V1H-.32V.32H-1V-.32H-.32Z", // plus
  "M0 1L.95 -.75H-.95Z", // triangle, upside down
  "M-.95 -.5L-.5 -.95L0 -.45L.5 -.95L.95 -.5L.45 0L.95 .5L.5 .95L0 .45L-.5 .95L-.95 .5L-.45 0Z", // cross
];

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * Return the number of a value's symbol. The values that occur in a split count from 0, so that few of them have distinct
 * colours, whichever they are; clusters without a task follow. A cluster has the symbol of its task.
 */
function symbolNumber(value, part = "task", run = theRun(), split = theSplit()) {
  const names = run.names[part] ?? run.names.task;
  const present = run.names[part] && part !== "task" ? split.present?.[part] ?? [] : Object.values(split.followed)[0].tasks;
  split.symbols ??= {};
  split.symbols[part] ??= new Map([...present, ...d3.difference(d3.range(names.length), present)].map((each, i) => [each, i]));
  return split.symbols[part].get(value) ?? present.length + value - names.length;
}

/** Return whether the text is lighter than the background. */
const isDark = () => d3.lab(css("--ink")).l > 50;

let sprites = new Map();
let palette = null;

/** Return the colours of the present theme; they are read again after `forgetColors`. */
function colors() {
  if (!palette) {
    const each = Array.from({ length: COLORS }, (_, i) => css(`--c${i}`)), dim = css("--dim");
    const pixels = { each: each.map(pixelOf), dim: pixelOf(dim) };
    palette = { each, dim, pixels, paper: css("--raised"), ink: css("--ink") };
  }
  return palette;
}

/** Return a colour as a pixel of image data: its four bytes as one number. */
function pixelOf(color) {
  const { r, g, b } = d3.rgb(color);
  return new Uint32Array(new Uint8Array([r, g, b, 255]).buffer)[0];
}

function forgetColors() {
  palette = null;
  sprites = new Map();
}

/** Return a small canvas with a symbol by its number; null is the symbol of dimmed points. */
function sprite(value, radius) {
  const symbol = value === null ? "dim" : value % (COLORS * SHAPES.length);
  const key = `${symbol} ${radius}`;
  if (!sprites.has(key)) {
    const size = Math.ceil(2 * radius + 4), canvas = document.createElement("canvas");
    canvas.width = canvas.height = size;
    const pen = canvas.getContext("2d");
    pen.translate(size / 2, size / 2);
    pen.scale(radius, radius);
    const shape = new Path2D(SHAPES[value === null ? 0 : value % SHAPES.length]);
    pen.lineWidth = 0.36;
    pen.lineJoin = "round";
    pen.strokeStyle = colors().paper;
    if (value !== null) pen.stroke(shape);
    pen.fillStyle = value === null ? colors().dim : colors().each[value % COLORS];
    pen.fill(shape);
    canvas.symbol = { path: SHAPES[value === null ? 0 : value % SHAPES.length], radius, fill: pen.fillStyle, outline: value === null ? null : pen.strokeStyle };
    sprites.set(key, canvas);
  }
  return sprites.get(key);
}

/** Return the symbol of a task, or of a value of another part, as an element, for legends and tables. */
function swatch(value, part = "task") {
  const symbol = symbolNumber(value, part);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "-1.2 -1.2 2.4 2.4");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SHAPES[symbol % SHAPES.length]);
  path.style.fill = `var(--c${symbol % COLORS})`;
  svg.append(path);
  return svg;
}
