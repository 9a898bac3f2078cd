// Points on a canvas: where they are at `look.at`, what they are coloured by, and which is pointed at.
"use strict";

const clouds = new Set();
let drawing = 0;

/** Draw what is seen of the clouds, once before the next frame is shown. */
function drawClouds() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    for (const cloud of clouds) if (cloud.seen) cloud.draw();
  });
}

const inSight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const cloud = [...clouds].find((one) => one.canvas === entry.target);
    if (cloud) cloud.seen = entry.isIntersecting;
  }
  drawClouds();
});
const resized = new ResizeObserver(drawClouds);

const ease = (t) => t * t * (3 - 2 * t);

class Cloud {
  /** `place` says what is drawn: {run, split, state}; `radius` of a symbol, in pixels of the page. */
  constructor(canvas, place, radius) {
    Object.assign(this, { canvas, place, radius, seen: true, points: new Float32Array(0), arrays: null });
    clouds.add(this);
    inSight.observe(canvas);
    resized.observe(canvas);
  }

  remove() {
    clouds.delete(this);
    inSight.unobserve(this.canvas);
    resized.unobserve(this.canvas);
  }

  draw() {
    const { run, split, state } = this.place(), key = `${run} ${split}`;
    if (this.key !== key) {
      this.key = key;
      this.arrays = null;
      arraysOf(run, split).then((arrays) => {
        if (this.key !== key) return;
        this.arrays = arrays;
        drawClouds();
      });
    }
    const ratio = Math.min(2, devicePixelRatio || 1);
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    if (!this.arrays?.[`${look.map}/${state}`]) return;
    this.move(state, width, height, 3 * this.radius * ratio);
    this.paint(pen, values(this.arrays, state), ratio);
    this.canvas.dataset.drawn = `${state} ${look.at}`;
  }

  /** Work out where every point is, in pixels of the canvas. */
  move(state, width, height, margin) {
    const places = this.arrays[`${look.map}/${state}`], { data, shape } = places, n = shape[1], last = shape[0] - 1;
    const at = Math.min(look.at, last), from = Math.floor(at), to = Math.min(from + 1, last), t = ease(at - from);
    const a = frameOf(places, from), b = frameOf(places, to), size = Math.min(width, height) / 2 - margin;
    if (this.points.length !== 2 * n) this.points = new Float32Array(2 * n);
    for (let i = 0, p = 2 * n * from, q = 2 * n * to; i < 2 * n; i += 2, p += 2, q += 2) {
      const x = a.x + a.half * data[p], y = a.y + a.half * data[p + 1];
      this.points[i] = width / 2 + size * (x + (b.x + b.half * data[q] - x) * t);
      this.points[i + 1] = height / 2 - size * (y + (b.y + b.half * data[q + 1] - y) * t);
    }
  }

  paint(pen, value, ratio) {
    const right = look.wrong && rightNow(this.arrays), radius = this.radius * ratio;
    const isDim = (i) => (look.lit !== null && value[i] !== look.lit) || Boolean(right && right[i]);
    if (this.radius < 2) this.dots(pen, value, Math.round(2 * radius), isDim);
    else this.symbols(pen, value, radius, isDim);
    const marked = look.marked;
    if (marked !== null && marked < value.length) {
      pen.beginPath();
      pen.arc(this.points[2 * marked], this.points[2 * marked + 1], radius * 1.9 + 2, 0, 7);
      pen.lineWidth = 2 * ratio;
      pen.strokeStyle = colors().ink;
      pen.stroke();
    }
  }

  /** Paint symbols, those that are dimmed below the others. */
  symbols(pen, value, radius, isDim) {
    for (const dim of [true, false]) {
      for (let i = 0; i < value.length; i++) {
        if (isDim(i) !== dim) continue;
        const image = dim ? sprite(null, radius * 0.7) : sprite(value[i], radius), half = image.width / 2;
        // at whole pixels, which is twice as quick as between them
        pen.drawImage(image, Math.round(this.points[2 * i] - half), Math.round(this.points[2 * i + 1] - half));
      }
    }
  }

  /** Paint squares, in which no shape could be told, pixel by pixel: by far the quickest without a graphics card. */
  dots(pen, value, size, isDim) {
    const { width, height } = this.canvas, { dim: faint, each } = colors().pixels;
    const image = pen.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    for (const dim of [true, false]) {
      for (let i = 0; i < value.length; i++) {
        if (isDim(i) !== dim) continue;
        const left = Math.round(this.points[2 * i] - size / 2), top = Math.round(this.points[2 * i + 1] - size / 2);
        for (let y = Math.max(0, top); y < Math.min(height, top + size); y++) {
          for (let x = Math.max(0, left); x < Math.min(width, left + size); x++) {
            pixels[y * width + x] = dim ? faint : each[value[i] % COLORS];
          }
        }
      }
    }
    pen.putImageData(image, 0, 0);
  }

  /** The point nearest to a place on the page, within some pixels of it; null where none is. */
  nearest(x, y, reach = 14) {
    const ratio = this.canvas.width / this.canvas.clientWidth;
    let best = null, least = (reach * ratio) ** 2;
    for (let i = 0; i < this.points.length / 2; i++) {
      const apart = (this.points[2 * i] - x * ratio) ** 2 + (this.points[2 * i + 1] - y * ratio) ** 2;
      if (apart < least) [best, least] = [i, apart];
    }
    return best;
  }

  /** Where a point is, in pixels of the page from the corner of the canvas. */
  placeOf(i) {
    const ratio = this.canvas.width / this.canvas.clientWidth;
    return [this.points[2 * i] / ratio, this.points[2 * i + 1] / ratio];
  }
}

/** What the points are coloured by, (N,). */
function values(arrays, state) {
  if (look.color !== "cluster") return (arrays[look.color] ?? arrays.task).data;
  return rowNow(arrays[`cluster/${state}`]);
}

/** Whether each point is answered right now, (N,); null where that is not known. */
function rightNow(arrays) {
  if (!arrays.right) return null;
  return rowNow(arrays.right);
}

/** The row of an array at the checkpoint that is looked at, or its last. */
function rowNow({ data, shape: [steps, n] }) {
  const step = Math.min(look.step, steps - 1);
  return data.subarray(step * n, (step + 1) * n);
}

/** Where the square of a checkpoint lies in what is seen: all of it, or its part of that of all checkpoints. */
function frameOf(places, step) {
  if (look.fit) return { x: 0, y: 0, half: 1 };
  const { middle, half } = places;
  places.whole ??= wholeOf(middle, half);
  const { x, y, half: all } = places.whole;
  return { x: (middle[step][0] - x) / all, y: (middle[step][1] - y) / all, half: half[step] / all };
}

function wholeOf(middle, half) {
  const ends = (axis) => [d3.min(middle, (at, i) => at[axis] - half[i]), d3.max(middle, (at, i) => at[axis] + half[i])];
  const [[left, right], [low, high]] = [ends(0), ends(1)];
  return { x: (left + right) / 2, y: (low + high) / 2, half: Math.max(right - left, high - low) / 2 };
}
