// A small picture of the tree: time runs to the right, the continued path along the top, alternatives below it.

function drawPicture() {
  const open = state.open;
  const places = place(open.tree.nodes, open.children, open.path);
  const width = Math.max(...[...places.values()].map((spot) => spot.x)) + MARGIN.x;
  const height = Math.max(...[...places.values()].map((spot) => spot.y)) + MARGIN.bottom;
  const best = new Set();
  const worst = new Set();
  for (const turn of open.turns) {
    for (const judged of turn.pairs.map((pair) => [pair, verdict(pair)])) {
      const [pair, found] = judged;
      if (!found) continue;
      best.add(found.chosen);
      worst.add(found.chosen === pair.one.id ? pair.other.id : pair.one.id);
    }
  }
  const edges = [];
  const dots = [];
  for (const node of open.tree.nodes) {
    const spot = places.get(node.id);
    const from = places.get(node.parent ?? null);
    const onPath = !state.blind && open.path.has(node.id) && (node.parent === null || node.parent === undefined || open.path.has(node.parent));
    if (from) edges.push(svg("path", { class: onPath ? "edge on" : "edge", d: curve(from, spot) }));
    dots.push(dot(open, node, spot, state.blind ? "" : best.has(node.id) ? (worst.has(node.id) ? "mixed" : "chosen") : worst.has(node.id) ? "rejected" : ""));
  }
  const labels = open.turns
    .filter((turn) => turn.user && places.get(turn.user.id).y === MARGIN.top)
    .map((turn) => svg("text", { x: places.get(turn.user.id).x, y: 13, class: "number" }, String(turn.number)));
  $("picture").replaceChildren(
    svg(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Picture of the tree; a click goes to the message" },
      edges,
      labels,
      dots,
    ),
  );
  markPicture();
}

// Squares are plain replies; those of other kinds stand on a corner.
function turned(node, spot) {
  return ["plain", undefined, null].includes(node.condition) ? "" : `rotate(45 ${spot.x} ${spot.y})`;
}

function dot(open, node, spot, mark) {
  const turn = open.turnOf.get(node.id);
  const name = node.role === "assistant" ? `turn ${turn?.number}, reply ${turn ? letter(turn, node) : ""}` : `${node.role}, turn ${turn?.number ?? 0}`;
  const flagged = (node.flags ?? []).length > 0;
  const shape =
    node.role !== "assistant"
      ? svg("circle", { cx: spot.x, cy: spot.y, r: 4.5 })
      : node.condition === "hinted" || state.blind
        ? svg("circle", { cx: spot.x, cy: spot.y, r: 7 })
        : svg("rect", { x: spot.x - 6, y: spot.y - 6, width: 12, height: 12, rx: 1.5, transform: turned(node, spot) });
  return svg(
    "g",
    {
      class: `dot ${node.role} ${mark}`,
      role: "button",
      "aria-label": [name, node.condition, mark].filter(Boolean).join(", "),
      "data-node": node.id,
      click: () => goToNode(node.id),
    },
    svg("title", {}, state.blind ? name : [name, node.condition, mark, ...(node.flags ?? [])].filter(Boolean).join(", ")),
    svg("circle", { class: "target", cx: spot.x, cy: spot.y, r: 11 }),
    shape,
    flagged && !state.blind && svg("circle", { class: "flag", cx: spot.x + 6, cy: spot.y - 6, r: 3 }),
  );
}

function markPicture() {
  const turn = state.open?.turns[state.turn];
  const nodes = new Set(turn ? [turn.user?.id, ...turn.replies.map((reply) => reply.id)] : []);
  for (const group of $("picture").querySelectorAll("[data-node]")) group.classList.toggle("at", nodes.has(group.dataset.node));
  const here = $("picture").querySelector(".dot.at");
  if (here) {
    const box = $("picture");
    const x = here.getBoundingClientRect().left - box.getBoundingClientRect().left;
    if (x < 40 || x > box.clientWidth - 80) box.scrollLeft += x - box.clientWidth / 2;
  }
}
