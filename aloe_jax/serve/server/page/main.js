// Keys and buttons.

const field = $("message-field");

function fit(box) {
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight + 2, 220)}px`;
}

function pickByKey(which) {
  const over = childrenOf(talk(), state.turn).filter((node) => node.role === "assistant" && isOver(node));
  if (over.length < 2) return say("This turn has no two replies to compare.");
  givePick(over[0], over[1], which === "tie" ? "" : over[which].id);
}

function stepTurn(by) {
  const users = pathTo(talk(), talk().tip).filter((node) => node.role === "user");
  const next = users[users.findIndex((node) => node.id === state.turn) + by];
  if (next) showTurn(next.id);
}

function stepReply(by) {
  const replies = childrenOf(talk(), state.turn).filter((node) => node.role === "assistant");
  const here = replies.findIndex((node) => pathTo(talk(), talk().tip).includes(node));
  const next = replies[here + by];
  if (next) visit(next.id, false);
}

const KEYS = {
  1: () => pickByKey(0),
  2: () => pickByKey(1),
  0: () => pickByKey("tie"),
  r: () => talk().nodes.has(state.turn) && sampleAgain(talk().nodes.get(state.turn)),
  b: askBelief,
  e: () => talk().nodes.has(state.turn) && edit(talk().nodes.get(state.turn)),
  n: startTalk,
  s: save,
  ArrowDown: () => stepTurn(1),
  ArrowUp: () => stepTurn(-1),
  ArrowRight: () => stepReply(1),
  ArrowLeft: () => stepReply(-1),
  "/": () => field.focus(),
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    if (state.running.size || asking) stopAll();
    else if (document.body.dataset.screen !== "talk") showScreen("talk");
    else event.target.blur?.();
    return;
  }
  if (event.target.matches("input, select, textarea")) return;
  const action = Object.hasOwn(KEYS, event.key) && KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

field.addEventListener("input", () => fit(field));
field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
$("send").addEventListener("click", send);
$("stop").addEventListener("click", stopAll);
$("new").addEventListener("click", startTalk);
$("save").addEventListener("click", save);
$("download").addEventListener("click", download);
$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  openFile($("file").files[0]);
  $("file").value = "";
});
$("conversations").addEventListener("change", () => openTalk(Number($("conversations").value)));
$("keys").addEventListener("click", () => $("help").showModal());
for (const button of document.querySelectorAll("dialog .close")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
addEventListener("beforeunload", (event) => {
  if (unsaved().length) event.preventDefault();
});

$("download").hidden = document.body.dataset.save !== "yes";
watchSettings();
watchBelief();
watchTokens($("turns"));
showSettings(false);
draw();
loadModels();
