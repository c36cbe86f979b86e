// all rules as the page opens, and those on colours on the other paper
if ($("#kernels")) { $("#kernels").open = true; await pause(); }
log.violations = [];
log.papers = [];
for (const rules of [{}, { runOnly: ["color-contrast"] }]) {
  const found = await axe.run(document, { resultTypes: ["violations"], ...rules });
  log.papers.push(document.documentElement.dataset.theme);
  log.violations.push(...found.violations.filter(v => v.impact === "serious" || v.impact === "critical").map(v => [v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 160))]));
  $("#theme").click();
  await pause();
}
