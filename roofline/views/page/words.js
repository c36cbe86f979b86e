// ---- words: numbers as the terminal has them, and elements
const digits = (v, n) => v === 0 ? "0" : String(+v.toPrecision(n));
function si(v, unit = "", n = 3) {
  const steps = ["", "k", "M", "G", "T", "P", "E"];
  let i = 0;
  while (i < steps.length - 1 && +Math.abs(v).toPrecision(n) >= 1000) { v /= 1000; i++; }
  return `${digits(v, n)} ${steps[i]}${unit}`.trim();
}
function binary(v) {
  const steps = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (i < steps.length - 1 && +Math.abs(v).toPrecision(3) >= 1024) { v /= 1024; i++; }
  return `${digits(v, 3)} ${steps[i]}`;
}
// a round step of KiB, MiB or GiB, of which at most five reach `total`
function binaryStep(total) {
  const unit = 1024 ** Math.floor(Math.log(Math.max(total, 1)) / Math.log(1024));
  return unit * ([.25, .5, 1, 2, 4, 5, 8, 10, 20, 25, 50, 100, 128, 200].find(n => total <= 5 * n * unit) || 256);
}
function seconds(v) {
  for (const [unit, size] of [["s", 1], ["ms", 1e-3], ["µs", 1e-6]]) if (v >= size * .9995) return `${digits(v / size, 3)} ${unit}`;
  return v ? `${digits(v / 1e-9, 3)} ns` : "0 s";
}
function joules(v) {
  return v >= 999.5 ? si(v, "J") : seconds(v).replace(/s$/, "J");
}
// a page has six digits of a number, and the whole must read as the whole
function percent(part, whole) {
  const p = whole ? 100 * part / whole : 0;
  return p === 0 ? "0 %" : p < .1 ? "<0.1 %" : p >= 99.5 && p < 100 - 1e-3 ? `${Math.min(p, 99.9).toFixed(1)} %` : `${p < 9.95 ? p.toFixed(1) : p.toFixed(0)} %`;
}
const times = v => `${v >= 100 ? Math.round(v).toLocaleString("en") : digits(v, 2)}×`;
const many = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const micro = text => text.replace(/(\d )u([sJ])\b/g, "$1µ$2");
const $ = (query, root = document) => root.querySelector(query);
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
// a colour that the style sheet names
const ink = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const say = text => { $("#live").textContent = text; };
