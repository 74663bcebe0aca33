/* Evaluated in the page: what a screen reader could not make sense of. */
(() => {
  const faults = [];
  const visible = (selector) => [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility());
  const named = (one) =>
    one.getAttribute("aria-label")?.trim() ||
    (one.getAttribute("aria-labelledby") ?? "")
      .split(" ")
      .some((id) => document.getElementById(id)?.textContent.trim()) ||
    [...(one.labels ?? [])].some((label) => label.textContent.trim()) ||
    (one.matches("button, summary, a, legend, caption") && one.textContent.trim());
  const describe = (one) => one.outerHTML.slice(0, 90);
  for (const one of visible(
    "button, a, input, select, textarea, summary, [role=img], [role=group], [tabindex='0'], section, nav, table",
  )) {
    if (!named(one) && !one.querySelector(":scope > caption") && !(one.matches("table") && one.role === null)) {
      faults.push(`no name: ${describe(one)}`);
    }
  }
  for (const one of visible("svg:not([role=img]), canvas:not([role])")) {
    if (one.getAttribute("aria-hidden") !== "true") {
      faults.push(`a picture that is read: ${describe(one)}`);
    }
  }
  for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls"]) {
    for (const one of visible(`[${attribute}]`)) {
      const missing = one
        .getAttribute(attribute)
        .split(" ")
        .filter((id) => !document.getElementById(id));
      if (missing.length) {
        faults.push(`${attribute} leads nowhere: ${describe(one)}`);
      }
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
  faults.push(...ids.filter((id, index) => ids.indexOf(id) !== index).map((id) => `twice: #${id}`));
  if (visible("h1").length !== 1) {
    faults.push("not one h1");
  }
  const levels = visible("h1, h2, h3, h4").map((one) => Number(one.tagName[1]));
  levels.forEach((level, index) => {
    if (level > (levels[index - 1] ?? 0) + 1) {
      faults.push(`a heading of level ${level} after ${levels[index - 1] ?? 0}`);
    }
  });
  const main = document.querySelectorAll("main").length === 1 && document.documentElement.lang === "en";
  return main ? faults : [...faults, "no main, or no language"];
})();
