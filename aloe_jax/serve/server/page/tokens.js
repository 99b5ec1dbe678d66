// A reply's tokens in its text, and what the model thought of each. Probabilities are those of the model at
// temperature 1, without filters.

// Classes of a token by its probability, from the highest; the key below the settings has the same words.
const SCALE = [
  [0.5, "t0"],
  [0.2, "t1"],
  [0.05, "t2"],
  [0.01, "t3"],
  [0, "t4"],
];

const shade = (logprob) => SCALE.find(([least]) => Math.exp(logprob) >= least)?.[1] ?? "t4";

// The text cut into [text, tokens] parts, or null if the tokens do not fit it. A character of several tokens is one
// part. Tokens without a place in the text, as the end of the turn, are parts with the text "".
function partsOf(text, tokens) {
  const parts = [];
  let at = 0;
  let waiting = []; // pieces of a character
  for (const token of tokens) {
    if (token.text === null) return null;
    if (token.text.includes("\ufffd")) {
      waiting.push(token);
      continue;
    }
    const found = token.text === "" ? -1 : text.indexOf(token.text, at);
    // A lone token of some tokenizers is written without the space before it.
    const near = found >= 0 && (waiting.length || text.slice(at, found).trim() === "");
    if (!near) {
      if (token !== tokens.at(-1) && token.text !== "") return null;
      if (waiting.length) parts.push([text.slice(at), waiting]);
      if (waiting.length) at = text.length;
      waiting = [];
      parts.push(["", [token]]);
      continue;
    }
    if (waiting.length) {
      parts.push([text.slice(at, found), waiting]);
      at = found;
      waiting = [];
    }
    parts.push([text.slice(at, found + token.text.length), [token]]);
    at = found + token.text.length;
  }
  if (waiting.length) parts.push([text.slice(at), waiting]);
  else if (text.slice(at).trim() !== "") return null;
  return parts;
}

// The elements of a reply's text: a span per token where its tokens are known.
function tokenSpans(node) {
  const parts = node.tokens.length ? partsOf(node.text, node.tokens) : null;
  if (!parts) return [node.text];
  return parts.map(([text, tokens]) => {
    const logprob = tokens.reduce((sum, token) => sum + token.logprob, 0);
    const span = el("span", { class: `token ${shade(logprob)}${text ? "" : " end"}` }, text || "⏎");
    span.token = { text: text || tokens[0].text, logprob, top: tokens.length === 1 ? tokens[0].top : [] };
    return span;
  });
}

const percent = (logprob) => {
  const share = 100 * Math.exp(logprob);
  return `${share >= 9.95 ? share.toFixed(0) : share >= 0.1 ? share.toFixed(1) : "< 0.1"} %`;
};
const visible = (text) => `“${text.replaceAll("\n", "⏎")}”`;

// Shows what there is to say of a token, beside it.
function showToken(span) {
  hideToken();
  const { text, logprob, top } = span.token;
  span.classList.add("at");
  const box = $("readout");
  box.replaceChildren(
    el("b", {}, visible(text)),
    ` ${percent(logprob)}, log-probability ${number(logprob, 2).replace("-", "−")}`,
    ...(top.length ? [el("span", { class: "others" }, `most probable: ${top.map((one) => `${visible(one.text)} ${percent(one.logprob)}`).join(", ")}`)] : []),
  );
  box.hidden = false;
  const spot = span.getBoundingClientRect();
  const left = Math.max(8, Math.min(spot.left, innerWidth - box.offsetWidth - 8));
  const below = spot.bottom + 6 + box.offsetHeight < innerHeight;
  box.style.left = `${left}px`;
  box.style.top = `${below ? spot.bottom + 6 : spot.top - 6 - box.offsetHeight}px`;
}

function hideToken() {
  document.querySelector(".token.at")?.classList.remove("at");
  $("readout").hidden = true;
}

// The arrow keys go through the tokens of the text that has the focus.
function stepToken(text, by) {
  const spans = [...text.querySelectorAll(".token")];
  const here = spans.findIndex((span) => span.classList.contains("at"));
  const next = spans[here < 0 ? (by > 0 ? 0 : spans.length - 1) : here + by];
  if (!next) return;
  next.scrollIntoView({ block: "nearest" });
  showToken(next);
}

// Called once: the readout follows the mouse, a touch and the keys.
function watchTokens(box) {
  const shown = (event) => (event.target.token ? showToken(event.target) : hideToken());
  box.addEventListener("mouseover", shown);
  box.addEventListener("click", (event) => event.target.token && showToken(event.target));
  box.addEventListener("mouseleave", hideToken);
  box.addEventListener("focusout", hideToken);
  for (const kind of ["wheel", "touchmove"]) box.addEventListener(kind, hideToken, { passive: true });
  box.addEventListener("keydown", (event) => {
    if (!event.target.classList.contains("text") || !["ArrowLeft", "ArrowRight", "Escape"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") hideToken();
    else stepToken(event.target, event.key === "ArrowRight" ? 1 : -1);
  });
}
