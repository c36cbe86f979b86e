// ---- the tree of modules as boxes
class Parts {
  constructor(card) {
    this.card = card;
    this.box = $(".chart", card);
    this.chart = echarts.init(this.box, null, { renderer: "svg" });
    const fields = $(".by", card);
    for (const [key, [name]] of Object.entries(BY)) {
      const input = el("input", { type: "radio", name: "by", value: key });
      input.addEventListener("change", () => { state.by = key; write(); this.draw(); say(`area by ${name}`); });
      fields.append(el("label", { class: "pill" }, input, el("span", {}, name)));
    }
    this.chart.on("click", p => { const layer = this.of(p); if (layer) pick("layer", state.layer === layer.path ? null : layer.path); });
    this.box.addEventListener("keydown", event => this.key(event));
  }
  of(p) { return p.data && p.data.at !== undefined ? opened(this.run).layers[p.data.at] : null; }
  open(run) { this.run = run; this.draw(); }
  draw() {
    const { layers } = opened(this.run), has = { memory: layers.some(l => l.memory_bytes), energy: layers.some(l => l.energy_j) };
    // a link may ask for what this device does not tell
    if (has[state.by] === false) state.by = "time";
    for (const input of this.card.querySelectorAll(".by input")) { input.disabled = has[input.value] === false; input.checked = input.value === state.by; }
    const [title, of, words] = BY[state.by], whole = of(layers[0]) || layers.reduce((sum, l) => Math.max(sum, of(l)), 0);
    const lit = chosen(), paths = lit && new Set([...lit].map(k => k.path)), accent = ink("accent");
    const node = (layer, value, name, children) => {
      const [colour, text] = DATA.bounds[layer.bound] || [ink("overhead"), "#fff"], on = !lit || (state.layer !== null ? inside(layer.path, state.layer) : children ? false : paths.has(layer.path));
      // its place: charts copy what they are given, and rows know each other
      return { name, value, at: layer.i, ...(children ? { children } : {}), itemStyle: { color: colour, borderColor: children ? (state.layer === layer.path ? accent : colour) : state.layer === layer.path ? accent : ink("card"), opacity: on || children ? 1 : .28 }, label: { color: text }, upperLabel: { color: text } };
    };
    // what a layer has beside those in it is a box of its own, so that boxes add up
    const made = layer => {
      const value = of(layer), own = value - layer.below.reduce((sum, l) => sum + of(l), 0), name = layer.name || this.run.model;
      const below = layer.below.filter(l => of(l) > 0).map(made);
      if (!below.length) return node(layer, value, name);
      if (own > .004 * whole) below.push(node(layer, own, "itself"));
      return node(layer, value, name, below);
    };
    const root = layers.length && whole ? made(layers[0]) : null;
    this.box.setAttribute("aria-label", `Layers of ${this.run.model} by ${title}; all of it ${words(whole)}.`);
    this.chart.setOption({
      animation: false, textStyle: { fontFamily: "inherit" },
      tooltip: { confine: true, transitionDuration: 0, backgroundColor: ink("card"), borderColor: ink("line"), textStyle: { color: ink("ink") }, formatter: p => this.tip(p, words, whole) },
      series: [{ type: "treemap", roam: false, nodeClick: false, breadcrumb: { show: false }, left: 0, right: 0, top: 0, bottom: 0, visibleMin: 60, childrenVisibleMin: 700, leafDepth: null, data: root ? (root.children || [root]) : [],
        label: { show: true, fontSize: 12, lineHeight: 15, position: "insideTopLeft", distance: 3, overflow: "truncate", formatter: p => `${p.name}  ${percent(p.value, whole)}` }, upperLabel: { show: true, height: 18, fontSize: 12, formatter: p => `${p.name}  ${percent(p.value, whole)}` },
        itemStyle: { borderWidth: 1, gapWidth: 1 }, emphasis: { disabled: true },
        levels: [{ itemStyle: { borderWidth: 0, gapWidth: 3 }, upperLabel: { show: false } }, { itemStyle: { borderWidth: 2, gapWidth: 1 } }, { itemStyle: { borderWidth: 1, gapWidth: 1 } }] }],
    }, true);
  }
  tip(p, words, whole) {
    const layer = this.of(p);
    if (!layer) return "";
    const rows = [[BY[state.by][0], `${words(p.value)}, ${percent(p.value, whole)}`], ...(state.by === "time" ? [] : [["Time", `${seconds(layer.time_s)}, ${percent(layer.time_s, this.run.totals.time_s)}`]]), ["bound", layer.bound], ["kernels", layer.kernels.toLocaleString("en")]];
    return el("div", { class: "tip" }, el("b", {}, `${layer.path || this.run.model}${p.name === "itself" ? " (itself)" : ""}`), el("div", {}, layer.type), el("table", {}, el("tbody", {}, ...rows.map(([a, b]) => el("tr", {}, el("td", {}, a), el("td", {}, b))))));
  }
  key(event) {
    const { layers, byPath } = opened(this.run), at = byPath.get(state.layer) || null, beside = at && at.up ? at.up.below : [];
    let next = null;
    if (event.key === "Escape") { event.preventDefault(); return pick(null); }
    if (!["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"].includes(event.key)) return;
    if (!at) next = layers[0].below[0] || layers[0];
    else if (event.key === "ArrowRight") next = beside[beside.indexOf(at) + 1];
    else if (event.key === "ArrowLeft") next = beside[beside.indexOf(at) - 1];
    else if (event.key === "ArrowDown") next = at.below[0];
    else next = at.up;
    event.preventDefault();
    if (!next) return;
    pick("layer", next.path);
    say(`${next.path || this.run.model}, ${next.type}: ${BY[state.by][0]} ${BY[state.by][2](BY[state.by][1](next))}, ${percent(BY[state.by][1](next), BY[state.by][1](layers[0]))}, ${next.bound}-bound`);
  }
}
