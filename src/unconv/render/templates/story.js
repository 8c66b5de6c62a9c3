// Steps through the frames of a story. There are two drawings of it, of which the stylesheet shows the one that fits the screen;
// in both, what changes is in groups: the cells of cards and of cropped grids, and the marks.
const slider = document.getElementById("step"), play = document.getElementById("play");
const caption = document.getElementById("caption"), number = document.getElementById("number");
const drawings = [...document.querySelectorAll("#story > svg")];
const filled = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);
document.querySelectorAll(".walk, .hint").forEach((part) => part.classList.remove("off"));

function place(rect, box) {
  ["x", "y", "width", "height"].forEach((name, i) => rect.setAttribute(name, Math.max(box[i], 0)));
}

// A mark (panel, row, column, rows, columns) on a plan, as far as it is shown at a frame.
function boxOf([panel, row, column, rows, columns], plan, index) {
  const [top, left] = plan.crops[panel] ? plan.crops[panel].origins[index] : [0, 0];
  const [high, wide] = plan.shows[panel], [x, y] = plan.corners[panel], [width, height] = plan.cell;
  const y0 = Math.max(row - top, 0), y1 = Math.min(row + rows - top, high);
  const x0 = Math.max(column - left, 0), x1 = Math.min(column + columns - left, wide);
  if (y1 <= y0 || x1 <= x0) return [0, 0, 0, 0];
  return [x + x0 * width, y + y0 * height, (x1 - x0) * width, (y1 - y0) * height];
}

function fillCells(group, grid, plan, panel, [top, left]) {
  const [rows, columns] = plan.shows[panel], [width, height] = plan.cell;
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) {
    const cell = (top + i - grid.at[0]) * grid.columns + left + j - grid.at[1];
    const at = 2 * (i * columns + j), rect = group.children[at], text = group.children[at + 1], word = grid.words[cell];
    const kind = kinds[grid.kinds[cell]], exact = grid.exact[cell] || "";
    rect.setAttribute("class", kind);
    if (rect.textContent !== exact) {
      rect.replaceChildren();
      if (exact) rect.append(Object.assign(document.createElementNS(rect.namespaceURI, "title"), { textContent: exact }));
    }
    text.setAttribute("class", kind);
    text.textContent = word;
    text.setAttribute("font-size", Math.min(0.44 * height, 1.4 * width / Math.max(word.length, 1)));
  }
  return 2 * rows * columns;
}

function moveCrop(children, grid, plan, panel, [top, left]) {
  const { first, words, map } = plan.crops[panel], [rows, columns] = plan.shows[panel], [height, width] = grid.size;
  const start = { top: (first[0] || 0) + top, left: (first[1] || 0) + left };
  if (first[0] !== null) for (let i = 0; i < rows; i++) children.shift().textContent = start.top + i;
  if (first[1] !== null) for (let i = 0; i < columns; i++) children.shift().textContent = start.left + i;
  const edges = { ...start, bottom: start.top + rows - 1, right: start.left + columns - 1 };
  children.shift().textContent = filled(words, edges);
  const [x, y, wide, high] = map, across = wide / width, down = high / height;
  place(children[1], [x + left * across, y + top * down, columns * across, rows * down]);
}

function show(index) {
  const frame = frames[index];
  slider.value = index;
  drawings.forEach((drawing, d) => {
    const plan = plans[d];
    for (const group of drawing.querySelectorAll(".live")) {
      const panel = Number(group.dataset.panel), crop = plan.crops[panel], origin = crop ? crop.origins[index] : [0, 0];
      const grid = panel < panels.length ? panels[panel] : frame.cards[panel - panels.length];
      const used = fillCells(group, grid, plan, panel, origin);
      if (crop) moveCrop([...group.children].slice(used), grid, plan, panel, origin);
    }
    drawing.querySelectorAll(".marks rect").forEach((rect, i) => {
      place(rect, frame.marks[i] ? boxOf(frame.marks[i], plan, index) : [0, 0, 0, 0]);
    });
  });
  caption.textContent = frame.caption;
  number.textContent = filled(labels.step, { step: index + 1 });
  slider.setAttribute("aria-valuetext", number.textContent);
}

let timer = null;
function stop() {
  clearInterval(timer);
  timer = null;
  play.textContent = labels.play;
  caption.setAttribute("aria-live", "polite");
}
function toggle() {
  if (timer) { stop(); return; }
  play.textContent = labels.pause;
  caption.setAttribute("aria-live", "off");
  timer = setInterval(() => show((Number(slider.value) + 1) % frames.length), 800);
}
const go = (index) => { stop(); show(Math.min(Math.max(index, 0), frames.length - 1)); };
slider.addEventListener("input", () => go(Number(slider.value)));
play.addEventListener("click", toggle);
addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const now = Number(slider.value), onButton = event.target instanceof Element && event.target.closest("button, summary");
  // Up and down scroll the page, unless the slider has the focus: there they lead to the row above and below.
  const rows = event.target === slider ? { ArrowUp: now - rowLength, ArrowDown: now + rowLength } : {};
  const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: frames.length - 1, ...rows }[event.key];
  if (to !== undefined) go(to);
  else if (event.key === " " && !onButton) toggle();
  else return;
  event.preventDefault();
});

function under(event, d) {
  const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawings[d].getScreenCTM().inverse());
  return frames.findIndex(({ marks }) => {
    const [left, top, width, height] = boxOf(marks[marks.length - 1], plans[d], Number(slider.value));
    return x >= left && x < left + width && y >= top && y < top + height;
  });
}
drawings.forEach((drawing, d) => {
  drawing.addEventListener("pointermove", (event) => { drawing.style.cursor = under(event, d) >= 0 ? "pointer" : ""; });
  drawing.addEventListener("click", (event) => { if (under(event, d) >= 0) go(under(event, d)); });
});
