// Which parts are drawn after which changes.
"use strict";

/** Call `redraw` after changes of these keys, but only once the element is visible. */
function watchInSight(id, keys, redraw) {
  let stale = true, seen = false;
  const update = () => { if (stale && seen) { stale = false; redraw(); } };
  new IntersectionObserver(([entry]) => { seen = entry.isIntersecting; update(); }, { rootMargin: "200px" }).observe(byId(id));
  keys.push("wide", "painted");
  watch(keys, () => { stale = true; update(); });
  sections.push(() => { seen = true; update(); });
}

const sections = [];

/** Draw everything again in the colours of the theme. */
function repaint() {
  forgetColors();
  drawClouds();
  change({ painted: look.painted + 1 });
}

setUp();
setUpAddress();
watch(["theme"], () => {
  if (look.theme) document.documentElement.dataset.theme = look.theme;
  else delete document.documentElement.dataset.theme;
  byId("theme").textContent = look.theme || "system";
  byId("theme").setAttribute("aria-label", `Theme: ${look.theme || "as in the system"}`);
  repaint();
});
watch(["run", "family"], drawHead);
watch(["run", "position", "split", "state", "step"], drawBar);
watch(["run"], drawVerdict);
watch(["step"], () => { if (theStage()) drawVerdict(); });
setUpCloud();
setUpDials();
watch(["run", "position", "family", "split", "state", "step", "together"], drawDials);
setUpBeside();
setUpTools();
watch(["run", "position", "split", "state", "step", "map", "color", "fit"], drawCloudTitle);
watch(["run", "position", "split", "state", "step", "color", "lit"], drawLegend);
watch(["run", "position", "split"], drawMoveTargets);
watch(["run", "position", "split", "state", "step", "map", "color", "lit", "marked", "target"], drawMovesNote);
watch(["run", "position", "split", "multiples"], drawMultiples);
watch(["run", "position", "split", "state", "step"], () => multiples.forEach((multiple) => multiple.refresh()));
watch(["run", "position", "split", "state", "at", "depth", "map", "color", "fit", "names", "wrong", "lit", "marked", "selected", "zoom", "target", "multiples", "beside"], drawClouds);
watchInSight("curves", ["run", "position", "state", "together"], drawCurves);
watchInSight("curve-numbers-title", ["run", "position", "step", "together"], drawCurveNumbers);
watchInSight("heat", ["run", "position", "split", "together"], drawHeat);
watchInSight("crossed", ["run", "position", "split", "step", "together"], drawCrossed);
watchInSight("shares", ["run", "position", "split", "step", "together"], drawShares);
watchInSight("contingency-title", ["run", "position", "split", "state", "step"], drawContingency);
watchInSight("order", ["run", "position", "split", "state"], drawOrder);
watch(["run", "position", "split"], drawEditChoices);
watchInSight("effects", ["run", "position", "split", "edit", "effect", "able", "together"], drawEffects);
watchInSight("effects-title", ["run", "position", "split", "state", "step", "edit", "effect", "able", "together"], drawEffectNumbers);
watchInSight("world", ["run", "position", "split"], drawWorld);
watchInSight("run", ["run"], drawRun);
watch(["step", "state"], moveMarks);
if (!addressGiven()) {
  if (innerWidth > 860 && hasTwin()) change({ beside: besideAtFirst() });
  playOnce();
}

addEventListener("resize", () => change({ wide: innerWidth }));

/** Draw the maps at once: there are no frames before a page is printed. The second map may be hidden. */
function drawAllClouds() {
  for (const cloud of clouds) if (cloud.canvas.clientWidth) cloud.draw();
}

matchMedia("print").addEventListener("change", () => { forgetColors(); drawAllClouds(); }); // paper is light
addEventListener("beforeprint", () => {
  document.querySelectorAll("#verdicts details").forEach((details) => { details.open = true; });
  sections.forEach((draw) => draw());
  drawAllClouds();
});
