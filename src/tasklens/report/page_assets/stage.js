// The large map with the description of a point.
"use strict";

let cloud = null, pointed = null;

function setUpCloud() {
  const canvas = byId("cloud");
  cloud = new Cloud(canvas, () => ({ run: look.run, split: look.split, state: drawnState(), depth: look.depth }), 5);
  cloud.zoomed = true;
  cloud.over = (pen, ratio) => {
    paintMoves(pen, ratio);
    paintSelection(pen, ratio);
    if (pointed !== null && !byId("tip").hidden) placeTip();
  };
  canvas.addEventListener("pointermove", (event) => { if (!event.buttons) showTip(cloud.nearest(event.offsetX, event.offsetY)); });
  canvas.addEventListener("pointerleave", () => showTip(look.marked));
  canvas.addEventListener("click", (event) => {
    const nearest = cloud.nearest(event.offsetX, event.offsetY, 24);
    change({ marked: nearest === look.marked ? null : nearest });
    showTip(nearest);
  });
  watch(["run", "position", "split", "state", "step", "marked", "target"], () => {
    showTip(look.marked);
    byId("spoken").textContent = look.marked === null || playing ? "" : byId("tip").innerText;
  });
}

/** Show the description of a point beside it. */
function showTip(i) {
  if (look.beside && pointed !== i) drawClouds();
  pointed = i;
  const tip = byId("tip");
  if (i === null || !cloud.arrays || i >= theSplit().n) {
    tip.hidden = true;
    return;
  }
  tip.replaceChildren(...describePoint(cloud.arrays, i));
  tip.hidden = false;
  placeTip();
}

/** Put the description beside its point, inside the canvas, and off the arrow of the point if possible. */
function placeTip() {
  const tip = byId("tip"), [x, y] = cloud.coordinatesOf(pointed), canvas = byId("cloud");
  const lefts = [x + 14, x - 14 - tip.offsetWidth], tops = [y + 14, y - 14 - tip.offsetHeight];
  const by = moveBy(cloud.arrays, cloud.arrays.task.data[pointed])?.map((pixels) => (pixels * canvas.clientWidth) / canvas.width) ?? [0, 0];
  const covers = ([left, top]) => d3.range(0, 1.01, 0.1).filter((t) =>
    x + t * by[0] > left && x + t * by[0] < left + tip.offsetWidth && y + t * by[1] > top && y + t * by[1] < top + tip.offsetHeight).length;
  const places = d3.cross(lefts, tops).map(([left, top]) => [
    Math.max(0, Math.min(left, canvas.clientWidth - tip.offsetWidth)), Math.max(0, Math.min(top, canvas.clientHeight - tip.offsetHeight))]);
  const [left, top] = places[d3.minIndex(places, covers)];
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
}

/** Mark the next or the previous point, of the highlighted value if there is one, and of those that can be moved if a target is chosen. */
function point(by) {
  if (!cloud.arrays) return;
  const n = theSplit().n, value = values(cloud.arrays, look.state);
  let i = look.marked ?? (by > 0 ? -1 : n);
  for (let tries = 0; tries < n; tries++) {
    i = (i + by + n) % n;
    const isEdited = look.target === null || movedPoint(cloud.arrays, i) >= 0;
    if (isEdited && (look.lit === null || value[i] === look.lit)) break;
  }
  change({ marked: i });
}
