// A pen with the methods of a canvas that the map uses. It makes elements of SVG instead of pixels.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const ANCHORS = { start: "start", left: "start", center: "middle", end: "end", right: "end" };
const BASELINES = { alphabetic: 0, middle: 0.35, top: 0.8, hanging: 0.8, bottom: -0.2 }; // shift in heights of the font

/** Write out what no XML may contain, such as a control character. */
const xmlText = (text) => String(text).replace(/[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|\p{Surrogate}/gu,
  (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** Return an element of SVG. A text is text, never markup. */
function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== undefined) element.setAttribute(key, value);
  element.append(...children.map((child) => (child instanceof Node ? child : xmlText(child))));
  return element;
}

class SvgPen {
  constructor() {
    Object.assign(this, {
      elements: [], saved: [], path: d3.pathRound(2), dashes: [], measuring: document.createElement("canvas").getContext("2d"),
      fillStyle: "#000", strokeStyle: "#000", lineWidth: 1, lineJoin: "miter", globalAlpha: 1, font: "10px sans-serif", textAlign: "start", textBaseline: "alphabetic",
    });
  }

  save() {
    const { elements, saved, path, measuring, ...state } = this;
    saved.push(state);
  }

  restore() { Object.assign(this, this.saved.pop()); }
  clearRect() {}
  beginPath() { this.path = d3.pathRound(2); }
  closePath() { this.path.closePath(); }
  moveTo(x, y) { this.path.moveTo(x, y); }
  lineTo(x, y) { this.path[String(this.path) ? "lineTo" : "moveTo"](x, y); }
  arc(...numbers) { this.path.arc(...numbers); }
  rect(...numbers) { this.path.rect(...numbers); }
  quadraticCurveTo(...numbers) { this.path.quadraticCurveTo(...numbers); }
  bezierCurveTo(...numbers) { this.path.bezierCurveTo(...numbers); }
  setLineDash(dashes) { this.dashes = dashes; }
  strokes() {
    return { stroke: this.strokeStyle, "stroke-width": this.lineWidth, "stroke-linejoin": this.lineJoin, "stroke-dasharray": this.dashes.join(" ") || null };
  }

  add(tag, attributes, ...children) {
    this.elements.push(svg(tag, { ...attributes, opacity: this.globalAlpha === 1 ? null : this.globalAlpha }, ...children));
  }

  stroke() { this.add("path", { d: this.path, fill: "none", ...this.strokes() }); }
  fill() { this.add("path", { d: this.path, fill: this.fillStyle }); }
  fillText(text, x, y) { this.write(text, x, y, { fill: this.fillStyle }); }
  strokeText(text, x, y) { this.write(text, x, y, { fill: "none", ...this.strokes() }); }
  fillRect(x, y, width, height) { this.add("rect", { x, y, width, height, fill: this.fillStyle }); }
  strokeRect(x, y, width, height) { this.add("rect", { x, y, width, height, fill: "none", ...this.strokes() }); }

  measureText(text) {
    this.measuring.font = this.font;
    return this.measuring.measureText(text);
  }

  write(text, x, y, attributes) {
    const { style } = document.createElement("span");
    style.font = this.font;
    const size = parseFloat(style.fontSize);
    this.add("text", {
      x, y: y + size * BASELINES[this.textBaseline], "font-size": size, "font-weight": style.fontWeight, "font-family": style.fontFamily,
      "text-anchor": ANCHORS[this.textAlign], ...attributes,
    }, text);
  }

  /** Draw the symbol that `sprite` has painted on an image. */
  drawImage({ symbol: { path, radius, fill, outline }, width }, x, y) {
    const attributes = { d: path, transform: `translate(${+(x + width / 2).toFixed(2)} ${+(y + width / 2).toFixed(2)}) scale(${+radius.toFixed(3)})`, fill };
    this.add("path", { ...attributes, class: outline ? "point" : "point dim", ...(outline ? { stroke: outline, "stroke-width": 0.36, "stroke-linejoin": "round", "paint-order": "stroke" } : {}) });
  }
}
