// ---- the roofline: marks are kernels, or several that would cover each other
function gathered(kernels) {
  const spots = new Map();
  for (const k of kernels) {
    if (!k.flops || !k.bytes || !k.time_s) continue;
    const rate = k.flops / k.time_s;
    const key = [k.class, k.op, Math.round(115 * Math.log10(k.intensity)), Math.round(115 * Math.log10(rate))].join();
    const alone = k.time_s > k.overhead_s ? k.flops / (k.time_s - k.overhead_s) : rate;
    if (!spots.has(key)) spots.set(key, { k, x: Math.log10(k.intensity), y: Math.log10(rate), rate, alone: Math.log10(alone), time: 0, number: 0, all: [] });
    const spot = spots.get(key);
    spot.time += k.all;
    spot.number += k.number;
    spot.all.push(k);
  }
  return [...spots.values()].sort((a, b) => b.time - a.time);
}
const SYMBOL = { o: "circle", D: "diamond", s: "rect" };
const STAR = "path://M0,-10 L2.35,-3.24 9.51,-3.09 3.8,1.24 5.88,8.09 0,4 -5.88,8.09 -3.8,1.24 -9.51,-3.09 -2.35,-3.24Z";
const tick = v => { const n = 10 ** v; return n < 1e-2 || n >= 1e4 ? si(n) : String(+n.toPrecision(2)); };
const nominal = (v, full, unit) => si(v, unit) === si(full, unit) ? si(v, unit) : `${si(v, unit)} (nominal ${si(full, unit)})`;

