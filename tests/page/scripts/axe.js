$("#kernels").open = true; await pause();
const found = await axe.run(document);
log.violations = found.violations.filter(v => v.impact === "serious" || v.impact === "critical").map(v => [v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 160))]);
