// ---- models as points by two numbers, and as rows
const DATA = JSON.parse($("#data").textContent);
const state = { off: "", sort: "", find: "", row: "" };
const FIRST = { ...state };
const SIGNS = ["circle", "rect", "diamond", "triangle", "arrow", "pin"];
DATA.rows.forEach((row, i) => { row.i = i; row.words = row.cells.join("\n").toLowerCase(); row.marks = []; });
DATA.marks.forEach((mark, i) => { mark.i = i; if (mark.row !== undefined) DATA.rows[mark.row].marks.push(mark); });
for (const row of DATA.rows) row.group = row.marks.length ? row.marks[0].group : null;
const [X, Y] = DATA.axes;
const said = (axis, v) => axis.unit === "s" ? seconds(v) : axis.unit === "MiB" ? binary(v) : axis.unit === "B" ? si(v, "B") : axis.unit === "J" ? joules(v) : axis.unit ? si(v, axis.unit === "FLOP" ? axis.unit : "") + axis.per : String(+v.toPrecision(6));
// colours go toward white on dark paper, as in pictures
function colour(i) {
  const hex = DATA.series[i % DATA.series.length], part = document.documentElement.dataset.theme === "dark" ? DATA.lighter : 0;
  return `rgb(${[1, 3, 5].map(at => Math.round(parseInt(hex.slice(at, at + 2), 16) * (1 - part) + 255 * part)).join(",")})`;
}
const sign = i => SIGNS[Math.floor(i / DATA.series.length) % SIGNS.length];
const off = () => new Set(state.off ? state.off.split(",").map(Number) : []);
const words = mark => `${mark.name} on ${DATA.groups[mark.group]}: ${DATA.axes.map((axis, i) => `${axis.name} ${said(axis, mark.at[i])}${range(mark, i)}`).join(", ")}${mark.front === true ? ", on the front" : mark.front === false ? ", beaten" : ""}${mark.fits ? "" : ", does not fit into memory"}`;
const range = (mark, i) => { const ends = ranged(mark)[i]; return ends ? ` (${said(DATA.axes[i], ends[0])} to ${said(DATA.axes[i], ends[1])})` : ""; };
const ranged = mark => mark.between || [null, null];
// ---- the table
const grid = new Grid($("#rows .table"), "Models and devices", DATA.heads.map(([name, align], i) => ({
  name, text: align === "l", of: r => r.keys[i] ?? (align === "l" ? "" : -Infinity), width: `minmax(${(i ? 18 : 40) + (align === "l" ? 7.8 : 6.9) * Math.min(30, DATA.rows.reduce((most, r) => Math.max(most, r.cells[i].length), name.length + 1))}px,1fr)`,
  cell: r => i || r.group === null ? r.cells[i] : el("span", {}, el("i", { class: "key", style: `--group:${r.group}` }), r.cells[i]),
})), { sorted: text => { state.sort = text; write(); } });
grid.fill(DATA.rows);
grid.body.addEventListener("click", event => { const node = event.target.closest(".r"); if (node && !String(getSelection())) choose(node.row.i === picked() ? null : node.row.i); });
const picked = () => state.row === "" ? null : +state.row;
function choose(i) { state.row = i === null ? "" : String(i); write(); mark(); }
function mark() {
  const row = picked() === null ? null : DATA.rows[picked()];
  grid.mark(row, new Set());
  if (row) { grid.reveal(row); if (row.marks.length) say(words(row.marks[0])); }
  draw();
}
function refresh() {
  const gone = off(), wanted = state.find.trim().toLowerCase();
  let n = 0;
  for (const [row, node] of grid.nodes) { node.hidden = gone.has(row.group) || !row.words.includes(wanted); n += !node.hidden; }
  return n;
}
function write() {
  const out = new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== FIRST[key])).toString();
  try { history.replaceState(null, "", out ? `#${out}` : location.pathname + location.search); } catch { location.hash = out; }
}
function restore() {
  const got = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(FIRST)) state[key] = got.has(key) ? got.get(key) : FIRST[key];
  if (!/^\d+$/.test(state.row) || +state.row >= DATA.rows.length) state.row = "";
  if (!/^\d+(,\d+)*$/.test(state.off)) state.off = "";
  for (const input of document.querySelectorAll(".by input")) input.checked = !off().has(+input.value);
  find.value = state.find;
  grid.sortAs(state.sort);
  refresh();
  mark();
}
// ---- switches
$("#plane .by").append(...(DATA.groups.length < 2 ? [] : DATA.groups.map((name, i) => {
  const input = el("input", { type: "checkbox", value: i, checked: "" });
  input.addEventListener("change", () => {
    state.off = [...document.querySelectorAll(".by input")].filter(one => !one.checked).map(one => one.value).join(",");
    write();
    say(`${many(refresh(), "row")} shown`);
    draw();
  });
  return el("label", { class: "pill group-pill" }, input, el("span", {}, el("i", { class: "key", style: `--group:${i}` }), name));
})));
const find = $("[data-find]");
find.addEventListener("input", () => { state.find = find.value; write(); say(`${many(refresh(), "row")} shown`); draw(); });
addEventListener("hashchange", restore);
// ---- the points
const box = $("#plane .chart"), chart = echarts.init(box, null, { renderer: "svg" });
const seen = () => { const gone = off(), wanted = state.find.trim().toLowerCase(); return DATA.marks.filter(m => !gone.has(m.group) && (!wanted || (m.row === undefined ? m.name.toLowerCase() : DATA.rows[m.row].words).includes(wanted))); };
// along x, as arrow keys step
const order = () => seen().filter(m => m.row !== undefined).sort((a, b) => a.at[0] - b.at[0] || a.at[1] - b.at[1]);
function draw() {
  document.querySelectorAll(".key[style]").forEach(key => { key.style.background = colour(+key.style.getPropertyValue("--group")); });
  const soft = ink("soft"), line = ink("line"), marks = seen(), narrow = box.clientWidth < 560, now = picked();
  const room = { left: narrow ? 62 : 78, right: narrow ? 16 : 60, top: 14, bottom: 48 }, named = labels(marks, room, narrow, now);
  const axis = (of, more) => ({ type: of.log ? "log" : "value", scale: true, name: of.title, nameLocation: "middle", nameTextStyle: { color: soft }, axisLabel: { color: soft, formatter: v => said(of, v), hideOverlap: true, showMinLabel: false, showMaxLabel: false, ...steps(of, marks) }, axisTick: steps(of, marks), splitLine: { lineStyle: { color: line }, ...steps(of, marks) }, axisLine: { lineStyle: { color: line } }, ...limits(of, marks), ...more });
  const spot = m => ({ value: m.at, mark: m, symbol: m.fits ? sign(m.group) : "path://M-1,-1L1,1M-1,1L1,-1", symbolSize: m.row === undefined ? 4 : now !== null && m.row === now ? 17 : 10,
    itemStyle: { color: m.front === false || !m.fits ? ink("card") : colour(m.group), borderColor: now !== null && m.row === now ? ink("ink") : colour(m.group), borderWidth: m.row === undefined ? 1 : m.fits ? 1.5 : 2 }, label: named.get(m) || { show: false } });
  const series = [];
  DATA.groups.forEach((name, i) => {
    const own = marks.filter(m => m.group === i), best = own.filter(m => m.front).sort((a, b) => a.at[0] - b.at[0]);
    if (DATA.line && best.length > 1) series.push({ type: "line", silent: true, step: X.least ? "end" : "start", showSymbol: false, data: best.map(m => m.at), lineStyle: { color: colour(i), width: 1.6 }, z: 2, tooltip: { show: false } });
    const ends = own.filter(m => m.row !== undefined && m.between);
    if (ends.length) series.push({ type: "custom", silent: true, z: 2, data: ends.map(m => [...m.at.flatMap((v, at) => ranged(m)[at] || [v, v]), ...m.at]), encode: { x: [0, 1], y: [2, 3] }, tooltip: { show: false },
      renderItem: (_, api) => ({ type: "group", children: [[[0, 5], [1, 5]], [[4, 2], [4, 3]]].map(pair => { const [[x1, y1], [x2, y2]] = pair.map(([x, y]) => api.coord([api.value(x), api.value(y)])); return { type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: colour(i), opacity: .5, lineWidth: 1.2 } }; }) }) });
    series.push({ type: "scatter", name, z: 3, data: [...own].sort((a, b) => (a.front === true) - (b.front === true)).map(spot), emphasis: { scale: 1.3 }, 
      label: { color: ink("ink"), fontSize: 12, textBorderColor: ink("card"), textBorderWidth: 2, formatter: p => short(p.data.mark.name) } });
  });
  chart.resize();
  chart.setOption({
    animation: false, textStyle: { fontFamily: "inherit" }, grid: room,
    xAxis: axis(X, { nameGap: 28 }), yAxis: axis(Y, { nameGap: narrow ? 46 : 60 }),
    tooltip: { confine: true, transitionDuration: 0, backgroundColor: ink("card"), borderColor: line, textStyle: { color: ink("ink") }, formatter: p => tip(p.data.mark) }, series,
  }, true);
  box.setAttribute("aria-label", `${many(marks.length, "point")} by ${X.title} and ${Y.title}, ${many(marks.filter(m => m.front).length, "of them")} on a front.`);
}
const short = name => name.length > 26 ? `${name.slice(0, 15)}…${name.slice(-10)}` : name;
// which marks have a name beside them, and on which side: names cover neither each other nor marks; on a phone only what is picked
function labels(marks, room, narrow, now) {
  const found = new Map(), wide = box.clientWidth - room.left - room.right, high = box.clientHeight - room.top - room.bottom, ends = [limits(X, marks), limits(Y, marks)];
  const part = (of, i, v) => { const { min, max } = ends[i], f = of.log ? Math.log(v / min) / Math.log(max / min) : (v - min) / (max - min); return i ? room.top + (1 - f) * high : room.left + f * wide; };
  const spots = marks.slice(0, 2000).map(m => [m, part(X, 0, m.at[0]), part(Y, 1, m.at[1])]), taken = spots.map(([, x, y]) => [x - 6, y - 6, x + 6, y + 6]);
  const worth = spots.filter(([m]) => m.row !== undefined && (narrow ? m.row === now : true)).sort(([a], [b]) => (b.row === now) - (a.row === now) || (b.front === true) - (a.front === true));
  for (const [m, x, y] of worth.slice(0, 120)) {
    const size = 7 * short(m.name).length;
    for (const [position, align, offset] of [["top", "left", 3], ["bottom", "left", 3], ["top", "right", -3], ["bottom", "right", -3]]) {
      const x0 = align === "left" ? x + offset : x + offset - size, y0 = position === "top" ? y - 21 : y + 7, own = [x0, y0, x0 + size, y0 + 14];
      if (x0 < room.left || own[2] > box.clientWidth || y0 < 0 || own[3] > room.top + high || taken.some(t => t[0] < own[2] && own[0] < t[2] && t[1] < own[3] && own[1] < t[3])) continue;
      taken.push(own);
      found.set(m, { show: true, position, align, offset: [offset, 0] });
      break;
    }
  }
  return found;
}
// room around the points, and around their whiskers
function limits(axis, marks) {
  const at = axis === X ? 0 : 1, values = marks.flatMap(m => [m.at[at], ...(ranged(m)[at] || [])]);
  if (!values.length) return {};
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  if (axis.log) { const room = Math.max((high / low) ** .06, 1.15); return { min: low / room, max: high * room }; }
  const room = .07 * (high - low) || .1 * Math.abs(high) || 1;
  return { min: low - room, max: high + room };
}
// a logarithmic axis of few decades has numbers within them too: with those of whole decades alone it may have one, or none
function steps(axis, marks) {
  const { min, max } = limits(axis, marks);
  if (!axis.log || !min || max / min > 300) return {};
  const found = [], within = max / min > 12 ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
  for (let e = Math.floor(Math.log10(min)); e <= Math.log10(max); e++) for (const m of within) { const v = +`${m}e${e}`; if (v >= min && v <= max) found.push(v); }
  return { customValues: found, showMinLabel: true, showMaxLabel: true };
}
function tip(m) {
  const rows = [["", DATA.groups[m.group]], ...DATA.axes.map((axis, i) => [axis.name, said(axis, m.at[i]) + range(m, i)]), ...(m.front === undefined ? [] : [["front", m.front ? "yes" : "beaten"]]), ...(m.fits ? [] : [["memory", "does not fit"]])];
  return el("div", { class: "tip" }, el("b", {}, m.name), el("table", {}, el("tbody", {}, ...rows.map(([a, b]) => el("tr", {}, el("td", {}, a), el("td", {}, b))))));
}
chart.on("click", p => { if (p.data && p.data.mark && p.data.mark.row !== undefined) choose(p.data.mark.row === picked() ? null : p.data.mark.row); });
box.addEventListener("keydown", event => {
  if (event.key === "Escape") { event.preventDefault(); return choose(null); }
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const all = order(), at = all.findIndex(m => m.row === picked());
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step];
  if (next) choose(next.row);
});
const front = DATA.marks.some(m => m.front !== undefined);
$("#plane-what").textContent = [...(front ? [`Filled: no other model there beats it in ${DATA.line ? "both" : "all that was asked for"}${DATA.line ? "; the line joins these" : ""}. Hollow: beaten.`] : []), ...(DATA.marks.some(m => m.between) ? ["The whiskers are where a measured time lies in 8 of 10 cases."] : []), ...(DATA.marks.some(m => !m.fits) ? ["A cross does not fit into the device's memory."] : [])].join(" ");
$("#plane").hidden = !DATA.marks.length;
headed(() => DATA.markdown, draw);
sized([chart], [{ width: 690, height: 420 }], draw);
restore();
document.documentElement.dataset.ready = "true";
