// Loading, the address, and the actions of keys and buttons. The part of the address after # is the open tree's id.

// Loads the list in parts, so that the first trees of a long file are shown at once; `each` is called after every part.
async function loadIndex(each = () => {}) {
  const labels = ask("/api/labels").then((answer) => answer?.labels.forEach(remember));
  let trees = [];
  let version = null;
  let coming = ask("/api/index?after=0");
  for (let more = true; more; ) {
    const part = await coming;
    if (!part) return;
    if (version !== null && part.version !== version) {
      trees = []; // the file was rewritten in the meantime
      version = null;
      coming = ask("/api/index?after=0");
      continue;
    }
    more = part.more;
    // The next part is read while this one is drawn.
    if (more) coming = ask(`/api/index?after=${(part.trees.at(-1) ?? trees.at(-1) ?? { line: 0 }).line}`);
    for (const tree of part.trees) {
      tree.hay = [tree.id, tree.persona, tree.profile, tree.personality, tree.text].join("\n").toLowerCase();
    }
    if (version === null) {
      state.rejects = part.rejects;
      $("rate-replies").hidden = !part.rate;
      $("personas").hidden = !part.personas;
      $("name").textContent = part.name;
      document.title = `${part.name}: aloe view`;
    }
    version = part.version;
    trees = trees.concat(part.trees);
    // The present list stays visible until as much is loaded again.
    if (trees.length >= state.trees.length || !more) {
      state.trees = trees;
      state.broken = part.broken.length;
      state.loading = more;
      filterTrees();
      each();
    }
    performance.mark(more ? "aloe: some trees" : "aloe: all trees");
  }
  await labels;
  fillChoices();
  filterTrees();
  loadAgreement();
}

async function loadAgreement() {
  const found = await ask("/api/agreement");
  if (!found) return;
  state.agreement = found;
  const mine = found.labellers[state.labeller] ?? { n: 0, kappa: null };
  $("agreement").textContent = state.blind ? `${mine.n} labelled` : mine.kappa === null ? `${mine.n} labelled, κ –` : `κ ${number(mine.kappa, 2)} with the judge, ${mine.n} labelled`;
}

function showAgreement() {
  const found = state.agreement;
  if (!found) return;
  const line = (name, figures) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, String(figures.n)), el("td", {}, figures.agreement === null ? "–" : `${Math.round(100 * figures.agreement)} %`), el("td", {}, number(figures.kappa, 2)));
  $("figures-body").replaceChildren(
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, ["", "pairs", "agree", "κ"].map((name) => el("th", { scope: "col" }, name)))),
      el(
        "tbody",
        {},
        line("all labels and the judge", found.judge),
        line("blind labels and the judge", found.blind),
        Object.entries(found.labellers).map(([name, figures]) => line(`${name} and the judge`, figures)),
        found.between.map((pair) => line(pair.labellers.join(" and "), pair)),
      ),
    ),
  );
  $("figures").showModal();
}

function visit(tree) {
  const address = `#${encodeURIComponent(tree.id)}`;
  if (location.hash === address) show();
  else location.hash = address;
}

function decodeHash() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return ""; // a mistyped address
  }
}

// Opens the tree that the address names. Without a name, a narrow screen shows the list.
async function show() {
  const name = decodeHash();
  document.body.dataset.screen = name ? "tree" : "list";
  if (!name) {
    drawRows();
    return;
  }
  const tree = state.trees.find((other) => other.id === name);
  if (!tree) {
    say(`There is no tree '${name}' here.`, true);
    return;
  }
  state.line = tree.line;
  showRow(state.shown.indexOf(tree));
  drawRows();
  const found = await ask(`/api/tree?line=${tree.line}`);
  if (!found || state.line !== tree.line) return;
  if (found.tree.id !== tree.id) {
    await loadIndex(); // the file was rewritten and its lines moved
    return show();
  }
  state.open = openTree(found.tree, found.rejects);
  state.turn = 0;
  for (const turn of state.open.turns) turn.at = Math.max(0, turn.pairs.findIndex((pair) => !labelOf(pair)));
  drawTree();
  drawPicture();
  document.querySelector("main").scrollTop = 0;
}

