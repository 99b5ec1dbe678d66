// The answer of the server, or null after its error was shown.
async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  try {
    const response = await fetch(path, options);
    const answer = await response.json();
    if (response.ok) return answer;
    say(answer.error, true);
  } catch (error) {
    say(`The viewer does not answer (${error.message}); is it still running?`, true);
  }
  return null;
}
