// ---- the page: what is shown follows the state
const tag = (bound, text = bound) => el("span", { class: `tag ${bound}` }, text);
const meter = (row, whole) => { const out = document.createDocumentFragment(), i = el("i", { style: `width:${(100 * row.time_s / (whole || 1)).toFixed(2)}%;background:${(DATA.bounds[row.bound] || ["#6b7280"])[0]}` }); out.append(percent(row.time_s, whole), el("span", { class: "meter", "aria-hidden": "true" }, i)); return out; };
const some = (v, words) => v ? words(v) : "";
const WHOLE = () => DATA.runs[state.run].totals.time_s;
const number = (name, key, words, width) => ({ name, of: row => row[key] ?? 0, cell: row => some(row[key], words), width });
const FIGURES = [number("MACs", "macs", si), number("FLOPs", "flops", si), number("Traffic", "bytes", v => si(v, "B")), number("FLOP/B", "intensity", v => si(v))];
const TIME = [{ name: "Time", of: r => r.time_s, cell: r => seconds(r.time_s) }, { name: "Share", of: r => r.time_s, cell: r => meter(r, WHOLE()), width: "118px" }, { name: "Bound", of: r => r.bound, cell: r => tag(r.bound), text: true, width: "92px" }];
const MEASURED = number("Measured", "measured_s", seconds), ENERGY = number("Energy", "energy_j", joules);
const spent = table => table.energy_j !== undefined ? [ENERGY] : [];
const wide = list => list.map(c => ({ width: "minmax(62px,.8fr)", ...c }));

