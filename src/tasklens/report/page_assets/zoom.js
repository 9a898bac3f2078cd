// Zoom and pan of the large map. `look.zoom` is {k, x, y}: a factor, and a shift in halves of the frame's side.
"use strict";

const MOST_ZOOM = 12; // beyond it the levels of the packed coordinates would show
const ZOOM_STEP = 1.5; // the factor of a button or key
const PAN_STEP = 0.25; // the shift of a key, in halves of the frame's side

/** Return a zoom within the limits: at least the middle of an edge of the map stays in sight. */
function withinLimits({ k, x, y }) {
  const factor = Math.min(MOST_ZOOM, Math.max(1, k)), limited = (shift) => Math.min(factor, Math.max(-factor, shift)) || 0;
  return { k: factor, x: limited(x), y: limited(y) };
}

const zoomTo = (zoom) => change({ zoom: withinLimits(zoom) });
const zoomBy = (factor) => {
  const k = Math.min(MOST_ZOOM, Math.max(1, look.zoom.k * factor)), ratio = k / look.zoom.k;
  zoomTo(k === 1 ? UNZOOMED : { k, x: look.zoom.x * ratio, y: look.zoom.y * ratio });
};
const panBy = (x, y) => zoomTo({ k: look.zoom.k, x: look.zoom.x + x, y: look.zoom.y + y });
const isWhole = ({ k, x, y }) => k === 1 && x === 0 && y === 0;

/** Move the map so that a point is in sight. */
function reveal(i) {
  const { canvas, points } = cloud, [x, y] = [points[2 * i], points[2 * i + 1]], margin = 3 * cloud.margin;
  if (isWhole(look.zoom) || (x > margin && x < canvas.width - margin && y > margin && y < canvas.height - margin)) return;
  panBy((canvas.width / 2 - x) / cloud.half(), (canvas.height / 2 - y) / cloud.half());
}

function setUpZoom() {
  const canvas = d3.select(byId("cloud"));
  // The transform of d3 is in pixels of the page from the corner of the map.
  const frame = () => ({ middle: [byId("cloud").clientWidth / 2, byId("cloud").clientHeight / 2], half: cloud.half() / cloud.ratio() });
  const transformOf = ({ k, x, y }) => {
    const { middle, half } = frame();
    return d3.zoomIdentity.translate(middle[0] * (1 - k) + half * x, middle[1] * (1 - k) + half * y).scale(k);
  };
  const zoomOf = ({ k, x, y }) => {
    const { middle, half } = frame();
    return { k, x: (x - middle[0] * (1 - k)) / half, y: (y - middle[1] * (1 - k)) / half };
  };
  const zoom = d3.zoom().scaleExtent([1, MOST_ZOOM]).clickDistance(4).filter(zooms)
    .wheelDelta(({ deltaY, deltaMode }) => Math.max(-0.5, Math.min(0.5, -deltaY * (deltaMode === 1 ? 0.1 : 0.01))))
    .constrain((transform) => transformOf(withinLimits(zoomOf(transform))))
    .on("zoom", ({ transform, sourceEvent }) => sourceEvent && zoomTo(zoomOf(transform)));
  canvas.call(zoom).on("dblclick.zoom", () => zoomTo(UNZOOMED));
  const follow = () => canvas.property("__zoom", transformOf(look.zoom));
  new ResizeObserver(follow).observe(byId("cloud"));
  byId("zoom-in").addEventListener("click", () => zoomBy(ZOOM_STEP));
  byId("zoom-out").addEventListener("click", () => zoomBy(1 / ZOOM_STEP));
  byId("zoom-whole").addEventListener("click", () => zoomTo(UNZOOMED));
  watch(["zoom"], () => {
    follow();
    byId("zoom-level").textContent = `×${look.zoom.k.toFixed(1)}`;
    byId("zoom-in").disabled = look.zoom.k >= MOST_ZOOM;
    byId("zoom-out").disabled = look.zoom.k <= 1;
    byId("zoom-whole").disabled = isWhole(look.zoom);
  });
}

/** Whether an event zooms or moves the map. A wheel alone, or one finger, scrolls the page. */
function zooms(event) {
  if (event.type === "wheel") return event.ctrlKey || event.metaKey;
  if (event.type.startsWith("touch")) return event.touches.length > 1;
  return event.button === 0 && !event.ctrlKey && !drawsLasso(event);
}
