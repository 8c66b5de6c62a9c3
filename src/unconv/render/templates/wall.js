// Order and filter a wall. Without this file it stands in the order of channels, and whole.
addEventListener("DOMContentLoaded", () => {
  const wall = document.getElementById("wall"), count = document.getElementById("count");
  const order = document.getElementById("order"), filter = document.getElementById("filter");
  const units = [...wall.children];
  const rising = new Set(["channel", "similarity"]);
  const value = (unit, name) => Number(unit.dataset[name]) || 0;
  function sort() {
    const name = order.value, sign = rising.has(name) ? 1 : -1;
    const sorted = [...units].sort((a, b) => sign * (value(a, name) - value(b, name)) || value(a, "channel") - value(b, "channel"));
    wall.append(...sorted);
  }
  function matches(unit, word) {
    if (word === "dead") return unit.classList.contains("dead");
    if (word === "live") return !unit.classList.contains("dead");
    if (word === "twin") return "twin" in unit.dataset;
    if (word.startsWith("class:")) return (unit.dataset.classes || "").toLowerCase().includes(word.slice(6));
    return unit.dataset.channel === word;
  }
  function show() {
    // Words are apart by commas or spaces; a class's name may hold spaces.
    const parts = filter.value.toLowerCase().split(",").map((part) => part.trim());
    const words = parts.flatMap((part) => (part.startsWith("class:") ? [part] : part.split(/\s+/))).filter(Boolean);
    let shown = 0;
    for (const unit of units) {
      unit.hidden = words.length > 0 && !words.some((word) => matches(unit, word));
      shown += unit.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${units.length}`;
  }
  document.getElementById("controls").classList.remove("off");
  document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
  order.addEventListener("change", sort);
  filter.addEventListener("input", show);
  sort();
  show();
});
