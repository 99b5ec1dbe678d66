// Pairs of replies to one message: the judge's preference, people's labels, and the order in which they are shown.

const MANY = 4; // replies; with more, only pairs with a preference of the judge are listed

function pairsOf(tree, replies) {
  const pairs = [];
  replies.forEach((one, index) => {
    for (const other of replies.slice(index + 1)) {
      const preference = (tree.preferences ?? []).find(
        (found) => [one.id, other.id].includes(found.chosen) && [one.id, other.id].includes(found.rejected),
      );
      if (one.text !== other.text && (preference || replies.length <= MANY)) pairs.push({ one, other, preference });
    }
  });
  return pairs;
}

// The judge's preference on a pair, or null: the reply it prefers, its margin and its probability.
function verdict(pair) {
  if (!pair.preference) return null;
  const margin = pair.preference.margin ?? 1;
  const chosen = margin >= 0 ? pair.preference.chosen : pair.preference.rejected;
  return { chosen, margin: Math.abs(margin), p: (1 + Math.abs(margin)) / 2, judge: pair.preference.judge };
}

// The replies as shown. When blind, the order follows from the ids alone, so it reveals nothing and stays the same.
function arranged(pair) {
  const swap = state.blind && hash(key(state.open.tree.id, pair.one.id, pair.other.id)) % 2 === 1;
  return swap ? [pair.other, pair.one] : [pair.one, pair.other];
}

// FNV-1a with its bits mixed once more, because its lowest bit alone would follow the parity of the text.
function hash(text) {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  return (value ^ (value >>> 13)) >>> 0;
}

const labelOf = (pair) => state.labels.get(labelKey(state.labeller, state.open.tree.id, pair.one.id, pair.other.id));

// The choice of a label for the replies in the given order.
function choiceFor(label, first) {
  if (!label || label.label === "tie") return label?.label;
  return label.chosen === first.id ? "first" : "second";
}

const letter = (turn, reply) => String.fromCharCode(65 + turn.replies.indexOf(reply));

async function giveLabel(turn, pair, choice) {
  const [first, second] = arranged(pair);
  const conversation = state.open.tree.id;
  const body = { conversation, first: first.id, second: second.id, label: choice, labeller: state.labeller, blind: state.blind };
  const label = await ask("/api/labels", body);
  if (!label) return;
  remember(label);
  drawRows();
  loadAgreement();
  if (state.open?.tree.id !== conversation) return;
  const next = turn.pairs.findIndex((other) => !labelOf(other));
  if (next >= 0) turn.at = next;
  redrawTurn(turn);
  if (next < 0) {
    const after = state.open.turns.find((other) => other.index > turn.index && other.pairs.some((open) => !labelOf(open)));
    if (after) goToTurn(after.index);
    else say("Every pair from here on is labelled; j goes to the next tree.");
  }
}

function pairRows(turn) {
  if (state.blind) return blindRow(turn);
  return el(
    "ul",
    { class: "pairs", "aria-label": "Pairs" },
    turn.pairs.map((pair, index) => {
      const [first, second] = arranged(pair);
      const judged = verdict(pair);
      return el(
        "li",
        { class: index === turn.at ? "pair at" : "pair", click: () => selectPair(turn, index) },
        el("span", { class: "names" }, `${letter(turn, first)} and ${letter(turn, second)}`),
        judged
          ? el(
              "span",
              { class: "judged", title: `judge: ${judged.judge ?? "not named"}` },
              el("b", { class: "chosen" }, `✓ ${letter(turn, judged.chosen === first.id ? first : second)}`),
              probability(judged.p),
              ` p ${number(judged.p, 2)}, margin ${number(judged.margin, 2)}`,
            )
          : el("span", { class: "judged none" }, "no preference of the judge"),
        labelButtons(turn, pair, [letter(turn, first), letter(turn, second)]),
      );
    }),
  );
}

function blindRow(turn) {
  const many = turn.pairs.length > 1;
  return el(
    "div",
    { class: "pairs" },
    el(
      "div",
      { class: "pair at" },
      many &&
        el(
          "span",
          { class: "names", role: "group", "aria-label": "Pair" },
          turn.pairs.map((pair, index) =>
            el(
              "button",
              {
                type: "button",
                class: labelOf(pair) ? "dot done" : "dot",
                "aria-pressed": index === turn.at ? "true" : "false",
                "aria-label": `pair ${index + 1} of ${turn.pairs.length}${labelOf(pair) ? ", labelled" : ""}`,
                click: () => selectPair(turn, index),
              },
              `pair ${index + 1}`,
            ),
          ),
        ),
      labelButtons(turn, turn.pairs[turn.at], ["A", "B"]),
    ),
  );
}

function labelButtons(turn, pair, names) {
  const [first] = arranged(pair);
  const said = choiceFor(labelOf(pair), first);
  const choices = [
    ["first", names[0], "1", `${names[0]} is better`],
    ["second", names[1], "2", `${names[1]} is better`],
    ["tie", "tie", "0", "neither is better"],
  ];
  return el(
    "span",
    { class: "buttons", role: "group", "aria-label": `Your label for ${names[0]} and ${names[1]}` },
    el("small", { "aria-hidden": "true" }, "better:"),
    choices.map(([choice, name, shortcut, title]) =>
      el(
        "button",
        {
          type: "button",
          title: `${title} (${shortcut})`,
          "aria-label": title,
          "aria-pressed": said === choice ? "true" : "false",
          click: (event) => {
            event.stopPropagation();
            setTurn(turn.index);
            giveLabel(turn, pair, choice);
          },
        },
        name,
        el("kbd", { "aria-hidden": "true" }, shortcut),
      ),
    ),
  );
}

function probability(p) {
  return svg(
    "svg",
    { class: "bar", viewBox: "0 0 60 8", role: "img", "aria-label": `probability ${number(p, 2)}` },
    svg("rect", { class: "ground", width: 60, height: 8, rx: 2 }),
    svg("rect", { class: "filled", width: 60 * p, height: 8, rx: 2 }),
    svg("line", { class: "half", x1: 30, x2: 30, y1: 0, y2: 8 }),
  );
}

function selectPair(turn, index) {
  turn.at = index;
  setTurn(turn.index);
  redrawTurn(turn);
}
