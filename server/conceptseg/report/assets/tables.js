// Numbers beside every figure, and as CSV.

/**
 * A table that can be folded and downloaded.
 * columns: [{title, of: row => value, text: value => string}]; without `text` the value is text itself.
 */
function table(title, fileName, columns, rows, { open = false } = {}) {
  const body = el("tbody");
  const details = el(
    "details",
    { class: "table", open },
    el("summary", {}, title),
    el("button", { type: "button", onclick: () => download(fileName, csvOf(columns, rows()), "text/csv") }, "CSV"),
    el("div", { class: "scroll" },
      el("table", {},
        el("thead", {}, el("tr", {}, ...columns.map((column) => el("th", { scope: "col" }, name(column.title))))),
        body)),
  );
  const fill = () => {
    body.replaceChildren(
      ...rows().map((row) => el("tr", {}, ...columns.map((column) => {
        const value = column.of(row);
        return column.text ? el("td", { class: "number" }, column.text(value)) : el("td", {}, name(String(value ?? "")));
      }))),
    );
  };
  // Filled when it is seen: a page of 256 concepts has hundreds of tables.
  const refresh = () => details.open && fill();
  details.addEventListener("toggle", refresh);
  refresh();
  window.addEventListener("beforeprint", refresh);
  return { element: details, refresh };
}

function csvOf(columns, rows) {
  const lines = [columns.map((column) => column.title), ...rows.map((row) => columns.map((column) => column.of(row)))];
  return "\ufeff" + lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value) {
  if (isNumber(value)) return String(value);
  let text = String(value ?? "");
  if (/^[=+\-@\t\r\n]/.test(text)) text = "'" + text; // a spreadsheet would run it as a formula
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
