// The open tree: the persona, then turn by turn the message and all replies to it.

function drawTree() {
  const { tree, rejects, roots } = state.open;
  const systems = tree.nodes.filter((node) => node.role === "system");
  const numbers = new Set(roots.flat().map((turn) => turn.number));
  const left = rejects.filter((reject) => !numbers.has(reject.turn));
  $("tree").replaceChildren(
    el("h1", {}, tree.id),
    tree.persona && el("p", { class: "note" }, [tree.persona.profile, tree.persona.personality].filter(Boolean).join(" · ")),
    persona(tree.persona) ?? "",
    ...systems.map((node) => el("p", { class: "system" }, el("b", {}, "System "), node.text)),
    ...roots.map((branch, index) => (index ? branchBox(`another start, ${count(branch.length, "turn")}`, branch) : turnList(branch))),
    rejectBox(left) ?? "",
  );
  $("tree").scrollTop = 0;
}

function persona(who) {
  if (!who || !((who.facts ?? []).length + (who.traits ?? []).length)) return null;
  const part = (title, items) =>
    items?.length > 0 &&
    el(
      "div",
      {},
      el("h3", {}, title),
      el(
        "ul",
        {},
        items.map((item) => {
          const turn = state.open.shownAt.get(item.id);
          return el(
            "li",
            { class: turn ? "shown" : "hidden", title: item.id },
            item.text,
            el("span", { class: "mark" }, turn ? `turn ${turn}` : "not shown"),
          );
        }),
      ),
    );
  return el(
    "details",
    { class: "persona", open: innerWidth > 800 },
    el("summary", {}, "Who the user is", el("small", {}, " hidden from the model; marked with the turn in which each showed")),
    el("div", { class: "two" }, part("Facts", who.facts), part("Traits", who.traits)),
  );
}

function turnList(turns) {
  return el("ol", { class: "turns" }, turns.map((turn) => turnItem(turn)));
}

function turnItem(turn) {
  const current = turn.index === state.turn;
  const item = el(
    "li",
    { class: current ? "turn at" : "turn", id: `turn-${turn.index}`, tabindex: "-1", "aria-label": `Turn ${turn.number}`, "aria-current": current && "step" },
    ...turnParts(turn),
  );
  return item;
}

function turnParts(turn, branches = turn.branches) {
  const mine = state.open.roots[0]?.includes(turn);
  const rejects = mine ? state.open.rejects.filter((reject) => reject.turn === turn.number) : [];
  const blind = state.blind && turn.pairs.length > 0;
  const shown = blind ? arranged(turn.pairs[turn.at]) : turn.replies;
  return [
    el("p", { class: "count" }, `Turn ${turn.number}`),
    message(turn.user),
    el(
      "div",
      { class: "replies" },
      shown.map((node, index) => reply(turn, node, state.blind ? String.fromCharCode(65 + index) : letter(turn, node))),
    ),
    turn.pairs.length > 0 && pairRows(turn),
    rejectBox(rejects),
    branches.map((branch) =>
      branchBox(
        state.blind ? `another branch, ${count(branch.turns.length, "turn")}` : `from ${letter(turn, branch.reply)}: another branch, ${count(branch.turns.length, "turn")}`,
        branch.turns,
      ),
    ),
  ];
}

function message(user) {
  if (!user) return null;
  const revealed = (user.belief ?? []).filter((belief) => belief.node === user.id);
  return el(
    "div",
    { class: "user", "data-node": user.id },
    el("p", {}, user.text),
    (user.flags ?? []).map((flag) => el("span", { class: "mark warn" }, flag)),
    revealed.length > 0 &&
      el("p", { class: "revealed" }, "shows for the first time: ", revealed.map((belief) => state.open.items.get(belief.id) ?? belief.id).join(" · ")),
  );
}

