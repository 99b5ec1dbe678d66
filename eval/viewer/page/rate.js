// Rating single replies of the benchmark. The server draws them at random, of all models; which model wrote a reply and
// what the judge said of it is not shown.

const GRADES = ["not at all", "a little", "partly", "well", "as well as one could"];

// The reply on the screen, those rated since the dialog was opened, and whether a rating is being written.
const rating = { shown: null, before: [], busy: false };

async function startRating() {
  rating.before = [];
  $("rate").showModal();
  takeOffer(await ask(`/api/ratings?labeller=${encodeURIComponent(state.labeller)}`));
}

// Shows the reply that an answer of the server offers.
function takeOffer(found) {
  $("rate-problem").textContent = found ? "" : $("message").textContent;
  if (!found) return;
  $("rate-progress").textContent = `${found.rated.toLocaleString("en")} of ${found.total.toLocaleString("en")} replies rated by ${state.labeller}`;
  showReply(found.reply);
}

function showReply(reply) {
  rating.shown = reply;
  $("rate-back").disabled = !rating.before.length;
  if (!reply) {
    $("rate-body").replaceChildren(el("p", { class: "missing" }, "Every scored reply is rated. Thank you."));
    return;
  }
  const messages = reply.dialogue.map((message) => el("p", { class: message.role }, message.content));
  const said = el("div", { class: "said", role: "region", "aria-label": "The conversation so far", tabindex: "0" }, messages);
  const buttons = GRADES.map((meaning, index) =>
    el(
      "button",
      { type: "button", class: "grade", "aria-pressed": reply.score === index + 1 ? "true" : "false", click: () => rate(index + 1) },
      el("kbd", {}, String(index + 1)),
      ` ${meaning}`,
    ),
  );
  $("rate-body").replaceChildren(
    said,
    el("h3", {}, "The reply"),
    el("p", { class: "reply text", tabindex: "-1" }, reply.reply || "(an empty reply)"),
    el("h3", { id: "rate-question" }, "How well does it fit, in content and in style, what this user has shown so far?"),
    el("div", { class: "grades", role: "group", "aria-labelledby": "rate-question" }, buttons),
  );
  said.scrollTop = said.scrollHeight;
  buttons[0].focus();
}

async function rate(score) {
  const reply = rating.shown;
  if (!reply || rating.busy) return;
  rating.busy = true;
  const { result, case: name, turn } = reply;
  const found = await ask("/api/ratings", { result, case: name, turn, score, labeller: state.labeller });
  rating.busy = false;
  if (found) rating.before.push({ ...reply, score });
  takeOffer(found);
}

function rateBefore() {
  if (rating.busy) return;
  const reply = rating.before.pop();
  if (reply) showReply(reply);
}

function rateByKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.length === 1 && event.key >= "1" && event.key <= "5") rate(Number(event.key));
  else if (event.key === "Backspace") rateBefore();
}
