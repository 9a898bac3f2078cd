// Read the packed arrays that page_arrays.py has written, as typed arrays.
"use strict";

const unpacking = new Map();

/** Unpack the arrays of a split of a run at the shown position, once; return a promise of {name: {data, shape}}. */
function arraysOf(run, split) {
  const id = `packed-${run}-${positionIn(run)}-${split}`;
  if (!unpacking.has(id)) {
    const shown = runNow(run).splits[split], { arrays: directory } = shown;
    unpacking.set(id, inflate(document.getElementById(id).textContent).then((all) => {
      const arrays = {};
      for (const [key, entry] of Object.entries(directory)) arrays[key] = readArray(all, entry);
      shown.present = Object.fromEntries(COLORINGS.filter((part) => arrays[part]).map((part) => [part, d3.sort(new Set(arrays[part].data))]));
      return arrays;
    }));
  }
  return unpacking.get(id);
}

/** Return the arrays of the shown split; null if another split or position was chosen while they were unpacked. */
async function arraysNow() {
  const { run, split, position } = look, arrays = await arraysOf(run, split);
  return run === look.run && split === look.split && position === look.position ? arrays : null;
}

async function inflate(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint16Array(await new Response(stream).arrayBuffer());
}

/**
 * Return one of the arrays. The data of a map, (S, N, 2), are coordinates from -1 to 1 in the square of a checkpoint.
 * The square is given by its `middle` and its `half` width.
 */
function readArray(all, { at, shape, half, middle }) {
  const levels = all.subarray(at, at + shape.reduce((a, b) => a * b, 1));
  const data = half ? new Float32Array(levels).map((level) => level / 2047.5 - 1) : levels;
  return { data, shape, half, middle };
}
