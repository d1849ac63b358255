// The confusion matrix, and what follows from it: mistakes, uncertain hits, scores by class.
const LARGEST_TABLE = 25;
const LARGEST_CHART = 200;

function drawHeadChoice(select, names, chosen, act) {
  fill(select, ...names.map((name) => element("option", { value: name, selected: name === chosen },
    name === REPORT.selected ? `${name} (${text("chosen")})` : name)));
  select.onchange = () => act(select.value);
}

function cellTitle(truth, guess, count) {
  return text(truth === guess ? "cell.right" : "cell.wrong",
    { truth: className(truth), guess: className(guess), n: number(count) });
}

function openCell(truth, guess) {
  const ids = currentHead.predictions
    .filter((one) => one.classes[0] === guess && REPORT.pictures[one.picture].label === truth)
    .sort((a, b) => b.probabilities[0] - a.probabilities[0]).map((one) => one.picture);
  const [, , count] = currentHead.confusion.find((cell) => cell[0] === truth && cell[1] === guess);
  showList(cellTitle(truth, guess, count), ids, count);
}

function denseMatrix(cells) {
  const counts = REPORT.class_names.map(() => REPORT.class_names.map(() => 0));
  for (const [truth, guess, count] of cells) counts[truth][guess] = count;
  return counts;
}

function matrixTable(counts) {
  const classes = REPORT.class_names;
  const cell = (truth, guess, total) => {
    const count = counts[truth][guess];
    const share = total ? count / total : 0;
    const style = { "--share": `${Math.round(100 * share)}%` };
    const kind = truth === guess ? "right" : "wrong";
    if (!count) return element("td", { class: "empty" }, "0");
    return element("td", {}, element("button", {
      type: "button", class: `cell ${kind}`, style, "aria-label": cellTitle(truth, guess, count),
      "data-cell": `${truth},${guess}`, on: { click: () => openCell(truth, guess) },
    }, number(count), element("small", {}, percent(share, 0))));
  };
  return element("table", { class: classes.length > 10 ? "matrix small" : "matrix" },
    element("caption", {}, text("matrix.caption")),
    element("thead", {},
      element("tr", {}, element("td", {}), element("th", { colSpan: classes.length, scope: "colgroup" }, text("matrix.guess"))),
      element("tr", {}, element("th", { scope: "col", class: "corner" }, text("matrix.truth")),
        ...classes.map((name) => element("th", { scope: "col", class: "name", title: name }, element("span", {}, name))))),
    element("tbody", {}, ...counts.map((row, truth) => {
      const total = row.reduce((sum, count) => sum + count, 0);
      return element("tr", {}, element("th", { scope: "row", class: "name", title: className(truth) }, element("span", {}, className(truth))),
        ...row.map((_, guess) => cell(truth, guess, total)));
    })));
}

function confusedPairs(cells) {
  return cells.filter(([truth, guess]) => truth !== guess).sort((a, b) => b[2] - a[2]);
}

function pairList(pairs) {
  const shown = pairs.slice(0, 20);
  return element("ol", { class: "confused" }, ...shown.map(([truth, guess, count]) => element("li", {},
    element("button", { type: "button", class: "link", "data-cell": `${truth},${guess}`, on: { click: () => openCell(truth, guess) } },
      cellTitle(truth, guess, count)))));
}

function drawMatrix() {
  const place = byId("matrix");
  if (!place || !currentHead) return;
  const pairs = confusedPairs(currentHead.confusion);
  const n = REPORT.class_names.length;
  const chart = element("div", { id: "chart-matrix", class: "chart square" });
  fill(place,
    n <= LARGEST_TABLE ? element("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": text("nav.confusion") },
      matrixTable(denseMatrix(currentHead.confusion))) : null,
    n > LARGEST_TABLE && n <= LARGEST_CHART
      ? element("figure", {}, chart, element("figcaption", {}, text("matrix.caption"))) : null,
    n > 2 && pairs.length ? element("h3", {}, text("matrix.pairs")) : null,
    n > 2 && pairs.length ? pairList(pairs) : null);
  if (chart.isConnected) drawMatrixChart(chart, denseMatrix(currentHead.confusion));
}

function drawMistakes() {
  if (!byId("mistakes") || !currentHead) return;
  const total = confusedPairs(currentHead.confusion).reduce((sum, cell) => sum + cell[2], 0);
  const surest = [...currentHead.predictions].sort((a, b) => b.probabilities[0] - a.probabilities[0]);
  gallery(byId("mistakes"), surest.filter(isMistake).map((one) => one.picture), { first: 12, total });
  const hits = surest.filter((one) => !isMistake(one)).reverse().map((one) => one.picture);
  gallery(byId("hits"), hits.slice(0, 12));
}

function drawClasses() {
  if (!byId("class-table") || !currentHead) return;
  const sums = REPORT.class_names.map(() => ({ support: 0, guessed: 0, hit: 0 }));
  for (const [truth, guess, count] of currentHead.confusion) {
    sums[truth].support += count;
    sums[guess].guessed += count;
    if (truth === guess) sums[truth].hit += count;
  }
  const rows = sums.map(({ support, guessed, hit }, index) => {
    return { index, support, recall: support ? hit / support : null, precision: guessed ? hit / guessed : null,
      f1: support + guessed ? 2 * hit / (support + guessed) : null };
  }).filter((row) => row.support).sort((a, b) => a.f1 - b.f1);
  const value = (share) => element("td", { class: "n" }, share === null ? "–" : percent(share));
  fill(byId("class-table"), element("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": text("classes") },
    element("table", {}, element("thead", {}, element("tr", {}, element("th", { scope: "col" }, text("class")),
      ...["precision", "recall", "f1", "support"].map((name) => element("th", { scope: "col", class: "n" }, text("classes." + name))))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, element("th", { scope: "row", class: "name" }, className(row.index)),
      value(row.precision), value(row.recall), value(row.f1), element("td", { class: "n" }, number(row.support))))))));
}

function drawHeadParts() {
  if (!byId("head")) return;
  const names = [...HEADS.values()].filter((head) => head.confusion).map((head) => head.name);
  drawHeadChoice(byId("head"), names, currentHead.name, (name) => {
    currentHead = HEADS.get(name);
    drawMatrix();
    drawMistakes();
    drawClasses();
    drawNeighbors();
    drawMap();
  });
  drawMatrix();
  drawMistakes();
  drawClasses();
}