class Roof {
  constructor(card) {
    this.card = card;
    this.box = $(".chart", card);
    this.chart = echarts.init(this.box, null, { renderer: "svg" });
    this.at = -1;
    this.listen();
  }
  open(run) {
    this.run = run; this.d = DATA.roofs[run.roof]; this.at = -1;
    const silent = opened(run).kernels.filter(k => !k.flops || !k.bytes), t = silent.reduce((sum, k) => sum + k.all, 0), n = silent.reduce((sum, k) => sum + k.number, 0);
    $(".silent", this.card).textContent = n ? `Not drawn: ${many(n, "kernel")} without arithmetic (${percent(t, run.totals.time_s)} of the time).` : "";
    $("#roof-what").textContent = "The further right a mark, the more arithmetic its kernels do for each byte that they move; the higher, the faster they do it. Nothing gets above the roofs: left of the ridge memory sets the limit, right of it arithmetic. "
      + "A mark's area is its share of the time; hollow: its work alone, without waiting for the host; ★: the whole model. Solid roofs are what times rest on, dashed ones the data sheet's.";
    this.box.setAttribute("aria-label", `Roofline of ${this.d.title}: ${run.model} reaches ${si(run.totals.achieved_flops, "FLOP/s")} at ${si(run.totals.intensity)} FLOP per byte; the ridge is at ${si(this.d.ridge)}.`);
    this.home();
    this.draw();
  }
  home() {
    const d = this.d, xs = this.spots.map(s => s.x), ys = this.spots.flatMap(s => [s.y, s.alone]), log = Math.log10;
    const high = Math.max(log(Math.max(d.peak, ...d.roofs.map(r => r[1]))), ...ys) + .38, ridge = log(d.ridge || 1), peak = log(d.peak || 1);
    const low = Math.min(Math.max(Math.min(peak, ...ys) - .4, high - 5.5), peak - 2.48);
    this.view = [Math.min(ridge - 1.48, ...xs.map(x => x - .26)), Math.max(ridge + 1.08, ...xs.map(x => x + .34)), low, high];
  }
  lines(narrow) {
    const d = this.d, log = Math.log10, peak = d.peak * d.kept, [, dram, sheet] = d.levels[d.levels.length - 1];
    const highest = Math.max(d.peak, ...d.roofs.map(r => r[1])) * d.kept, fastest = Math.max(...d.levels.map(l => l[1])), out = [];
    if (sheet > 1.03 * dram) out.push({ from: [-9, log(sheet) - 9], to: [log(d.peak / sheet), log(d.peak)], dash: true });
    if (d.kept < .97) out.push({ from: [log(d.peak / sheet), log(d.peak)], to: [9, log(d.peak)], dash: true });
    // names of roofs that lie close together stand one behind the other
    for (const [place, [name, bandwidth, full, size, source]] of d.levels.entries()) {
      const bold = bandwidth === dram, meet = bold ? peak : highest;
      out.push({ from: [-9, log(bandwidth) - 9], to: [log(meet / bandwidth), log(meet)], bold, text: `${name}  ${nominal(bandwidth, full, "B/s")}`, steep: true, place: (d.levels.length - 1 - place) * (narrow ? 1 : 2.5),
        tip: [name + (size ? `, ${binary(size)}` : ""), ["times rest on", si(bandwidth, "B/s", 4)], ["data sheet", si(full, "B/s", 4)], ["source", source || `the device's own numbers (${d.tier})`]] });
    }
    for (const [name, full, source] of d.roofs) {
      const value = full * d.kept, bold = Math.abs(full - d.peak) <= .03 * d.peak;
      out.push({ from: [log(value / (bold ? dram : fastest)), log(value)], to: [9, log(value)], bold, text: `${name}  ${nominal(value, full, "FLOP/s")}`,
        tip: [name, ["times rest on", si(value, "FLOP/s", 4)], ["data sheet", si(full, "FLOP/s", 4)], ["source", source || `the device's own numbers (${d.tier})`]] });
    }
    return out;
  }
  draw() {
    const d = this.d, [a, b, c, e] = this.view, soft = ink("soft"), line = ink("line"), narrow = this.box.clientWidth < 560;
    const axis = { type: "value", axisLine: { show: false }, axisTick: { show: false }, splitLine: { lineStyle: { color: line } }, nameTextStyle: { color: soft }, splitNumber: 6, minInterval: 1 };
    const label = { color: soft, formatter: tick, fontSize: 12, showMinLabel: false, showMaxLabel: false, hideOverlap: true };
    this.ceilings = this.lines(narrow);
    this.chart.setOption({
      animation: false, textStyle: { fontFamily: "inherit" }, grid: { left: narrow ? 50 : 62, right: 12, top: 12, bottom: 50 },
      xAxis: { ...axis, min: a, max: b, name: "arithmetic intensity (FLOP per byte moved)", nameLocation: "middle", nameGap: 30, axisLabel: label },
      yAxis: { ...axis, min: c, max: e, name: "FLOP/s", nameLocation: "middle", nameGap: narrow ? 36 : 46, axisLabel: { ...label, formatter: v => si(10 ** v, "", 2).replace(" ", "") } },
      dataZoom: [0, 1].map(i => ({ type: "inside", [i ? "yAxisIndex" : "xAxisIndex"]: 0, filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false, preventDefaultMouseMove: !matchMedia("(pointer: coarse)").matches })),
      tooltip: { trigger: "item", confine: true, transitionDuration: 0, backgroundColor: ink("card"), borderColor: line, textStyle: { color: ink("ink") }, extraCssText: "box-shadow:0 6px 24px rgb(0 0 0/.22);border-radius:10px;padding:9px 12px", formatter: p => this.tip(p) },
      toolbox: { show: false }, brush: { toolbox: [], xAxisIndex: 0, brushStyle: { color: "rgba(47,111,222,.12)", borderColor: ink("accent") }, outOfBrush: {}, inBrush: {}, throttleType: "debounce", throttleDelay: 60 },
      series: [
        { id: "roofs", type: "custom", coordinateSystem: "cartesian2d", clip: true, z: 1, renderItem: (p, api) => this.ceiling(p, api), data: [[0, 0], ...this.ceilings.map((_, i) => [i, 0])], encode: { x: -1, y: -1 } },
        { id: "alone", type: "scatter", silent: true, z: 2, data: [] }, { id: "marks", type: "scatter", z: 3, data: [], clip: true },
        { id: "whole", type: "scatter", z: 4, silent: true, data: [] },
      ],
    }, true);
    this.light();
  }
  // a roof, its name along it; the first item is what lies under the roof that counts
  ceiling(params, api) {
    const [a, b, c, e] = this.view, at = (x, y) => api.coord([x, y]);
    if (params.dataIndex === 0) {
      const d = this.d, log = Math.log10, ridge = log(d.ridge || 1), [, dram] = d.levels[d.levels.length - 1], peak = d.peak * d.kept;
      const under = log(Math.min(peak, dram * d.ridge)), knee = log(peak / dram), area = (points, fill) => ({ type: "polygon", silent: true, shape: { points: points.map(p => at(...p)) }, style: { fill, opacity: .08 } });
      const words = (x, y, text, align, fill) => ({ type: "text", silent: true, x: at(x, y)[0] + (align === "right" ? -8 : align === "left" ? 8 : 0), y: params.coordSys.y + params.coordSys.height - (align === "center" ? 36 : 18), style: { text, fill, align, fontSize: 12 } });
      const [x0, x1, y0, y1] = (state.box || "").split(",").map(Number), [left, bottom] = at(x0 || 0, y0 || 0), [right, top] = at(x1 || 0, y1 || 0);
      const box = state.box ? [{ type: "rect", silent: true, shape: { x: left, y: top, width: right - left, height: bottom - top }, style: { fill: "rgba(47,111,222,.1)", stroke: ink("accent"), lineWidth: 1 } }] : [];
      return { type: "group", children: [...box,
        area([[-9, log(dram) - 9], [Math.min(knee, ridge), log(dram) + Math.min(knee, ridge)], [ridge, under], [ridge, -9], [-9, -9]], ink("memory")),
        area([[ridge, under], [Math.max(knee, ridge), log(peak)], [9, log(peak)], [9, -9], [ridge, -9]], ink("compute")),
        { type: "line", silent: true, shape: { x1: at(ridge, 0)[0], x2: at(ridge, 0)[0], y1: at(0, log(d.peak))[1], y2: params.coordSys.y + params.coordSys.height }, style: { stroke: ink("faint"), lineDash: [2, 4] } },
        words(ridge, 0, params.coordSys.width < 460 ? "bytes" : "bytes take longer", "right", ink("memory-ink")), words(ridge, 0, params.coordSys.width < 460 ? "FLOPs" : "FLOPs take longer", "left", ink("compute-ink")), words(ridge, 0, `ridge ${si(this.d.ridge)} FLOP/B`, "center", ink("soft")),
      ] };
    }
    const one = this.ceilings[params.dataIndex - 1], from = at(...one.from), to = at(...one.to), box = params.coordSys;
    const children = [{ type: "line", shape: { x1: from[0], y1: from[1], x2: to[0], y2: to[1] }, style: { stroke: one.bold ? ink("ink") : ink("faint"), lineWidth: one.bold ? 2.4 : 1.3, lineDash: one.dash ? [6, 3] : null }, silent: !one.tip }];
    if (one.text) {
      const style = { text: box.width < 460 ? one.text.replace(/ \(nominal.*/, "") : one.text, fill: one.bold ? ink("ink") : ink("soft"), fontWeight: one.bold ? 650 : 400, fontSize: 12, stroke: ink("card"), lineWidth: 3 };
      const slope = Math.atan2(to[1] - from[1], to[0] - from[0]);
      if (!one.steep) children.push({ type: "text", silent: true, x: box.x + box.width - 4, y: to[1] - 6, style: { ...style, align: "right", verticalAlign: "bottom" } });
      else {
        // where the slope comes into view
        const left = Math.max(box.x, from[0] + (box.y + box.height - from[1]) / Math.tan(slope)) + 14 + 40 * (one.place || 0), y = from[1] + (left - from[0]) * Math.tan(slope);
        if (left < to[0] - 90) children.push({ type: "text", silent: true, x: left, y, rotation: -slope, originX: 0, originY: 0, style: { ...style, align: "left", verticalAlign: "bottom", padding: [0, 0, 4, 0] } });
      }
    }
    return { type: "group", children };
  }
  // marks as they are now: off, lit or dim
  light() {
    const off = new Set(state.off.split(",")), lit = chosen(), whole = this.run.totals.time_s, floor = this.view[2] + .03, t = this.run.totals;
    const size = s => Math.sqrt((26 + 2400 * s.time / whole) / Math.PI) * 2;
    const seen = s => !off.has(s.k.class), on = s => !lit || s.all.some(k => lit.has(k));
    const star = t.intensity && t.achieved_flops ? [Math.log10(t.intensity), Math.max(Math.log10(t.achieved_flops), floor)] : null, top = Math.min(this.d.peak * this.d.kept, this.d.levels[this.d.levels.length - 1][1] * t.intensity), below = top / t.achieved_flops;
    const said = `whole model${this.box.clientWidth < 560 ? "" : `  ${si(t.achieved_flops, "FLOP/s")}`}${below > 1.25 && this.box.clientWidth >= 560 ? `, ${times(below)} below the roof` : ""}`;
    const named = this.names(this.spots.filter(s => seen(s) && on(s) && s.time > .02 * whole).slice(0, 16), floor, size, star && [star, said]);
    const data = this.spots.map((s, i) => {
      const [, colour, marker] = DATA.classes[s.k.class], bright = seen(s) && on(s);
      return { value: [s.x, Math.max(s.y, floor)], i, symbol: SYMBOL[marker], symbolSize: size(s) * (marker === "s" ? .9 : marker === "D" ? 1.2 : 1),
        itemStyle: { color: colour, opacity: !seen(s) ? 0 : bright ? (lit ? 1 : .8) : .12, borderColor: bright && lit ? ink("ink") : ink("card"), borderWidth: bright && lit ? 1.6 : 1 },
        label: { show: named.has(s), position: named.get(s), distance: 4, formatter: this.named(s), color: ink("ink"), fontSize: 12, textBorderColor: ink("card"), textBorderWidth: 3 } };
    });
    const alone = this.spots.filter(s => seen(s) && s.y < s.alone - .097).map(s => ({ value: [s.x, s.alone], symbol: SYMBOL[DATA.classes[s.k.class][2]], symbolSize: size(s) * .7, itemStyle: { color: "transparent", borderColor: DATA.classes[s.k.class][1], borderWidth: 1.2, opacity: on(s) ? .9 : .12 } }));
    const model = star ? [{ value: star, symbol: STAR, symbolSize: 22, itemStyle: { color: ink("ink"), borderColor: ink("card"), borderWidth: 1.5 },
      label: { show: true, position: "bottom", distance: 4, fontWeight: 650, color: ink("ink"), textBorderColor: ink("card"), textBorderWidth: 3, formatter: said } }] : [];
    this.chart.setOption({ series: [{ id: "alone", data: alone }, { id: "marks", data }, { id: "whole", data: model }] });
  }
  // on which side marks have their names, eight at most: inside the chart, over no other words, and over as few marks as can be
  names(spots, floor, size, star) {
    const wide = this.chart.getWidth() - 12, high = this.chart.getHeight() - 50, at = point => this.chart.convertToPixel({ xAxisIndex: 0, yAxisIndex: 0 }, point), found = new Map();
    const taken = this.ceilings.filter(c => c.text && !c.steep).map(c => { const y = at(c.to)[1]; return [wide - 8 - 7 * c.text.length, y - 21, wide, y - 2]; });
    if (star) { const [x, y] = at(star[0]), half = 3.8 * star[1].length; taken.push([x - 11, y - 11, x + 11, y + 11], [x - half, y + 11, x + half, y + 30]); }
    const marks = this.spots.slice(0, 2000).map(s => at([s.x, Math.max(s.y, floor)]));
    for (const s of spots) {
      const [x, y] = at([s.x, Math.max(s.y, floor)]), out = size(s) / 2 + 4, long = 7 * this.named(s).length;
      let best = null;
      for (const [side, x0, y0] of [["right", x + out, y - 7], ["left", x - out - long, y - 7], ["bottom", x - long / 2, y + out], ["top", x - long / 2, y - out - 14]]) {
        const own = [x0, y0, x0 + long, y0 + 14], over = marks.filter(([p, q]) => p > own[0] && p < own[2] && q > own[1] && q < own[3]).length;
        if (x0 < 50 || own[2] > wide || y0 < 12 || own[3] > high || taken.some(t => t[0] < own[2] && own[0] < t[2] && t[1] < own[3] && own[1] < t[3])) continue;
        if (!best || over < best.over) best = { side, own, over };
      }
      if (!best || found.size === 8 || (found.size && best.over > 2)) continue;
      taken.push(best.own);
      found.set(s, best.side);
    }
    return found;
  }
  named(s) {
    let short = s.k.path;
    while (short.length > 24 && short.includes(".")) short = short.slice(short.indexOf(".") + 1);
    const what = s.number > 1 ? `${s.k.class === "depthwise_conv" ? "depthwise " : ""}${s.k.op} ×${s.number.toLocaleString("en")}` : `${short === s.k.path ? "" : "…"}${short} ${s.k.op}`;
    return `${what.trim()}  ${percent(s.time, this.run.totals.time_s)}`;
  }
  tip(p) {
    const list = (head, where, found) => el("div", { class: "tip" }, el("b", {}, head), ...(where ? [el("div", {}, where)] : []), el("table", {}, el("tbody", {}, ...found.map(([a, b]) => el("tr", {}, el("td", {}, a), el("td", {}, b))))));
    if (p.seriesId === "roofs") {
      const one = this.ceilings[p.dataIndex - 1];
      return one && one.tip ? list(one.tip[0], "", one.tip.slice(1)) : "";
    }
    const s = p.seriesId === "marks" && this.spots[p.dataIndex];
    return s ? list(...this.facts(s)) : "";
  }
  // what a mark stands for: of kernels that differ, from the smallest to the largest
  facts(s) {
    const d = this.d, k = s.k, whole = this.run.totals.time_s, n = s.number;
    const layers = [...new Set(s.all.map(q => q.path || "the model itself"))], shapes = [...new Set(s.all.map(q => q.shape))];
    const span = (of, words) => { const v = s.all.map(of), low = Math.min(...v), high = Math.max(...v); return words(low) === words(high) ? words(low) : `${words(low)} to ${words(high)}`; };
    const [, reached] = d.levels.find(l => l[0] === k.level) || d.levels[d.levels.length - 1], roof = Math.min(d.peak * d.kept, reached * k.intensity), alone = 10 ** s.alone;
    const parts = {};
    for (const q of s.all) for (const [name, v] of Object.entries(q.parts)) parts[name] = (parts[name] || 0) + v * q.number;
    const rests = Object.entries(parts).sort((a, b) => b[1] - a[1]).slice(0, 3).map(([name, v]) => `${name.replace("memory:", "")} ${percent(v, s.time)}`).join(", ");
    const bounds = [...new Set(s.all.map(q => q.bound + (q.bound === "memory" ? ` (${q.level})` : "")))].join(", ");
    return [`${n > 1 ? `${n.toLocaleString("en")} × ` : ""}${k.op}`, layers.slice(0, 3).join(", ") + (layers.length > 3 ? ` and ${layers.length - 3} more` : ""), [
      ["kind", DATA.classes[k.class][0]], [shapes.length > 1 ? "outputs" : "output", `${shapes.slice(0, 3).join(", ")}${shapes.length > 3 ? ` and ${shapes.length - 3} other shapes` : ""} ${k.dtype}`],
      ["FLOPs", s.all.every(q => q.known) ? span(q => q.flops, v => si(v)) : "unknown"], ["bytes moved", span(q => q.bytes, v => si(v, "B"))], ["of them weights", percent(s.all.reduce((sum, q) => sum + q.weight_bytes, 0), s.all.reduce((sum, q) => sum + q.bytes, 0))],
      ["intensity", span(q => q.intensity, v => `${si(v)} FLOP/B`)], ["reaches", si(s.rate, "FLOP/s")], ["without waiting", `${si(alone, "FLOP/s")}, ${percent(alone, roof)} of its roof`],
      ["time of each", span(q => q.time_s, seconds)], ...(n > 1 ? [["of all", seconds(s.time)]] : []), ["share of the time", percent(s.time, whole)], ["bound", bounds], ["rests on", rests],
    ]];
  }
  step(by) {
    if (!this.spots.length) return;
    const off = new Set(state.off.split(","));
    if (this.spots.every(s => off.has(s.k.class))) return;
    do this.at = (this.at + by + this.spots.length + (this.at < 0 && by < 0 ? 1 : 0)) % this.spots.length; while (off.has(this.spots[this.at].k.class));
    this.chart.dispatchAction({ type: "showTip", seriesIndex: 2, dataIndex: this.at });
    const [head, where, list] = this.facts(this.spots[this.at]);
    say(`${head}, ${where}: ${list.map(([a, b]) => `${a} ${b}`).join("; ")}`);
  }
  let() { this.at = -1; this.chart.dispatchAction({ type: "hideTip" }); }
  zoom(factor) {
    for (const i of [0, 1]) {
      const { start, end } = this.chart.getOption().dataZoom[i], middle = (start + end) / 2, half = Math.min(50, Math.max(1, (end - start) / 2 * factor));
      const low = Math.max(0, Math.min(100 - 2 * half, middle - half));
      this.chart.dispatchAction({ type: "dataZoom", dataZoomIndex: i, start: low, end: low + 2 * half });
    }
  }
  arm(on) {
    $("[data-do=box]", this.card).setAttribute("aria-pressed", on);
    this.chart.dispatchAction({ type: "takeGlobalCursor", key: "brush", brushOption: on ? { brushType: "rect", brushMode: "single" } : { brushType: false } });
  }
  // the box that is drawn with the pointer makes place for ours, which a link restores too
  boxed() { this.chart.dispatchAction({ type: "brush", areas: [] }); }
  listen() {
    const chart = this.chart, act = { in: () => this.zoom(1 / 1.4), out: () => this.zoom(1.4), box: () => this.arm($("[data-do=box]", this.card).getAttribute("aria-pressed") !== "true"),
      reset: () => { this.let(); this.arm(false); this.home(); this.draw(); this.boxed(); pick(null); } };
    for (const button of this.card.querySelectorAll(".tools [data-do]")) button.addEventListener("click", act[button.dataset.do]);
    chart.on("click", p => { if (p.seriesId === "marks") { const k = this.spots[p.dataIndex].k; this.boxed(); pick("kernel", state.kernel === k.i ? null : k.i); } });
    chart.on("brushEnd", p => {
      const area = p.areas[0];
      if (!area || !area.coordRange) return;
      this.arm(false);
      const [[x0, x1], [y0, y1]] = area.coordRange;
      setTimeout(() => this.boxed(), 0);
      pick("box", [x0, x1, y0, y1].map(v => v.toFixed(3)).join(","));
    });
    this.box.addEventListener("keydown", event => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (by) this.step(by);
      else if (event.key === "Enter" && this.at >= 0) { const k = this.spots[this.at].k; pick("kernel", state.kernel === k.i ? null : k.i); }
      else if (event.key === "Escape") { this.let(); this.arm(false); this.boxed(); pick(null); }
      else if (event.key === "+" || event.key === "=") this.zoom(1 / 1.3);
      else if (event.key === "-") this.zoom(1.3);
      else return;
      event.preventDefault();
    });
  }
}
// the kernels that are picked, of all that the run has; null where nothing is
let picked = null;
const chosen = () => picked;
function choose(run, spots) {
  const { kernels } = opened(run);
  let found = null;
  if (state.layer !== null) found = kernels.filter(k => inside(k.path, state.layer));
  else if (state.kernel !== null) { const spot = spots.find(s => s.all.some(k => k.i === state.kernel)); found = spot ? spot.all : kernels.filter(k => k.i === state.kernel); }
  else if (state.look) found = kernels.filter(k => keeps(k, state.look));
  else if (state.box) {
    const [x0, x1, y0, y1] = state.box.split(",").map(Number);
    found = spots.filter(s => s.x >= x0 && s.x <= x1 && s.y >= y0 && s.y <= y1).flatMap(s => s.all);
  }
  picked = found && new Set(found);
}