const roof = new Roof($("#roof")), parts = new Parts($("#parts")), course = new Course($("#memory"));
let layers = null, ops = null, kernels = null, last = null;
function tables(run) {
  const found = opened(run), measured = run.layers.measured_s !== undefined ? [MEASURED] : [];
  layers = new Grid($("#layers .table"), `Layers of ${run.model}`, wide([
    { name: "Layer", of: l => l.path, cell: l => l.name || run.model, text: true, width: "minmax(180px,2.4fr)" }, { name: "Type", of: l => l.type, cell: l => l.type, text: true, class: "type", width: "minmax(132px,1.5fr)" },
    number("Params", "params", si), ...FIGURES, number("Kernels", "kernels", v => v.toLocaleString("en")), ...(run.layers.memory_bytes !== undefined ? [number("Memory", "memory_bytes", binary)] : []), ...spent(run.layers), ...measured, ...TIME,
  ]), { tree: true, picked: l => { roof.boxed(); pick("layer", state.layer === l.path ? null : l.path); }, sorted: text => { state.sort = text; write(); } });
  layers.fill(found.layers);
  const deep = found.layers.length <= 40 ? 99 : 2;
  for (const l of found.layers) layers.expand(l, l.depth < deep);
  if (state.fold) for (const path of state.fold.split(" ")) { const l = found.byPath.get(path.slice(1)); if (l) layers.expand(l, path[0] === "+"); }
  layers.folded = () => {
    state.fold = found.layers.filter(l => l.below.length && layers.isOpen(l) !== (l.depth < deep)).map(l => `${layers.isOpen(l) ? "+" : "-"}${l.path}`).slice(0, 60).join(" ");
    write();
  };
  layers.sortAs(state.sort);
  ops = new Grid($("#ops .table"), "Operators", wide([
    { name: "Operator", of: o => o.op, cell: o => { const out = document.createDocumentFragment(); out.append(el("i", { class: "key", style: `background:${DATA.classes[o.class][1]}` }), o.op); return out; }, text: true, width: "minmax(150px,2fr)" },
    { name: "Kind", of: o => DATA.classes[o.class][0], cell: o => DATA.classes[o.class][0], text: true, class: "type", width: "minmax(110px,1.4fr)" }, number("Kernels", "kernels", v => v.toLocaleString("en")), ...FIGURES, ...spent(run.ops), ...TIME]));
  ops.fill(found.ops);
  ops.sortAs("Time,down");
  $("#kernels .table").replaceChildren();
  kernels = null;
  $("#kernels summary").textContent = `All ${many(run.totals.kernels, "kernel")} in launch order`;
}
// made when it is opened, and again for another selection
function listed(run) {
  if (!$("#kernels").open) return;
  const all = opened(run).kernels, lit = chosen(), grouped = all.some(k => k.number > 1);
  if (!kernels) {
    kernels = new Grid($("#kernels .table"), "Kernels", wide([
      { name: "#", of: k => k.i, cell: k => String(k.i + 1), width: "52px" }, { name: "Layer", of: k => k.path, cell: k => k.path || "the model itself", text: true, width: "minmax(150px,2fr)" }, { name: "Operator", of: k => k.op, cell: k => k.op, text: true, width: "minmax(90px,1.2fr)" },
      ...(grouped ? [number("How many", "number", v => v.toLocaleString("en"))] : []), { name: "Output", of: k => k.shape, cell: k => k.shape, text: true, width: "minmax(96px,1.1fr)" }, { name: "Type", of: k => k.dtype, cell: k => k.dtype, text: true },
      { name: "FLOPs", of: k => k.flops, cell: k => k.known ? si(k.flops) : "unknown" }, number("Traffic", "bytes", v => si(v, "B")), number("FLOP/B", "intensity", v => si(v)), ...spent(run.kernels), ...(run.kernels.measured_s !== undefined ? [MEASURED] : []), { name: "Time", of: k => k.time_s, cell: k => seconds(k.time_s) },
      number("Compute", "compute_s", seconds), number("Memory", "memory_s", seconds), number("Overhead", "overhead_s", seconds), { name: "Efficiency", of: k => k.efficiency, cell: k => percent(k.efficiency, 1) }, { name: "Bound", of: k => k.bound, cell: k => tag(k.bound, k.bound === "memory" ? `memory (${k.level})` : k.bound), text: true, width: "110px" },
    ]));
    kernels.fill(all);
  }
  for (const [k, node] of kernels.nodes) node.hidden = lit !== null && !lit.has(k);
}
function kinds(run) {
  const groups = new Map(), whole = run.totals.time_s;
  for (const k of opened(run).kernels) { const g = groups.get(k.class) || { time: 0, n: 0 }; g.time += k.all; g.n += k.number; groups.set(k.class, g); }
  const shape = { o: '<circle r="5"/>', D: '<path d="M0-6 6 0 0 6-6 0z"/>', s: '<path d="M-5-5H5V5H-5z"/>' };
  $("#roof .kinds").replaceChildren(...[...groups].sort((a, b) => b[1].time - a[1].time).map(([key, g]) => {
    const [title, colour, marker] = DATA.classes[key], icon = el("span"), off = new Set(state.off.split(",").filter(Boolean));
    icon.innerHTML = `<svg viewBox="-6 -6 12 12" aria-hidden="true">${shape[marker]}</svg>`;
    icon.firstChild.style.fill = colour;
    const small = el("small", {}, `×${g.n.toLocaleString("en")}`), bar = el("i", { style: `width:${(100 * g.time / (whole || 1)).toFixed(2)}%;background:${colour}` });
    const button = el("button", { type: "button", class: "kind", "aria-pressed": !off.has(key), "data-class": key }, el("span", { class: "row" }, icon.firstChild, el("span", {}, `${title} `, small), el("b", {}, percent(g.time, whole))), el("span", { class: "track" }, bar));
    button.addEventListener("click", () => {
      const now = new Set(state.off.split(",").filter(Boolean));
      if (!now.delete(key)) now.add(key);
      state.off = [...now].join(",");
      button.setAttribute("aria-pressed", !now.has(key));
      write();
      roof.light();
    });
    return el("li", {}, button);
  }));
}
function switches() {
  const nav = $("#switches"), several = SWITCHES.filter(name => DATA.switches[name].length > 1);
  nav.hidden = !several.length;
  nav.replaceChildren(...several.map(name => {
    const values = DATA.switches[name], title = name === "other" ? "analysis" : name;
    if (values.length > 8) {
      const select = el("select", { name, "aria-label": title }, ...values.map(value => el("option", { value }, value || "1")));
      select.addEventListener("change", () => go(nearest(name, select.value)));
      return el("fieldset", {}, el("legend", {}, title), select);
    }
    return el("fieldset", {}, el("legend", {}, title), ...values.map(value => {
      const input = el("input", { type: "radio", name: `switch-${name}`, value });
      input.addEventListener("change", () => go(nearest(name, value)));
      return el("label", { class: "pill" }, input, el("span", {}, value || "1"));
    }));
  }));
}
function switched(run) {
  const at = marks(run);
  for (const input of document.querySelectorAll("#switches input")) input.checked = at[input.name.slice(7)] === input.value;
  for (const select of document.querySelectorAll("#switches select")) select.value = at[select.name];
}
// another analysis; what is picked stays where it has a layer of that name
function go(i) {
  if (i < 0) return;
  const layer = state.layer;
  for (const name of PICKS) state[name] = null;
  state.run = i;
  if (layer !== null && opened(DATA.runs[i]).byPath.has(layer)) state.layer = layer;
  write();
  show();
  const at = marks(DATA.runs[i]);
  say(`${at.model} on ${at.device}, batch ${at.batch}, ${at.dtype}, ${at.runtime}: ${seconds(DATA.runs[i].totals.time_s)}`);
}
function rests(run) {
  const d = DATA.roofs[run.roof], told = DATA.told[run.told], list = found => el("table", { class: "plain" }, el("tbody", {}, ...found.map(row => el("tr", {}, ...row.map(text => el("td", {}, text))))));
  const ceilings = [...d.roofs.map(([name, value, source]) => [name, si(value, "FLOP/s", 4), source]), ...d.levels.map(([name, , value, size, source]) => [`${name}${size ? `, ${binary(size)}` : ""}`, si(value, "B/s", 4), source])];
  const notes = ["One MAC is two FLOPs. Traffic is what kernels read and write, in units of 1000; memory is what is alive at once, in units of 1024.", ...DATA.words[run.notes]];
  $("#rests > div").replaceChildren(el("div", { class: "two" }, el("div", {}, list([["Device", `${d.title} (${d.tier})`], [`Peak for ${d.dtype}`, si(d.peak, "FLOP/s", 4)], ["Ridge", `${si(d.ridge)} FLOP/B`]])), list(DATA.words[run.rests])),
    el("table", { class: "plain stacked" }, el("thead", {}, el("tr", {}, ...["Ceiling", "Data sheet", "Source"].map(text => el("th", { scope: "col" }, text)))), el("tbody", {}, ...ceilings.map(([name, value, source]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value), el("td", {}, source || `the device's own numbers (${d.tier})`))))),
    ...(told.unknown.length ? [el("h3", { class: "group" }, "What this cannot know"), el("ul", { class: "notes" }, ...told.unknown.map(text => el("li", {}, micro(`${text}.`))))] : []), el("h3", { class: "group" }, "Notes"), el("ul", { class: "notes" }, ...notes.map(text => el("li", {}, micro(text)))));
}
// what is picked, in words and in every view
function marked(run) {
  const { byPath, kernels: all } = opened(run), lit = chosen(), rows = new Set(), box = $("#roof .picked");
  box.hidden = !lit;
  if (lit) {
    const time = [...lit].reduce((sum, k) => sum + k.all, 0), n = [...lit].reduce((sum, k) => sum + k.number, 0), where = new Set([...lit].map(k => k.path));
    const name = state.layer !== null ? `${state.layer || run.model}: ` : state.look ? `${Object.entries(state.look).map(([k, v]) => `${k} ${v}`).join(", ")}: ` : "";
    const clear = el("button", { type: "button" }, "Let go");
    clear.addEventListener("click", () => { roof.boxed(); pick(null); });
    box.replaceChildren(`${name}${many(n, "kernel")} in ${many(where.size, "layer")}, ${seconds(time)}, ${percent(time, run.totals.time_s)} of the time.`, clear);
    for (const path of where) rows.add(byPath.get(path));
  }
  const own = state.layer !== null ? byPath.get(state.layer) : rows.size === 1 ? [...rows][0] : null;
  for (const row of own ? [own] : rows.size <= 60 ? rows : []) for (let up = row.up; up; up = up.up) layers.expand(up, true);
  layers.refresh(state.find);
  layers.mark(own || null, rows);
  const first = own || layers.shown.map(node => node.row).find(row => rows.has(row));
  if (first) layers.reveal(first);
}
function show() {
  const run = DATA.runs[state.run];
  if (run !== last) {
    switched(run);
    sides(run);
    answer(run);
    tables(run);
    kinds(run);
    rests(run);
    roof.spots = gathered(opened(run).kernels);
    choose(run, roof.spots);
    roof.open(run);
    parts.open(run);
    course.open(run);
    last = run;
  } else {
    choose(run, roof.spots);
    roof.light();
    parts.draw();
    course.draw();
  }
  marked(run);
  listed(run);
}
// ---- start
if (DATA.missing.length) {
  $("#missing").hidden = false;
  $("#missing ul").replaceChildren(...DATA.missing.map(one => el("li", {}, el("b", {}, one.model), ` ${one.where}: ${one.why}`)));
}
const find = $("#layers [data-find]");
find.addEventListener("input", () => { state.find = find.value; write(); const n = layers.refresh(find.value); say(find.value.trim() ? `${many(n, "layer")} found` : "all layers"); });
const all = open => () => { for (const l of opened(DATA.runs[state.run]).layers) layers.expand(l, open || !l.path); layers.refresh(state.find); layers.folded(); };
$("#layers [data-do=open]").addEventListener("click", all(true));
$("#layers [data-do=close]").addEventListener("click", all(false));
$("#kernels").addEventListener("toggle", () => listed(DATA.runs[state.run]));
function restore() { read(location.hash.slice(1)); find.value = state.find; last = null; show(); }
addEventListener("hashchange", () => { if (location.hash.slice(1) !== written()) restore(); });
const redraw = () => { roof.draw(); parts.draw(); course.draw(); };
headed(() => markdown(DATA.runs[state.run]), redraw);
sized([roof.chart, parts.chart, course.chart], [{ width: 500, height: 400 }, { width: 690, height: 280 }, { width: 690, height: 200 }], redraw);
switches();
restore();
document.documentElement.dataset.ready = "true";
