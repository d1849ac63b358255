// The part in which people look at suspects one by one and say what is right.
const WINDOW = 24;
const STEPS = { j: 1, arrowdown: 1, arrowup: -1 };
const DECIDING = { k: "keep", r: "relabel", d: "drop" };
// Digests in the order in which they were decided, for undoing.
const trail = [];
let at = Math.max(0, LOOK.suspects.findIndex((one) => !decision(one.sha256)));
let controls = null;
let saved = false;

function kindName(kind) {
  return has("kind." + kind) ? text("kind." + kind) : kind;
}

function tell(message) {
  byId("look-live").textContent = message;
}

function goTo(index) {
  if (index < 0 || index >= LOOK.suspects.length) return;
  at = index;
  drawSuspect();
  tell(text("look.at", { name: fileName(LOOK.suspects[at].path), given: LOOK.suspects[at].given }));
}

function afterDecision(action) {
  saved = false;
  const { sha256 } = LOOK.suspects[at];
  if (action in { keep: 1, relabel: 1, drop: 1 }) {
    trail.push(sha256);
    const told = toldDecision(decision(sha256));
    const next = LOOK.suspects.findIndex((one, index) => index > at && !decision(one.sha256));
    if (next >= 0) at = next;
    drawSuspect();
    tell(next < 0 ? `${told}. ${text("look.last")}` : `${told}. ${text("look.at", { name: fileName(LOOK.suspects[at].path), given: LOOK.suspects[at].given })}`);
  } else {
    drawSuspect();
    if (action === "undo") tell(toldDecision(decision(sha256)));
  }
  drawSave();
}

// Takes back the decision on the image that is shown or, where there is none, the latest one.
function undo() {
  if (decided.has(LOOK.suspects[at].sha256) || BEFORE.has(LOOK.suspects[at].sha256)) {
    controls.act("undo");
    return;
  }
  let latest = trail.pop();
  while (latest && !decided.has(latest)) latest = trail.pop();
  const index = LOOK.suspects.findIndex((one) => one.sha256 === latest);
  if (index < 0) return;
  at = index;
  drawSuspect();
  controls.act("undo");
}

function pressInLook(event) {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) {
    // Back to where the keys decide.
    if (event.key === "Escape") byId("look-panel").focus();
    return;
  }
  // With a Hangul keyboard the letter is another, on the same key.
  const key = /^([ -~]|Arrow\w+)$/.test(event.key) ? event.key.toLowerCase() : event.code.replace(/^(Key|Digit)/, "").toLowerCase();
  if (key in STEPS) goTo(at + STEPS[key]);
  else if (key in DECIDING) controls.act(DECIDING[key]);
  else if (key === "u") undo();
  else if (key === "arrowleft" || key === "arrowright") controls.choose(key === "arrowright" ? 1 : -1);
  else if (/^[1-9]$/.test(key)) controls.pick(Number(key) - 1);
  else return;
  event.preventDefault();
}

function drawKinds() {
  const kinds = [...new Set(LOOK.suspects.map((one) => one.kind))];
  return element("div", { class: "kinds", role: "group", "aria-label": text("look.kinds") }, ...kinds.map((kind) => {
    const members = LOOK.suspects.map((one, index) => ({ ...one, index })).filter((one) => one.kind === kind);
    const open = members.filter((one) => !decision(one.sha256));
    return element("button", { type: "button", "data-act": "kind." + kind, "aria-pressed": String(LOOK.suspects[at].kind === kind),
      on: { click: () => goTo((open[0] || members[0]).index) } },
    kindName(kind), " ", element("span", { class: "tag" }, `${number(members.length - open.length)} / ${number(members.length)}`));
  }));
}

function evidenceRow(role, name, found) {
  if (!found.length) return null;
  return element("div", {}, element("h4", {}, text("evidence." + role, { name })), element("div", { class: "strip" },
    ...found.map((one) => {
      const below = [element("span", { class: "name" }, one.label),
        role === "copy" ? null : element("span", { class: "truth" }, text("similarity", { value: one.similarity.toFixed(2) }))];
      return one.picture === null ? element("span", { class: "card", title: one.path },
        element("span", { class: "missing", role: "img", "aria-label": one.path }, "?"), ...below.filter(Boolean)) : card(one.picture, below);
    })));
}

function drawLarge(one) {
  const alt = `${one.given}, ${fileName(one.path)}`;
  const source = one.picture === null ? "" : LOOK.large[one.picture] || REPORT.pictures[one.picture].thumbnail;
  return element("figure", { class: "suspect" },
    source ? element("img", { src: source, alt }) : element("p", { class: "missing" }, ...coded(text("look.no_picture"))),
    element("figcaption", { class: "name" }, one.path));
}

function drawReasons(one) {
  const values = { score: percent(one.score, 0), given: one.given, suggested: one.suggested };
  const evidence = (role) => one.evidence.filter((other) => other.role === role);
  return [
    element("dl", { class: "facts claim" }, fact(text("look.given"), element("strong", { class: "name" }, one.given)),
      one.suggested ? fact(text(one.kind === "conflict" ? "look.elsewhere" : "look.suggested"), element("strong", { class: "name" }, one.suggested)) : null,
      fact(text("look.why"), text("claim." + one.kind, values))),
    element("div", { class: "reasons" },
      evidenceRow("copy", "", evidence("copy")),
      evidenceRow("suggested", one.suggested, evidence("suggested")),
      evidenceRow("given", one.given, evidence("given"))),
  ];
}

