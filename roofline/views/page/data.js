// ---- data: columns become rows when an analysis is first shown
const DATA = JSON.parse($("#data").textContent);
function column(which) {
  const c = DATA.columns[which];
  return Array.isArray(c) ? c : c.i ? c.i.map(i => c.k[i]) : Array(c.n).fill(c.k[0]);
}
function rows(table) {
  const names = Object.keys(table), columns = names.map(name => column(table[name])), n = columns.length ? columns[0].length : 0;
  return Array.from({ length: n }, (_, i) => { const row = { i }; names.forEach((name, c) => { row[name] = columns[c][i]; }); return row; });
}
// the kernels under a condition of the explanation: "class" or "layer" with all inside (several with | between), "own", "level"
function keeps(k, where) {
  return Object.entries(where).every(([key, wanted]) => key === "class" ? wanted.split("|").includes(k.class) : key === "own" ? k.path === wanted
    : key === "level" ? k.level === wanted : wanted.split("|").some(one => !one || inside(k.path, one)));
}
const inside = (path, layer) => !layer || path === layer || path.startsWith(layer + ".");
// rows of one analysis, made once
function opened(run) {
  if (run.rows) return run.rows;
  const layers = rows(run.layers), ops = rows(run.ops), kernels = rows(run.kernels), byPath = new Map(layers.map(l => [l.path, l]));
  for (const l of layers) {
    let up = l.path;
    do up = up.slice(0, Math.max(0, up.lastIndexOf("."))); while (up && !byPath.has(up));
    l.up = l.path ? byPath.get(up) : null;
    l.depth = l.up ? l.up.depth + 1 : 0;
    l.name = l.up && l.up.path ? l.path.slice(l.up.path.length + 1) : l.path;
    l.below = [];
    if (l.up) l.up.below.push(l);
    l.intensity = l.bytes ? l.flops / l.bytes : 0;
  }
  for (const o of ops) { o.class = o.klass; o.intensity = o.bytes ? o.flops / o.bytes : 0; }
  for (const k of kernels) {
    k.class = k.klass;
    k.path = layers[k.layer].path;
    k.intensity = k.bytes ? k.flops / k.bytes : 0;
    k.all = k.time_s * k.number;
  }
  return run.rows = { layers, ops, kernels, byPath };
}
