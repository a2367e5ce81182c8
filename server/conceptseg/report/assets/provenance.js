// Where all this comes from, and what people corrected.

function makeProvenance() {
  const facts = (title, entries) => el("div", {}, el("h3", {}, name(title)),
    el("dl", {}, ...Object.entries(entries).flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, name(String(value)))])));
  const sum = (key) => CONCEPTS.reduce((total, concept) => total + concept.corrections[key], 0);
  const corrections = table(
    "Corrections of single polygons", "corrections.csv",
    [
      { title: "Concept", of: (row) => number(row) },
      { title: "Class", of: (row) => className(row) },
      { title: "Given to it", of: (row) => CONCEPTS[row].corrections.gained, text: count },
      { title: "Taken from it", of: (row) => CONCEPTS[row].corrections.lost, text: count },
      { title: "Accepted", of: (row) => CONCEPTS[row].corrections.accepted, text: count },
      { title: "Rejected", of: (row) => CONCEPTS[row].corrections.rejected, text: count },
    ],
    () => CONCEPTS.map((_, row) => row),
  );
  const keys = [...new Set(SLIDES.flatMap((slide) => Object.keys(slide.provenance)))];
  const slides = table(
    "Slides", "slides.csv",
    [{ title: "Slide", of: (slide) => slide.name }, ...keys.map((key) => ({ title: key, of: (slide) => slide.provenance[key] }))],
    () => SLIDES,
  );
  byId("origins").append(
    el("p", {}, `Polygons corrected one by one: ${sum("gained")} reassigned, ${sum("accepted")} accepted, ${sum("rejected")} rejected.`),
    CONCEPTS.length ? corrections.element : "",
    facts("Report", { "ConceptSeg": DATA.version, "made": DATA.created, ...DATA.provenance }),
    ...DATA.dictionaries.map(({ identifier, ...rest }) => facts(`Dictionary ${identifier}`, rest)),
    SLIDES.length ? slides.element : "",
  );
  watch((rows) => rows.length && corrections.refresh());
}
