// Elements. Text is added as text nodes only, so the content of a conversation is shown and never parsed as HTML.

const $ = (id) => document.getElementById(id);

function el(name, properties = {}, ...children) {
  return filled(document.createElement(name), properties, children);
}

function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

// Functions become event handlers; null and false leave an attribute or a child out.
function filled(node, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function number(value, digits) {
  return typeof value === "number" ? value.toFixed(digits) : "–";
}

function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

// Shows a message for a while, or until the next one.
let messageTimer = 0;
function say(text, bad = false) {
  const box = $("message");
  box.textContent = text;
  box.classList.toggle("bad", bad);
  box.hidden = false;
  clearTimeout(messageTimer);
  messageTimer = setTimeout(() => (box.hidden = true), bad ? 12000 : 4000);
}
