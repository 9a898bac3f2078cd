// Points on a canvas: their coordinates at `look.at`, their colours, and the point nearest to the mouse.
"use strict";

const clouds = new Set();
let drawing = 0;

/** Draw the visible clouds, once before the next frame. */
function drawClouds() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    for (const cloud of clouds) {
      if (cloud.seen) cloud.draw();
      else delete cloud.canvas.dataset.drawn; // of what it showed before
    }
  });
}

const inSight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const cloud = [...clouds].find(({ canvas }) => canvas === entry.target);
    if (cloud) cloud.seen = entry.isIntersecting;
  }
  drawClouds();
});
const resized = new ResizeObserver(drawClouds);

const ease = (t) => t * t * (3 - 2 * t);

class Cloud {
  /**
   * `shown` returns what is drawn, {run, split, state}, a `step` if not that of `look.at`, and a `depth` if it is between
   * two hidden states; `radius` is that of a symbol in pixels of the page. If there is a method `over`, it paints over the
   * points. With `zoomed`, it shows the part of the map that `look.zoom` names. A method `showsSame`
   * returns whether its points are those of the large map.
   */
  constructor(canvas, shown, radius) {
    Object.assign(this, { canvas, shown, radius, seen: true, points: new Float32Array(0), arrays: null });
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
    const { run, split, state, step: at = look.at, depth = null } = this.shown(), key = `${run} ${positionIn(run)} ${split}`;
    if (this.key !== key) {
      this.key = key;
      this.arrays = null;
      delete this.canvas.dataset.drawn;
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
    this.margin = 3 * this.radius * ratio;
    this.ofShown = this.showsSame?.() ?? (run === look.run && split === look.split);
    const next = depth === null ? state : runNow(run).states[Math.floor(depth) + 1] ?? state, part = depth === null ? 0 : depth % 1;
    this.symbolOf = (value) => symbolNumber(value, look.color, runNow(run), runNow(run).splits[split]);
    this.now = { state, next, at, part };
    this.move([state, next], at, part, width, height);
    const step = Math.floor(at);
    this.paint(pen, values(this.arrays, state, step), ratio, look.wrong && rightNow(this.arrays, step));
    this.canvas.dataset.drawn = `${state} ${at}${depth === null ? "" : ` ${depth}`}`;
  }

  /**
   * Compute the coordinates of every point at a checkpoint, or between two, in pixels of the canvas; or at `part` of the
   * way from the first of two hidden states to the second.
   */
  move(states, where, part, width, height) {
    const [map, other] = states.map((state) => this.arrays[`${look.map}/${state}`]), n = map.shape[1], last = map.shape[0] - 1;
    const at = Math.min(where, last), from = Math.floor(at), to = map === other ? Math.min(from + 1, last) : from;
    const t = ease(map === other ? at - from : part), a = frameOf(map, from), b = frameOf(other, to);
    const zoom = this.zoom(), size = this.half() * zoom.k, middleX = width / 2 + this.half() * zoom.x, middleY = height / 2 + this.half() * zoom.y;
    if (this.points.length !== 2 * n) this.points = new Float32Array(2 * n);
    for (let i = 0, p = 2 * n * from, q = 2 * n * to; i < 2 * n; i += 2, p += 2, q += 2) {
      const x = a.x + a.half * map.data[p], y = a.y + a.half * map.data[p + 1];
      this.points[i] = middleX + size * (x + (b.x + b.half * other.data[q] - x) * t);
      this.points[i + 1] = middleY - size * (y + (b.y + b.half * other.data[q + 1] - y) * t);
    }
  }

  /** Return half the side of the whole map in pixels of the canvas. */
  half() { return Math.min(this.canvas.width, this.canvas.height) / 2 - this.margin; }
  /** Return how many pixels of the canvas a pixel of the page is. */
  ratio() { return this.canvas.width / this.canvas.clientWidth; }
  zoom() { return this.zoomed ? look.zoom : UNZOOMED; }

  paint(pen, value, ratio, right) {
    const radius = this.radius * ratio, isSmall = this.radius < 2;
    const isLit = (i) => look.lit === null || value[i] === look.lit || (look.color === "task" && value[i] === look.target);
    const selected = this.ofShown && look.selected ? new Set(look.selected) : null;
    const isDim = (i) => !isLit(i) || Boolean(right && right[i]) || Boolean(selected && !selected.has(i));
    if (isSmall && !this.needsShapes(value)) this.dots(pen, value, Math.round(2 * radius), isDim);
    else this.symbols(pen, value, isSmall ? 1.6 * radius : radius, isDim); // a shape needs some pixels
    const { marked } = look;
    if (this.ofShown && marked !== null && marked < value.length) {
      pen.beginPath();
      pen.arc(this.points[2 * marked], this.points[2 * marked + 1], radius * 1.9 + 2, 0, 7);
      pen.lineWidth = 2 * ratio;
      pen.strokeStyle = colors().ink;
      pen.stroke();
    }
    if (look.names && this.radius >= 3) this.names(pen, ratio);
    this.over?.(pen, ratio);
  }

  /** Return whether values have equal colours and differ in their shapes; many more values repeat these, too. */
  needsShapes(value) {
    const n = new Set(value).size;
    return n > COLORS && n <= COLORS * SHAPES.length;
  }

  /** Paint names at the groups of points, from their places in the maps before and after. */
  names(pen, ratio) {
    const { state, next, at, part } = this.now, from = Math.floor(at), before = this.namesAt(pen, state, from, ratio);
    const after = next !== state ? this.namesAt(pen, next, from, ratio) : at === from ? before : this.namesAt(pen, state, from + 1, ratio);
    paintNames(pen, before, after, ease(next !== state ? part : at - from), ratio);
  }

  /** Return the places of the names in the map of a hidden state at a checkpoint; they are kept until all maps change. */
  namesAt(pen, state, step, ratio) {
    const { width, height } = this.canvas, map = [this.key, look.map, look.color, look.fit, width, height, Object.values(look.zoom ?? {})].join(" ");
    if (this.named?.map !== map) this.named = { map, places: new Map() };
    const { places } = this.named, key = `${state} ${step}`;
    if (!places.has(key)) {
      const shown = this.points;
      this.points = new Float32Array(shown.length);
      this.move([state, state], step, 0, width, height);
      places.set(key, placeNames(pen, this.points, values(this.arrays, state, step), { width, height }, ratio));
      this.points = shown;
    }
    return places.get(key);
  }

  /** Return the number of the symbol of each value, by value. */
  symbolsBy(value) {
    const symbol = [];
    for (const each of new Set(value)) symbol[each] = this.symbolOf(each);
    return symbol;
  }

  /** Paint symbols, with the dimmed ones below the others. */
  symbols(pen, value, radius, isDim) {
    const symbol = this.symbolsBy(value), round = pen instanceof SvgPen ? (pixels) => pixels : Math.round;
    for (const dim of [true, false]) {
      for (let i = 0; i < value.length; i++) {
        if (isDim(i) !== dim) continue;
        const image = dim ? sprite(null, radius * 0.7) : sprite(symbol[value[i]], radius), half = image.width / 2;
        // Coordinates are whole pixels: this is twice as fast as fractions of pixels.
        pen.drawImage(image, round(this.points[2 * i] - half), round(this.points[2 * i + 1] - half));
      }
    }
  }

  /** Paint small squares, pixel by pixel: too small for shapes, and the fastest way without a graphics card. */
  dots(pen, value, size, isDim) {
    const { width, height } = this.canvas, { dim: faint, each } = colors().pixels, symbol = this.symbolsBy(value);
    const image = pen.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    for (const dim of [true, false]) {
      for (let i = 0; i < value.length; i++) {
        if (isDim(i) !== dim) continue;
        const left = Math.round(this.points[2 * i] - size / 2), top = Math.round(this.points[2 * i + 1] - size / 2);
        for (let y = Math.max(0, top); y < Math.min(height, top + size); y++) {
          for (let x = Math.max(0, left); x < Math.min(width, left + size); x++) {
            pixels[y * width + x] = dim ? faint : each[symbol[value[i]] % COLORS];
          }
        }
      }
    }
    pen.putImageData(image, 0, 0);
  }

  /** Return how many pixels of the canvas a distance on a map is at a checkpoint. */
  scaleOf(map, step) {
    return (this.half() * this.zoom().k * frameOf(map, step).half) / map.half[step];
  }

  /** Return the point nearest to a pixel of the page within `reach` pixels; null if there is none. */
  nearest(x, y, reach = 14) {
    const ratio = this.ratio();
    let best = null, least = (reach * ratio) ** 2;
    for (let i = 0; i < this.points.length / 2; i++) {
      const distance = (this.points[2 * i] - x * ratio) ** 2 + (this.points[2 * i + 1] - y * ratio) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  /** Return the coordinates of a point in pixels of the page, from the corner of the canvas. */
  coordinatesOf(i) {
    const ratio = this.ratio();
    return [this.points[2 * i] / ratio, this.points[2 * i + 1] / ratio];
  }
}

/** Return the value of each point in the chosen colouring at a checkpoint, by default the shown one, (N,). */
function values(arrays, state, step = look.step) {
  if (look.color !== "cluster") return (arrays[look.color] ?? arrays.task).data;
  return rowNow(arrays[`cluster/${state}`], step);
}

/** Return whether the answer to each point is right at a checkpoint, (N,); null if unknown. */
function rightNow(arrays, step) {
  if (!arrays.right) return null;
  return rowNow(arrays.right, step);
}

/** Return the row of an array at a checkpoint, by default the shown one, or the last row. */
function rowNow({ data, shape: [steps, n] }, at = look.step) {
  const step = Math.min(at, steps - 1);
  return data.subarray(step * n, (step + 1) * n);
}

/** Return the square of a checkpoint relative to the frame, which may be fitted to it or common to all checkpoints. */
function frameOf(map, step) {
  if (look.fit) return { x: 0, y: 0, half: 1 };
  const { middle, half } = map;
  map.common ??= commonFrame(middle, half);
  const { x, y, half: all } = map.common;
  return { x: (middle[step][0] - x) / all, y: (middle[step][1] - y) / all, half: half[step] / all };
}

/** Return the square around the squares of all checkpoints. */
function commonFrame(middle, half) {
  const ends = (axis) => [d3.min(middle, (at, i) => at[axis] - half[i]), d3.max(middle, (at, i) => at[axis] + half[i])];
  const [[left, right], [low, high]] = [ends(0), ends(1)];
  return { x: (left + right) / 2, y: (low + high) / 2, half: Math.max(right - left, high - low) / 2 };
}
