// The page without a mouse.

const KEYS = [
  ["?", "this help"],
  ["/", "search"],
  ["n", "next concept without a name"],
  ["Enter", "in a name: take it and go to the next concept"],
  ["j  k", "next, previous concept"],
  ["a  r  i", "accept, reject, ignore the concept"],
  ["o", "show the concept on the slides"],
  ["u", "undo"],
  ["s", "save or export the labels"],
  ["[  ]", "previous, next slide"],
  ["v", "all concepts of the slide on or off"],
  ["+  -  0", "on the slide: zoom in, out, whole slide"],
  ["← ↑ → ↓", "on the slide: move"],
];

function makeKeys() {
  byId("keys").append(el("dl", {}, ...KEYS.flatMap(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)])));
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("help-close").addEventListener("click", () => byId("help").close());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    if (event.target.closest("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const row = Number(document.activeElement?.closest?.(".card")?.dataset.row ?? -1);
    const ofCard = {
      a: () => setVerdict(row, "accepted"),
      r: () => setVerdict(row, "rejected"),
      i: () => setIgnored(row, !review[row].ignored),
      o: () => viewer.only(row),
    };
    const always = {
      "?": () => byId("help").showModal(),
      "/": () => byId("search").focus(),
      n: () => {
        const next = shownRows().find((other) => !isNamed(other));
        if (next !== undefined) focusName(next);
      },
      j: () => focusCard(row, 1),
      k: () => focusCard(row, -1),
      u: undo,
      s: save,
      "[": () => viewer.step?.(-1),
      "]": () => viewer.step?.(1),
      v: () => viewer.toggleOverlay?.(),
    };
    const action = (row >= 0 && ofCard[event.key]) || always[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function focusCard(row, by) {
  const rows = shownRows();
  const next = row < 0 ? rows[0] : rows[rows.indexOf(row) + by];
  if (next === undefined) return;
  cards[next].element.focus({ preventScroll: true });
  cards[next].element.scrollIntoView({ block: "start" });
}
