// What the visitor does to the conversation: send, branch, sample again, pick, go elsewhere.

// `running` are the replies that come, each with what stops it. `turn` is the message whose replies the keys pick from,
// `editing` the message that is being rewritten.
const state = { talks: [newConversation()], open: 0, running: new Map(), turn: null, editing: null };
const talk = () => state.talks[state.open];

function draw() {
  hideToken();
  drawTurns();
  drawPicture();
  drawBar();
  drawBelief();
}

function send() {
  const text = $("message-field").value.trim();
  if (!text || !sendText(text)) return;
  $("message-field").value = "";
  fit($("message-field"));
}

// Sends a message below the shown path; false if it cannot be sent, after a message that says why.
function sendText(text) {
  const sampling = !state.running.size && ready();
  if (!sampling) return false;
  let parent = talk().tip;
  if (parent === null && $("system").value.trim()) parent = addNode(talk(), null, "system", $("system").value.trim()).id;
  const last = talk().nodes.get(parent);
  if (last?.role === "user") {
    say("The last message has no reply yet: sample again, or edit it.", true);
    return false;
  }
  if (last && last.role === "assistant" && !isOver(last)) {
    say("The reply failed: sample again, or continue from another one.", true);
    return false;
  }
  const user = addNode(talk(), parent, "user", text);
  goTo(talk(), user.id);
  setTurn(user.id);
  sampleReplies(user, sampling);
  return true;
}

// The sampling fields if a reply can be asked for, else null after a message.
function ready() {
  if (chosenModels().length) return samplingFields();
  say("There is no model to ask; see the settings.", true);
  showSettings(true);
  return null;
}

function branch(user, text) {
  const sampling = text.trim() && !state.running.size && ready();
  if (!sampling) return;
  state.editing = null;
  const other = addNode(talk(), user.parent, "user", text.trim());
  goTo(talk(), other.id);
  setTurn(other.id);
  sampleReplies(other, sampling);
}

function sampleAgain(user) {
  const sampling = !state.running.size && ready();
  if (sampling) sampleReplies(user, sampling);
}

// A reply of each chosen model. With a seed, samples of one model under one message count up from it.
function sampleReplies(user, sampling) {
  const asked = chosenModels().map((model) => {
    const before = childrenOf(talk(), user.id).filter((node) => node.rest.condition === model).length;
    const node = addNode(talk(), user.id, "assistant", "", { state: "waiting", rest: { condition: model } });
    return [node, { ...sampling, ...(sampling.seed !== undefined && { seed: sampling.seed + before }) }];
  });
  const last = talk().nodes.get(talk().tip);
  if (last.id === user.id) goTo(talk(), asked[0][0].id);
  for (const [node, fields] of asked) askFor(talk(), node, fields);
  draw();
  showTurn(user.id);
}

async function askFor(conversation, node, sampling) {
  const stop = new AbortController();
  state.running.set(node, stop);
  const body = {
    model: node.rest.condition,
    messages: messagesTo(conversation, node.parent),
    ...sampling,
    stream: true,
    logprobs: true,
    top_logprobs: 5,
    return_token_ids: true,
  };
  try {
    const finish = await streamReply(body, apiKey(), stop.signal, (piece) => take(node, piece));
    node.state = finish === "length" ? "cut" : "done";
  } catch (error) {
    node.state = node.text || node.ids.length ? "cut" : "failed";
    if (error.name !== "AbortError") node.error = error.message;
  }
  conversation.unsaved = true; // a download may have had the reply as it was
  state.running.delete(node);
  draw();
}

function take(node, { text, tokens, ids, tokenizer }) {
  node.state = "coming";
  node.text += text;
  node.tokens.push(...tokens);
  node.ids.push(...ids);
  node.tokenizer = tokenizer ?? node.tokenizer;
  const card = document.querySelector(`.reply[data-node="${CSS.escape(node.id)}"]`);
  if (!card) return; // another conversation is shown
  const main = $("talk");
  const atEnd = main.scrollHeight - main.scrollTop - main.clientHeight < 60;
  card.querySelector(".text").textContent = node.text || "…";
  card.querySelector(".parts").textContent = figures(node);
  if (atEnd) main.scrollTop = main.scrollHeight;
}

function stopAll() {
  asking?.abort();
  for (const stop of state.running.values()) stop.abort();
}

function edit(user) {
  if (state.running.size) return;
  state.editing = user?.id ?? null;
  if (user) setTurn(user.id);
  drawTurns();
  document.querySelector(".editor textarea")?.focus();
}

function givePick(a, b, better) {
  pick(talk(), a, b, better);
  // The conversation goes on from the better one, unless it went on already.
  if (better && !childrenOf(talk(), talk().tip).length && [a.id, b.id].includes(talk().tip)) goTo(talk(), better);
  redraw(a.parent);
}

function giveThumb(node, value) {
  setThumb(talk(), node, value);
  redraw(node.parent);
}

// Draws again and leaves the focus on the same control.
function redraw(turn) {
  const controls = () => [...document.querySelectorAll(`[data-turn="${CSS.escape(turn)}"] button`)];
  const focused = controls().indexOf(document.activeElement);
  draw();
  controls()[focused]?.focus({ preventScroll: true });
}

function setTurn(id) {
  state.turn = id;
  for (const item of document.querySelectorAll(".turn")) {
    const here = item.dataset.turn === id;
    item.classList.toggle("at", here);
    if (here) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  }
}

function showTurn(id) {
  setTurn(id);
  document.querySelector(`[data-turn="${CSS.escape(id)}"]`)?.scrollIntoView({ block: "nearest" });
}

// Shows the path through a node, and with `flash` where it is.
function visit(id, flash = true) {
  goTo(talk(), id);
  const node = talk().nodes.get(id);
  setTurn(node.role === "assistant" ? node.parent : id);
  draw();
  const card = document.querySelector(`.turns [data-node="${CSS.escape(id)}"]`);
  card?.scrollIntoView({ block: "nearest" });
  card?.focus({ preventScroll: true });
  if (flash) card?.classList.add("flash");
}
