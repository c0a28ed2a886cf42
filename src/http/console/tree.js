// Draws what is wanted into what is there. Nothing that stays the same is touched, so focus, selection, scroll position and
// what is folded open outlive a refresh. Text becomes text nodes, never markup: names and errors are written by strangers.

const DRAWN = Symbol("drawn");
const PROPERTIES = new Set(["value", "checked"]);

/**
 * What an element should be. `key` tells it from its siblings, `on…` are listeners; children are elements, text, lists of them,
 * or nothing.
 */
export const h = (tag, attributes, ...children) => ({ tag, attributes: attributes ?? {}, children });

/** Makes these the children of the parent. */
export function draw(parent, ...children) {
  const wanted = children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== "");
  const left = [...parent.childNodes];
  const kept = wanted.map((child) => take(left, child));
  for (const node of left) node.remove();
  let place = parent.firstChild;
  wanted.forEach((child, index) => {
    const node = kept[index] ?? make(child);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
    update(node, child);
  });
}

/** As [`draw`]; and whoever had the focus in something that is no more has it on the heading. */
export function drawHeld(parent, ...children) {
  const held = parent.contains(document.activeElement);
  draw(parent, ...children);
  if (held && document.activeElement === document.body) document.getElementById("heading").focus({ preventScroll: true });
}

function take(left, child) {
  const index = left.findIndex((node) => fits(node, child));
  return index < 0 ? null : left.splice(index, 1)[0];
}

function fits(node, child) {
  if (!child.tag) return node.nodeType === Node.TEXT_NODE;
  return node.localName === child.tag && node[DRAWN]?.key === child.attributes.key;
}

function make(child) {
  if (!child.tag) return document.createTextNode("");
  const node = document.createElement(child.tag);
  node[DRAWN] = { key: child.attributes.key };
  return node;
}

function update(node, child) {
  if (!child.tag) {
    if (node.data !== String(child)) node.data = String(child);
    return;
  }
  draw(node, child.children);
  const [before, now] = [node[DRAWN], child.attributes];
  for (const name of new Set([...Object.keys(before), ...Object.keys(now)])) {
    if (name !== "key" && before[name] !== now[name]) set(node, name, now[name]);
  }
  node[DRAWN] = now;
}

/** `value` and `checked` are set when what is wanted changes, so that typing and ticking are left alone. */
function set(node, name, value) {
  const none = value === undefined || value === null || value === false;
  if (name.startsWith("on") || PROPERTIES.has(name)) node[name] = value;
  else if (none) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}
