// Names at the groups of points of one value, on the large map.
"use strict";

const NAMED = 60; // the largest number of values whose groups are named
// A group that fills its share of the map has a spread of about the root of its share of the points, relative to all
// points. Its name is opaque up to some times of this, and at most up to some spread; then it fades.
const COMPACT = { times: 1.5, most: 0.65, fade: 1.15 };
const NAME = { size: 13, longest: 22, lines: 2.5 }; // in pixels of the page, characters, and heights of a name that it is moved at most

const shortened = (name, longest = NAME.longest) => (name.length > longest ? `${name.slice(0, longest - 1)}…` : name);

/** Return what a group is called on the map: a cluster has the name of its task. */
const groupName = (value) => shortened(look.color === "cluster" ? theRun().names.task[value] ?? "no task" : valueName(value));

/** Return the median of some points, and the median of their distances to it. */
function middleOf(points, members) {
  const x = d3.median(members, (i) => points[2 * i]), y = d3.median(members, (i) => points[2 * i + 1]);
  return { x, y, spread: d3.median(members, (i) => Math.hypot(points[2 * i] - x, points[2 * i + 1] - y)) };
}

/**
 * Return the names of the groups on a map at one checkpoint, as a Map from value to {text, x, y, width, alpha}, in pixels
 * of the canvas. A name is at the median of its points, moved so that names do not overlap; `alpha` is 0 if its points
 * are scattered.
 */
function placeNames(pen, points, value, { width, height }, ratio) {
  const groups = d3.group(d3.range(value.length), (i) => value[i]), placed = new Map();
  if (groups.size > NAMED || groups.size < 2) return placed;
  const all = middleOf(points, d3.range(value.length)).spread || 1, high = 1.25 * NAME.size * ratio;
  pen.font = nameFont(ratio);
  for (const [each, members] of d3.sort(groups, ([, members]) => -members.length)) {
    const { x, y, spread } = middleOf(points, members), text = groupName(each), wide = pen.measureText(text).width + 4 * ratio;
    const tight = Math.min(COMPACT.most, COMPACT.times * Math.sqrt(members.length / value.length));
    const alpha = Math.max(0, Math.min(1, (COMPACT.fade - spread / all / tight) / (COMPACT.fade - 1)));
    if (x < 0 || x > width || y < 0 || y > height) continue; // of a map that is enlarged
    placed.set(each, { text, x, y, from: y, width: wide, alpha });
  }
  const names = [...placed.values()].filter(({ alpha }) => alpha > 0);
  const overlaps = (a, b) => Math.abs(a.x - b.x) < (a.width + b.width) / 2 && Math.abs(a.y - b.y) < high - 0.01;
  for (const name of names) name.x = Math.max(name.width / 2, Math.min(width - name.width / 2, name.x));
  for (let round = 0; round < 40; round++) {
    let moved = false;
    for (const [a, b] of d3.pairs(d3.sort(names, ({ y }) => y)).concat(round % 2 ? everyPair(names) : [])) {
      if (!overlaps(a, b)) continue;
      const [above, below] = a.y <= b.y ? [a, b] : [b, a], by = (high - (below.y - above.y)) / 2;
      above.y -= by;
      below.y += by;
      moved = true;
    }
    if (!moved) break;
  }
  const kept = [];
  for (const name of names) { // the largest groups first
    name.y = Math.max(high / 2, Math.min(height - high / 2, name.y));
    if (Math.abs(name.y - name.from) > NAME.lines * high || kept.some((other) => overlaps(name, other))) name.alpha = 0;
    else kept.push(name);
  }
  return placed;
}

const everyPair = (names) => names.flatMap((a, i) => names.slice(i + 1).map((b) => [a, b]));
const nameFont = (ratio) => `600 ${NAME.size * ratio}px system-ui, sans-serif`;

/** Paint names, between two checkpoints on the way from one to the other, so that they move as smoothly as the points. */
function paintNames(pen, from, to, t, ratio) {
  pen.font = nameFont(ratio);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  pen.lineWidth = 3.5 * ratio;
  pen.strokeStyle = colors().paper;
  pen.fillStyle = colors().ink;
  for (const value of new Set([...from.keys(), ...to.keys()])) {
    const a = from.get(value) ?? { ...to.get(value), alpha: 0 }, b = to.get(value) ?? { ...a, alpha: 0 };
    const lit = look.lit === null || look.lit === value || value === look.target;
    pen.globalAlpha = (a.alpha + (b.alpha - a.alpha) * t) * (lit ? 1 : 0);
    if (!pen.globalAlpha) continue;
    const x = Math.round(a.x + (b.x - a.x) * t), y = Math.round(a.y + (b.y - a.y) * t);
    pen.strokeText(b.text, x, y);
    pen.fillText(b.text, x, y);
  }
  pen.globalAlpha = 1;
}
