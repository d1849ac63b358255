// The features in two dimensions: a scatter plot whose points show their image.
let projection = null;
let visited = -1;

const SYMBOL_OF_SPLIT = { train: "circle", validation: "square", test: "diamond" };
const MOST_COLORED = COLOR_NAMES.length * SYMBOLS.length;

function pointGroups(mode) {
  const groups = new Map();
  REPORT.map.pictures.forEach((id, index) => {
    const picture = REPORT.pictures[id];
    const one = prediction(id);
    const key = mode === "class" ? picture.label : mode === "split" ? picture.split
      : one ? (isMistake(one) ? "wrong" : "right") : "unjudged";
    groups.set(key, [...(groups.get(key) || []), index]);
  });
  const order = { train: 0, validation: 1, test: 2, unjudged: 0, right: 1, wrong: 2 };
  return [...groups].sort(([a], [b]) => (mode === "class" ? a - b : order[a] - order[b]));
}

function groupLook(mode, key) {
  if (mode === "class") {
    return { name: short(className(key)), color: COLORS[key % COLORS.length], symbol: SYMBOLS[key % SYMBOLS.length] };
  }
  if (mode === "split") {
    return { name: splitName(key), color: COLORS[["train", "validation", "test"].indexOf(key)], symbol: SYMBOL_OF_SPLIT[key] };
  }
  const looks = { unjudged: [themeColor("--muted"), "circle"], right: [COLORS[0], "circle"], wrong: [COLORS[5], "x"] };
  return { name: text("map." + key), color: looks[key][0], symbol: looks[key][1] };
}

function drawMapControls() {
  const methods = Object.keys(REPORT.map.projections);
  projection ??= methods[0];
  fill(byId("projection"), element("legend", {}, text("map.projection")), ...methods.map((method) => element("label", {},
    element("input", { type: "radio", name: "projection", value: method, checked: method === projection,
      on: { change: () => { projection = method; drawMap(); } } }), text("projection." + method))));
  const color = byId("color");
  const modes = currentHead && currentHead.predictions.length ? ["class", "split", "verdict"] : ["class", "split"];
  const mode = color.value || (REPORT.class_names.length > MOST_COLORED && modes.length > 2 ? "verdict" : "class");
  fill(color, ...modes.map((name) => element("option", { value: name, selected: name === mode }, text("color." + name))));
  color.onchange = drawMap;
  const highlight = byId("highlight");
  const kept = highlight.value;
  fill(highlight, element("option", { value: "" }, text("map.all")), ...REPORT.class_names.map((name, index) => element("option", { value: String(index), selected: String(index) === kept }, name)));
  highlight.onchange = drawMap;
  return mode;
}

function drawMap() {
  if (!REPORT.map) return;
  const mode = drawMapControls();
  const points = REPORT.map.projections[projection];
  const lit = byId("highlight").value;
  const traces = pointGroups(mode).map(([key, members]) => {
    const look = groupLook(mode, key);
    return { type: "scatter", mode: "markers", name: look.name, customdata: members, hoverinfo: "none",
      x: members.map((index) => points[index][0]), y: members.map((index) => points[index][1]),
      marker: { color: look.color, symbol: look.symbol, size: 9, line: { width: 1, color: themeColor("--surface") },
        opacity: members.map((index) => (lit === "" || String(REPORT.pictures[REPORT.map.pictures[index]].label) === lit ? 0.9 : 0.08)) } };
  });
  // A coarse pointer scrolls the page with the same gesture that would zoom here.
  const zooms = matchMedia("(pointer: fine)").matches;
  const axis = (number) => ({ title: { text: projection === "pca"
    ? text("axis.pca", { n: number + 1, share: percent(REPORT.map.explained[number], 0) })
    : text("axis.projection", { name: text("projection." + projection), n: number + 1 }) }, fixedrange: !zooms, zeroline: false, showticklabels: projection === "pca" });
  const place = byId("chart-map");
  plot(place, traces, { dragmode: zooms ? "zoom" : false, hovermode: "closest", showlegend: traces.length <= MOST_COLORED, xaxis: axis(0), yaxis: axis(1) })
    .then(() => {
      if (!place.on) return;
      for (const event of ["plotly_hover", "plotly_unhover", "plotly_click"]) place.removeAllListeners(event);
      place.on("plotly_hover", (event) => showTip(event.points[0].customdata, event.event));
      place.on("plotly_unhover", hideTip);
      place.on("plotly_click", (event) => { hideTip(); showPicture(REPORT.map.pictures[event.points[0].customdata]); });
    });
  const shown = REPORT.map.pictures.length;
  byId("map-note").textContent = [text(shown < REPORT.map.total ? "map.some" : "map.every", { shown: number(shown), n: number(REPORT.map.total) }),
    text("projection_help." + projection), zooms ? text("map.zoom") : ""].join(" ");
}

function showTip(index, pointer) {
  const id = REPORT.map.pictures[index];
  const tip = byId("tip");
  fill(tip, image(REPORT.pictures[id]), ...caption(id).filter((child) => child !== null), element("span", { class: "truth" }, splitName(REPORT.pictures[id].split)));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(pointer.clientX + 16, innerWidth - width - 4))}px`;
  tip.style.top = `${pointer.clientY + 20 + height > innerHeight ? pointer.clientY - height - 14 : pointer.clientY + 20}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

// Arrow keys walk the points from left to right; Enter opens the image.
function walkMap(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step && !(event.key === "Enter" && visited >= 0)) return;
  event.preventDefault();
  const points = REPORT.map.projections[projection];
  const order = points.map((_, index) => index).sort((a, b) => points[a][0] - points[b][0]);
  if (!step) return showPicture(REPORT.map.pictures[order[visited]]);
  visited = (visited + step + order.length) % order.length;
  const index = order[visited];
  const place = byId("chart-map");
  const box = place.getBoundingClientRect();
  const { xaxis, yaxis } = place._fullLayout;
  showTip(index, { clientX: box.left + xaxis._offset + xaxis.l2p(points[index][0]), clientY: box.top + yaxis._offset + yaxis.l2p(points[index][1]) });
  const picture = REPORT.pictures[REPORT.map.pictures[index]];
  byId("map-live").textContent = `${className(picture.label)}, ${fileName(picture.path)}, ${splitName(picture.split)}`;
}
