// ---- a difference: rows of both sides, and which of them are shown
const DATA = JSON.parse($("#data").textContent);
const WHATS = ["added", "removed", "moved", "grew", "shrank", "same"].filter(what => DATA.rows.some(r => r.what === what));
const QUIET = WHATS.length > 1 ? ["same"] : [];
const state = { off: QUIET.join(","), sort: "", find: "" };
const FIRST = { ...state };
DATA.rows.forEach((row, i) => { row.i = i; });
const delta = (row, key) => row[key][1] - row[key][0];
const sides = (row, key, words) => row.what === "added" ? words(row[key][1]) : row.what === "removed" ? words(row[key][0]) : row[key][0] === row[key][1] ? (row[key][0] ? words(row[key][0]) : "") : `${words(row[key][0])} → ${words(row[key][1])}`;
const more = v => v ? `${v < 0 ? "−" : "+"}${seconds(Math.abs(v))}` : "";
const SIGN = { added: "+", removed: "−", moved: "→", grew: "▲", shrank: "▼", same: "=" };
const both = (name, key, words, width = "minmax(104px,1.2fr)") => ({ name, of: r => delta(r, key), cell: r => sides(r, key, words), width });
const grid = new Grid($("#layers .table"), "Layers of both sides", [
  { name: "Layer", of: r => r.path, cell: r => r.path, text: true, width: "minmax(180px,2.6fr)" }, { name: "What", of: r => WHATS.indexOf(r.what), cell: r => el("span", { class: `change ${r.what}` }, `${SIGN[r.what]} ${r.what}`), text: true, width: "92px" },
  { name: "Type", of: r => r.type, cell: r => r.type, text: true, class: "type", width: "minmax(96px,1.4fr)" }, both("Params", "params", si), both("FLOPs", "flops", si), both("Traffic", "bytes", v => si(v, "B")), both("Time", "time_s", seconds),
  { name: "Change", of: r => delta(r, "time_s"), cell: r => more(delta(r, "time_s")), width: "84px" },
], { sorted: text => { state.sort = text; write(); } });
grid.fill(DATA.rows);
function write() {
  const out = new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== FIRST[key])).toString();
  try { history.replaceState(null, "", out ? `#${out}` : location.pathname + location.search); } catch { location.hash = out; }
}
function refresh() {
  const off = new Set(state.off.split(",")), words = state.find.trim().toLowerCase();
  let n = 0;
  for (const [row, node] of grid.nodes) { node.hidden = off.has(row.what) || !(row.path.toLowerCase().includes(words) || row.type.toLowerCase().includes(words)); n += !node.hidden; }
  return n;
}
function restore() {
  const got = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(FIRST)) state[key] = got.has(key) ? got.get(key) : FIRST[key];
  for (const input of document.querySelectorAll(".by input")) input.checked = !state.off.split(",").includes(input.value);
  find.value = state.find;
  grid.sortAs(state.sort);
  refresh();
}
$("#layers .by").append(...WHATS.map(what => {
  const input = el("input", { type: "checkbox", value: what });
  input.addEventListener("change", () => {
    state.off = [...document.querySelectorAll(".by input")].filter(one => !one.checked).map(one => one.value).join(",");
    write();
    say(`${many(refresh(), "layer")} shown`);
  });
  return el("label", { class: "pill" }, input, el("span", {}, `${what} ${DATA.rows.filter(r => r.what === what).length.toLocaleString("en")}`));
}));
const find = $("[data-find]");
find.addEventListener("input", () => { state.find = find.value; write(); say(`${many(refresh(), "layer")} shown`); });
addEventListener("hashchange", restore);

// on a phone all figures stand right of their bars, as those at the left would lie over the names
const box = $("#bars .chart"), chart = echarts.init(box, null, { renderer: "svg" });
function draw() {
  const found = DATA.rows.filter(r => delta(r, "time_s")).sort((a, b) => Math.abs(delta(b, "time_s")) - Math.abs(delta(a, "time_s"))).slice(0, 15).reverse();
  $("#bars").hidden = !found.length;
  if (!found.length) return;
  box.style.height = `${60 + 26 * found.length}px`;
  box.setAttribute("aria-label", `Layers whose time changed most: ${found.slice(-5).reverse().map(r => `${r.path} ${more(delta(r, "time_s"))}`).join(", ")}`);
  const soft = ink("soft"), line = ink("line"), narrow = box.clientWidth < 560;
  chart.resize();
  chart.setOption({
    animation: false, textStyle: { fontFamily: "inherit" }, grid: { left: narrow ? 130 : 260, right: 70, top: 6, bottom: 34 },
    xAxis: { type: "value", axisLabel: { color: soft, formatter: v => more(v) || "0", hideOverlap: true }, splitLine: { lineStyle: { color: line } } },
    yAxis: { type: "category", data: found.map(r => r.path), axisTick: { show: false }, axisLine: { lineStyle: { color: line } }, axisLabel: { color: ink("ink"), width: narrow ? 120 : 250, overflow: "truncate" } },
    tooltip: { confine: true, transitionDuration: 0, backgroundColor: ink("card"), borderColor: line, textStyle: { color: ink("ink") }, formatter: p => { const r = found[p.dataIndex]; return el("div", { class: "tip" }, el("b", {}, r.path), el("div", {}, `${r.type}, ${r.what}`), el("div", {}, `${sides(r, "time_s", seconds)} (${more(delta(r, "time_s"))})`)); } },
    series: [{ type: "bar", barMaxWidth: 18, data: found.map(r => ({ value: delta(r, "time_s"), itemStyle: { color: delta(r, "time_s") > 0 ? ink("memory") : ink("good") }, label: { position: narrow || delta(r, "time_s") > 0 ? "right" : "left" } })), label: { show: true, color: ink("ink"), formatter: p => more(p.value) } }],
  }, true);
}
headed(() => DATA.markdown, draw);
sized([chart], [{ width: 690, height: 400 }], draw);
restore();
draw();
document.documentElement.dataset.ready = "true";
