// Charts, by plotly.js. Its source travels compressed and is unpacked once the page stands.
let plotting = null;

// Okabe and Ito's hues, told apart by color-blind eyes too, darkened or lightened for each theme in
// the style sheet. Shapes vary with them, so that no group is told by its color alone.
const COLOR_NAMES = Array.from({ length: 8 }, (_, index) => `--hue-${index}`);
let COLORS = [];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross"];

function loadPlotly() {
  if (!("DecompressionStream" in window)) return Promise.reject(new Error("no charts"));
  plotting ??= (async () => {
    const holder = byId("plotly");
    const bytes = Uint8Array.from(atob(holder.textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    holder.remove();
    return window.Plotly;
  })();
  return plotting;
}

function themeColor(name) {
  const probe = element("span", { style: { color: `var(${name})` }, hidden: true });
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

function readColors() {
  COLORS = COLOR_NAMES.map(themeColor);
}

function layout(more) {
  const axis = { gridcolor: themeColor("--line"), linecolor: themeColor("--line"),
    zerolinecolor: themeColor("--line"), automargin: true, fixedrange: true };
  const titled = (own) => ({ ...axis, ...own, title: { standoff: 12, ...own.title } });
  return { ...more,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: more.dragmode ?? false,
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: themeColor("--text") },
    margin: { l: 16, r: 16, t: 8, b: 16, ...more.margin },
    legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", itemwidth: 30, traceorder: "normal", ...more.legend },
    hoverlabel: { font: { color: themeColor("--text") }, bgcolor: themeColor("--surface"), bordercolor: themeColor("--line") },
    xaxis: titled(more.xaxis), yaxis: titled(more.yaxis) };
}

function plot(place, traces, more) {
  return loadPlotly().then((Plotly) => Plotly.react(place, traces, layout(more), { responsive: true, displayModeBar: false, showTips: false }))
    .then(() => place.classList.add("drawn"))
    .catch((error) => {
      if (error.message !== "no charts") throw error;
      fill(place, element("p", { class: "note" }, text("charts.unavailable")));
    });
}

// plotly reads a small set of tags in texts; a class called "<b>" must stay one.
function plain(name) {
  return String(name).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

function short(name, length = 24) {
  const letters = [...name];
  return plain(letters.length > length ? letters.slice(0, length - 1).join("") + "…" : name);
}

function drawCounts() {
  const place = byId("chart-counts");
  const many = REPORT.class_names.length > 30;
  const order = REPORT.class_names.map((_, index) => index).reverse();
  place.style.height = `${many ? 420 : 90 + 30 * order.length}px`;
  plot(place, ["train", "validation", "test"].map((split, column) => ({
    type: "bar", orientation: "h", name: splitName(split), marker: { color: COLORS[column] },
    y: order, x: order.map((index) => REPORT.data.counts[index][column]), hovertemplate: "%{text}: %{x}",
    text: order.map((index) => plain(className(index))), textposition: "none",
  })), {
    barmode: "stack", bargap: many ? 0 : 0.25,
    xaxis: { title: { text: text("axis.images") } },
    yaxis: { title: { text: text("class") }, tickvals: many ? [] : order, ticktext: many ? [] : order.map((index) => short(className(index))) },
  });
}

// What stands under the name of validation may be a cross-validation, of some heads or of all.
function validationName(heads) {
  const names = heads.filter((head) => head.scores.validation).map((head) => (head.scores.validation.folds ? text("line.folds") : splitName("validation")));
  return [...new Set(names)].join(" / ");
}

function drawScores() {
  const select = byId("metric");
  if (!select) return;
  const metrics = REPORT.headline.filter((metric) => REPORT.heads.some((head) => Object.values(head.scores).some((split) => metric in split)));
  const metric = metrics.includes(select.value) ? select.value : metrics[0];
  fill(select, ...metrics.map((name) => element("option", { value: name, selected: name === metric }, metricName(name))));
  select.onchange = drawScores;
  byId("metric-help").textContent = has("metric_help." + metric) ? text("metric_help." + metric) : "";
  const heads = [...REPORT.heads].reverse();
  const share = PERCENT_METRICS.has(metric);
  const traces = [["validation", "circle-open", -0.12, 1], ["test", "diamond", 0.12, 0]].map(([split, symbol, shift, color]) => {
    const found = heads.map((head, index) => ({ index, name: head.name, score: head.scores[split] && head.scores[split][metric] })).filter((one) => one.score);
    return { type: "scatter", mode: "markers", name: split === "validation" ? validationName(heads) : splitName(split), x: found.map((one) => one.score.value), y: found.map((one) => one.index - shift),
      marker: { symbol, size: 11, color: COLORS[color], line: { width: 2, color: COLORS[color] } },
      error_x: { visible: found.some((one) => one.score.low !== null), type: "data", symmetric: false, thickness: 2, width: 5, color: COLORS[color],
        array: found.map((one) => one.score.high === null ? 0 : one.score.high - one.score.value),
        arrayminus: found.map((one) => one.score.low === null ? 0 : one.score.value - one.score.low) },
      text: found.map((one) => plain(`${one.name}: ${metricValue(metric, one.score.value)}${one.score.low === null ? "" : ` (${metricValue(metric, one.score.low)} – ${metricValue(metric, one.score.high)})`}`)),
      hovertemplate: "%{text}<extra></extra>" };
  }).filter((trace) => trace.x.length);
  const place = byId("chart-scores");
  place.style.height = `${110 + 52 * heads.length}px`;
  plot(place, traces, {
    xaxis: { title: { text: metricName(metric) }, tickformat: share ? ".0%" : "", nticks: 8 },
    yaxis: { title: { text: text("head") }, tickvals: heads.map((_, index) => index), ticktext: heads.map((head) => (head.name === REPORT.selected ? `<b>${short(head.name)}</b>` : short(head.name))), range: [-0.6, heads.length - 0.4], zeroline: false },
  });
}

function lineName(name) {
  return has("line." + name) ? text("line." + name) : plain(name);
}

// On a logarithmic axis of few decades plotly would write 2 and 5 without their zeros.
const ROUND_NUMBERS = [-2, -1, 0, 1, 2, 3, 4, 5].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
const logTicks = (chart) => (!chart.x_log ? {} : chart.title === "learning" ? { tickvals: ROUND_NUMBERS } : { exponentformat: "power" });
const ofShares = (chart) => ["reliability", "roc", "precision_recall"].includes(chart.title);
const SHARES = { range: [-0.02, 1.02], tickformat: ".0%" };
const DIAGONAL = () => ({ type: "line", x0: 0, y0: 0, x1: 1, y1: 1, line: { color: themeColor("--muted"), dash: "dot", width: 2 } });

// A curve that hardly moves would fill the chart with its noise, or stand in a range beyond 100 %.
function accuracyRange(chart) {
  const values = chart.lines.flatMap((line) => line.y.filter((value) => value !== null));
  const low = Math.max(0, Math.min(...values) - 0.05);
  return { range: [low, Math.min(1.005, Math.max(...values) + 0.05)], tickformat: ".0%" };
}

function drawCurves(chosen) {
  const select = byId("curves-head");
  if (!select) return;
  const names = REPORT.heads.filter((head) => head.charts.length).map((head) => head.name);
  const name = typeof chosen === "string" ? chosen : select.value || (names.includes(REPORT.selected) ? REPORT.selected : names[0]);
  drawHeadChoice(select, names, name, drawCurves);
  const charts = HEADS.get(name).charts;
  const places = charts.map((chart) => element("div", { class: "chart", role: "img", "aria-label": text("chart." + chart.title) }));
  fill(byId("charts-curves"), ...charts.map((chart, index) => {
    const title = chart.title.replace("_folds", "");
    const told = [chart.basis ? factText(chart.basis) : "", has("chart_help." + title) ? text("chart_help." + title) : ""].filter(Boolean);
    return element("figure", {}, element("h3", {}, text("chart." + chart.title)), places[index], element("figcaption", {}, told.join(" ")));
  }));
  charts.forEach((chart, index) => plot(places[index], chart.lines.map((line, rank) => ({
    type: "scatter", mode: line.x.length > 60 ? "lines" : line.counts ? "lines+markers+text" : "lines+markers", name: lineName(line.name), x: line.x, y: line.y, connectgaps: false,
    line: { color: COLORS[rank % COLORS.length], width: 2, dash: ["solid", "dash", "dot", "dashdot"][rank % 4] },
    marker: { size: 6, symbol: SYMBOLS[rank % SYMBOLS.length] },
    // Towards the middle, where there is room.
    ...(line.counts ? { text: line.counts.map(number), cliponaxis: false, textposition: line.y.map((value) => `${value > 0.5 ? "bottom" : "top"} center`) } : {}),
  })), {
    showlegend: chart.lines.length > 1,
    xaxis: { title: { text: text("axis." + chart.x_title) }, type: chart.x_log ? "log" : "linear", ...(ofShares(chart) ? SHARES : {}), ...logTicks(chart) },
    yaxis: { title: { text: text("axis." + chart.y_title) }, ...(ofShares(chart) ? SHARES : chart.y_title === "accuracy" ? accuracyRange(chart) : {}) },
    shapes: chart.diagonal ? [DIAGONAL()] : chart.mark === null ? [] : [{ type: "line", x0: chart.mark, x1: chart.mark, yref: "paper", y0: 0, y1: 1, line: { color: themeColor("--muted"), dash: "dot", width: 2 } }],
  }));
}

function drawMatrixChart(place, counts) {
  // Shares of a row, so that a rare class shows as clearly as a common one; square roots, so that a
  // single mistake is seen beside a diagonal of hundreds.
  const shares = counts.map((row) => { const total = row.reduce((sum, count) => sum + count, 0); return row.map((count) => Math.sqrt(total ? count / total : 0)); });
  const names = REPORT.class_names.map((name) => short(name, 16));
  const indices = names.map((_, index) => index);
  const step = Math.ceil(names.length / 50);
  const labeled = indices.filter((index) => index % step === 0);
  const ticks = { tickvals: labeled, ticktext: labeled.map((index) => names[index]), tickfont: { size: 10 } };
  plot(place, [{ type: "heatmap", z: shares, x: indices, y: indices, xgap: 0.5, ygap: 0.5, zmin: 0, zmax: 1,
    colorscale: [[0, themeColor("--surface")], [0.02, themeColor("--cool-low")], [1, themeColor("--cool-high")]],
    text: counts.map((row, truth) => row.map((count, guess) => plain(cellTitle(truth, guess, count)))), hovertemplate: "%{text}<extra></extra>",
    colorbar: { title: { text: text("axis.share") }, tickvals: [0, Math.sqrt(0.1), Math.sqrt(0.5), 1], ticktext: ["0%", "10%", "50%", "100%"], thickness: 12 } }], {
    xaxis: { title: { text: text("matrix.guess") }, ...ticks, tickangle: -90 },
    yaxis: { title: { text: text("matrix.truth") }, ...ticks, autorange: "reversed" },
  }).then(() => {
    if (!place.on) return;
    place.removeAllListeners("plotly_click");
    place.on("plotly_click", (event) => {
      const { x, y } = event.points[0];
      if (counts[y][x]) openCell(y, x);
    });
  });
}

function drawComparison() {
  const place = byId("chart-comparison");
  if (!place) return;
  const all = REPORT.comparison.candidates;
  const front = all.filter((one) => one.on_front).sort((a, b) => a.milliseconds - b.milliseconds);
  const points = [true, false].map((onFront, index) => {
    const found = all.filter((one) => one.on_front === onFront);
    const told = found.some((one) => one.test.low !== null);
    return { type: "scatter", mode: "markers+text", name: text(onFront ? "comparison.on_front" : "comparison.others"),
      x: found.map((one) => one.milliseconds), y: found.map((one) => one.test.value),
      text: found.map((one) => (one.standing === "winner" ? `<b>${short(one.label)}</b>` : short(one.label))), textposition: "top right", cliponaxis: false,
      marker: { opacity: 1, color: COLORS[index], symbol: SYMBOLS[index], size: found.map((one) => (one.standing === "winner" ? 15 : 10)) },
      error_y: { visible: told, type: "data", symmetric: false, thickness: 1.5, width: 4, color: COLORS[index],
        array: found.map((one) => (one.test.high ?? one.test.value) - one.test.value), arrayminus: found.map((one) => one.test.value - (one.test.low ?? one.test.value)) },
      hovertemplate: "%{text}: %{y:.1%}, %{x:.2f} ms<extra></extra>" };
  }).filter((trace) => trace.x.length);
  plot(place, [{ type: "scatter", mode: "lines", x: front.map((one) => one.milliseconds), y: front.map((one) => one.test.value), hoverinfo: "skip", showlegend: false,
    line: { shape: "hv", color: themeColor("--muted"), width: 1.5, dash: "dot" } }, ...points], {
    margin: { r: 90 },
    xaxis: { title: { text: text("axis.time") }, type: "log", tickvals: ROUND_NUMBERS },
    yaxis: { title: { text: text("axis.test_accuracy") }, tickformat: ".0%" },
  });
}
