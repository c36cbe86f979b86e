// ---- tables: rows that sort, fold and are found by the browser's own search even where they are folded away
class Grid {
  // columns: { name, of: row => what it sorts by, cell: row => text or node, text: left-aligned, width }
  constructor(box, label, columns, { tree = false, picked = null, sorted = null } = {}) {
    this.columns = columns; this.tree = tree; this.picked = picked; this.sorted = sorted; this.by = null; this.down = true; this.nodes = new Map();
    this.body = el("div", { class: "body", role: "rowgroup" });
    this.head = el("div", { class: "r head", role: "row" });
    columns.forEach((column, i) => {
      const button = el("button", { type: "button" }, column.name);
      button.addEventListener("click", () => {
        const down = this.by === i ? !this.down : !column.text;
        this.sort(i, down);
        if (this.sorted) this.sorted(`${column.name},${down ? "down" : "up"}`);
        say(`sorted by ${column.name}, ${down ? "largest" : "smallest"} first`);
      });
      this.head.append(el("div", { role: "columnheader", class: column.text ? "text" : "" }, button));
    });
    const attributes = { class: tree ? "grid tree" : "grid", role: tree ? "treegrid" : "table", "aria-label": label, style: `--columns:${columns.map(c => c.width || "minmax(66px,1fr)").join(" ")}` };
    if (!tree) attributes.tabindex = "0";
    this.box = el("div", attributes, el("div", { role: "rowgroup" }, this.head), this.body);
    box.replaceChildren(this.box);
    if (tree) this.listen();
  }
  fill(list) {
    this.rows = list;
    this.nodes.clear();
    for (const row of list) this.nodes.set(row, this.make(row));
    this.order();
  }
  make(row) {
    const node = el("div", { class: "r", role: "row" });
    if (this.tree) {
      node.dataset.path = row.path;
      node.tabIndex = -1;
      node.setAttribute("aria-level", row.depth + 1);
      if (row.below.length) node.setAttribute("aria-expanded", "false");
    }
    this.columns.forEach((column, i) => {
      const cell = el("div", { role: i === 0 ? "rowheader" : this.tree ? "gridcell" : "cell" });
      const classes = [column.text ? "text" : "", column.class || "", i === 0 ? "name" : ""].filter(Boolean).join(" ");
      if (classes) cell.className = classes;
      if (i === 0 && this.tree) {
        cell.style.setProperty("--depth", row.depth);
        cell.append(el("button", { type: "button", class: row.below.length ? "fold" : "fold none", tabindex: "-1", "aria-hidden": "true" }));
      } else if (i) cell.dataset.label = column.name;
      cell.append(column.cell(row));
      node.append(cell);
    });
    node.row = row;
    return node;
  }
  sort(i, down) {
    this.by = i; this.down = down;
    [...this.head.children].forEach((cell, at) => { if (at === i) cell.setAttribute("aria-sort", down ? "descending" : "ascending"); else cell.removeAttribute("aria-sort"); });
    this.order();
  }
  sortAs(text) {
    const [name, way] = (text || "").split(","), i = this.columns.findIndex(c => c.name === name);
    if (i >= 0) this.sort(i, way !== "up");
    else { this.by = null; for (const cell of this.head.children) cell.removeAttribute("aria-sort"); this.order(); }
  }
  order() {
    const column = this.by === null ? null : this.columns[this.by], sign = this.down ? -1 : 1;
    const compare = column && ((p, q) => { const a = column.of(p), b = column.of(q); return (a < b ? -1 : a > b ? 1 : 0) * sign || p.i - q.i; });
    const out = [];
    if (this.tree) {
      // siblings are sorted, and stay below their parent
      const walk = row => { out.push(this.nodes.get(row)); for (const child of compare ? [...row.below].sort(compare) : row.below) walk(child); };
      if (this.rows.length) walk(this.rows[0]);
    } else for (const row of compare ? [...this.rows].sort(compare) : this.rows) out.push(this.nodes.get(row));
    this.shown = out;
    this.body.replaceChildren(...out);
  }
  // ---- of a tree
  expand(row, open) { const node = this.nodes.get(row); if (row.below.length) node.setAttribute("aria-expanded", open); }
  isOpen(row) { return this.nodes.get(row).getAttribute("aria-expanded") === "true"; }
  // rows whose parents are open; with words, those that have them and all around those
  refresh(words = "") {
    const wanted = words.trim().toLowerCase(), hits = new Set();
    let found = 0;
    if (wanted) for (const row of this.rows) if (row.path.toLowerCase().includes(wanted) || row.type.toLowerCase().includes(wanted)) { found++; for (let r = row; r && !hits.has(r); r = r.up) hits.add(r); }
    for (const row of this.rows) {
      let seen = true;
      if (wanted) seen = hits.has(row);
      else for (let up = row.up; up && seen; up = up.up) seen = this.isOpen(up);
      const node = this.nodes.get(row);
      if (seen) { node.removeAttribute("hidden"); node.removeAttribute("aria-hidden"); }
      else { node.setAttribute("hidden", wanted ? "" : "until-found"); node.setAttribute("aria-hidden", "true"); }
    }
    if (!this.body.querySelector('[tabindex="0"]:not([hidden])')) this.focusable(this.shown.find(node => !node.hasAttribute("hidden")));
    return found;
  }
  focusable(node) {
    for (const other of this.body.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    if (node) node.tabIndex = 0;
  }
  reveal(row, scroll = true) {
    for (let up = row.up; up; up = up.up) this.expand(up, true);
    const node = this.nodes.get(row);
    if (scroll) {
      // within the table alone: the page stays where the reader is
      const top = node.offsetTop, box = this.box;
      if (top < box.scrollTop + 40 || top > box.scrollTop + box.clientHeight - 60) box.scrollTop = top - box.clientHeight / 3;
    }
  }
  mark(row, lit) {
    for (const [one, node] of this.nodes) {
      node.classList.toggle("picked", one === row);
      node.classList.toggle("lit", one !== row && lit.has(one));
      node.setAttribute("aria-selected", one === row);
    }
    if (row) this.focusable(this.nodes.get(row));
  }
  listen() {
    const of = event => event.target.closest(".body .r");
    this.body.addEventListener("click", event => {
      const node = of(event);
      if (!node || String(getSelection())) return;
      if (event.target.classList.contains("fold") && node.row.below.length) { this.expand(node.row, !this.isOpen(node.row)); this.refresh(); this.folded(); } else this.picked(node.row);
    });
    this.body.addEventListener("beforematch", event => { const node = of(event); this.reveal(node.row, false); this.refresh(); this.folded(); });
    this.body.addEventListener("keydown", event => {
      const node = of(event);
      if (!node || event.target.tagName === "A") return;
      const seen = this.shown.filter(one => !one.hasAttribute("hidden")), at = seen.indexOf(node), row = node.row;
      let next = null;
      if (event.key === "ArrowDown") next = seen[at + 1];
      else if (event.key === "ArrowUp") next = seen[at - 1];
      else if (event.key === "Home") next = seen[0];
      else if (event.key === "End") next = seen[seen.length - 1];
      else if (event.key === "ArrowRight" && row.below.length && !this.isOpen(row)) { this.expand(row, true); this.refresh(); this.folded(); }
      else if (event.key === "ArrowRight") next = row.below.length ? seen[at + 1] : null;
      else if (event.key === "ArrowLeft" && row.below.length && this.isOpen(row)) { this.expand(row, false); this.refresh(); this.folded(); }
      else if (event.key === "ArrowLeft") next = row.up && this.nodes.get(row.up);
      else if (event.key === "Enter" || event.key === " ") this.picked(row);
      else return;
      event.preventDefault();
      if (next) { this.focusable(next); next.focus(); }
    });
  }
  folded() {}
}
