// ---- memory over the pass: what is alive at each operator
class Course {
  constructor(card) {
    this.card = card;
    this.box = $(".chart", card);
    this.chart = echarts.init(this.box, null, { renderer: "svg" });
    this.chart.getZr().on("click", event => {
      const [x] = this.chart.convertFromPixel({ gridIndex: 0 }, [event.offsetX, event.offsetY]), at = this.at.findLastIndex(v => v <= x);
      if (at >= 0 && opened(this.run).byPath.has(this.layers[at])) pick("layer", this.layers[at]);
    });
  }
  open(run) {
    this.run = run;
    const m = run.memory;
    this.card.hidden = !m;
    if (!m) return;
    this.at = column(m.at); this.layers = column(m.layers); this.bytes = column(m.bytes);
    const most = this.bytes.indexOf(Math.max(...this.bytes)), where = this.layers[most] || "the model itself";
    const words = `At the peak, in ${where}: ${m.kinds.map(([kind, size]) => `${kind} ${size}`).join(", ")}.`;
    $(".hint", this.card).textContent = `${words}${m.size ? ` The device has ${binary(m.size)}.` : ""}`;
    this.box.setAttribute("aria-label", `Bytes alive over ${many(m.ops, "operator")}, from ${binary(this.bytes[0])} to ${binary(this.bytes[most])}. ${words}`);
    this.chart.resize();
    this.draw();
  }
  draw() {
    if (!this.run || !this.run.memory) return;
    const soft = ink("soft"), line = ink("line"), most = this.bytes.indexOf(Math.max(...this.bytes)), axis = { type: "value", axisLabel: { color: soft, hideOverlap: true }, nameTextStyle: { color: soft }, splitLine: { lineStyle: { color: line } } };
    const lit = state.layer !== null ? this.at.map((v, i) => [v, this.at[i + 1] ?? this.run.memory.ops, this.layers[i]]).filter(([, , layer]) => inside(layer, state.layer)).map(([from, to]) => [{ xAxis: from }, { xAxis: to }]) : [];
    const step = binaryStep(this.bytes[most]);
    this.chart.setOption({
      animation: false, textStyle: { fontFamily: "inherit" }, grid: { left: 76, right: 14, top: 22, bottom: 40 },
      xAxis: { ...axis, min: 0, max: this.run.memory.ops, name: "operators in the order of the pass", nameLocation: "middle", nameGap: 24, splitLine: { show: false } },
      yAxis: { ...axis, min: 0, max: step * Math.ceil(this.bytes[most] / step), interval: step, axisLabel: { color: soft, formatter: binary, hideOverlap: true } },
      tooltip: { trigger: "axis", confine: true, transitionDuration: 0, backgroundColor: ink("card"), borderColor: line, textStyle: { color: ink("ink") },
        formatter: ([p]) => el("div", { class: "tip" }, el("b", {}, this.layers[p.dataIndex] || "the model itself"), el("div", {}, p.value[0] ? `operator ${p.value[0]}` : "before the pass"), el("div", {}, binary(p.value[1]))) },
      series: [{ type: "line", step: "end", showSymbol: false, data: this.at.map((v, i) => [v, this.bytes[i]]), lineStyle: { color: ink("accent"), width: 1.6 }, itemStyle: { color: ink("accent") }, areaStyle: { color: ink("accent"), opacity: .16 },
        markPoint: { symbol: "circle", symbolSize: 8, itemStyle: { color: ink("ink") }, label: { position: this.at[most] < .2 * this.run.memory.ops ? "right" : this.at[most] > .8 * this.run.memory.ops ? "left" : "top", formatter: `peak ${binary(this.bytes[most])}`, color: ink("ink"), textBorderColor: ink("card"), textBorderWidth: 3 }, data: [{ coord: [this.at[most], this.bytes[most]] }] },
        markArea: { silent: true, itemStyle: { color: ink("accent"), opacity: .22 }, data: lit } }],
    }, true);
  }
}
