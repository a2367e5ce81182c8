// One card per concept: name it, judge it, see it.

const MOST_MAPS = 10; // one row; more on request
const MAP_CELLS = 48;
const MAP_PX = 128;
const cards = [];

function makeCards() {
  CONCEPTS.forEach((_, row) => cards.push(makeCard(row)));
  watch((rows) => {
    rows.forEach((row) => cards[row].refresh());
    if (rows.length) {
      // Other cards name this one in their lists.
      cards.forEach((card) => card.refreshLists());
      arrange();
    }
  });
  for (const id of ["sort", "filter"]) byId(id).addEventListener("change", arrange);
  byId("search").addEventListener("input", arrange);
  arrange();
}

function makeCard(row) {
  const concept = CONCEPTS[row];
  const colour = el("input", {
    type: "color", "aria-label": `Colour of concept ${number(row)}`, title: "Colour",
    onchange: () => setColour(row, fromHex(colour.value)),
  });
  const problem = el("span", { class: "error", role: "alert" });
  const box = el("input", {
    class: "name", type: "text", list: "names", dir: "auto", autocomplete: "off", spellcheck: "false",
    placeholder: concept.ownName, "aria-label": `Name of concept ${number(row)}`,
    onchange: () => takeName(),
    onkeydown: (event) => {
      if (event.key === "Enter" && takeName()) nextName(row);
    },
  });
  function takeName() {
    const why = whyNot(box.value.trim());
    problem.textContent = why || "";
    box.toggleAttribute("aria-invalid", Boolean(why));
    if (!why) setName(row, box.value.trim());
    return !why;
  }
  const verdict = (word, text) =>
    el("button", { type: "button", class: word, "aria-pressed": "false", onclick: () => setVerdict(row, word) }, text);
  const accept = verdict("accepted", "Accept");
  const reject = verdict("rejected", "Reject");
  const ignore = el("button", {
    type: "button", "aria-pressed": "false", title: "QuPath leaves it out: glass, folds, blood",
    onclick: () => setIgnored(row, !review[row].ignored),
  }, "Ignore");
  const into = el("select", {
    "aria-label": `Merge concept ${number(row)} into`,
    onfocus: () => fillTargets(),
    onpointerdown: () => fillTargets(),
    onchange: () => {
      if (into.value !== "") merge(row, Number(into.value));
      into.value = "";
    },
  });
  function fillTargets() {
    const close = [...concept.alike, ...concept.neighbours].map((item) => item.row);
    const others = CONCEPTS.map((_, other) => other).filter((other) => other !== row && CONCEPTS[other].dictionary === concept.dictionary);
    const order = [...new Set([...close, ...others])];
    into.replaceChildren(
      el("option", { value: "" }, "Merge into …"),
      ...order.map((other) => el("option", { value: other }, `${number(other)}  ${className(other)}`)),
    );
  }
  into.append(el("option", { value: "" }, "Merge into …"));
  const lists = el("div", { class: "lists" });
  const maps = el("div", { class: "maps" });
  const perSlide = table(
    "Per slide", `concept-${concept.members.join("-")}.csv`,
    [
      { title: "Slide", of: (slide) => SLIDES[slide].name },
      { title: "Share", of: (slide) => concept.slides.share[slide], text: percent },
      { title: "Area µm²", of: (slide) => concept.slides.areaUm2[slide], text: area },
      { title: "Polygons", of: (slide) => concept.slides.polygons[slide], text: count },
      { title: "Mean activation", of: (slide) => concept.slides.activation[slide], text: decimal },
      { title: "Purity", of: (slide) => concept.slides.purity[slide], text: decimal },
    ],
    () => SLIDES.map((_, slide) => slide),
  );
  const { gained, lost, accepted, rejected } = concept.corrections;
  const corrected = gained || lost || accepted || rejected
    ? el("span", { class: "corrections" }, `Polygons corrected: ${gained} given to it, ${lost} taken from it, ${accepted} accepted, ${rejected} rejected`)
    : null;
  const element = el(
    "article", { class: "card", tabindex: "-1", "aria-label": `Concept ${number(row)}`, "data-row": row },
    el("div", { class: "bar" }, colour, el("span", { class: "id" }, number(row)), box,
      el("span", { class: "figures" }, el("b", {}, percent(concept.share)), ` ${area(concept.areaUm2)}, ${count(concept.polygons)} polygons`),
      el("span", { class: "figures muted" }, `activation ${decimal(concept.activation)}, purity ${decimal(concept.purity)}`),
      el("span", { class: "space" }), accept, reject, ignore, into,
      el("button", { type: "button", onclick: () => viewer.only(row) }, "On slides")),
    problem, lists, corrected,
    el("div", { class: "evidence" },
      el("div", { class: "pictures" }, strip("Most typical", concept.typical, row), strip("Most doubtful", concept.doubtful, row)),
      maps),
    perSlide.element,
  );
  drawWhenNear(element, () => drawMaps(row, maps));

  function refreshLists() {
    const item = (entry, text) => el("li", {}, swatch(entry.row), name(className(entry.row)), ` ${text} `,
      className(entry.row) === className(row) ? el("span", { class: "muted" }, "same class")
        : CONCEPTS[entry.row].dictionary === concept.dictionary
          ? el("button", { type: "button", class: "link", onclick: () => merge(row, entry.row) }, "merge") : null);
    const together = sameClass(row);
    lists.replaceChildren(
      together.length ? el("p", {}, "One class with ", ...together.flatMap((other, i) => [i ? ", " : "", number(other)]), ".") : "",
      concept.alike.length ? el("ul", {}, el("li", { class: "muted" }, "Most alike (cosine)"), ...concept.alike.map((entry) => item(entry, decimal(entry.cosine)))) : "",
      concept.neighbours.length ? el("ul", {}, el("li", { class: "muted" }, "Neighbours (part of border)"), ...concept.neighbours.map((entry) => item(entry, percent(entry.share)))) : "",
    );
  }
  function refresh() {
    const own = review[row];
    element.style.setProperty("--c", css(own.colour));
    colour.value = hex(own.colour);
    if (document.activeElement !== box || !problem.textContent) box.value = own.name || "";
    accept.setAttribute("aria-pressed", own.review === "accepted");
    reject.setAttribute("aria-pressed", own.review === "rejected");
    ignore.setAttribute("aria-pressed", own.ignored);
    element.classList.toggle("is-ignored", own.ignored);
    if (maps.childElementCount) drawMaps(row, maps);
  }
  refresh();
  refreshLists();
  return { element, box, refresh, refreshLists };
}

