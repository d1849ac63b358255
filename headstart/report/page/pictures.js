// Thumbnails, galleries of them, and the two dialogs: a list of images, and one image with all that
// is known of it.
const HEADS = new Map(REPORT.heads.map((head) => [head.name, {
  ...head, byPicture: new Map(head.predictions.map((one) => [one.picture, one])),
}]));
const NEIGHBORS = new Map(REPORT.neighbors.map((one) => [one.picture, one]));
const HEAT = new Map();
for (const map of REPORT.heat ? REPORT.heat.maps : []) {
  HEAT.set(map.picture, [...(HEAT.get(map.picture) || []), map]);
}
// The head whose decisions the galleries and the map show.
let currentHead = HEADS.get(REPORT.selected) || [...HEADS.values()].find((head) => head.confusion) || null;
let strength = 0.65;

function fileName(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

function image(picture, source = picture.thumbnail) {
  const alt = `${className(picture.label)}, ${fileName(picture.path)}`;
  return source ? element("img", { src: source, alt, loading: "lazy", decoding: "async" })
    : element("span", { class: "missing", role: "img", "aria-label": alt }, "?");
}

function prediction(id, head = currentHead) {
  return head ? head.byPicture.get(id) || null : null;
}

function isMistake(one) {
  return one.classes[0] !== REPORT.pictures[one.picture].label;
}

// What stands below a thumbnail: the class, or, of a test image, what the head made of it.
function caption(id) {
  const label = REPORT.pictures[id].label;
  const one = prediction(id);
  if (!one) return [element("span", { class: "name" }, className(label))];
  const wrong = isMistake(one);
  return [
    element("span", { class: wrong ? "verdict bad" : "verdict good" }, wrong ? "✗ " : "✓ ",
      element("span", { class: "name" }, className(one.classes[0])), ` ${percent(one.probabilities[0])}`),
    wrong ? element("span", { class: "truth" }, text("truth", { name: className(label) })) : null,
  ];
}

function card(id, below = caption(id), extra = "") {
  return element("button", {
    type: "button", class: `card ${extra}`, title: REPORT.pictures[id].path, "data-id": id,
    on: { click: () => showPicture(id) },
  }, image(REPORT.pictures[id]), ...below.filter((child) => child !== null));
}

function gallery(place, ids, { first = 24, total = ids.length, make = card } = {}) {
  if (!ids.length) {
    fill(place, element("p", { class: "note" }, text(total ? "gallery.not_pictured" : "gallery.none", { n: number(total) })));
    return;
  }
  const grid = element("div", { class: "gallery" }, ...ids.slice(0, first).map((id) => make(id)));
  const note = total > ids.length
    ? element("p", { class: "note" }, text("first_of", { shown: number(ids.length), n: number(total) })) : null;
  const more = ids.length > first ? element("button", {
    type: "button", class: "more",
    on: { click: () => {
      const rest = ids.slice(first).map((id) => make(id));
      grid.append(...rest);
      rest[0].focus();
      more.remove();
    } },
  }, text("gallery.more", { n: number(ids.length - first) })) : null;
  fill(place, grid, more, note);
}

function openDialog(id, title) {
  const dialog = byId(id);
  byId(id.replace("dialog", "title")).textContent = title;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  return dialog.querySelector(".body");
}

function showList(title, ids, total) {
  gallery(openDialog("list-dialog", title), ids, { first: 60, total });
}

function bars(one) {
  const label = REPORT.pictures[one.picture].label;
  return element("ul", { class: "bars" }, ...one.classes.slice(0, 5).map((index, rank) => element(
    "li", { class: index === label ? "own" : "" },
    element("span", { class: "name" }, index === label ? "● " : "", className(index)),
    element("span", { class: "track", "aria-hidden": "true" },
      element("span", { style: { width: `${100 * one.probabilities[rank]}%` } })),
    element("span", { class: "n" }, percent(one.probabilities[rank])),
  )));
}

function fact(name, value) {
  return element("div", {}, element("dt", {}, name), element("dd", {}, value));
}

function showPicture(id) {
  const picture = REPORT.pictures[id];
  const body = openDialog("picture-dialog", fileName(picture.path));
  const maps = HEAT.get(id) || [];
  const judged = [...HEADS.values()].filter((head) => head.byPicture.has(id));
  const near = NEIGHBORS.get(id);
  fill(body,
    element("div", { class: "split" },
      element("div", { class: "large" }, image(picture, REPORT.heat && REPORT.heat.views[id] || undefined)),
      element("dl", { class: "facts" }, fact(text("class"), className(picture.label)),
        fact(text("split"), splitName(picture.split)), fact(text("file"), picture.path))),
    picture.sha256 ? correctPicture(picture) : null,
    judged.length ? element("h3", {}, text("picture.predictions")) : null,
    judged.length ? element("div", { class: "judged" }, ...judged.map((head) => element("div", {},
      element("h4", { class: "name" }, head.name, head.name === REPORT.selected
        ? element("span", { class: "tag" }, text("chosen")) : ""), bars(head.byPicture.get(id))))) : null,
    maps.length ? element("h3", {}, text("heat.title")) : null,
    maps.length ? heatRow(id, maps) : null,
    near ? element("h3", {}, text("neighbors.title")) : null,
    near ? nearestRow(near) : null,
  );
}

function correctPicture(picture) {
  const place = element("div", { class: "correct" });
  const redraw = () => fill(place, element("p", {}, toldDecision(decision(picture.sha256))),
    correctionControls({ sha256: picture.sha256, given: className(picture.label), suggested: "" }, () => {
      const focused = document.activeElement.dataset.act;
      redraw();
      const again = place.querySelector(`[data-act="${focused}"]`);
      if (again) again.focus();
      saved = false;
      drawLook();
    }).made);
  redraw();
  return element("details", { open: Boolean(decision(picture.sha256)) }, element("summary", {}, text("correct.title")), place,
    element("p", { class: "note" }, text("correct.where")));
}

function nearestRow(near) {
  const label = REPORT.pictures[near.picture].label;
  return element("div", { class: "gallery" }, ...near.nearest.map((id, rank) => {
    const same = REPORT.pictures[id].label === label;
    return card(id, [
      element("span", { class: "name" }, same ? "" : "≠ ", className(REPORT.pictures[id].label)),
      element("span", { class: "truth" }, text("similarity", { value: near.similarities[rank].toFixed(3) })),
    ], same ? "" : "other");
  }));
}
