// The live page: hand a picture over, and ask what sees it.
const at = (id) => document.getElementById(id);
const state = { facts: null, picture: null, size: null, unit: null, region: null, drawn: null, camera: null, busy: false };

function say(words) { at("state").textContent = words; }

async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const found = await answer.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return { error: `The server answered ${answer.status}.` };
  });
  if (!answer.ok) throw new Error(found.error);
  return found;
}

function element(name, facts = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, facts);
  made.append(...children);
  return made;
}

// A picture comes

async function take(blob, name) {
  if (state.busy) {
    if (name !== "camera") say("The network still looks at another picture. Try again in a moment.");
    return;
  }
  state.busy = true;
  say("The network looks at it …");
  try {
    const found = await ask("/live/pictures", { method: "POST", body: blob, headers: { "x-name": encodeURIComponent(name) } });
    state.picture = found.picture;
    state.size = found.size;
    state.region = state.drawn = null;
    at("picture").src = found.shown;
    at("picture").alt = name;
    at("picture").hidden = false;
    at("video").hidden = true; // what the network saw is shown, on which boxes stand where they belong
    at("marks").replaceChildren();
    at("hint").hidden = true;
    at("whole").hidden = true;
    at("marks").setAttribute("viewBox", `0 0 ${found.size[1]} ${found.size[0]}`);
    showClasses(found.classes);
    showUnits(found.units);
    say("");
    if (state.unit && at("freeze").checked) await showUnit(state.unit.place, state.unit.channel);
    else if (state.camera === null) await showStrongest(found.units);
    else at("unit").hidden = true;
  } catch (error) {
    say(error.message);
  } finally {
    state.busy = false;
  }
}

function showClasses(found) {
  const rows = (found ? found.classes : []).map((each) =>
    element("tr", {}, element("th", { scope: "row", textContent: each.name || `class ${each.index}` }), element("td", { textContent: number(each.score) })));
  at("classes").replaceChildren(...rows);
}

async function showStrongest(units) {
  for (let place = units.length - 1; place >= 0; place--) {
    if (units[place].length && state.facts.places[place].map.length) return showUnit(place, units[place][0].channel);
  }
}

function number(value) {
  if (value !== 0 && Math.abs(value) < 1e-4) return value.toExponential(2);
  return value.toLocaleString("en", { maximumSignificantDigits: 3 });
}

function tile(place, channel, row, side, index = 0) {
  const made = element("span", { className: "bit" });
  const { n } = state.facts, height = (side * place.cell[0]) / place.cell[1];
  made.style.cssText = `width:${side}px;height:${height}px;background-image:url("/${encodeURIComponent(place.folder)}/${channel}.webp");` +
    `background-size:${n * side}px auto;background-position:${-index * side}px ${-row * height}px`;
  return made;
}

function showUnits(units) {
  const rows = units.map((some, number_) => {
    const place = state.facts.places[number_];
    const buttons = some.map((unit) => {
      const words = unit.share === null ? number(unit.value) : `${(100 * unit.share).toFixed(1)} %`;
      const button = element("button", { type: "button" }, element("b", { textContent: unit.channel }), element("span", { textContent: words }));
      if (state.facts.site && !place.dead.includes(unit.channel)) button.prepend(element("span", { className: "two" }, tile(place, unit.channel, 0, 36), tile(place, unit.channel, 1, 36)));
      button.setAttribute("aria-label", `${place.name}, channel ${unit.channel}: ${words}`);
      button.addEventListener("click", () => showUnit(number_, unit.channel, state.region ? unit.position : null));
      return element("li", {}, button);
    });
    const about = element("span", { className: "about" }, element("code", { textContent: place.name }));
    return element("li", {}, about, element("ol", { className: "sampled" }, ...buttons));
  });
  at("places").replaceChildren(...rows);
}

// A unit is looked at

let asking = null;