const swatch = (row) => {
  const square = el("span", { class: "swatch", "aria-hidden": "true" });
  square.style.setProperty("--c", css(review[row].colour));
  return square;
};

/** Of the only slide the name is no news. */
function slideName(slide) {
  return SLIDES.length > 1 ? name(slide.name) : null;
}

function strip(title, patches, row) {
  return el(
    "div", { class: "strip" }, el("h3", {}, title),
    patches.length ? null : el("p", { class: "muted" }, "None."),
    ...patches.map((patch) => {
      const slide = SLIDES[patch.slide];
      const side = DATA.patchPx;
      const field = isNumber(slide.patchUm) ? `, ${Math.round(slide.patchUm)} µm wide` : "";
      return el(
        "figure", { class: "patch" },
        el("button", { type: "button", title: "Show on the slide", "aria-label": `Show on ${slide.name}`, onclick: () => viewer.visit(patch.slide, patch.centre, row) },
          patch.picture
            ? el("img", { src: patch.picture, width: side, height: side, alt: `Tissue of ${slide.name}${field}`, decoding: "sync" })
            : el("span", { class: "no-picture" }, "no picture"),
          svg("svg", { viewBox: `0 0 ${side} ${side}`, "aria-hidden": "true" },
            svg("path", { class: "casing", d: patch.outline }), svg("path", { class: "outline", d: patch.outline }))),
        el("figcaption", {}, slideName(slide), el("span", {}, `activation ${decimal(patch.activation)}`), el("br"), `purity ${decimal(patch.purity)}`),
      );
    }),
  );
}

// Far ahead of what can be seen, so that nobody scrolls to an empty map.
const waiting = new Map(); // element -> what draws it
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) drawNow(entry.target);
}, { rootMargin: "3000px" });

function drawWhenNear(element, draw) {
  waiting.set(element, draw);
  near.observe(element);
}

function drawNow(element) {
  near.unobserve(element);
  waiting.get(element)?.();
  waiting.delete(element);
}

/** The rest while nobody is waiting, so that printing finds everything drawn. */
function drawRest() {
  const [element] = waiting.keys();
  if (!element) return;
  drawNow(element);
  setTimeout(drawRest, 30);
}

const backgrounds = new Map();

/** The slide in grey, small; made once. */
function backgroundOf(slide) {
  if (!backgrounds.has(slide)) {
    backgrounds.set(slide, pictureOf(slide).then((image) => {
      const { width, height } = mapSize(slide);
      const canvas = el("canvas", { width, height });
      const context = canvas.getContext("2d");
      context.fillStyle = "#f4f4f6";
      context.fillRect(0, 0, width, height);
      if (image) {
        context.drawImage(image, 0, 0, width, height);
        const pixels = context.getImageData(0, 0, width, height);
        for (let i = 0; i < pixels.data.length; i += 4) {
          const grey = 0.3 * pixels.data[i] + 0.59 * pixels.data[i + 1] + 0.11 * pixels.data[i + 2];
          pixels.data.fill(110 + grey * 0.57, i, i + 3);
        }
        context.putImageData(pixels, 0, 0);
      }
      return canvas;
    }));
  }
  return backgrounds.get(slide);
}

function mapSize(slide) {
  const { width, height } = SLIDES[slide];
  const shrink = MAP_PX / Math.max(width, height);
  return { width: Math.max(8, Math.round(width * shrink)), height: Math.max(8, Math.round(height * shrink)) };
}

const allMaps = new Set(); // rows whose maps were all asked for

