// Conversations in and out: the server's file, a download, a file of this machine.

const LARGEST = 20 * 2 ** 20; // bytes of a file that is opened

const unsaved = () => state.talks.filter((one) => one.unsaved && toRecord(one));

function drawBar() {
  const left = unsaved().length;
  $("save").textContent = left ? "Save •" : "Save";
  $("save").title = left ? `${count(left, "conversation")} not saved` : "everything is saved";
  $("stop").hidden = state.running.size === 0;
  $("send").disabled = state.running.size > 0;
  $("system").disabled = talk().nodes.size > 0;
  $("conversations").replaceChildren(...state.talks.map((one, index) => el("option", { value: index }, titleOf(one, index))));
  $("conversations").value = state.open;
  $("conversations").hidden = state.talks.length < 2;
}

function titleOf(one, index) {
  const first = [...one.nodes.values()].find((node) => node.role === "user");
  const text = first?.text ?? "empty";
  return `${index + 1}: ${text.length > 30 ? `${text.slice(0, 30)}…` : text}`;
}

// To the server's file if it keeps one, else as a download.
async function save() {
  if (state.running.size) return say("A reply is still coming; stop it, or save when it is over.", true);
  if (!state.talks.some(toRecord)) return say("There is no reply to save yet.", true);
  if (document.body.dataset.save !== "yes") return download();
  let said = null;
  for (const one of unsaved()) {
    const record = toRecord(one);
    one.unsaved = false; // what changes from here on is not in the record
    try {
      said = await (await request("/trees", apiKey(), record)).json();
    } catch (error) {
      one.unsaved = true;
      return say(error.message, true);
    }
  }
  drawBar();
  say(said ? `Saved; ${said.file} has ${count(said.conversations, "conversation")}.` : "Everything is saved.");
}

function download() {
  const talks = state.talks.filter(toRecord);
  if (!talks.length) return say("There is no reply to save yet.", true);
  const lines = talks.map((one) => `${JSON.stringify(toRecord(one))}\n`).join("");
  const address = URL.createObjectURL(new Blob([lines], { type: "application/jsonl" }));
  el("a", { href: address, download: "trees.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  for (const one of talks) one.unsaved = false;
  drawBar();
  say(`${count(talks.length, "conversation")} in trees.jsonl, for the downloads of this browser.`);
}

async function openFile(file) {
  if (!file) return;
  if (file.size > LARGEST) return say(`${file.name} is larger than 20 MB; look at it with aloe view.`, true);
  let found;
  try {
    found = readLines(await file.text(), file.name);
  } catch (error) {
    return say(`${error.message}; the file was left alone.`, true);
  }
  const ids = new Set(found.map((one) => one.id));
  const clash = state.talks.find((one) => one.unsaved && ids.has(one.id));
  if (clash) return say(`The conversation ${clash.id} is open and not saved; save it first.`, true);
  state.talks = [...state.talks.filter((one) => one.nodes.size && !ids.has(one.id)), ...found];
  openTalk(state.talks.length - found.length);
  say(`Opened ${count(found.length, "conversation")}.`);
}

function readLines(text, name) {
  const lines = text.split("\n").map((line, index) => [line.trim(), index + 1]).filter(([line]) => line);
  if (!lines.length) throw new Error(`${name} is empty`);
  return lines.map(([line, at]) => {
    let record;
    try {
      record = JSON.parse(line);
    } catch {
      throw new Error(`${name} line ${at} is no JSON`);
    }
    return fromRecord(record, `${name} line ${at}`);
  });
}

function openTalk(index) {
  state.open = index;
  state.editing = null;
  state.turn = pathTo(talk(), talk().tip).filter((node) => node.role === "user").at(-1)?.id ?? null;
  draw();
}

function startTalk() {
  if (state.running.size) return say("A reply is still coming; stop it first.", true);
  state.talks = [...state.talks.filter((one) => one.nodes.size), newConversation()];
  openTalk(state.talks.length - 1);
  $("message-field").focus();
}
