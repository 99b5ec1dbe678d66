// The conversation as a tree; a click goes to the message.

function drawPicture() {
  const nodes = [...talk().nodes.values()];
  $("picture").hidden = nodes.length < 2;
  if (nodes.length < 2) return;
  const path = new Set(pathTo(talk(), talk().tip).map((node) => node.id));
  const spots = place(nodes, talk().children, path);
  const width = Math.max(...[...spots.values()].map((spot) => spot.x)) + MARGIN.x;
  const height = Math.max(...[...spots.values()].map((spot) => spot.y)) + MARGIN.bottom;
  const [best, worst] = [new Set(), new Set()];
  for (const pair of preferencesOf(talk()).filter((one) => one.margin > 0)) {
    best.add(pair.chosen);
    worst.add(pair.rejected);
  }
  const mark = (id) => (best.has(id) ? (worst.has(id) ? "mixed" : "chosen") : worst.has(id) ? "rejected" : "");
  const edges = nodes
    .filter((node) => spots.has(node.parent))
    .map((node) => svg("path", { class: path.has(node.id) ? "edge on" : "edge", d: curve(spots.get(node.parent), spots.get(node.id)) }));
  const label = `Tree of the conversation, ${count(nodes.length, "message")}; a click goes to the message`;
  $("picture").replaceChildren(
    svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label }, edges, nodes.map((node) => dot(node, spots.get(node.id), mark(node.id)))),
  );
  const tip = spots.get(talk().tip);
  if (tip) $("picture").scrollLeft = tip.x - $("picture").clientWidth / 2;
}

function dot(node, { x, y }, mark) {
  const said = node.text.length > 60 ? `${node.text.slice(0, 60)}…` : node.text;
  const name = [node.role === "assistant" ? (node.rest.condition ?? "reply") : node.role, mark, said].filter(Boolean).join(", ");
  const here = node.id === talk().tip;
  return svg(
    "g",
    { class: `dot ${node.role} ${mark}${here ? " at" : ""}`, role: "button", "aria-label": name, "data-node": node.id, click: () => visit(node.id) },
    svg("title", {}, name),
    svg("circle", { class: "target", cx: x, cy: y, r: 11 }),
    node.role === "assistant" ? svg("circle", { cx: x, cy: y, r: 7 }) : svg("circle", { cx: x, cy: y, r: 4.5 }),
    node.flags.includes("truncated") || node.state === "cut" ? svg("circle", { class: "flag", cx: x + 6, cy: y - 6, r: 3 }) : null,
  );
}