async function showUnit(place, channel, position = null) {
  state.unit = { place, channel, position };
  const facts = state.facts.places[place];
  at("unit").hidden = false;
  at("name").replaceChildren(element("code", { textContent: facts.name }), `, channel ${channel}`);
  if (state.picture === null) return;
  if (asking) asking.abort(); // the server does not begin what nobody waits for
  const mine = (asking = new AbortController());
  const down = at("down").open ? "&trace=1" : "";
  const begun = performance.now();
  try {
    at("trust").replaceChildren();
    const found = await ask(`${address()}${down}`, { signal: mine.signal });
    at("projection").src = found.projection;
    at("patch").src = found.patch;
    await Promise.all([at("projection").decode(), at("patch").decode()]).catch(() => {});
    document.body.dataset.milliseconds = String(performance.now() - begun);
    mark(found.box);
    const where = found.position.length ? ` at (${found.position.join(", ")})` : "";
    at("facts").textContent = `Activation ${number(found.value)}${where}. White is +${number(found.scale)} or more. ${found.notes.join("; ")}`;
    showNine(facts, channel);
    showWay(found.way);
    say("");
    if (at("judged").open) await judge(mine);
  } catch (error) {
    if (error.name === "AbortError" || mine !== asking) return; // another unit is asked for by now
    at("unit").hidden = true; // nothing of another unit stands under this one's name
    at("marks").querySelectorAll(".sees").forEach((old) => old.remove());
    say(error.message);
  }
}

function address(more = "") {
  const { place, channel, position } = state.unit;
  const where = position ? `&at=${position.join(",")}` : "";
  return `/live/pictures/${state.picture}/${place}/${channel}${more}?method=${encodeURIComponent(at("method").value)}${where}`;
}

// Takes long: other units, shuffled weights and hidden parts are tried. So it is asked for only where it is looked at.
async function judge(mine) {
  say("Trying other units, shuffled weights and a grey square …");
  try {
    const found = await ask(address("/trust"), { signal: mine.signal });
    at("trust").replaceChildren(...found.words.map((words) => element("li", { textContent: words })));
    say("");
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  }
}

const again = () => state.unit && showUnit(state.unit.place, state.unit.channel, state.unit.position);

function showNine(place, channel) {
  at("nine").replaceChildren();
  if (!state.facts.site || place.dead.includes(channel)) return;
  const nine = (row) => element("div", { className: "nine" }, ...Array.from({ length: state.facts.n }, (_, k) => tile(place, channel, row, 48, k)));
  const link = element("a", { href: `/${encodeURIComponent(place.folder)}/${channel}.html`, textContent: "Its page" });
  at("nine").replaceChildren(nine(0), nine(1), element("p", {}, "What it responds to most. ", link));
}

function showWay(way) {
  at("way").replaceChildren(...way.map((step) => {
    const [channel, share] = step.channels[0];
    const pair = element("span", { className: "pair" }, element("img", { src: step.energy, alt: `Energy at ${step.place}` }), element("img", { src: step.strongest, alt: `Strongest channel at ${step.place}` }));
    return element("li", {}, element("figure", {}, pair, element("figcaption", { textContent: `${step.place} ${step.size.join(" × ")}: channel ${channel} carries ${Math.round(100 * share)} %` })));
  }));
}

function mark(box, kind = "sees") {
  const space = "http://www.w3.org/2000/svg";
  const made = document.createElementNS(space, "rect");
  const [y0, x0, y1, x1] = box;
  for (const [name, value] of Object.entries({ x: x0, y: y0, width: x1 - x0, height: y1 - y0, class: kind })) made.setAttribute(name, value);
  at("marks").querySelectorAll(`.${kind}`).forEach((old) => old.remove());
  at("marks").append(made);
}

// A region is asked for

function under(event) {
  const frame = at("picture").getBoundingClientRect();
  const clamp = (value, most) => Math.max(0, Math.min(most, value));
  return [clamp(((event.clientY - frame.top) / frame.height) * state.size[0], state.size[0]), clamp(((event.clientX - frame.left) / frame.width) * state.size[1], state.size[1])];
}

const least = () => Math.max(4, state.size[0] / 7); // of a region: about as far as units of deep layers stand apart

function selecting() {
  let from = null;
  const box = (event) => {
    const to = under(event), half = least() / 2;
    return [0, 1].map((k) => Math.floor(Math.min(from[k], to[k], from[k] - half))).concat([0, 1].map((k) => Math.ceil(Math.max(from[k], to[k], from[k] + half))));
  };
  at("drop").addEventListener("pointerdown", (event) => {
    if (state.picture === null || event.button !== 0) return;
    from = under(event);
    at("drop").setPointerCapture(event.pointerId);
    at("drop").focus({ preventScroll: true });
    event.preventDefault();
  });
  at("drop").addEventListener("pointermove", (event) => { if (from) mark(box(event), "region"); });
  at("drop").addEventListener("pointerup", (event) => {
    if (!from) return;
    const region = (state.drawn = box(event));
    from = null;
    mark(region, "region");
    askRegion(region);
  });
  at("drop").addEventListener("keydown", byKey);
}

