// The list: only the visible rows are in the document, so it scrolls equally well with ten trees and with thousands.

const ROW = 76; // height of a row in pixels, as in style.css
const SPARE = 6; // rows kept ready above and below

let drawn = "";

function filterTrees() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const flag = $("flag").value;
  const personality = $("personality").value;
  const [from, to] = [$("margin-from").value, $("margin-to").value];
  const [rejects, unlabelled] = [$("with-rejects").checked, $("unlabelled").checked];
  state.shown = state.trees.filter(
    (tree) =>
      words.every((word) => tree.hay.includes(word)) &&
      (!flag || tree.flags[flag]) &&
      (!personality || tree.personality === personality) &&
      ((from === "" && to === "") ||
        (tree.least_margin !== null && tree.least_margin >= Number(from) && tree.least_margin <= (to === "" ? 1 : Number(to)))) &&
      (!rejects || state.rejects[tree.id]) &&
      (!unlabelled || !isLabelled(tree.id)),
  );
  const active = [flag, personality, from !== "" || to !== "", rejects, unlabelled].filter(Boolean).length;
  $("active").textContent = active ? `(${active} set)` : "";
  const all = count(state.trees.length, "tree") + (state.loading ? ", loading…" : "");
  const some = state.shown.length === state.trees.length ? all : `${state.shown.length.toLocaleString("en")} of ${all}`;
  $("counts").textContent = state.broken ? `${some}; ${count(state.broken, "line")} of the file cannot be read` : some;
  $("rows").style.height = `${state.shown.length * ROW}px`;
  document.body.classList.toggle("treeless", !state.trees.length);
  drawRows();
}

function drawRows() {
  const list = $("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
  const last = Math.min(state.shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE);
  const rows = [];
  for (let index = first; index < last; index++) rows.push(row(state.shown[index], index));
  $("rows").replaceChildren(...rows);
  drawn = key(first, last);
  const open = rows.find((node) => node.getAttribute("aria-selected") === "true");
  if (open) list.setAttribute("aria-activedescendant", open.id);
  else list.removeAttribute("aria-activedescendant");
}

function scrolled() {
  const list = $("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
  const last = Math.min(state.shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE);
  if (key(first, last) !== drawn) drawRows();
}

function row(tree, index) {
  const flags = Object.entries(tree.flags);
  const rejects = state.rejects[tree.id];
  const node = el(
    "div",
    {
      class: "row",
      id: `row-${tree.line}`,
      role: "option",
      "aria-selected": tree.line === state.line ? "true" : "false",
      "aria-setsize": state.shown.length,
      "aria-posinset": index + 1,
      click: () => visit(tree),
    },
    el("span", { class: "id" }, isLabelled(tree.id) && el("span", { class: "done", title: "labelled by you" }, "✓ "), tree.id),
    el(
      "span",
      { class: "who" },
      el("span", {}, [tree.profile, tree.personality].filter(Boolean).join(" · ") || "no persona"),
      flags.length > 0 && el("span", { class: "mark warn", title: flags.map(([name, n]) => `${name} ${n}`).join(", ") }, flags.map(([name]) => name).join(", ")),
      rejects && el("span", { class: "mark", title: "rejected drafts" }, `${rejects} rejected`),
    ),
    el(
      "span",
      { class: "facts" },
      el("span", {}, `${count(tree.turns, "turn")}, ${count(tree.replies, "reply", "replies")}`),
      !state.blind && tree.value !== null && el("span", { title: "judge's mean score" }, `★ ${number(tree.value, 1)}`),
      !state.blind &&
        tree.mean_margin !== null &&
        el("span", { title: "mean and smallest margin" }, `m ${number(tree.mean_margin, 2)} (${number(tree.least_margin, 2)})`),
    ),
  );
  node.style.transform = `translateY(${index * ROW}px)`;
  return node;
}

// Scrolls a row into view, no further than needed.
function showRow(index) {
  const list = $("list");
  if (index < 0 || !list.clientHeight) return;
  const top = index * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
}

function fillChoices() {
  const flags = new Set(state.trees.flatMap((tree) => Object.keys(tree.flags)));
  const personalities = new Set(state.trees.map((tree) => tree.personality).filter(Boolean));
  for (const [id, values] of [["flag", flags], ["personality", personalities]]) {
    const before = $(id).value;
    $(id).replaceChildren(el("option", { value: "" }, "any"), ...[...values].sort().map((name) => el("option", { value: name }, name)));
    $(id).value = values.has(before) ? before : "";
  }
}
