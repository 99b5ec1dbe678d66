// The fields of sampling, the models of the server, and the key, which lives as long as the tab.

const KEY = "aloe.key";
const NONE = "";

const apiKey = () => $("key").value.trim();

// The chosen models: of one the second column samples again, unless it is switched off.
function chosenModels() {
  return [$("model-a").value, $("model-b").value].filter((name) => name !== NONE);
}

// The fields of a request, or null after a message if one is wrong. Empty fields are left to the server.
function samplingFields() {
  const fields = {};
  for (const [id, name] of [["temperature", "temperature"], ["top-p", "top_p"], ["max-tokens", "max_tokens"], ["seed", "seed"]]) {
    const field = $(id);
    if (!field.checkValidity()) {
      showSettings(true);
      field.focus();
      say(`${field.dataset.name} must be ${field.dataset.bounds}.`, true);
      return null;
    }
    if (field.value !== "") fields[name] = Number(field.value);
  }
  return fields;
}

async function loadModels() {
  if (document.body.dataset.key === "yes" && !apiKey()) {
    $("served").textContent = "This server wants its API key.";
    showSettings(true);
    return;
  }
  let models;
  try {
    models = (await (await request("/v1/models", apiKey())).json()).data.map((card) => card.id);
  } catch (error) {
    $("served").textContent = error.message;
    return;
  }
  const options = () => models.map((name) => el("option", { value: name }, name));
  $("model-a").replaceChildren(...options());
  $("model-b").replaceChildren(...options(), el("option", { value: NONE }, "no second column"));
  $("model-b").value = models[1] ?? models[0];
  $("served").textContent = models.length > 1 ? `${models.length} models are served.` : "One model is served: two samples of it, or one column.";
  showModels();
}

function showModels() {
  const [a, b] = [$("model-a").value, $("model-b").value];
  $("name").textContent = [a, b].filter((name, index) => name && !(index && name === a)).map((name) => name.split("/").at(-1)).join(" and ") || "no model";
}

// Shows "talk" alone, or "settings" or "belief" beside it; on a narrow screen these lie over the conversation.
function showScreen(name) {
  hideToken();
  document.body.dataset.screen = name;
  $("settings").setAttribute("aria-expanded", String(name === "settings"));
  $("learned").setAttribute("aria-expanded", String(name === "belief"));
}

const showSettings = (open) => showScreen(open ? "settings" : "talk");

function watchSettings() {
  try {
    $("key").value = sessionStorage.getItem(KEY) ?? "";
  } catch {
    // storage is switched off; the key lasts as long as the page
  }
  $("key").addEventListener("change", () => {
    try {
      sessionStorage.setItem(KEY, apiKey());
    } catch {
      // as above
    }
    loadModels();
  });
  $("key-form").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["model-a", "model-b"]) $(id).addEventListener("change", showModels);
  $("colours").addEventListener("change", () => document.body.classList.toggle("plain", !$("colours").checked));
  $("settings").addEventListener("click", () => showSettings(document.body.dataset.screen !== "settings"));
  $("close-settings").addEventListener("click", () => showSettings(false));
}
