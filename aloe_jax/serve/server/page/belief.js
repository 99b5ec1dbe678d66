// What the model says that it has learned about the visitor, asked beside the conversation; what is struck out becomes
// the visitor's next message. A conversation's `belief` has the reply under which it was asked, and the claims; `struck`
// has by item the turn in which it was struck out: only what was said later is evidence for it again.

const PROBE = JSON.parse(document.body.dataset.probe);
let asking = null; // what stops the question that is under way

// The claims of an answer, of one that was cut those that came whole; null for no answer.
function readClaims(text) {
  for (const whole of [text, `${text.slice(0, text.lastIndexOf("}") + 1)}]}`]) {
    try {
      const first = new Map();
      for (const { item, turn } of JSON.parse(whole).known) if (!first.has(item)) first.set(item, turn);
      const claims = [...first].map(([item, turn]) => ({ item, turn }));
      if (claims.every(({ item, turn }) => typeof item === "string" && Number.isInteger(turn))) return claims;
    } catch {
      // cut, or no answer
    }
  }
  return null;
}

// The schema after so many turns of the visitor (aloe_jax/tree/probe.py).
function probeSchema(turns) {
  const schema = structuredClone(PROBE.schema);
  schema.properties.known.items.properties.turn.maximum = turns;
  return schema;
}

async function askBelief() {
  showScreen("belief");
  if (asking || state.running.size) return;
  const [conversation, path] = [talk(), pathTo(talk(), talk().tip)];
  const reply = path.at(-1);
  if (reply?.role !== "assistant" || !isOver(reply)) return say("There is no reply yet under which the model can be asked.", true);
  const served = [...$("model-a").options].map((option) => option.value);
  const model = served.includes(reply.rest.condition) ? reply.rest.condition : $("model-a").value;
  const format = { name: "belief", schema: probeSchema(path.filter((node) => node.role === "user").length) };
  const body = {
    model,
    messages: [...messagesTo(conversation, reply.id), { role: "user", content: PROBE.question }],
    temperature: 0,
    response_format: { type: "json_schema", json_schema: format },
    stream: true,
  };
  asking = new AbortController();
  drawBelief();
  let said = "";
  try {
    await streamReply(body, apiKey(), asking.signal, ({ text }) => (said += text));
    const claims = readClaims(said);
    for (const claim of claims ?? []) claim.struck = claim.turn <= (conversation.struck.get(claim.item) ?? 0);
    if (claims) conversation.belief = { reply: reply.id, model, claims };
    else say(`${model} gave no answer of the form that was asked for.`, true);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  }
  asking = null;
  draw();
}

function drawBelief() {
  const belief = talk().belief;
  const users = belief ? pathTo(talk(), belief.reply).filter((node) => node.role === "user") : [];
  $("ask-belief").disabled = state.running.size > 0;
  $("ask-belief").textContent = asking ? "Stop" : belief ? "Ask again" : "Ask the model";
  const known = belief && `${belief.model.split("/").at(-1)}, after turn ${users.length}: `;
  const found = belief?.claims.length ? count(belief.claims.length, "item") : "it has learned nothing yet";
  $("belief-said").textContent = asking ? "Asking the model…" : belief ? `${known}${found}.` : "";
  $("claims").replaceChildren(...(belief?.claims ?? []).map((claim) => claimItem(claim, users[claim.turn - 1])));
}

function claimItem(claim, user) {
  const text = PROBE.texts[claim.item] || claim.item;
  const strike = el(
    "button",
    { type: "button", class: "small strike", disabled: claim.struck || state.running.size > 0, "aria-label": `Strike out: ${text}`, click: () => strikeOut(claim, text) },
    claim.struck ? "Struck out" : "Strike out",
  );
  return el(
    "li",
    { class: claim.struck && "struck" },
    el("p", { class: "item" }, text),
    user && el("p", { class: "evidence" }, `“${user.text}”`),
    el("p", { class: "buttons" }, user && el("button", { type: "button", class: "small turn-link", click: () => showEvidence(user) }, `Turn ${claim.turn}`), strike),
  );
}

function strikeOut(claim, text) {
  // As `correction` of aloe_jax/serve/chat/belief.py says it.
  if (!sendText(`You noted about me: "${text}" That is wrong. Please do not go by it any more.`)) return;
  claim.struck = true;
  talk().struck.set(claim.item, pathTo(talk(), talk().tip).filter((node) => node.role === "user").length);
  drawBelief();
  toTalk();
}

function showEvidence(user) {
  toTalk();
  visit(user.id);
}

// On a narrow screen the panel lies over the conversation.
function toTalk() {
  if (matchMedia("(max-width: 800px)").matches) showScreen("talk");
}

function watchBelief() {
  $("learned").addEventListener("click", () => (document.body.dataset.screen === "belief" ? showScreen("talk") : talk().belief ? showScreen("belief") : askBelief()));
  $("ask-belief").addEventListener("click", () => (asking ? asking.abort() : askBelief()));
  $("close-belief").addEventListener("click", () => showScreen("talk"));
}
