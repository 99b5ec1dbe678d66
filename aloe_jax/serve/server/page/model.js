// Conversations as trees of nodes, and as the lines of trees.jsonl (aloe_jax/tree/schema.py). Nothing here touches the
// page.

const JUDGE = "human"; // of the preferences and scores that are given here
const THUMB = "thumb"; // the criterion of a thumb: 1 up, 0 down

// `picks` has the verdict of a pair of siblings by its key: the id of the better one, or "" for a tie. `next` is by
// node the child that was visited last, and `tip` the last node of the path that is shown.
function newConversation(id = `chat-${randomHex(8)}`) {
  return { id, nodes: new Map(), children: new Map([[null, []]]), picks: new Map(), next: new Map(), struck: new Map(), belief: null, tip: null, rest: {}, judged: [], unsaved: false };
}

function randomHex(bytes) {
  return [...crypto.getRandomValues(new Uint8Array(bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Adds a node under `parent`, the id of a node or null. `state` of a reply: "waiting", "coming", "done", "cut" (stopped,
// lost or at its limit) or "failed" (nothing came).
function addNode(talk, parent, role, text, more = {}) {
  let number = talk.nodes.size + 1;
  while (talk.nodes.has(`n${number}`)) number += 1;
  const node = { id: `n${number}`, parent, role, text, state: "done", thumb: null, tokens: [], ids: [], tokenizer: null, flags: [], rest: {}, ...more };
  talk.nodes.set(node.id, node);
  talk.children.set(node.id, []);
  talk.children.get(parent).push(node);
  talk.unsaved = true;
  return node;
}

const childrenOf = (talk, id) => talk.children.get(id) ?? [];
const siblingsOf = (talk, node) => childrenOf(talk, node.parent).filter((other) => other.role === node.role);
const pairKey = (a, b) => [a.id, b.id].sort().join("\n");

// The nodes from the first message to `id`.
function pathTo(talk, id) {
  const path = [];
  for (let node = talk.nodes.get(id); node; node = talk.nodes.get(node.parent)) path.unshift(node);
  return path;
}

// The messages that a reply under `id` answers.
function messagesTo(talk, id) {
  return pathTo(talk, id).map((node) => ({ role: node.role, content: node.text }));
}

// Makes `id` part of the path that is shown, and goes on below it where the visitor was last.
function goTo(talk, id) {
  let node = talk.nodes.get(id);
  for (const step of pathTo(talk, id)) talk.next.set(step.parent, step.id);
  while (childrenOf(talk, node.id).length) {
    const wanted = talk.next.get(node.id);
    node = childrenOf(talk, node.id).find((child) => child.id === wanted) ?? childrenOf(talk, node.id)[0];
  }
  talk.tip = node.id;
  for (const step of pathTo(talk, talk.tip)) talk.next.set(step.parent, step.id);
}

// The verdict on two siblings: the id of the better one, "" for a tie, undefined for none. Thumbs that differ count
// where nobody picked.
function verdictOf(talk, a, b) {
  const picked = talk.picks.get(pairKey(a, b));
  if (picked !== undefined) return picked;
  if (a.thumb === null || b.thumb === null || a.thumb === b.thumb) return undefined;
  return a.thumb > b.thumb ? a.id : b.id;
}

// Sets the verdict on two siblings; the same one again takes it back.
function pick(talk, a, b, better) {
  if (talk.picks.get(pairKey(a, b)) === better) talk.picks.delete(pairKey(a, b));
  else talk.picks.set(pairKey(a, b), better);
  talk.unsaved = true;
}

function setThumb(talk, node, value) {
  node.thumb = node.thumb === value ? null : value;
  talk.unsaved = true;
}

function pairsOf(nodes) {
  return nodes.flatMap((one, index) => nodes.slice(index + 1).map((other) => [one, other]));
}

// Whether a reply can be compared and saved: it is over and something came.
const isOver = (node) => node.state === "done" || node.state === "cut";

// All pairs of the conversation that have a verdict, as preferences.
function preferencesOf(talk) {
  const found = [];
  for (const below of talk.children.values()) {
    for (const [a, b] of pairsOf(below.filter((node) => node.role === "assistant" && isOver(node)))) {
      const better = verdictOf(talk, a, b);
      if (better === undefined) continue;
      const [chosen, rejected] = better === b.id ? [b, a] : [a, b];
      found.push({ chosen: chosen.id, rejected: rejected.id, margin: better === "" ? 0 : 1, judge: JUDGE });
    }
  }
  return found;
}

// The line of trees.jsonl, or null if there is no reply yet. Left out are replies that failed or are still coming, and
// messages that nobody answered.
function toRecord(talk) {
  const kept = new Set();
  for (const node of talk.nodes.values()) {
    if (node.role === "assistant" && isOver(node)) pathTo(talk, node.id).forEach((step) => kept.add(step.id));
  }
  if (!kept.size) return null;
  const preferences = preferencesOf(talk);
  const compared = new Set(preferences.filter((pair) => pair.margin > 0).flatMap((pair) => [pair.chosen, pair.rejected]));
  return {
    schema_version: 1,
    id: talk.id,
    ...talk.rest,
    nodes: [...talk.nodes.values()].filter((node) => kept.has(node.id)).map((node) => nodeRecord(node, compared)),
    preferences: [...talk.judged, ...preferences],
    path: pathTo(talk, talk.tip).map((node) => node.id).filter((id) => kept.has(id)),
  };
}

function nodeRecord(node, compared) {
  const record = { id: node.id, parent: node.parent, role: node.role, text: node.text, ...node.rest };
  if (node.role !== "assistant") return record;
  const flags = node.flags.slice();
  if (node.state === "cut" && !flags.includes("truncated")) flags.push("truncated");
  // A bad reply that is in no pair would be trained on as a good one.
  if (node.thumb === 0 && !compared.has(node.id)) flags.push("no_loss");
  if (flags.length) record.flags = flags;
  if (node.ids.length && node.tokenizer) {
    record.token_ids = node.ids;
    record.tokenizer = node.tokenizer;
    const logprobs = node.tokens.map((token) => token.logprob);
    if (logprobs.length === node.ids.length && logprobs.every(Number.isFinite)) record.logprobs = logprobs;
  }
  if (node.thumb !== null) record.scores = [...(record.scores ?? []), { judge: JUDGE, criterion: THUMB, value: node.thumb }];
  return record;
}

// The conversation of a line. What other programs wrote is kept as it is. Throws an Error with a sentence.
function fromRecord(record, where) {
  if (!Array.isArray(record?.nodes) || typeof record.id !== "string") throw new Error(`${where} is no conversation tree`);
  const { schema_version, id, nodes, preferences = [], path = [], ...rest } = record;
  if (schema_version !== 1) throw new Error(`${where} has schema_version ${schema_version}; this page reads 1`);
  const talk = Object.assign(newConversation(id), { rest });
  for (const { id, parent = null, role, text, flags = [], scores = [], token_ids = [], logprobs, tokenizer = null, ...more } of nodes) {
    if (typeof text !== "string" || !talk.children.has(parent) || talk.nodes.has(id)) throw new Error(`${where} has a broken node '${id}'`);
    const thumb = scores.find((score) => score.judge === JUDGE && score.criterion === THUMB)?.value ?? null;
    const others = scores.filter((score) => !(score.judge === JUDGE && score.criterion === THUMB));
    addNode(talk, parent, role, text, {
      id,
      thumb,
      ids: token_ids,
      tokenizer,
      tokens: (logprobs ?? []).map((logprob) => ({ text: null, logprob, top: [] })),
      flags: flags.filter((flag) => flag !== "no_loss" || thumb !== 0),
      state: flags.includes("truncated") ? "cut" : "done",
      rest: { ...more, ...(others.length ? { scores: others } : {}) },
    });
  }
  for (const pair of preferences) {
    const [chosen, rejected] = [talk.nodes.get(pair.chosen), talk.nodes.get(pair.rejected)];
    if (!chosen || !rejected) throw new Error(`${where} has a preference of a node that it lacks`);
    if (pair.judge === JUDGE) talk.picks.set(pairKey(chosen, rejected), pair.margin === 0 ? "" : chosen.id);
    else talk.judged.push(pair);
  }
  const start = path.at(-1) ?? nodes[0]?.id;
  if (start) goTo(talk, start);
  talk.unsaved = false;
  return talk;
}
