// The state of the page. `shown` are the trees that pass the filters, `open` is the tree on the right with its turns.

const state = {
  trees: [],
  loading: false,
  broken: 0,
  rejects: {},
  shown: [],
  line: 0, // of the open tree
  open: null,
  turn: 0, // index of the current turn in open.turns
  labels: new Map(), // labeller and pair -> label
  labelled: new Map(), // labeller -> conversations with a label
  labeller: "",
  blind: false,
};

const key = (...parts) => JSON.stringify(parts);
const labelKey = (labeller, conversation, a, b) => key(labeller, conversation, ...[a, b].sort());

function remember(label) {
  state.labels.set(labelKey(label.labeller, label.conversation, label.first, label.second), label);
  if (!state.labelled.has(label.labeller)) state.labelled.set(label.labeller, new Set());
  state.labelled.get(label.labeller).add(label.conversation);
}

const isLabelled = (conversation) => state.labelled.get(state.labeller)?.has(conversation) ?? false;

// If storage is switched off, a name lasts as long as the page.
function stored(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(name);
    localStorage.setItem(name, value);
  } catch {
    return null;
  }
  return value;
}

const isProbe = (node) => (node.flags ?? []).includes("probe");

// A tree for display: children by parent, numbered turns, and the turn in which each fact and trait showed. Probes are
// no messages of it: their answers stand with the reply after which they were asked.
function openTree(whole, rejects) {
  const tree = { ...whole, nodes: whole.nodes.filter((node) => !isProbe(node)) };
  const after = new Map(whole.nodes.map((node) => [node.id, node.parent]));
  const beliefs = new Map();
  for (const node of whole.nodes.filter((node) => isProbe(node) && node.role === "assistant")) {
    const reply = after.get(node.parent);
    beliefs.set(reply, [...(beliefs.get(reply) ?? []), node]);
  }
  const children = new Map();
  for (const node of tree.nodes) {
    const parent = node.parent ?? null;
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(node);
  }
  const open = { tree, rejects, children, beliefs, path: new Set(tree.path ?? []), turns: [], turnOf: new Map(), shownAt: new Map() };
  open.roots = follow(open, null, 1);
  const persona = tree.persona ?? {};
  open.items = new Map([...(persona.facts ?? []), ...(persona.traits ?? [])].map((item) => [item.id, item.text]));
  for (const node of tree.nodes) {
    for (const belief of node.belief ?? []) {
      const turn = open.turnOf.get(belief.node);
      if (turn && !open.shownAt.has(belief.id)) open.shownAt.set(belief.id, turn.number);
    }
  }
  return open;
}

// The branches that start under a node, the continued one first; each is a list of turns.
function follow(open, parent, depth) {
  const below = open.children.get(parent) ?? [];
  const starts = below.filter((node) => node.role === "user");
  const systems = below.filter((node) => node.role === "system");
  const onward = starts.find((node) => open.path.has(node.id)) ?? starts[0];
  const ordered = onward ? [onward, ...starts.filter((node) => node !== onward)] : [];
  const branches = ordered.map((user) => line(open, user, depth));
  // A conversation may begin with a reply, which is a turn without a message.
  if (parent === null && below.some((node) => node.role === "assistant")) branches.push(line(open, null, depth));
  return [...branches, ...systems.flatMap((node) => follow(open, node.id, depth))];
}

function line(open, user, depth) {
  const turns = [];
  for (let number = depth; user !== undefined; number++) {
    const replies = (open.children.get(user?.id ?? null) ?? []).filter((node) => node.role === "assistant");
    const taken =
      replies.find((node) => open.path.has(node.id)) ?? replies.find((node) => open.children.has(node.id)) ?? replies[0];
    const turn = { index: open.turns.length, number, user, replies, taken, branches: [], at: 0 };
    turn.pairs = pairsOf(open.tree, replies);
    open.turns.push(turn);
    turns.push(turn);
    for (const node of [...(user ? [user] : []), ...replies]) open.turnOf.set(node.id, turn);
    user = undefined;
    for (const reply of replies) {
      const below = (open.children.get(reply.id) ?? []).filter((node) => node.role === "user");
      const onward = reply === taken ? (below.find((node) => open.path.has(node.id)) ?? below[0]) : undefined;
      if (onward) user = onward;
      for (const start of below) if (start !== onward) turn.branches.push({ reply, start, depth: number + 1 });
    }
  }
  // Turns of a branch are numbered after those of the line it leaves, in the order in which they are drawn.
  for (const turn of turns) for (const branch of turn.branches) branch.turns = line(open, branch.start, branch.depth);
  return turns;
}
