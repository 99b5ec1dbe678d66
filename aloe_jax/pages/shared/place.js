// Where the nodes of a tree lie in its picture: time runs to the right, the continued path along the top.

const STEP = { x: 27, y: 21 };
const MARGIN = { x: 16, top: 26, bottom: 12 };

function curve(from, to) {
  const middle = (from.x + to.x) / 2;
  return `M${from.x},${from.y}C${middle},${from.y} ${middle},${to.y} ${to.x},${to.y}`;
}

// The spot of each of `nodes`, parents before children. `children` are the nodes by their parent's id, `path` the ids of
// the continued path. The column is the depth. The child on the path keeps its parent's row; the others get the first
// rows that are free along their whole length.
function place(nodes, children, path) {
  const spots = new Map();
  const taken = []; // column -> first free row
  const height = new Map();
  for (const node of [...nodes].reverse()) {
    const below = (children.get(node.id) ?? []).map((child) => height.get(child.id));
    height.set(node.id, 1 + Math.max(0, ...below));
  }
  const put = (node, column, row) => {
    spots.set(node.id, { x: MARGIN.x + column * STEP.x, y: MARGIN.top + row * STEP.y });
    taken[column] = row + 1;
    putAll(children.get(node.id) ?? [], column + 1, row);
  };
  const putAll = (below, column, row) => {
    const first = below.find((child) => path.has(child.id)) ?? below.find((child) => height.get(child.id) > 1) ?? below[0];
    for (const child of first ? [first, ...below.filter((other) => other !== first)] : []) {
      let free = child === first ? row : row + 1;
      for (let ahead = column; ahead < column + height.get(child.id); ahead++) free = Math.max(free, taken[ahead] ?? 0);
      put(child, column, free);
    }
  };
  putAll(children.get(null) ?? [], 0, 0);
  return spots;
}
