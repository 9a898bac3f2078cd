// Motion: points glide to a checkpoint, and the page plays.
"use strict";

const GLIDE = 450; // milliseconds in which points glide to a chosen checkpoint
const PACE = 700; // milliseconds per checkpoint while the page plays
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Show another checkpoint, hidden state or split; points glide over the last step to a checkpoint. */
function go(changes) {
  const from = look.at;
  if (changes.split !== undefined && changes.split !== look.split) changes = { marked: null, selected: null, ...changes };
  change(changes);
  if (changes.step === undefined) return;
  const to = look.step, began = performance.now();
  if (playing || calm.matches) return void change({ at: to });
  const way = Math.max(from, to) - 1, begin = to > from ? Math.max(from, way) : Math.min(from, to + 1);
  gliding = (now) => {
    const t = Math.min(1, Math.max(0, (now - began) / GLIDE)); // a frame may begin before the key is pressed
    change({ at: begin + (to - begin) * t });
    return t < 1;
  };
  run();
}

let gliding = null, playing = false, running = false;

/** Move the points at each frame, until they stand still. */
function run() {
  if (running) return;
  running = true;
  let last = performance.now();
  const frame = (now) => {
    const passed = Math.min(100, Math.max(0, now - last)); // the first frame may begin before `last`; a hidden tab has no frames
    last = now;
    if (playing) advance(passed);
    else if (gliding && !gliding(now)) gliding = null;
    running = playing || gliding !== null;
    if (running) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

function advance(passed) {
  const last = theRun().steps.length - 1;
  const at = Math.min(last, look.at + (passed / PACE) * Number(byId("speed").value));
  change({ step: Math.floor(at), at: calm.matches ? Math.floor(at) : at });
  if (at >= last) play(false);
}

function play(wanted = !playing) {
  const last = theRun().steps.length - 1;
  playing = wanted && last > 0;
  gliding = null;
  if (playing && look.at >= last) change({ step: 0, at: 0 });
  if (!playing) change({ at: look.step });
  byId("play").textContent = playing ? "pause" : "play";
  if (playing) run();
}
