"use strict";
(() => {
const DATA = JSON.parse(document.getElementById("data").textContent);
const K = ["layer", "op", "klass", "shape", "dtype", "flops", "macs", "bytes", "weight_bytes", "intensity", "time_s", "bound", "level",
  "efficiency", "compute_s", "memory_s", "overhead_s", "known", "phase", "parts"];
for (const d of DATA) d.kernels = d.kernels.map(row => Object.fromEntries(K.map((name, i) => [name, row[i]])));

// ---- words
const digits = (v, n) => v === 0 ? "0" : String(+v.toPrecision(n));
function si(v, unit = "", n = 3) {
  const steps = ["", "k", "M", "G", "T", "P", "E"];
  let i = 0;
  while (i < steps.length - 1 && +Math.abs(v).toPrecision(n) >= 1000) { v /= 1000; i++; }
  return `${digits(v, n)} ${steps[i]}${unit}`.trim();
}
function seconds(v) {
  for (const [unit, size] of [["s", 1], ["ms", 1e-3], ["µs", 1e-6]]) if (v >= size * .9995) return `${digits(v / size, 3)} ${unit}`;
  return v ? `${digits(v / 1e-9, 3)} ns` : "0 s";
}
function percent(part, whole) {
  const p = whole ? 100 * part / whole : 0;
  return p === 0 ? "0 %" : p < .1 ? "<0.1 %" : p >= 99.5 && p < 100 - 1e-6 ? `${Math.min(p, 99.9).toFixed(1)} %` : `${p < 9.95 ? p.toFixed(1) : p.toFixed(0)} %`;
}
function el(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "circle", "line", "text", "rect", "polygon", "clipPath", "defs"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// ---- kernels that would cover each other become one mark
function group(kernels) {
  const spots = new Map();
  for (const k of kernels) {
    if (!k.flops || !k.bytes || !k.time_s) continue;
    const rate = k.flops / k.time_s;
    const key = [k.klass, k.op, Math.round(115 * Math.log10(k.intensity)), Math.round(115 * Math.log10(rate))].join();
    const alone = k.time_s > k.overhead_s ? k.flops / (k.time_s - k.overhead_s) : rate;
    if (!spots.has(key)) spots.set(key, { k, x: k.intensity, y: rate, alone, time: 0, all: [] });
    const spot = spots.get(key);
    spot.time += k.time_s;
    spot.all.push(k);
  }
  return [...spots.values()].sort((a, b) => b.time - a.time);
}

class Chart {
  constructor(box, data) {
    this.box = box; this.d = data; this.off = new Set(); this.lit = null; this.pinned = -1; this.at = -1;
    this.card = box.closest(".card");
    this.live = this.card.querySelector("[aria-live]");
    this.spots = group(data.kernels);
    this.tip = el("div", { class: "tip", hidden: "" });
    this.svg = el("svg", { tabindex: "0", role: "img", "aria-label":
      `Roofline of ${data.device}: ${data.model} reaches ${si(data.total[1], "FLOP/s")} at ${si(data.total[0])} FLOP per byte; the ridge is at ${si(data.ridge)}.` });
    box.replaceChildren(this.svg, this.tip);
    this.home();
    this.listen();
    this.draw();
    // only the width matters: the chart sets its own height
    new ResizeObserver(() => requestAnimationFrame(() => { if (box.clientWidth !== this.w) this.draw(); })).observe(box);
  }
  home() {
    const d = this.d, xs = this.spots.map(s => s.x), ys = this.spots.flatMap(s => [s.y, s.alone]);
    const high = Math.max(...d.roofs.map(r => r[1]), ...ys) * 2.4;
    const low = Math.min(Math.max(Math.min(...ys, d.peak) / 2.5, high / 10 ** 5.5), d.peak / 300);
    const ridge = d.ridge || 1;
    this.view = [Math.min(...xs.map(x => x / 1.8), ridge / 30), Math.max(...xs.map(x => x * 2.2), ridge * 12), low, high].map(Math.log10);
  }
  x(v) { const [a, b] = this.view; return 58 + (Math.log10(v) - a) / (b - a) * (this.w - 70); }
  y(v) { const [, , c, d] = this.view; return 12 + (d - Math.log10(v)) / (d - c) * (this.h - 58); }
  draw() {
    this.w = this.box.clientWidth; this.h = Math.max(470, Math.min(620, this.w * .62));
    if (!this.w) return;
    const d = this.d, [a, b, c, e] = this.view, left = 10 ** a, right = 10 ** b, low = 10 ** c, high = 10 ** e;
    const svg = this.svg, put = node => (svg.append(node), node);
    const inside = this.clip = `clip-${this.box.dataset.chart}`;
    svg.setAttribute("viewBox", `0 0 ${this.w} ${this.h}`);
    svg.style.height = `${this.h}px`;
    svg.replaceChildren(el("defs", {}, el("clipPath", { id: inside }, el("rect", { x: 58, y: 12, width: this.w - 70, height: this.h - 58 }))));
    // grid
    const tick = v => v < 1e-2 || v >= 1e4 ? si(v) : String(+v.toPrecision(3));
    for (let i = Math.ceil(a); i <= b; i++) {
      put(el("line", { x1: this.x(10 ** i), x2: this.x(10 ** i), y1: 12, y2: this.h - 46, stroke: "var(--line)" }));
      put(el("text", { x: this.x(10 ** i), y: this.h - 29, "text-anchor": "middle" }, tick(10 ** i)));
    }
    for (let i = Math.ceil(c); i <= e; i++) {
      put(el("line", { x1: 58, x2: this.w - 12, y1: this.y(10 ** i), y2: this.y(10 ** i), stroke: "var(--line)" }));
      put(el("text", { x: 50, y: this.y(10 ** i) + 4, "text-anchor": "end" }, si(10 ** i).replace(" ", "")));
    }
    put(el("text", { x: 58 + (this.w - 70) / 2, y: this.h - 7, "text-anchor": "middle" }, "arithmetic intensity (FLOP per byte moved)"));
    put(el("text", { x: 13, y: this.h / 2 - 20, "text-anchor": "middle", transform: `rotate(-90 13 ${this.h / 2 - 20})` }, "FLOP/s"));
    const plot = put(el("g", { "clip-path": `url(#${inside})` }));
    // the two regions under the bold roof
    const P = (x, y) => `${this.x(x)},${this.y(y)}`;
    // times rest on what is reached (solid); what the data sheet says is dashed
    const peak = d.peak * d.kept, levels = d.levels, [, dram, sheet] = levels[levels.length - 1], knee = peak / dram, under = Math.min(peak, dram * d.ridge);
    const ofNominal = (v, full, unit) => this.w < 560 || si(v, unit) === si(full, unit) ? si(v, unit) : `${si(v, unit)} (nominal ${si(full, unit)})`;
    const l0 = Math.min(left, d.ridge) / 10, r0 = Math.max(right, d.ridge) * 10, base = low / 10;
    plot.append(
      el("polygon", { points: [P(l0, dram * l0), P(Math.min(knee, d.ridge), dram * Math.min(knee, d.ridge)), P(d.ridge, under), P(d.ridge, base), P(l0, base)].join(" "), fill: "var(--memory)", "fill-opacity": .07 }),
      el("polygon", { points: [P(d.ridge, under), P(Math.max(knee, d.ridge), peak), P(r0, peak), P(r0, base), P(d.ridge, base)].join(" "), fill: "var(--compute)", "fill-opacity": .08 }));
    const taken = [], highest = Math.max(...d.roofs.map(r => r[1])) * d.kept, fastest = Math.max(...levels.map(l => l[1]));
    const roof = (x1, y1, x2, y2, bold, dash) => plot.append(el("line", { x1: this.x(x1), y1: this.y(y1), x2: this.x(x2), y2: this.y(y2),
      stroke: bold ? "var(--ink)" : "var(--faint)", "stroke-width": bold ? 2.4 : 1.2, "stroke-linecap": "round", "stroke-dasharray": dash ? "6 3" : "none" }));
    if (sheet > 1.03 * dram) roof(l0, sheet * l0, d.peak / sheet, d.peak, false, true);
    if (d.kept < .97) roof(d.peak / sheet, d.peak, r0, d.peak, false, true);
    for (const [name, bandwidth, full] of levels) {
      const bold = bandwidth === dram, meet = bold ? peak : highest;
      roof(l0, bandwidth * l0, meet / bandwidth, meet, bold);
      const start = Math.max(left, low / bandwidth) * 10 ** (16 * (b - a) / (this.w - 70)), dx = this.x(start * 10) - this.x(start), dy = this.y(bandwidth * start * 10) - this.y(bandwidth * start);
      if (start < meet / bandwidth / 3) {
        const angle = Math.atan2(dy, dx) * 180 / Math.PI;
        plot.append(el("text", { class: bold ? "strong halo" : "halo", transform: `translate(${this.x(start)} ${this.y(bandwidth * start)}) rotate(${angle}) translate(0 -5)` }, `${name}\u2002${ofNominal(bandwidth, full, "B/s")}`));
      }
    }
    const ordered = [...d.roofs].sort((p, q) => q[1] - p[1]);
    for (const [name, full] of ordered) {
      const value = full * d.kept, bold = Math.abs(full - d.peak) <= .03 * d.peak;
      roof(value / (bold ? dram : fastest), value, r0, value, bold);
      if (bold) roof(value / fastest, value, value / dram, value, false);
      const under = !bold && this.spots.some(s => s.x > right / 30 && s.y > value && s.y < 1.4 * value);
      this.words(plot, taken, this.w - 16, this.y(value) + (under ? 15 : -6), `${name}\u2002${ofNominal(value, full, "FLOP/s")}`, "end", bold ? "strong halo" : "halo");
    }
    plot.append(el("line", { x1: this.x(d.ridge), x2: this.x(d.ridge), y1: this.y(d.peak), y2: this.h - 46, stroke: "var(--faint)", "stroke-dasharray": "2 4" }));
    this.words(plot, taken, this.x(d.ridge) - 8, this.h - 54, "bytes take longer", "end", "halo", "var(--memory-ink)");
    this.words(plot, taken, this.x(d.ridge) + 8, this.h - 54, "FLOPs take longer", "start", "halo", "var(--compute-ink)");
    this.words(plot, taken, this.x(d.ridge), this.h - 72, `ridge ${si(d.ridge)} FLOP/B`, "middle", "halo");
    plot.append(el("circle", { cx: this.x(d.ridge), cy: this.y(d.peak), r: 4.5, fill: "var(--card)", stroke: "var(--ink)", "stroke-width": 2 }));
    // marks, the largest below
    this.hollow = plot.appendChild(el("g", { fill: "none", "pointer-events": "none" }));
    this.marks = plot.appendChild(el("g"));
    this.spots.forEach((s, i) => this.marks.append(this.mark(s, i, low)));
    this.star(plot, taken, low);
    this.name(plot, taken);
    this.light();
  }
  radius(s) { return Math.sqrt((20 + 1900 * s.time / this.d.total[2]) / Math.PI); }
  mark(s, i, low) {
    const style = this.d.classes[s.k.klass], r = this.radius(s), x = this.x(s.x), y = this.y(Math.max(s.y, low * 1.06));
    const drawn = (y, r) => style[2] === "o" ? el("circle", { cx: x, cy: y, r }) : style[2] === "D"
      ? el("path", { d: `M${x} ${y - r * 1.2}L${x + r * 1.2} ${y} ${x} ${y + r * 1.2} ${x - r * 1.2} ${y}z` })
      : el("path", { d: `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z` });
    const shape = drawn(y, r);
    // the work alone, hollow, joined to where waiting puts it
    if (s.y < .8 * s.alone && !this.off.has(s.k.klass)) {
      const top = this.y(s.alone), alone = drawn(top, r * .7);
      alone.setAttribute("stroke", style[1]);
      this.hollow.append(el("line", { x1: x, x2: x, y1: top, y2: y, stroke: style[1], "stroke-opacity": .45 }), alone);
    }
    shape.setAttribute("class", "dot");
    shape.setAttribute("fill", style[1]);
    shape.dataset.i = i;
    s.px = x; s.py = y; s.node = shape;
    return shape;
  }
  star(plot, taken, low) {
    const [intensity, rate] = this.d.total;
    if (!intensity || !rate) return;
    const x = this.x(intensity), y = this.y(Math.max(rate, low * 1.06)), top = Math.min(this.d.peak * this.d.kept, this.d.levels[this.d.levels.length - 1][1] * intensity);
    let words = `whole model\u2002${si(rate, "FLOP/s")}`;
    if (top > 1.25 * rate) {
      plot.append(el("line", { x1: x, x2: x, y1: y, y2: this.y(top), stroke: "var(--ink)", "stroke-width": 1.5, "stroke-dasharray": "1 3", "stroke-linecap": "round" }));
      words += `, ${digits(top / rate, 2)}× below the roof`;
    }
    const points = [...Array(10)].map((_, i) => { const r = i % 2 ? 4 : 10, t = Math.PI * (i / 5 - .5); return `${x + r * Math.cos(t)},${y + r * Math.sin(t)}`; });
    plot.append(el("polygon", { points: points.join(" "), fill: "var(--ink)", stroke: "var(--card)", "stroke-width": 1.5, "stroke-linejoin": "round", "pointer-events": "none" }));
    taken.push([x - 9, y - 9, x + 9, y + 9]);
    this.beside(plot, taken, x, y, 10, words, "strong halo");
  }
  name(plot, taken) {
    let shown = 0;
    for (const s of this.spots) {
      if (shown >= 8 || s.time < .02 * this.d.total[2]) break;
      if (this.off.has(s.k.klass)) continue;
      const many = s.all.length > 1;
      let short = s.k.layer;
      while (short.length > 26 && short.includes(".")) short = short.slice(short.indexOf(".") + 1);
      if (short !== s.k.layer) short = "…" + short;
      const what = (many ? (s.k.klass === "depthwise_conv" ? "depthwise " : "") + s.k.op + ` ×${s.all.length}` : `${short} ${s.k.op}`).trim();
      shown += this.beside(plot, taken, s.px, s.py, this.radius(s), `${what}\u2002${percent(s.time, this.d.total[2])}`, "halo", this.d.classes[s.k.klass][1]);
    }
  }
  words(parent, taken, x, y, text, anchor, cls, fill) {
    const node = el("text", { x, y, "text-anchor": anchor, class: cls, "pointer-events": "none" }, text);
    if (fill) node.style.fill = fill;
    parent.append(node);
    const b = node.getBBox();
    taken.push([b.x, b.y, b.x + b.width, b.y + b.height]);
  }
  // the nearest place beside a mark that no other words take; nothing where there is none
  beside(plot, taken, x, y, r, text, cls, fill) {
    if (x < 58 || x > this.w - 12 || y < 12 || y > this.h - 46) return 0;
    const node = el("text", { class: cls, "pointer-events": "none" }, text);
    if (fill) node.style.fill = `color-mix(in srgb, ${fill} 62%, var(--ink))`;
    plot.append(node);
    const { width: w, height: h } = node.getBBox();
    const marks = this.spots.slice(0, 200).map(s => [s.px - 4, s.py - 4, s.px + 4, s.py + 4]);
    for (const [wall, rings] of [[[...taken, ...marks], 5], [taken, 12]]) for (let ring = 0; ring < rings; ring++) {
      const o = r + 4 + 9 * ring;
      for (const [dx, dy] of [[o, -h / 2], [-o - w, -h / 2], [.8 * o, .6 * o], [.8 * o, -.6 * o - h], [-w / 2, o], [-w / 2, -o - h], [-.8 * o - w, .6 * o], [-.8 * o - w, -.6 * o - h]]) {
        const box = [x + dx, y + dy, x + dx + w, y + dy + h];
        if (box[0] < 60 || box[2] > this.w - 14 || box[1] < 12 || box[3] > this.h - 47) continue;
        if (wall.some(t => t[0] < box[2] && t[2] > box[0] && t[1] < box[3] && t[3] > box[1])) continue;
        node.setAttribute("x", box[0]);
        node.setAttribute("y", box[1] + h * .78);
        taken.push(box);
        const ex = Math.min(Math.max(x, box[0]), box[2]), ey = Math.min(Math.max(y, box[1]), box[3]);
        if (Math.hypot(ex - x, ey - y) > r + 10) this.marks.before(el("line", { x1: x, y1: y, x2: ex, y2: ey, stroke: fill || "var(--ink)", "stroke-opacity": .8 }));
        return 1;
      }
    }
    node.remove();
    return 0;
  }
  light() {
    const some = this.lit !== null || this.off.size > 0 || this.at >= 0;
    this.marks.classList.toggle("dim", this.lit !== null || this.off.size > 0);
    this.spots.forEach((s, i) => {
      const on = !this.off.has(s.k.klass) && (this.lit === null || s.all.some(k => this.lit === "" || k.layer === this.lit || k.layer.startsWith(this.lit + ".")));
      s.node.classList.toggle("lit", some && (i === this.at || (on && this.marks.classList.contains("dim"))));
      s.node.style.pointerEvents = this.off.has(s.k.klass) ? "none" : "";
    });
  }
  show(i) {
    this.at = i;
    this.light();
    this.tip.hidden = i < 0;
    if (i < 0) return;
    const s = this.spots[i], k = s.k, whole = this.d.total[2], n = s.all.length;
    const names = [...new Set(s.all.map(q => q.layer || "(root)"))];
    const bandwidth = (this.d.levels.find(l => l[0] === k.level) || [0, this.d.bandwidth])[1];
    const parts = Object.entries(k.parts).sort((a, b) => b[1] - a[1]).map(([name, v]) => `${name.replace("memory:", "")} ${percent(v, k.time_s)}`);
    const rows = [
      ["kind", this.d.classes[k.klass][0]], ["output", `${k.shape} ${k.dtype}`], ["FLOPs", si(k.flops) + (k.known ? "" : " (unknown)")],
      ["traffic", `${si(k.bytes, "B")}, ${percent(k.weight_bytes, k.bytes)} weights`], ["intensity", `${si(k.intensity)} FLOP/B`], ["reaches", si(s.y, "FLOP/s")],
      ["its work alone", `${si(s.alone, "FLOP/s")}, ${percent(s.alone, Math.min(this.d.peak * this.d.kept, bandwidth * k.intensity))} of its roof`],
      ["time", `${seconds(k.time_s)}${n > 1 ? ` × ${n}` : ""}, ${percent(s.time, whole)}`], ["bound", k.bound + (k.bound === "memory" ? ` (${k.level})` : "")],
      ["rests on", parts.slice(0, 3).join(", ")], ["waits", seconds(k.overhead_s)],
    ];
    const title = el("b", {}, `${n > 1 ? `${n} × ` : ""}${k.op}`), where = el("div", {}, names.slice(0, 3).join(", ") + (names.length > 3 ? ` and ${names.length - 3} more` : ""));
    this.tip.replaceChildren(title, where, el("table", {}, el("tbody", {}, ...rows.map(([a, b]) => el("tr", {}, el("td", {}, a), el("td", {}, b))))));
    const left = s.px + this.tip.offsetWidth + 24 > this.w ? s.px - this.tip.offsetWidth - 16 : s.px + 16;
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${Math.max(0, Math.min(s.py - this.tip.offsetHeight / 2, this.h - this.tip.offsetHeight))}px`;
  }
  zoom(factor, px = this.w / 2, py = this.h / 2) {
    const [a, b, c, d] = this.view;
    const fx = (px - 58) / (this.w - 70), fy = 1 - (py - 12) / (this.h - 58), x = a + fx * (b - a), y = c + fy * (d - c);
    if ((b - a) * factor < .3 || (b - a) * factor > 16) return;
    this.view = [x - (x - a) * factor, x + (b - x) * factor, y - (y - c) * factor, y + (d - y) * factor];
    this.draw();
  }
  listen() {
    const svg = this.svg;
    svg.addEventListener("pointerover", e => { if (this.pinned < 0 && e.target.dataset.i) this.show(+e.target.dataset.i); });
    svg.addEventListener("pointerout", () => { if (this.pinned < 0) this.show(-1); });
    let from = null;
    svg.addEventListener("pointerdown", e => { from = [e.clientX, e.clientY, [...this.view], false]; });
    addEventListener("pointermove", e => {
      if (!from) return;
      const [x0, y0, [a, b, c, d]] = from, dx = (e.clientX - x0) / (this.w - 70) * (b - a), dy = (e.clientY - y0) / (this.h - 58) * (d - c);
      if (!from[3] && Math.hypot(e.clientX - x0, e.clientY - y0) < 4) return;
      from[3] = true;
      this.show(this.pinned = -1);
      this.view = [a - dx, b - dx, c + dy, d + dy];
      this.draw();
    });
    addEventListener("pointerup", e => {
      if (from && !from[3]) this.show(this.pinned = e.target.dataset && e.target.dataset.i && svg.contains(e.target) ? +e.target.dataset.i : -1);
      from = null;
    });
    svg.addEventListener("wheel", e => {
      if (!e.ctrlKey && !e.metaKey) return;
      e.preventDefault();
      const box = svg.getBoundingClientRect();
      this.zoom(e.deltaY > 0 ? 1.15 : 1 / 1.15, e.clientX - box.left, e.clientY - box.top);
    }, { passive: false });
    svg.addEventListener("keydown", e => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
      if (e.key === "Escape") this.show(this.pinned = -1);
      else if (e.key === "+" || e.key === "=") this.zoom(1 / 1.3);
      else if (e.key === "-") this.zoom(1.3);
      else if (step && this.spots.length) {
        this.pinned = (this.at + step + this.spots.length) % this.spots.length;
        this.show(this.pinned);
        this.live.textContent = this.tip.innerText.replace(/\s+/g, " ");
      } else return;
      e.preventDefault();
    });
    const act = { in: () => this.zoom(1 / 1.4), out: () => this.zoom(1.4), reset: () => { this.show(this.pinned = -1); this.home(); this.pick(null); } };
    for (const button of this.card.querySelectorAll(".tools [data-do]")) button.addEventListener("click", act[button.dataset.do]);
    for (const button of this.card.querySelectorAll("[data-class]")) button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      this.off[on ? "delete" : "add"](button.dataset.class);
      this.draw();
    });
  }
  // light the kernels of one layer, or of all
  pick(path) {
    this.lit = path;
    for (const row of this.card.closest("section").querySelectorAll("tr[data-path]")) row.classList.toggle("picked", path !== null && row.dataset.path === path);
    this.draw();
  }
}

// ---- tables
function sortable(table) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = el("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    head.scope = "col";
    button.addEventListener("click", () => {
      const text = head.classList.contains("text");
      const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") !== "descending" : !text;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = row => { const cell = row.cells[column]; return cell.dataset.v === undefined ? cell.textContent : +cell.dataset.v; };
      const order = (p, q) => { const a = key(p), b = key(q); return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1); };
      body.append(...(table.classList.contains("tree-table") ? branch(body, order) : [...body.rows].sort(order)));
    });
  });
}
// rows of a tree: siblings are sorted, children stay below their parent
function branch(body, order) {
  const below = new Map();
  for (const row of body.rows) {
    const up = row.dataset.parent ?? null;
    if (!below.has(up)) below.set(up, []);
    below.get(up).push(row);
  }
  const out = [];
  const walk = up => { for (const row of (below.get(up) || []).sort(order)) { out.push(row); walk(row.dataset.path); } };
  walk(null);
  return out;
}
function tree(card, chart) {
  const table = card.querySelector("table"), rows = [...table.tBodies[0].rows];
  const byPath = new Map(rows.map(row => [row.dataset.path, row]));
  const fold = row => row.querySelector(".fold"), open = row => !fold(row) || fold(row).getAttribute("aria-expanded") === "true";
  const find = card.querySelector("[data-find]");
  const above = row => row.dataset.parent === undefined ? undefined : byPath.get(row.dataset.parent);
  function refresh() {
    const wanted = find.value.trim().toLowerCase(), hits = new Set();
    if (wanted) for (const row of rows) if (row.dataset.path.toLowerCase().includes(wanted) || row.cells[1].textContent.toLowerCase().includes(wanted))
      for (let r = row; r; r = above(r)) hits.add(r);
    for (const row of rows) {
      let seen = true;
      for (let up = above(row); up; up = above(up)) seen = seen && open(up);
      row.hidden = wanted ? !hits.has(row) : !seen;
    }
  }
  for (const row of rows) {
    fold(row)?.addEventListener("click", () => { fold(row).setAttribute("aria-expanded", !open(row)); refresh(); });
    row.querySelector(".pick").addEventListener("click", () => chart.pick(chart.lit === row.dataset.path ? null : row.dataset.path));
  }
  const all = value => () => { for (const row of rows) if (fold(row) && (value || row.dataset.path)) fold(row).setAttribute("aria-expanded", value); refresh(); };
  card.querySelector("[data-do=open]").addEventListener("click", all(true));
  card.querySelector("[data-do=close]").addEventListener("click", all(false));
  find.addEventListener("input", refresh);
  refresh();
}
function kernels(details, data) {
  details.addEventListener("toggle", () => {
    const box = details.querySelector(".scroll");
    if (!details.open || box.firstChild) return;
    const heads = [["#", 0], ["Layer", 1], ["Operator", 1], ["Output", 1], ["Type", 1], ["FLOPs", 0], ["Traffic", 0], ["FLOP/B", 0], ["Time", 0], ["Compute", 0], ["Memory", 0], ["Overhead", 0], ["Efficiency", 0], ["Bound", 1]];
    const cell = (text, v, cls) => { const td = el("td", cls ? { class: cls } : {}, text); if (v !== undefined) td.dataset.v = v; return td; };
    const rows = data.kernels.map((k, i) => el("tr", {},
      cell(String(i + 1), i), cell(k.layer || "(root)", undefined, "text"), cell(k.op, undefined, "text"), cell(k.shape, undefined, "text"), cell(k.dtype, undefined, "text"),
      cell(k.known ? si(k.flops) : "unknown", k.flops), cell(si(k.bytes, "B"), k.bytes), cell(si(k.intensity), k.intensity), cell(seconds(k.time_s), k.time_s),
      cell(seconds(k.compute_s), k.compute_s), cell(seconds(k.memory_s), k.memory_s), cell(seconds(k.overhead_s), k.overhead_s), cell(percent(k.efficiency, 1), k.efficiency),
      el("td", { class: "text" }, el("span", { class: `tag ${k.bound}` }, k.bound === "memory" ? `memory (${k.level})` : k.bound))));
    const table = el("table", { class: "data" }, el("thead", {}, el("tr", {}, ...heads.map(([h, text]) => el("th", text ? { class: "text" } : {}, h)))), el("tbody", {}, ...rows));
    box.append(table);
    sortable(table);
  });
}

// ---- start
document.querySelectorAll("section.analysis").forEach((section, i) => {
  const chart = new Chart(section.querySelector("[data-chart]"), DATA[i]);
  tree(section.querySelector(".tree-table").closest(".card"), chart);
  kernels(section.querySelector("[data-kernels]"), DATA[i]);
});
document.querySelectorAll("table.sortable").forEach(sortable);
const tabs = [...document.querySelectorAll("[role=tab]")];
function select(tab) {
  for (const other of tabs) {
    const on = other === tab;
    other.setAttribute("aria-selected", on);
    other.tabIndex = on ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !on;
  }
}
tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", e => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!step) return;
    const next = tabs[(i + step + tabs.length) % tabs.length];
    select(next);
    next.focus();
  });
});
if (tabs.length) select(tabs[0]);
document.getElementById("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("roofline-theme", theme); } catch { /* a file page may have no storage */ }
});
document.documentElement.dataset.ready = "true";
})();
