// Packed arrays to typed arrays: reads what packing.py has written.
"use strict";

const unpacking = new Map();

/** The arrays of a split of a run, unpacked once: a promise of {name: {data, shape}}. */
function arraysOf(run, split) {
  const id = `packed-${run}-${split}`;
  if (!unpacking.has(id)) {
    const directory = story.runs[run].splits[split].arrays;
    unpacking.set(id, inflate(document.getElementById(id).textContent).then((raw) => {
      const arrays = {};
      for (const [key, entry] of Object.entries(directory)) arrays[key] = readArray(raw, entry);
      return arrays;
    }));
  }
  return unpacking.get(id);
}

/** The arrays of what is looked at; null where something else was by the time they were there. */
async function arraysNow() {
  const { run, split } = look, arrays = await arraysOf(run, split);
  return run === look.run && split === look.split ? arrays : null;
}

async function inflate(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function readArray(raw, entry) {
  const length = entry.shape.reduce((a, b) => a * b, 1);
  let data = raw.subarray(entry.at, entry.at + length);
  if (entry.bytes === 2) {
    const low = data, high = raw.subarray(entry.at + length, entry.at + 2 * length);
    data = new Uint16Array(length);
    for (let i = 0; i < length; i++) data[i] = low[i] | (high[i] << 8);
  }
  return entry.half === undefined ? { data, shape: entry.shape } : readPlaces(data, entry);
}

/**
 * Places, (S, N, 2), from -1 to 1 in the square of their checkpoint, whose `middle` and `half` width come with them:
 * summed up from their differences, modulo 2^16.
 */
function readPlaces(data, entry) {
  const [steps, n] = entry.shape;
  const each = 2 * n, places = new Float32Array(steps * each);
  for (let i = 0; i < each; i++) {
    let level = 0;
    for (let at = i; at < data.length; at += each) {
      level = (level + data[at]) & 0xffff;
      places[at] = level / 2047.5 - 1;
    }
  }
  return { data: places, shape: entry.shape, half: entry.half, middle: entry.middle };
}
