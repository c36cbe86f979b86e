// what every script has; a click is at the middle of a node, as the charting library listens for it
const $ = q => document.querySelector(q), all = q => [...document.querySelectorAll(q)], pause = (t = 60) => new Promise(done => setTimeout(done, t));
const seen = () => all("#layers .body .r").filter(r => !r.hasAttribute("hidden")).map(r => r.dataset.path);
const key = (node, k) => node.dispatchEvent(new KeyboardEvent("keydown", { key: k, bubbles: true, cancelable: true }));
const column = (table, name) => all(`#${table} .head > *`).findIndex(c => c.textContent === name);
const press = (node, kind) => { const b = node.getBoundingClientRect(), at = { clientX: b.x + b.width / 2, clientY: b.y + b.height / 2, bubbles: true, cancelable: true, view: window }; node.dispatchEvent(new MouseEvent(kind, at)); };
const click = node => { for (const kind of ["mousemove", "mousedown", "mouseup", "click"]) press(node, kind); };
// marks of a class by their colour, largest first
const dots = colour => all("#roof .chart svg path").filter(p => p.getAttribute("fill") === colour).sort((p, q) => q.getBoundingClientRect().width - p.getBoundingClientRect().width);
