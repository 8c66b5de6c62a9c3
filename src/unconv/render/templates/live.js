// The live page: hand a picture over, and ask what sees it.
const at = (id) => document.getElementById(id);
const state = { facts: null, picture: null, size: null, unit: null, region: null, asked: 0, camera: null, busy: false };

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
    state.region = null;
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
    const address = `/live/pictures/${state.picture}/${place}/${channel}?method=${encodeURIComponent(at("method").value)}${down}${position ? `&at=${position.join(",")}` : ""}`;
    const found = await ask(address, { signal: mine.signal });
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
  } catch (error) {
    if (error.name === "AbortError" || mine !== asking) return; // another unit is asked for by now
    at("unit").hidden = true; // nothing of another unit stands under this one's name
    at("marks").querySelectorAll(".sees").forEach((old) => old.remove());
    say(error.message);
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

function selecting() {
  let from = null;
  const box = (event) => {
    const to = under(event), least = Math.max(4, state.size[0] / 7); // at least as far as units of deep layers stand apart
    return [0, 1].map((k) => Math.floor(Math.min(from[k], to[k], from[k] - least / 2))).concat([0, 1].map((k) => Math.ceil(Math.max(from[k], to[k], from[k] + least / 2))));
  };
  at("drop").addEventListener("pointerdown", (event) => {
    if (state.picture === null || event.button !== 0) return;
    from = under(event);
    at("drop").setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  at("drop").addEventListener("pointermove", (event) => { if (from) mark(box(event), "region"); });
  at("drop").addEventListener("pointerup", (event) => {
    if (!from) return;
    const region = box(event);
    from = null;
    mark(region, "region");
    askRegion(region);
  });
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
  at("down").addEventListener("toggle", () => at("down").open && again());
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
