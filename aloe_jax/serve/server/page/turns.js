// The shown path, turn by turn: the message, all replies to it side by side, and who is better.

const letter = (index) => String.fromCharCode(65 + (index % 26));
const THUMB_SHAPE = "M2 9h3v8H2zM6.5 9l3-6.5c1.6 0 2.3 1 2 2.6L11 8h4.4c1.2 0 2 1 1.7 2.2l-1.4 5.4c-.2.8-.9 1.4-1.8 1.4H6.5z";

function drawTurns() {
  const path = pathTo(talk(), talk().tip);
  const system = path.find((node) => node.role === "system");
  const users = path.filter((node) => node.role === "user");
  $("turns").replaceChildren(...users.map((user, index) => turnItem(user, index, path)));
  $("start").hidden = users.length > 0;
  $("said-system").hidden = !system;
  $("said-system").textContent = system ? `System: ${system.text}` : "";
}

function turnItem(user, index, path) {
  const replies = childrenOf(talk(), user.id).filter((node) => node.role === "assistant");
  const busy = replies.some((node) => state.running.has(node));
  return el(
    "li",
    { class: user.id === state.turn ? "turn at" : "turn", "data-turn": user.id, "aria-label": `Turn ${index + 1}`, "aria-current": user.id === state.turn && "step", click: () => setTurn(user.id) },
    el("p", { class: "count" }, `Turn ${index + 1}`),
    state.editing === user.id ? editor(user) : message(user),
    el("div", { class: "replies" }, replies.map((node, place) => reply(node, letter(place), path.includes(node)))),
    pairRows(replies.filter(isOver), replies),
    el(
      "p",
      { class: "actions" },
      el("button", { type: "button", class: "small again", disabled: busy, click: () => sampleAgain(user), title: "Sample a reply of each model once more (r)" }, "Sample again"),
    ),
  );
}

function message(user) {
  const siblings = siblingsOf(talk(), user);
  const here = siblings.indexOf(user);
  const step = (by, label, sign) =>
    el("button", { type: "button", class: "small", "aria-label": label, disabled: !siblings[here + by], click: () => visit(siblings[here + by].id) }, sign);
  return el(
    "div",
    { class: "user", "data-node": user.id, tabindex: "-1" },
    el("p", {}, user.text),
    el(
      "p",
      { class: "tools" },
      siblings.length > 1 && [step(-1, "Previous version of this message", "‹"), el("span", { class: "versions" }, `${here + 1} of ${siblings.length}`), step(1, "Next version of this message", "›")],
      el("button", { type: "button", class: "small edit", click: () => edit(user), title: "Say something else here, as another branch (e)" }, "Edit as a branch"),
    ),
  );
}

function editor(user) {
  const field = el("textarea", { "aria-label": "Other message", rows: 3 });
  field.value = user.text;
  const send = () => branch(user, field.value);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape") {
      event.stopPropagation();
      edit(null);
    }
  });
  return el(
    "div",
    { class: "user editor" },
    field,
    el("p", { class: "tools" }, el("button", { type: "button", class: "small", click: send }, "Send as a branch"), el("button", { type: "button", class: "small", click: () => edit(null) }, "Cancel")),
  );
}

function reply(node, name, onPath) {
  const won = preferencesOf(talk()).some((pair) => pair.margin > 0 && pair.chosen === node.id);
  const lost = preferencesOf(talk()).some((pair) => pair.margin > 0 && pair.rejected === node.id);
  const alone = siblingsOf(talk(), node).length < 2;
  const tip = onPath && talk().tip === node.id;
  return el(
    "section",
    { class: ["reply", onPath && !alone && "continued", tip && "tip", node.state].filter(Boolean).join(" "), "data-node": node.id, tabindex: "-1", "aria-label": `Reply ${name}`, "aria-busy": state.running.has(node) && "true" },
    el(
      "p",
      { class: "marks" },
      el("b", { class: "letter" }, name),
      node.rest.condition && el("span", { class: "mark model", title: node.rest.condition }, node.rest.condition.split("/").at(-1)),
      won && el("span", { class: "mark chosen" }, "✓ preferred"),
      lost && el("span", { class: "mark rejected" }, "✗ rejected"),
      node.state === "cut" && el("span", { class: "mark warn" }, "cut"),
      isOver(node) && el("span", { class: "thumbs" }, thumb(node, 1, "Good reply"), thumb(node, 0, "Bad reply")),
    ),
    el("p", { class: "text", tabindex: node.tokens.length ? "0" : false, role: "group", "aria-label": node.tokens.length ? `Text of reply ${name}; the arrow keys go through its tokens` : false }, textOf(node)),
    el("p", { class: "parts" }, figures(node)),
    node.error && el("p", { class: "error", role: "alert" }, node.error),
    !alone && isOver(node) && el("p", { class: "tools" }, el("button", { type: "button", class: "small", "aria-pressed": String(onPath), click: () => visit(node.id, false) }, onPath ? "Continued ↓" : "Continue from here")),
  );
}

function textOf(node) {
  if (state.running.has(node)) return [node.text || "…"];
  if (node.state === "failed") return [el("i", {}, "nothing came")];
  return node.text || node.tokens.length ? tokenSpans(node) : [el("i", {}, "an empty reply")];
}

function figures(node) {
  const logprobs = node.tokens.map((token) => token.logprob);
  if (state.running.has(node)) return node.tokens.length ? count(node.tokens.length, "token") : "waiting for the first token";
  if (!logprobs.length) return "";
  const mean = logprobs.reduce((sum, value) => sum + value, 0) / logprobs.length;
  return `${count(logprobs.length, "token")}, mean log-probability ${number(mean, 2).replace("-", "−")}`;
}

function thumb(node, value, label) {
  const shape = svg("svg", { viewBox: "0 0 19 19", width: 17, height: 17, class: value ? "" : "down", "aria-hidden": "true" }, svg("path", { d: THUMB_SHAPE }));
  return el("button", { type: "button", class: "thumb", "aria-pressed": String(node.thumb === value), "aria-label": label, title: label, click: () => giveThumb(node, value) }, shape);
}

// A row for each pair of replies: which is better.
function pairRows(over, all) {
  const pairs = pairsOf(over);
  if (!pairs.length) return null;
  const rows = pairs.map(([a, b], index) => {
    const [one, other] = [letter(all.indexOf(a)), letter(all.indexOf(b))];
    const verdict = verdictOf(talk(), a, b);
    const button = (better, text, key) =>
      el("button", { type: "button", "aria-pressed": String(verdict === better), click: () => givePick(a, b, better) }, text, index === 0 && el("kbd", {}, key));
    return el(
      "li",
      { class: "pair", "aria-label": `${one} and ${other}` },
      el("span", { class: "buttons" }, button(a.id, `${one} is better`, "1"), button("", "tie", "0"), button(b.id, `${other} is better`, "2")),
    );
  });
  return el("ul", { class: "pairs", "aria-label": "Which reply is better" }, rows);
}
