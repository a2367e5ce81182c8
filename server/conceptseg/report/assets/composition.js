// How much of which concept each slide has, and which concepts lie side by side.

const BAR_HEIGHT = 18;

function makeComposition() {
  const order = CONCEPTS.map((_, row) => row).sort((a, b) => CONCEPTS[b].share - CONCEPTS[a].share);
  const bars = el("div", { class: "bars" });
  const slides = SLIDES.map((_, slide) => slide).filter((slide) => CONCEPTS.some((concept) => concept.slides.polygons[slide]));
  const numbers = table(
    "Numbers", "composition.csv",
    [
      { title: "Concept", of: (row) => number(row) },
      { title: "Class", of: (row) => className(row) },
      { title: "Dictionary", of: (row) => CONCEPTS[row].dictionary },
      { title: "All slides", of: (row) => CONCEPTS[row].share, text: percent },
      { title: "Area µm²", of: (row) => CONCEPTS[row].areaUm2, text: area },
      ...SLIDES.map((slide, i) => ({ title: slide.name, of: (row) => CONCEPTS[row].slides.share[i], text: percent })),
    ],
    () => order,
    { open: CONCEPTS.length <= 32 },
  );
  const legend = el("ul", { class: "legend" });
  byId("bars").append(
    el("p", { class: "muted" }, "Share of each concept in all labelled area of a slide."), bars, legend, numbers.element);
  function draw() {
    bars.replaceChildren(...slides.map((slide) => {
      let left = 0;
      const picture = svg("svg", { viewBox: `0 0 1000 ${BAR_HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `Composition of ${SLIDES[slide].name}; numbers in the table` });
      const classes = new Map(); // concepts of one class side by side
      for (const row of order) classes.set(className(row), [...(classes.get(className(row)) || []), row]);
      for (const [title, rows] of classes) {
        const share = rows.reduce((sum, row) => sum + CONCEPTS[row].slides.share[slide], 0);
        if (!share) continue;
        picture.append(svg("rect", { x: left * 1000, y: 0, width: share * 1000, height: BAR_HEIGHT, fill: css(review[rows[0]].colour) },
          svg("title", {}, `${title}: ${percent(share)}`)));
        left += share;
      }
      return el("div", { class: "row" },
        el("button", { type: "button", class: "link", title: SLIDES[slide].name, onclick: () => viewer.visit(slide) }, name(SLIDES[slide].name)), picture);
    }));
    const seen = new Set();
    legend.replaceChildren(...order.filter((row) => !seen.has(className(row)) && seen.add(className(row))).slice(0, 40)
      .map((row) => el("li", {}, swatch(row), name(className(row)))));
    numbers.refresh();
  }
  watch((rows) => rows.length && draw());
  draw();
}

function makePairs() {
  if (!CONCEPTS.length) return;
  const known = CONCEPTS.some((concept) => concept.alike.length);
  const seen = new Map();
  CONCEPTS.forEach((concept, row) => {
    for (const entry of [...concept.alike, ...concept.neighbours]) {
      const key = [Math.min(row, entry.row), Math.max(row, entry.row)].join();
      const pair = seen.get(key) || { a: Math.min(row, entry.row), b: Math.max(row, entry.row), cosine: null, um: null };
      if ("cosine" in entry) pair.cosine = entry.cosine;
      else pair.um = entry.um;
      seen.set(key, pair);
    }
  });
  const pairs = [...seen.values()].sort((x, y) => (y.cosine ?? -1) - (x.cosine ?? -1) || (y.um ?? 0) - (x.um ?? 0));
  const numbers = table(
    "The nearest of every concept", "neighbours.csv",
    [
      { title: "Concept", of: (pair) => number(pair.a) },
      { title: "Class", of: (pair) => className(pair.a) },
      { title: "Other concept", of: (pair) => number(pair.b) },
      { title: "Other class", of: (pair) => className(pair.b) },
      { title: "Cosine", of: (pair) => pair.cosine, text: (value) => decimal(value, 3) },
      { title: "Common border µm", of: (pair) => pair.um, text: (value) => (isNumber(value) ? count(Math.round(value)) : "–") },
    ],
    () => pairs,
    { open: pairs.length <= 60 },
  );
  byId("pairs").append(
    el("p", { class: "muted" }, known
      ? "Concepts whose directions in the dictionary are alike (cosine near 1), and which lie side by side, may be one class."
      : "The dictionary was not found, so there are only neighbours: concepts with a long common border may be one class."),
    numbers.element);
  watch((rows) => rows.length && numbers.refresh());
}
