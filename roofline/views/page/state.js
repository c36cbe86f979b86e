// ---- state: all that is chosen stands in the address, so that a link restores it
const FIRST = { layer: null, kernel: null, box: null, look: null, off: "", by: "time", sort: "", find: "", fold: "" };
const state = { ...FIRST, run: 0 };
const SWITCHES = Object.keys(DATA.switches);
const marks = run => Object.fromEntries(SWITCHES.map((name, i) => [name, run.at[i]]));
// the run that has `value` under one switch and keeps as much as it can of the others
function nearest(name, value) {
  const now = marks(DATA.runs[state.run]);
  let best = -1, most = -1;
  DATA.runs.forEach((run, i) => {
    const at = marks(run);
    if (at[name] !== value) return;
    const score = SWITCHES.reduce((sum, other, place) => sum + (at[other] === now[other] ? 2 ** (SWITCHES.length - place) : 0), 0);
    if (score > most) { most = score; best = i; }
  });
  return best;
}
function written() {
  const out = new URLSearchParams(), at = marks(DATA.runs[state.run]);
  for (const name of SWITCHES) if (DATA.switches[name].length > 1 && state.run) out.set(name, at[name]);
  for (const name of Object.keys(FIRST)) if (state[name] !== FIRST[name] && name !== "look") out.set(name, state[name]);
  if (state.look) out.set("look", JSON.stringify(state.look));
  return out.toString();
}
function read(text) {
  const got = new URLSearchParams(text);
  Object.assign(state, FIRST, { run: 0 });
  for (const name of SWITCHES) if (got.has(name)) { const run = nearest(name, got.get(name)); if (run >= 0) state.run = run; }
  for (const name of Object.keys(FIRST)) if (got.has(name)) state[name] = got.get(name);
  const count = DATA.runs[state.run].totals.kernels;
  state.kernel = state.kernel !== null && /^\d+$/.test(state.kernel) && +state.kernel < count ? +state.kernel : null;
  if (state.box !== null && !(state.box.split(",").length === 4 && state.box.split(",").every(v => v !== "" && isFinite(v)))) state.box = null;
  if (!BY[state.by]) state.by = FIRST.by;
  try { state.look = state.look && JSON.parse(state.look); } catch { state.look = null; }
  if (!state.look || typeof state.look !== "object" || !Object.values(state.look).every(v => typeof v === "string")) state.look = null;
}
function write() {
  const text = written();
  if (text !== location.hash.slice(1)) {
    try { history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search); } catch { location.hash = text; }
  }
}
// one thing is picked at a time: a layer, a mark of the chart, a box of it, or what a sentence speaks of
const PICKS = ["layer", "kernel", "box", "look"];
function pick(name, value) {
  for (const other of PICKS) state[other] = null;
  if (name) state[name] = value;
  write();
  show();
}
// what `area` of the tree stands for: its name, how a layer's is read, how it is written
const BY = {
  time: ["Time", l => l.time_s, seconds], flops: ["FLOPs", l => l.flops, si], bytes: ["Traffic", l => l.bytes, v => si(v, "B")],
  params: ["Parameters", l => l.params, si], memory: ["Memory", l => l.memory_bytes || 0, binary], energy: ["Energy", l => l.energy_j || 0, joules],
};
