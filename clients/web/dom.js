/** Makes elements. Strings become text, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @typedef {Node | string | number | null | undefined | false} Child  what is not there is left out
 * @typedef {Record<string, string | number | boolean | null | undefined>} Attributes  null, undefined and false are
 *   left out, true is an empty one
 */

/** @param {string} tag @param {Attributes} [attributes] @param {...Child} children @returns {any} */
export function make(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** @param {string} tag @param {Attributes} [attributes] @param {...Child} children @returns {any} */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** An unchanged text is left alone, so that it is not announced again. @param {Element} target @param {string} text */
export function setText(target, text) {
  if (target.textContent !== text) {
    target.textContent = text;
  }
}

/**
 * Draw anew what `box` holds. An element that has the focus and a `data-focus` gives it to the one that has the same
 * afterwards.
 *
 * @param {Element} box
 * @param {() => void} draw
 */
export function keepingFocus(box, draw) {
  const { activeElement } = document;
  const name = activeElement instanceof HTMLElement && box.contains(activeElement) ? activeElement.dataset.focus : null;
  draw();
  if (name && !activeElement.isConnected) {
    box.querySelector(`[data-focus="${CSS.escape(name)}"]`)?.focus();
  }
}

/** Close on a click elsewhere, and on Escape, which gives the focus back. @param {HTMLDetailsElement} menu */
export function closeWhenLeft(menu) {
  document.addEventListener("click", ({ target }) => {
    menu.open &&= menu.contains(/** @type {Node} */ (target));
  });
  document.addEventListener("keydown", ({ key }) => {
    if (menu.open && key === "Escape") {
      menu.open = false;
      if (menu.contains(document.activeElement)) {
        menu.querySelector("summary").focus();
      }
    }
  });
}

/** @template {Element} T @param {T} element @param {Attributes} [attributes] @param {Child[]} children @returns {T} */
function fill(element, attributes = {}, children = []) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : `${value}`);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map(toNode));
  return element;
}

/** @param {Node | string | number} child @returns {Node | string} */
function toNode(child) {
  return typeof child === "number" ? `${child}` : child;
}
