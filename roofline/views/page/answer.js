// ---- the answer: what it takes, why, what would help
// what is too short to be seen has no part in a bar and none in its words
const seen = run => run.bounds.filter(([, s]) => s >= .001 * run.totals.time_s);
function stack(run, small) {
  const whole = run.totals.time_s;
  return el("div", { class: small ? "small stack" : "stack", role: "img", "aria-label": run.bounds.map(([b, s]) => `${b} ${percent(s, whole)}`).join(", ") || "no time" },
    ...seen(run).map(([bound, s]) => { const [colour, text] = DATA.bounds[bound] || ["#6b7280", "#fff"], div = el("div", { style: `width:${(100 * s / whole).toFixed(3)}%;background:${colour};color:${text}`, title: `${bound} ${percent(s, whole)}` }); if (!small && s > .07 * whole) div.append(percent(s, whole)); return div; }));
}
// what words mean that a newcomer may not know, each where it is said first
function glossary() {
  const left = new Map(Object.keys(DATA.meanings).map(word => [word, new RegExp(`\\b${word}s?\\b`, "i")]));
  return (...texts) => {
    const found = [...left].filter(([, said]) => texts.some(text => said.test(text))).map(([word]) => word);
    found.forEach(word => left.delete(word));
    return found.length ? [el("p", { class: "effort" }, `(${found.map(word => `${word}: ${DATA.meanings[word]}`).join("; ")})`)] : [];
  };
}
// a sentence, with what it is about to be looked at in the chart
function insight(sentence, run, meant) {
  const card = el("div", { class: "insight" }, el("p", {}, micro(sentence.text)), ...meant(sentence.text));
  const look = sentence.look.find(([device]) => device === run.device);
  if (look && Object.keys(look[1]).length) {
    const button = el("button", { type: "button", class: "look" }, "Show these kernels");
    button.addEventListener("click", () => { pick("look", look[1]); $("#roof").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" }); });
    card.append(button);
  }
  return card;
}
// sentences about this device, and those about several with it among them
const about = (sentences, run) => {
  const texts = new Set();
  // what is said of the same two devices again is said once
  return sentences.filter(s => (!s.on.length || s.on.includes(run.device)) && !texts.has(s.text) && texts.add(s.text));
};
function saving(s, meant, all = "") {
  const words = el("p", {}, `${all ? "Together: " : ""}${s.name[0].toUpperCase()}${s.name.slice(1)}`);
  return el("div", { class: all ? "insight all" : "insight" }, el("div", { class: "much" }, `${s.times.replace(" times", "×")} as fast`), words,
    el("p", {}, micro(`${s.after} instead of ${s.before} for each ${s.each}${s.note ? `; ${s.note}` : ""}.`)), ...(s.effort ? [el("p", { class: "effort" }, s.effort)] : []), ...meant(s.name, s.effort));
}
function answer(run) {
  const told = DATA.told[run.told], box = $("#answer"), out = [], meant = glossary();
  // first what this device takes; what the model needs is the same on another where its bytes are
  const [needs, ...takes] = told.takes, mine = about(takes, run), beside = DATA.runs.find(r => r.told === run.told && needs && needs.on.includes(r.device));
  const first = mine.find(s => s.on.length === 1), needed = needs && (!beside || (beside.totals.bytes === run.totals.bytes && beside.totals.flops === run.totals.flops)) ? [needs] : [];
  const lead = $("#lead");
  lead.replaceChildren(el("p", { class: "facts" }, ...[run.model, run.title, ...DATA.words[run.facts]].map(text => el("span", {}, micro(text)))), ...run.warnings.map(text => el("p", { class: "warn" }, micro(text))),
    ...run.folded.map(text => el("p", { class: "warn" }, `Shortened: ${text}.`)));
  [first, ...needed, ...mine.filter(s => s !== first)].filter(Boolean).forEach((s, i) => lead.append(el("p", i ? {} : { class: "first" }, micro(s.text)), ...meant(s.text)));
  if (run.bounds.length) lead.append(stack(run), el("div", { class: "legend" }, ...seen(run).map(([bound, s]) => el("span", {}, el("i", { style: `background:${(DATA.bounds[bound] || ["#6b7280"])[0]}` }), `${bound} `, el("b", {}, seconds(s)), `, ${percent(s, run.totals.time_s)}`))));
  lead.append(el("dl", { class: "figures" }, ...run.figures.map(([name, value, what]) => el("div", {}, el("dt", {}, name), el("dd", { class: "value" }, micro(value)), el("dd", { class: "what" }, micro(what))))));
  const why = about(told.why, run).map(s => insight(s, run, meant));
  if (why.length) out.push(el("h2", { class: "group" }, "Why"), el("div", { class: "insights" }, ...why));
  const savings = told.savings[run.device] || [], together = told.together[run.device], small = told.small[run.device] || [], slower = (told.slower || {})[run.device] || [];
  const cards = [...(together ? [saving(together, meant, "all")] : []), ...savings.map(s => saving(s, meant))];
  if (small.length) cards.push(insight({ text: `Less than the model can resolve (5 %): ${small.join("; ")}.`, look: [] }, run, meant));
  if (slower.length) cards.push(insight({ text: `Slower than now: ${slower.join("; ")}.`, look: [] }, run, meant));
  if (cards.length) out.push(el("h2", { class: "group" }, "What would help, each analysed with that done"), el("div", { class: "insights" }, ...cards));
  if (!cards.length) {
    // in another setting it was looked for
    const other = DATA.runs.find(r => r.model === run.model && r.device === run.device && DATA.told[r.told].savings[r.device].length);
    if (other) out.push(el("p", { class: "hint" }, "What would help was looked for in another setting: ", chooser(other, DATA.words[other.facts].slice(0, 4).join(", "))));
  }
  const batches = about(told.batches, run).map(s => insight(s, run, meant));
  if (batches.length) out.push(el("h2", { class: "group" }, "Larger batches"), el("div", { class: "insights" }, ...batches));
  if (told.regions.length) out.push(el("div", { class: "card" }, el("h2", {}, "Parts of the model"), regions(told.regions)));
  box.replaceChildren(...out);
}
function regions(parts) {
  const devices = Object.keys(parts[0].on), name = device => { const run = DATA.runs.find(r => r.device === device); return run ? run.title : device; };
  const head = ["Part of the model", "FLOPs", ...devices.map(d => devices.length > 1 ? name(d) : "Time")];
  return el("table", { class: "plain stacked" }, el("thead", {}, el("tr", {}, ...head.map(text => el("th", { scope: "col" }, text)))), el("tbody", {}, ...parts.map(part => el("tr", {}, el("th", { scope: "row" }, part.name),
    ...[part.flops, ...devices.map(d => part.on[d].slice(0, 2).join(" · "))].map((text, i) => el("td", { "data-label": head[i + 1] }, micro(text)))))));
}
// every device (and model) beside the one that is shown
function sides(run) {
  const section = $("#sides"), here = marks(run), same = (a, but) => SWITCHES.every(name => but.includes(name) || marks(a)[name] === here[name]);
  section.hidden = DATA.runs.length < 2;
  if (section.hidden) return;
  const out = DATA.ranking && DATA.switches.model.length === 1 ? [el("p", {}, micro(DATA.ranking))] : [], beside = DATA.switches.device.map(name => DATA.runs[nearest("device", name)]).filter(r => same(r, ["device", "dtype", "runtime", "batch", "mode", "other"]));
  if (DATA.switches.model.length > 1) out.push(matrix(here, same, run));
  if (beside.length > 1) out.push(...(DATA.switches.model.length > 1 ? [el("h3", { class: "group" }, `${here.model}, device by device`)] : []), devices(beside, run));
  const batches = DATA.runs.filter(r => same(r, ["batch"])).sort((a, b) => +marks(a).batch - +marks(b).batch);
  if (batches.length > 1) out.push(el("h3", { class: "group" }, `${here.model} on ${here.device}, batch by batch`), devices(batches, run, "batch"));
  $("div", section).replaceChildren(...out.map(node => node.tagName === "TABLE" ? el("div", { class: "scroll" }, node) : node));
}
const pace = run => run.totals.throughput;
// what else is not as in the run beside it: a device without its dtype
const also = (r, run, what) => SWITCHES.filter(name => name !== what && name !== "model" && marks(r)[name] !== marks(run)[name]).map(name => `, ${name === "batch" ? "batch " : ""}${marks(r)[name]}`).join("");
function chooser(run, text) {
  const button = el("button", { type: "button" }, text);
  button.addEventListener("click", () => go(DATA.runs.indexOf(run)));
  return button;
}
function devices(list, run, what = "device") {
  const head = [what[0].toUpperCase() + what.slice(1), "Time", "Rate", `Beside ${what === "batch" ? `batch ${marks(run).batch}` : run.title}`, "Share of its peak", "By bound", "Memory", "Bound"];
  return el("table", { class: "plain stacked" }, el("thead", {}, el("tr", {}, ...head.map(text => el("th", { scope: "col" }, text)))), el("tbody", {}, ...list.map(r => {
    const ratio = pace(run) ? pace(r) / pace(run) : 0, bar = stack(r, true), t = r.totals, d = DATA.roofs[r.roof];
    const beside = r === run ? "this" : !ratio ? "" : ratio >= 1 ? `${times(ratio)} as fast` : `${times(1 / ratio)} slower`;
    const cells = [seconds(t.time_s), micro(r.pace), beside, percent(t.achieved_flops, d.peak), bar, binary(t.peak_memory_bytes) + (t.fits === false ? " does not fit" : ""), el("span", { class: `tag ${t.bound}` }, t.bound)];
    return el("tr", r === run ? { class: "on" } : {}, el("th", { scope: "row" }, chooser(r, marks(r)[what] + also(r, run, what))), ...cells.map((cell, i) => el("td", { "data-label": head[i + 1] }, cell)));
  })));
}
function matrix(here, same, run) {
  const { model: models, device: names } = DATA.switches;
  return el("table", { class: "plain stacked" }, el("thead", {}, el("tr", {}, ...["Model", "Params", "MACs", ...names].map(text => el("th", { scope: "col" }, text)))), el("tbody", {}, ...models.map(model => {
    const found = names.map(device => DATA.runs.find(r => { const at = marks(r); return at.model === model && at.device === device && same(r, ["model", "device"]); })), any = found.find(Boolean) || DATA.runs.find(r => marks(r).model === model);
    return el("tr", {}, el("th", { scope: "row" }, model), ...[si(any.totals.params), si(any.totals.macs)].map((text, i) => el("td", { "data-label": ["Params", "MACs"][i] }, text)),
      ...found.map((r, i) => el("td", { "data-label": names[i], class: r === run ? "on" : "" }, r ? chooser(r, seconds(r.totals.time_s)) : "–")));
  })));
}
function markdown(run) {
  const clean = text => micro(String(text)).replace(/([\\`*_{}[\]<>#|])/g, "\\$1").replace(/\s+/g, " "), told = DATA.told[run.told], line = cells => `| ${cells.map(clean).join(" | ")} |`;
  const out = [`## ${clean(run.model)} on ${clean(run.title)}`, "", DATA.words[run.facts].map(clean).join(" · "), ""];
  for (const s of [...about(told.takes, run), ...about(told.why, run)]) out.push(`- ${clean(s.text)}`);
  const savings = [...(told.together[run.device] ? [told.together[run.device]] : []), ...(told.savings[run.device] || [])];
  if (savings.length) out.push("", "What would help:", "", ...savings.map(s => `- ${clean(s.name)}: ${clean(s.times)} as fast, ${clean(s.after)} instead of ${clean(s.before)}${s.effort ? ` (${clean(s.effort)})` : ""}`));
  out.push("", line(["Figure", "Value", ""]), "| --- | --- | --- |", ...run.figures.map(line));
  const { layers } = opened(run), top = layers.filter(l => l.depth === 1).concat(layers.filter(l => !l.path));
  out.push("", line(["Layer", "Type", "MACs", "Traffic", "Time", "Share", "Bound"]), "| --- | --- | ---: | ---: | ---: | ---: | --- |", ...top.map(l => line([l.path || "all", l.type, si(l.macs), si(l.bytes, "B"), seconds(l.time_s), percent(l.time_s, run.totals.time_s), l.bound])));
  return out.join("\n") + "\n";
}