function byKey(event) {
  if (state.picture === null || event.altKey || event.ctrlKey || event.metaKey) return;
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }, sizes = { "+": 1, "=": 1, "-": -1 };
  if (!(event.key in moves) && !(event.key in sizes) && !["Enter", "Escape"].includes(event.key)) return;
  event.preventDefault();
  if (event.key === "Escape") {
    state.drawn = null;
    askRegion(null);
  } else if (event.key === "Enter") {
    if (state.drawn) askRegion(state.drawn);
  } else {
    state.drawn = stepped(state.drawn, moves[event.key] || [0, 0], sizes[event.key] || 0);
    mark(state.drawn, "region");
  }
}

// A region, moved and resized by a step, that stays within the picture; the first one stands in its middle.
function stepped(region, move, larger) {
  const step = least() / 4, [height, width] = state.size;
  const old = region || [(height - least()) / 2, (width - least()) / 2, (height + least()) / 2, (width + least()) / 2];
  const side = (k, most) => Math.min(most, Math.max(least(), old[k + 2] - old[k] + 2 * step * larger));
  const first = (k, size, most) => Math.max(0, Math.min(most - size, (old[k] + old[k + 2] - size) / 2 + (region ? step * move[k] : 0)));
  const [tall, wide] = [side(0, height), side(1, width)];
  const [y, x] = [first(0, tall, height), first(1, wide, width)];
  return [y, x, y + tall, x + wide].map(Math.round);
}

async function askRegion(region) {
  state.region = region;
  try {
    const found = await ask(`/live/pictures/${state.picture}/units${region ? `?region=${region.join(",")}` : ""}`);
    showUnits(found.units);
    at("whole").hidden = region === null;
    if (region === null) at("marks").querySelectorAll(".region").forEach((old) => old.remove());
    const none = found.units.every((some) => some.length === 0);
    say(!region ? "" : none ? "No unit that responds sees around this part." : "Units that see around this part, and that it drives most.");
  } catch (error) {
    say(error.message);
  }
}

// The camera

async function camera() {
  at("camera").disabled = true;
  await camera_(); // a second click waits for the first
  at("camera").disabled = false;
}

async function camera_() {
  if (state.camera) {
    state.camera.getTracks().forEach((track) => track.stop());
    state.camera = null;
    at("video").srcObject = null;
    at("video").hidden = true;
    at("picture").hidden = state.picture === null;
    at("camera").textContent = "Camera";
    return;
  }
  try {
    state.camera = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    say(`There is no camera to use: ${error.message}`);
    return;
  }
  at("video").srcObject = state.camera;
  at("video").hidden = false;
  at("camera").textContent = "Stop the camera";
  await at("video").play();
  look();
}

async function look() {
  while (state.camera) {
    const video = at("video"), side = Math.min(video.videoWidth, video.videoHeight);
    const canvas = element("canvas", { width: side, height: side });
    canvas.getContext("2d").drawImage(video, (video.videoWidth - side) / 2, (video.videoHeight - side) / 2, side, side, 0, 0, side, side);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
    if (blob) await take(blob, "camera");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// The beginning

async function begin() {
  state.facts = await ask("/live/facts");
  at("method").replaceChildren(...state.facts.methods.map((name) => element("option", { textContent: name })));
  at("meaning").textContent = state.facts.scanned
    ? "Of each layer the units that this picture drives more than other pictures do: a share of 99 % means that 99 of 100 pictures of the scan drive the unit less."
    : "Of each layer the units with the largest activations.";
  at("method").addEventListener("change", again);
  for (const name of ["down", "judged"]) at(name).addEventListener("toggle", () => at(name).open && again());
  at("whole").addEventListener("click", () => askRegion(null));
  at("camera").addEventListener("click", camera);
  at("file").addEventListener("change", () => {
    const file = at("file").files[0];
    if (file) take(file, file.name);
    at("file").value = ""; // the same file may be chosen again
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    if (file) take(file, file.name);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files][0];
    if (file) take(file, file.name || "pasted");
  });
  selecting();
  const [folder, channel] = decodeURIComponent(location.hash.slice(1)).split(/\/(?=\d+$)/);
  const place = state.facts.places.findIndex((each) => each.folder === folder);
  if (place >= 0) {
    at("freeze").checked = true;
    showUnit(place, Number(channel));
    showNine(state.facts.places[place], Number(channel));
  }
  const waiting = new EventSource("/live/progress");
  waiting.addEventListener("message", (event) => {
    at("waiting").textContent = Number(event.data) > 1 ? `${event.data} are waiting for the network.` : "";
  });
}

begin().catch((error) => say(error.message));