function drawStrip() {
  const alike = LOOK.suspects.map((one, index) => ({ ...one, index })).filter((one) => one.kind === LOOK.suspects[at].kind);
  const own = alike.findIndex((one) => one.index === at);
  const first = Math.max(0, Math.min(own - WINDOW / 2, alike.length - WINDOW));
  const strip = element("div", { class: "strip", role: "group", "aria-label": text("look.list") },
    ...alike.slice(first, first + WINDOW).map((one) => {
      const what = decision(one.sha256);
      return element("button", { type: "button", class: "card" + (what ? " done" : ""), title: one.path, "data-act": `go.${one.index}`,
        "aria-pressed": String(one.index === at), on: { click: () => goTo(one.index) } },
      one.picture === null ? element("span", { class: "missing", role: "img", "aria-label": one.path }, "?") : image(REPORT.pictures[one.picture]),
      element("span", { class: "name" }, what ? toldDecision(what) : one.given));
    }));
  return strip;
}

function drawSuspect() {
  const place = byId("look-work");
  if (!LOOK.suspects.length) return;
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.act || "panel" : null;
  const one = LOOK.suspects[at];
  controls = correctionControls(one, afterDecision, undo);
  const alike = LOOK.suspects.filter((other) => other.kind === one.kind);
  const now = decision(one.sha256);
  const step = (name, by) => element("button", { type: "button", class: "act", "data-act": name, disabled: !LOOK.suspects[at + by],
    "aria-keyshortcuts": by > 0 ? "J" : "ArrowUp", on: { click: () => goTo(at + by) } }, text("look." + name), element("kbd", { "aria-hidden": "true" }, by > 0 ? "J ↓" : "↑"));
  const [claim, reasons] = drawReasons(one);
  const panel = element("div", { id: "look-panel", tabIndex: 0, role: "group", "aria-label": text("look.panel"), "data-act": "panel" },
    element("div", { class: "where" },
      element("p", {}, text("look.position", { n: number(alike.indexOf(one) + 1), total: number(alike.length) }),
        element("span", { class: now ? "tag made" : "tag" }, toldDecision(now))),
      element("div", { class: "steps-of" }, step("previous", -1), step("next", 1))),
    element("div", { class: "looked" }, drawLarge(one), claim, controls.made, reasons),
    element("p", { class: "note" }, text("look.keys")));
  const strip = drawStrip();
  fill(place, drawKinds(), panel, strip);
  const shown = strip.querySelector("[aria-pressed=true]");
  strip.scrollLeft = shown.offsetLeft - strip.offsetLeft - strip.clientWidth / 2 + shown.clientWidth / 2;
  if (!focused) return;
  const again = place.querySelector(`[data-act="${CSS.escape(focused)}"]`);
  (again && !again.disabled ? again : panel).focus({ preventScroll: true });
}

function drawBefore() {
  if (!LOOK.corrections.length) return null;
  const shown = LOOK.corrections.slice(0, 200);
  const column = (key) => element("th", { scope: "col" }, text(key));
  return element("details", { id: "look-before", open: Boolean(byId("look-before")?.open) },
    element("summary", {}, text("look.before", { n: number(LOOK.corrections.length) })),
    element("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": text("look.before", { n: number(LOOK.corrections.length) }) },
      element("table", {}, element("thead", {}, element("tr", {}, column("file"), column("look.decision"), column("correct.note"), column("look.now"))),
        element("tbody", {}, ...shown.map((one) => element("tr", { class: decided.has(one.sha256) ? "changed" : "" },
          element("th", { scope: "row" }, element("span", { class: "name" }, one.path || one.sha256.slice(0, 12) + "…")),
          element("td", { class: "name" }, toldDecision(one)), element("td", { class: "name" }, one.note),
          element("td", {}, decided.has(one.sha256) ? element("span", { class: "name" }, decided.get(one.sha256) ? toldDecision(decided.get(one.sha256)) : text("look.out"), " ") : null,
            element("button", { type: "button", class: "link", "data-before": one.sha256, on: { click: () => {
              takeBack(one.sha256);
              saved = false;
              drawSuspect();
              drawSave();
              byId("look-save").querySelector(`[data-before="${one.sha256}"]`).focus();
            } } }, text(decided.has(one.sha256) ? "look.restore" : "look.take_out")))))))),
    LOOK.corrections.length > shown.length
      ? element("p", { class: "note" }, text("first_of", { shown: number(shown.length), n: number(LOOK.corrections.length) })) : null);
}

function drawSave() {
  const place = byId("look-save");
  const all = allCorrections();
  if (!LOOK.suspects.length && !LOOK.corrections.length && !decided.size) {
    fill(place);
    return;
  }
  const images = [...new Set(LOOK.suspects.map((one) => one.sha256))];
  const done = images.filter((sha256) => decision(sha256)).length;
  const next = element("ol", {}, ...["place", "params", "repro"].map((name) => element("li", {}, ...coded(text("save." + name)))));
  fill(place,
    element("div", { class: "save" },
      element("button", { type: "button", class: "primary", id: "save-corrections", disabled: !all.size && !decided.size, on: { click: () => {
        saveCorrections();
        saved = true;
        drawSave();
        byId("save-corrections").focus();
        tell(text("save.next"));
      } } }, text("save.button", { n: number(all.size) })),
      images.length ? element("p", {}, text("look.progress", { done: number(done), n: number(images.length) }),
        element("span", { class: "track", "aria-hidden": "true" }, element("span", { style: { width: `${100 * done / images.length}%` } }))) : null),
    saved ? element("div", { class: "next" }, element("p", {}, text("save.next")), next) : null,
    drawBefore());
}

function drawLook() {
  drawSuspect();
  drawSave();
}

function drawClusters() {
  for (const place of document.querySelectorAll("[data-cluster]")) {
    gallery(place, REPORT.groups.clusters[Number(place.dataset.cluster)].pictures);
  }
}
