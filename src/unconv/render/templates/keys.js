// The arrow keys lead to the previous and the next unit. The links are there without this file, too.
addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target instanceof Element && event.target.closest("input, select, textarea, [contenteditable]")) return;
  const way = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = way && document.querySelector(`a[rel="${way}"]`);
  if (link) location.assign(link.href);
});
// In a frame of another page, `?embed` leaves of a unit's page its pictures and what they are.
if (new URLSearchParams(location.search).has("embed")) document.documentElement.classList.add("embed");
