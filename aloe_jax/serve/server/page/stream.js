// Requests to the server. Every error becomes an Error whose message is a sentence.

const GONE = "The server does not answer; is it still running?";
const LOST = "The connection was lost in the middle of the reply; what came is kept.";

async function request(path, key, body, signal) {
  const headers = { ...(body && { "Content-Type": "application/json" }), ...(key && { Authorization: `Bearer ${key}` }) };
  const options = { headers, signal, ...(body && { method: "POST", body: JSON.stringify(body) }) };
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error(GONE);
  }
  if (response.ok) return response;
  throw new Error(await refusal(response));
}

async function refusal(response) {
  if (response.status === 401) return "The server wants its API key; type it into the settings.";
  let said = "";
  try {
    const { error } = await response.json();
    said = typeof error === "string" ? error : (error?.message ?? "");
  } catch {
    // the body is no JSON: a proxy answered
  }
  const wait = response.headers.get("Retry-After");
  return `The server refused (${response.status})${said ? `: ${said}` : "."}${wait ? ` Try again in ${wait} s.` : ""}`;
}

// Asks for a reply and gives `take` its pieces as they come: {text, tokens, ids, tokenizer}. Returns the reason why it
// ended, "stop" or "length". Throws an AbortError after `signal`.
async function streamReply(body, key, signal, take) {
  const response = await request("/v1/chat/completions", key, body, signal);
  let finish = null;
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(`The server failed: ${chunk.error.message ?? chunk.error}`);
      const choice = chunk.choices?.[0];
      if (!choice) continue;
      take(piece(chunk, choice));
      finish = choice.finish_reason ?? finish;
    }
  } catch (error) {
    if (error.name === "AbortError" || error.message.startsWith("The server failed")) throw error;
    throw new Error(LOST);
  }
  if (finish === null) throw new Error(LOST);
  return finish;
}

function piece(chunk, choice) {
  const token = ({ token, logprob }) => ({ text: token, logprob });
  return {
    text: choice.delta?.content ?? "",
    tokens: (choice.logprobs?.content ?? []).map((one) => ({ ...token(one), top: (one.top_logprobs ?? []).map(token) })),
    ids: choice.token_ids ?? [],
    tokenizer: chunk.tokenizer_hash ?? null,
  };
}

// The data of each server-sent event of a body.
async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of done ? [...blocks, rest] : blocks) {
      const lines = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
    }
    if (done) return;
  }
}
