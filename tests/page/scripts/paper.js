// rows stand under their heads, nothing is cut off at the right, and no word is broken that has a unit
const rows = name => all(`#${name} .head, #${name} .body .r:not([hidden])`);
for (const name of ["layers", "ops"]) {
  const lines = rows(name).map(r => [...r.children].map(c => Math.round(c.getBoundingClientRect().left)).join());
  log[name] = [lines.length, new Set(lines).size];
}
log.cut = all(".grid .r:not([hidden]) > *").filter(c => c.scrollWidth > c.clientWidth + 1).map(c => c.textContent);
log.wide = document.documentElement.scrollWidth - innerWidth;
log.columns = all("#ops .head > *").length;
