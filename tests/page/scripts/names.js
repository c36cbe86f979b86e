// words of the roofline that lie flat: names of marks, and all that they may cover
const chart = $("#roof .chart svg").getBoundingClientRect();
const words = all("#roof .chart svg text").filter(t => !/rotate|matrix\((?!1,0,0,1)/.test(t.getAttribute("transform") || "")).map(t => [t.textContent, t.getBoundingClientRect()]);
const names = words.filter(([text]) => / %$/.test(text));
log.names = [...new Set(names.map(([text]) => text))];
log.covered = names.flatMap(([text, a]) => words.filter(([other, b]) => other !== text && a.left < b.right - 2 && b.left < a.right - 2 && a.top < b.bottom - 2 && b.top < a.bottom - 2).map(([other]) => `${text} / ${other}`));
log.outside = names.filter(([, a]) => a.left < chart.left || a.right > chart.right || a.bottom > chart.bottom || a.top < chart.top).map(([text]) => text);
