// Motion: points glide to a checkpoint or hidden state, and the page plays through the checkpoints. If there is no
// training to show, it plays through the hidden states of a model.
"use strict";

const GLIDE = 450; // milliseconds in which points glide to a chosen checkpoint
const PACE = 700; // milliseconds per checkpoint, or hidden state, while the page plays
const WHOLE = 20_000; // milliseconds that all of them take at most
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Whether the hidden states have the role of time: there are no checkpoints of a training. */
const byLayers = (run = theRun()) => run.step_names !== null || run.steps.length === 1;
/** Return the index of the last checkpoint, or hidden state, up to which the page plays. */
const lastFrame = () => (byLayers() ? theRun().states : theRun().steps).length - 1;
/** Return the checkpoint, or hidden state, that is shown, or the coordinate between two. */
const frameNow = () => (byLayers() ? look.depth ?? theRun().states.indexOf(look.state) : look.at);
/** Show a checkpoint or hidden state, or the points between two. */
function showFrame(at) {
  const whole = Math.floor(at), shown = calm.matches ? whole : at;
  if (byLayers()) change({ state: theRun().states[whole], depth: shown === whole ? null : shown });
  else change({ step: whole, at: shown });
}

/** Show another checkpoint, hidden state or split; points glide over the last step to a checkpoint, or to a layer. */
function go(changes) {
  const states = theRun().states, key = changes.step === undefined ? "depth" : "at";
  const from = key === "at" ? look.at : look.depth ?? states.indexOf(look.state);
  const others = changes.split !== undefined && changes.split !== look.split ? { marked: null, selected: null } : {}; // other points
  change({ ...others, ...changes, depth: null });
  gliding = reached = null;
  const to = key === "at" ? look.step : states.indexOf(look.state), began = performance.now();
  if (playing || calm.matches || from === to || (key === "depth" && !byLayers())) return void change({ at: look.step });
  const begin = to > from ? Math.max(from, to - 1) : Math.min(from, to + 1);
  gliding = (now) => {
    const t = Math.min(1, Math.max(0, (now - began) / GLIDE)); // a frame may begin before the key is pressed
    change({ [key]: t === 1 && key === "depth" ? null : begin + (to - begin) * t });
    return t < 1;
  };
  run();
}

/** Return the hidden state whose points are drawn: on the way to another one, that below. */
const drawnState = () => (look.depth === null ? look.state : theRun().states[Math.floor(look.depth)]);

let gliding = null, playing = false, running = false, opening = false;
let reached = null; // how far the page has played, also between two frames that are shown without motion

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
  const last = lastFrame(), pace = Math.min(PACE, WHOLE / last);
  reached = Math.min(last, (reached ?? frameNow()) + (passed / pace) * Number(byId("speed").value));
  showFrame(reached);
  if (reached < last) return;
  const ended = opening;
  play(false);
  if (ended && byLayers()) go({ state: theRun().best }); // what the title states
}

function play(wanted = !playing) {
  const last = lastFrame();
  playing = wanted && last > 0;
  gliding = reached = null;
  opening = false;
  if (playing && frameNow() >= last) showFrame(0);
  if (!playing) change({ at: look.step, depth: null });
  byId("play").textContent = playing ? "pause" : "play";
  if (playing) run();
}

/** Play once as the page opens, unless the reader prefers less motion; a touch of the map stops it. */
function playOnce() {
  if (calm.matches || lastFrame() === 0) return;
  showFrame(0);
  play(true);
  opening = true;
  byId("cloud").addEventListener("pointerdown", () => { if (opening) play(false); });
}