function reply(turn, node, name) {
  const pair = turn.pairs[turn.at];
  const paired = pair && (pair.one === node || pair.other === node);
  const open = !state.blind;
  const won = turn.pairs.map(verdict).filter((found) => found?.chosen === node.id);
  const lost = turn.pairs.filter((other) => {
    const found = verdict(other);
    return found && found.chosen !== node.id && (other.one === node || other.other === node);
  });
  const value = scoreOf(node);
  const parts = (node.scores ?? []).filter((score) => score.criterion !== "overall");
  return el(
    "section",
    {
      class: ["reply", open && node === turn.taken && (state.open.path.has(node.id) || state.open.children.has(node.id)) && "continued", paired && "paired"].filter(Boolean).join(" "),
      "data-node": node.id,
      tabindex: "-1",
      "aria-label": `Reply ${name}`,
    },
    el(
      "p",
      { class: "marks" },
      el("b", { class: "letter" }, name),
      open && node.condition && el("span", { class: `mark condition ${node.condition === "hinted" ? "hinted" : ""}` }, node.condition.replaceAll("_", " ")),
      open && won.length > 0 && el("span", { class: "mark chosen", title: won.map((found) => `margin ${number(found.margin, 2)}`).join(", ") }, `✓ preferred${won.length > 1 ? ` ${won.length}×` : ""}`),
      open && lost.length > 0 && el("span", { class: "mark rejected" }, `✗ rejected${lost.length > 1 ? ` ${lost.length}×` : ""}`),
      (node.flags ?? []).map((flag) => el("span", { class: "mark warn" }, flag)),
      open && value !== null && el("span", { class: "score", title: "judge's score" }, number(value, 1)),
    ),
    el("p", { class: "text" }, node.text || el("i", {}, "nothing")),
    open && parts.length > 0 && el("p", { class: "parts" }, parts.map((score) => `${score.criterion} ${number(score.value, 2)}`).join(" · ")),
    open && node.tokens && el("p", { class: "parts" }, count(node.tokens, "token")),
    open && (state.open.beliefs.get(node.id) ?? []).map((answer) => el("p", { class: "parts" }, `has learned: ${answer.text}`)),
  );
}

// The score called overall; otherwise the only one; otherwise the value in the tree.
function scoreOf(node) {
  const scores = node.scores ?? [];
  const overall = scores.find((score) => score.criterion === "overall");
  return (overall ?? (scores.length === 1 ? scores[0] : node))?.value ?? null;
}

function branchBox(title, turns) {
  return el("details", { class: "branch" }, el("summary", {}, title), turnList(turns));
}

function rejectBox(rejects) {
  if (!rejects.length) return null;
  return el(
    "details",
    { class: "rejects" },
    el("summary", {}, `${count(rejects.length, "draft")} rejected on the way`),
    el(
      "ul",
      {},
      rejects.map((reject) =>
        el("li", {}, el("span", { class: "mark warn" }, String(reject.reason)), el("span", { class: "note" }, ` ${reject.role ?? ""}, turn ${reject.turn ?? "?"} `), el("span", { class: "text" }, String(reject.text ?? ""))),
      ),
    ),
  );
}

// Redraws the turn itself only, so that branches below it stay as open as they are.
function redrawTurn(turn) {
  const item = $(`turn-${turn.index}`);
  const branches = [...item.querySelectorAll(":scope > .branch")];
  const parts = turnParts(turn, []);
  item.replaceChildren(...parts.flat().filter(Boolean), ...branches);
}

function setTurn(index) {
  if (!state.open || index < 0 || index >= state.open.turns.length) return;
  const before = $(`turn-${state.turn}`);
  before?.classList.remove("at");
  before?.removeAttribute("aria-current");
  state.turn = index;
  const now = $(`turn-${index}`);
  now?.classList.add("at");
  now?.setAttribute("aria-current", "step");
  markPicture();
}

function goToTurn(index) {
  setTurn(index);
  const item = $(`turn-${state.turn}`);
  reveal(item);
  item?.scrollIntoView({ block: "start" });
  item?.focus({ preventScroll: true });
}

function goToNode(id) {
  const turn = state.open.turnOf.get(id);
  if (!turn) return;
  setTurn(turn.index);
  const item = $(`turn-${turn.index}`);
  reveal(item);
  const target = [...item.querySelectorAll("[data-node]")].find((node) => node.dataset.node === id) ?? item;
  target.scrollIntoView({ block: "center" });
  target.focus({ preventScroll: true });
  target.classList.remove("flash");
  void target.offsetWidth; // starts the animation again
  target.classList.add("flash");
}

function reveal(item) {
  for (let box = item?.parentElement?.closest("details"); box; box = box.parentElement?.closest("details")) box.open = true;
}

// Goes to the next visible turn; folded branches are skipped.
function stepTurn(by) {
  const turns = [...$("tree").querySelectorAll(".turn")].filter((item) => !item.parentElement.closest("details:not([open])"));
  const here = turns.findIndex((item) => item.id === `turn-${state.turn}`);
  const next = turns[here + by];
  if (next) goToTurn(Number(next.id.slice("turn-".length)));
}
