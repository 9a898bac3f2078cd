// Read the packed arrays that page_arrays.py has written, as typed arrays.
"use strict";

const LEVELS = 1500; // of a coordinate, as in page_arrays.py
const unpacking = new Map();

/** Unpack the arrays of a split of a run at the shown position, once; return a promise of {name: {data, shape}}. */
function arraysOf(run, split) {
  const id = `packed-${run}-${positionIn(run)}-${split}`;
  if (!unpacking.has(id)) {
    const shown = runNow(run).splits[split], { arrays: directory } = shown;
    unpacking.set(id, inflate(document.getElementById(id).textContent).then((all) => {
      const arrays = {};
      for (const [key, entry] of Object.entries(directory)) {
        if (entry.half) whenAsked(arrays, key, () => readMap(all, entry, arrays[entry.by]?.data));
        else arrays[key] = { data: numbersAt(all, entry), shape: entry.shape };
      }
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
  const planes = new Uint8Array(await new Response(stream).arrayBuffer()), n = planes.length / 2; // all low bytes, then all high bytes
  const numbers = new Uint16Array(n);
  for (let i = 0; i < n; i++) numbers[i] = planes[i] | (planes[n + i] << 8);
  return numbers;
}

/** Let an object compute a value when it is read for the first time: most maps are never shown. */
function whenAsked(object, key, compute) {
  const keep = (value) => Object.defineProperty(object, key, { value });
  Object.defineProperty(object, key, { enumerable: true, configurable: true, get: () => keep(compute())[key] });
}

const numbersAt = (all, { at, shape }) => all.subarray(at, at + shape.reduce((a, b) => a * b, 1));

/**
 * Return a map. Its data, (S, N, 2), are coordinates from -1 to 1 in the square of a checkpoint, which is given by its
 * `middle` and its `half` width. They are written as changes, (S, 2, N): see `Packer.add_map`.
 */
function readMap(all, entry, labels = null) {
  const { shape: [steps, , n], half, middle } = entry, written = numbersAt(all, entry), data = new Float32Array(written.length);
  const size = labels ? d3.max(labels) + 1 : 1, sums = new Int32Array(size), counts = new Int32Array(size), level = new Int32Array(2 * n);
  for (let step = 0, at = 0; step < steps; step++) {
    for (const axis of [0, 1]) {
      sums.fill(0);
      counts.fill(0);
      for (let i = 0; i < n; i++, at++) {
        const label = labels ? labels[i] : 0, odd = written[at] & 1 ? -(written[at] + 1) / 2 : written[at] / 2;
        const change = odd + Math.floor(sums[label] / Math.max(counts[label], 1) + 0.5);
        sums[label] += change;
        counts[label]++;
        level[2 * i + axis] += change;
        data[2 * (step * n + i) + axis] = level[2 * i + axis] / (LEVELS / 2) - 1;
      }
    }
  }
  return { data, shape: [steps, n, 2], half, middle };
}