function stepTree(by) {
  if (!state.shown.length) return;
  const here = state.shown.findIndex((tree) => tree.line === state.line);
  const next = state.shown[Math.min(state.shown.length - 1, Math.max(0, here < 0 ? 0 : here + by))];
  history.replaceState(null, "", `#${encodeURIComponent(next.id)}`); // stepping adds nothing to the history
  show();
}

function setBlind(on) {
  state.blind = on;
  stored("aloe.blind", on ? "1" : "");
  $("blind").setAttribute("aria-pressed", String(on));
  document.body.classList.toggle("blind", on);
  $("agreement").disabled = on;
  drawRows();
  loadAgreement();
  if (!state.open) return;
  const turn = state.turn;
  drawTree();
  drawPicture();
  goToTurn(turn);
}

function setLabeller(name) {
  state.labeller = name.trim() || "me";
  stored("aloe.labeller", state.labeller);
  $("labeller").value = state.labeller;
  filterTrees();
  loadAgreement();
  if (state.open) drawTree();
}

function labelCurrent(choice) {
  const turn = state.open?.turns[state.turn];
  const pair = turn?.pairs[turn.at];
  if (pair) giveLabel(turn, pair, choice);
  else say("This turn has no pair to label.");
}

const KEYS = {
  j: () => stepTree(1),
  k: () => stepTree(-1),
  ArrowDown: () => stepTurn(1),
  ArrowUp: () => stepTurn(-1),
  1: () => labelCurrent("first"),
  2: () => labelCurrent("second"),
  0: () => labelCurrent("tie"),
  b: () => setBlind(!state.blind),
  "/": () => {
    document.body.dataset.screen = "list";
    $("search").focus();
  },
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const action = Object.hasOwn(KEYS, event.key) && KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

$("search").addEventListener("input", drawPersonas);
$("personas").addEventListener("click", () => {
  history.replaceState(null, "", location.pathname);
  showPersonas();
});
for (const id of ["search", "flag", "personality", "margin-from", "margin-to", "with-rejects", "unlabelled"]) {
  $(id).addEventListener("input", () => {
    $("list").scrollTop = 0;
    filterTrees();
  });
}
$("clear").addEventListener("click", () => {
  for (const id of ["search", "flag", "personality", "margin-from", "margin-to"]) $(id).value = "";
  for (const id of ["with-rejects", "unlabelled"]) $(id).checked = false;
  filterTrees();
});
$("list").addEventListener("scroll", scrolled, { passive: true });
$("list").addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    const tree = state.shown.find((other) => other.line === state.line) ?? state.shown[0];
    if (tree) visit(tree);
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    event.stopPropagation(); // the arrows step through turns elsewhere
    stepTree(event.key === "ArrowDown" ? 1 : -1);
  }
});
addEventListener("resize", scrolled);
addEventListener("hashchange", show);
$("reload").addEventListener("click", async () => {
  await loadIndex();
  if (pools && !state.open) await showPersonas();
  say("Loaded the present trees.");
});
$("back").addEventListener("click", () => {
  history.pushState(null, "", location.pathname);
  show();
});
$("previous").addEventListener("click", () => stepTree(-1));
$("next").addEventListener("click", () => stepTree(1));
$("blind").addEventListener("click", () => setBlind(!state.blind));
$("labeller").addEventListener("change", () => setLabeller($("labeller").value));
$("agreement").addEventListener("click", showAgreement);
$("keys").addEventListener("click", () => $("help").showModal());
$("rate-replies").addEventListener("click", startRating);
$("rate-back").addEventListener("click", rateBefore);
$("rate").addEventListener("keydown", rateByKey);
for (const button of document.querySelectorAll("dialog .close")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

state.labeller = stored("aloe.labeller") || "me";
$("labeller").value = state.labeller;
state.blind = stored("aloe.blind") === "1";
$("blind").setAttribute("aria-pressed", String(state.blind));
document.body.classList.toggle("blind", state.blind);
$("agreement").disabled = state.blind;
const named = () => decodeHash() && state.trees.some((tree) => tree.id === decodeHash());
loadIndex(() => {
  if (!location.hash && innerWidth > 800 && state.trees.length) {
    history.replaceState(null, "", `#${encodeURIComponent(state.trees[0].id)}`);
  }
  if (!state.line && named()) show();
}).then(() => {
  if (state.line) return;
  if (state.trees.length || $("personas").hidden) show();
  else showPersonas();
});
