"use strict";

const range = (count) => [...Array(count).keys()];

/** A check box that keeps whether `key` is in a set of what is hidden, and says when it changes. */
function hidingBox(key, hidden, changed, attributes = {}) {
  const box = element("input", { type: "checkbox", ...attributes });
  box.checked = !hidden.has(key);
  box.addEventListener("change", () => {
    if (box.checked) hidden.delete(key);
    else hidden.add(key);
    changed();
  });
  return box;
}

/** Fill a row with a box for each of `count` heads or levels, and buttons for all and for one alone. */
function fillToggles(root, name, count, hidden, changed, sign) {
  const boxes = range(count).map((number) =>
    hidingBox(number, hidden, changed, { "aria-label": `${name} ${number}` }));
  const show = (shown) => {
    hidden.clear();
    boxes.forEach((box, number) => {
      box.checked = shown.includes(number);
      if (!box.checked) hidden.add(number);
    });
    changed();
  };
  const button = (text, label, click) => {
    const made = element("button", { type: "button", "aria-label": label, title: label }, text);
    made.addEventListener("click", click);
    return made;
  };
  const all = button("All", `all ${name}s`, () => show(range(count)));
  const next = button("One", `one ${name} alone; once more: the next one`, () => {
    const shown = range(count).filter((number) => !hidden.has(number));
    show([shown.length === 1 ? (shown[0] + 1) % count : 0]);
  });
  const labels = boxes.map((box, number) => element("label", {}, box, sign(number), ` ${number}`));
  root.replaceChildren(...labels, all, next);
}

/** Fill a row with a box for each class. */
function fillClasses(root, names, hidden, changed) {
  const label = (name) => element("label", {}, hidingBox(name, hidden, changed), ` ${name}`);
  root.replaceChildren(...names.map(label));
}

/** The colour of a head, shown while points are coloured by it. */
function swatch(head) {
  const made = legendMark(1, "swatch");
  made.firstChild.style.fill = headColour(head);
  return made;
}

/** What the colours of a scale mean: from 0 to the largest value, of each panel that shows some. */
function showScale(root, scale, largest, unit = "") {
  const bar = element("i");
  bar.style.background = `linear-gradient(to right, ${scale.join(",")})`;
  root.hidden = !largest.length;
  root.replaceChildren("0", bar, [...new Set(largest)].join(" | ") + unit);
}
