// ---- what every page has at its head
function headed(markdown, drawn) {
  $("#theme").addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try { localStorage.setItem("roofline-theme", theme); } catch { /* a file page may have no storage */ }
    drawn();
  });
  $("#print").addEventListener("click", () => print());
  $("#copy").addEventListener("click", async () => {
    const text = markdown();
    try { await navigator.clipboard.writeText(text); } catch {
      const area = el("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    say("copied as Markdown");
    $("#copy").textContent = "Copied";
    setTimeout(() => { $("#copy").textContent = "Copy as Markdown"; }, 1500);
  });
}
// charts follow the width of the page; on paper they have the colours of paper, and `sizes` of it
function sized(charts, sizes, drawn) {
  let width = document.body.clientWidth, before = "";
  new ResizeObserver(() => requestAnimationFrame(() => { if (document.body.clientWidth !== width) { width = document.body.clientWidth; for (const chart of charts) chart.resize(); } })).observe(document.body);
  addEventListener("beforeprint", () => { before = document.documentElement.dataset.theme; document.documentElement.dataset.theme = "light"; charts.forEach((chart, i) => chart.resize(sizes[i])); drawn(); });
  addEventListener("afterprint", () => { document.documentElement.dataset.theme = before; for (const chart of charts) chart.resize({ width: "auto", height: "auto" }); drawn(); });
}
