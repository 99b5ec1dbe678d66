// The personas of the run: each profile and each personality once, with what it is paired with. Shown where there are
// no trees yet, and on request.

let pools = null; // as the server lists them, once they have been asked for

async function showPersonas() {
  const found = await ask("/api/personas");
  if (!found) return;
  pools = found.pools;
  Object.assign(state, { open: null, line: 0 });
  document.body.dataset.screen = "tree";
  $("picture").replaceChildren();
  drawRows();
  drawPersonas();
  document.querySelector("main").scrollTop = 0;
}

// The personas with the words of the search; `state.open` is null while they are shown.
function drawPersonas() {
  if (!pools || state.open) return;
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const waiting = !state.trees.length && el("p", { class: "note" }, "There are no conversations yet; Reload shows them when there are.");
  $("tree").replaceChildren(el("div", {}, el("h1", {}, "Personas"), waiting, pools.map((pool) => poolPart(pool, words))));
}

function poolPart(pool, words) {
  const pairs = `${count(pool.personas, "persona")} ${pool.name}`;
  const broken = pool.broken ? `; ${count(pool.broken, "line")} of the file cannot be read` : "";
  return el(
    "section",
    { class: "pool" },
    el("h2", {}, pairs),
    el("p", { class: "note" }, `${count(pool.profiles.length, "profile")} paired with ${count(pool.personalities.length, "personality", "personalities")}${broken}`),
    entries("Profiles", pool.profiles, words, "personality", "personalities"),
    entries("Personalities", pool.personalities, words, "profile", "profiles"),
  );
}

function entries(title, all, words, one, many) {
  const shown = all.filter((entry) => {
    const hay = [entry.name, ...entry.items, ...entry.partners].join("\n").toLowerCase();
    return words.every((word) => hay.includes(word));
  });
  const some = shown.length < all.length ? ` (${shown.length.toLocaleString("en")} of ${all.length.toLocaleString("en")})` : "";
  return el(
    "details",
    { open: true },
    el("summary", {}, `${title}${some}`),
    el(
      "div",
      { class: "entries" },
      shown.map((entry) =>
        el(
          "div",
          { class: "entry" },
          el("h3", {}, entry.name),
          el("ul", {}, entry.items.map((text) => el("li", {}, text))),
          entry.partners.length > 0 && el("p", { class: "note", title: entry.partners.join(", ") }, `with ${entry.partners.length > 6 ? count(entry.partners.length, one, many) : entry.partners.join(", ")}`),
        ),
      ),
    ),
  );
}