function drawMaps(row, target) {
  const { share, activation } = CONCEPTS[row].slides;
  const slides = SLIDES.map((_, slide) => slide).filter((slide) => share[slide] > 0).sort((a, b) => share[b] - share[a]);
  const shown = slides.slice(0, allMaps.has(row) ? slides.length : MOST_MAPS);
  const highest = Math.max(1e-9, ...shown.flatMap((slide) => polygonsOf(slide).map((piece) => (piece.row === row ? piece.activation ?? 1 : 0))));
  target.replaceChildren(
    ...shown.map((slide) => {
      const canvas = el("canvas", { ...mapSize(slide), role: "img", "aria-label": `Where the concept is on ${SLIDES[slide].name}` });
      backgroundOf(slide).then((background) => drawMap(canvas, background, slide, row, highest));
      return el("figure", { class: "map" },
        el("button", { type: "button", title: "Show on the slide", onclick: () => viewer.only(row, slide) }, canvas),
        el("figcaption", {}, slideName(SLIDES[slide]), el("br"), `${percent(share[slide])}, activation ${decimal(activation[slide])}`));
    }),
    slides.length > shown.length ? el("button", { type: "button", class: "link", onclick: () => {
      allMaps.add(row);
      drawMaps(row, target);
    } },
      slides.length - shown.length === 1 ? "1 more slide" : `${slides.length - shown.length} more slides`) : "",
  );
}

/** Cells hold area share × mean activation: polygons are filled in cell units, where antialiasing is the share. */
function drawMap(canvas, background, slide, row, highest) {
  const { width, height } = SLIDES[slide];
  const shrink = MAP_CELLS / Math.max(width, height);
  const cells = el("canvas", { width: Math.max(1, Math.round(width * shrink)), height: Math.max(1, Math.round(height * shrink)) });
  const sum = cells.getContext("2d");
  sum.globalCompositeOperation = "lighter";
  sum.scale(cells.width / width, cells.height / height);
  sum.fillStyle = "#fff";
  for (const piece of polygonsOf(slide)) {
    if (piece.row !== row || !piece.rings.length) continue;
    sum.globalAlpha = (piece.activation ?? highest) / highest;
    sum.fill(trace(new Path2D(), piece.rings), "evenodd");
  }
  sum.globalCompositeOperation = "source-in";
  sum.globalAlpha = 1;
  sum.fillStyle = css(review[row].colour);
  sum.fillRect(0, 0, width, height);
  const context = canvas.getContext("2d");
  context.drawImage(background, 0, 0);
  context.drawImage(cells, 0, 0, canvas.width, canvas.height);
}

/** Sort, filter and search; cards that leave keep what was typed in them. */
function arrange() {
  const words = byId("search").value.toLowerCase().trim();
  const wanted = byId("filter").value;
  const keep = {
    all: () => true,
    unnamed: (row) => !isNamed(row),
    open: (row) => !review[row].review,
    accepted: (row) => review[row].review === "accepted",
    rejected: (row) => review[row].review === "rejected",
    ignored: (row) => review[row].ignored,
    corrected: (row) => Object.values(CONCEPTS[row].corrections).some(Boolean),
  }[wanted];
  const fits = (row) => !words || `${className(row)} ${CONCEPTS[row].ownName} ${CONCEPTS[row].dictionary}`.toLowerCase().includes(words);
  // A card that somebody is typing in stays where it is, whatever its new name says.
  const busy = Number(document.activeElement?.closest?.(".card")?.dataset.row ?? -1);
  const order = {
    share: (a, b) => CONCEPTS[b].share - CONCEPTS[a].share,
    number: (a, b) => a - b,
    name: (a, b) => className(a).localeCompare(className(b)),
    purity: (a, b) => (CONCEPTS[a].purity ?? 2) - (CONCEPTS[b].purity ?? 2),
    activation: (a, b) => (CONCEPTS[b].activation ?? -1) - (CONCEPTS[a].activation ?? -1),
  }[byId("sort").value];
  const rows = CONCEPTS.map((_, row) => row).filter((row) => row === busy || (keep(row) && fits(row)));
  rows.sort((a, b) => order(a, b) || a - b);
  const there = [...byId("cards").children].map((card) => Number(card.dataset.row));
  const settled = busy >= 0 && rows.length === there.length && rows.every((row) => there.includes(row));
  if (!settled && JSON.stringify(rows) !== JSON.stringify(there)) {
    const focus = document.activeElement;
    byId("cards").replaceChildren(...rows.map((row) => cards[row].element));
    if (focus?.isConnected && focus !== document.activeElement) focus.focus({ preventScroll: true });
  }
  byId("none").hidden = rows.length > 0 || !CONCEPTS.length;
}

const shownRows = () => [...byId("cards").children].map((card) => Number(card.dataset.row));

/** The box after this one; from the last one to the first that has no name. */
function nextName(row) {
  const rows = shownRows();
  const next = rows[rows.indexOf(row) + 1] ?? rows.find((other) => !isNamed(other));
  if (next !== undefined) focusName(next);
}

function focusName(row) {
  cards[row].box.focus({ preventScroll: true });
  cards[row].box.select();
  cards[row].element.scrollIntoView({ block: "start" });
}
