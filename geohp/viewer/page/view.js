// A map to swipe over its image, and a place to name its clusters. Texts of files reach the page as text alone.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const page = JSON.parse($("page").textContent);
  const NODATA = 255;
  const canvas = $("map");
  const context = canvas.getContext("2d");

  // ---- tiles: bytes in the page, decoded when they are seen

  const MOST_TILES = 72; // in memory, about 2 MB each
  const coarsest = page.levels.length - 1;
  const stored = new Map(); // level -> what the page holds of it
  const tiles = new Map(); // "level/row/col" -> tile, the latest used last

  /** What the page holds of a level; null while it is still being read. */
  function level(number) {
    if (!stored.has(number)) {
      const element = $(`level-${number}`);
      if (!element || (!element.nextElementSibling && document.readyState === "loading")) return null;
      stored.set(number, JSON.parse(element.textContent));
    }
    return stored.get(number);
  }

  const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

  /** The bytes that zlib had compressed. */
  async function inflate(text) {
    const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }

  /** A tile, asked for if it is not there; its promise is `ready`. Null where there is no such level yet. */
  function tileAt(number, row, col) {
    const key = `${number}/${row}/${col}`;
    let tile = tiles.get(key);
    if (tile) {
      tiles.delete(key);
    } else {
      const whole = level(number);
      if (!whole) return null;
      tile = { done: false, image: null, labels: null, confidence: null, painted: null, version: -1 };
      tile.ready = fill(tile, whole, number, row, col);
      if (tiles.size >= MOST_TILES) drop(tiles.keys().next().value);
    }
    tiles.set(key, tile);
    return tile;
  }

  function drop(key) {
    tiles.get(key).image?.close();
    tiles.delete(key);
  }

  async function fill(tile, whole, number, row, col) {
    const { factor, columns } = page.levels[number];
    const place = row * columns + col;
    tile.width = Math.min(page.tile, Math.ceil(page.width / factor) - col * page.tile);
    tile.height = Math.min(page.tile, Math.ceil(page.height / factor) - row * page.tile);
    if (whole.images[place]) {
      tile.image = await createImageBitmap(new Blob([bytesOf(whole.images[place])], { type: "image/webp" }));
    }
    if (whole.labels[place]) tile.labels = new Uint8Array(await inflate(whole.labels[place]));
    if (whole.confidence[place]) tile.confidence = new Uint8Array(await inflate(whole.confidence[place]));
    tile.done = true;
    redraw();
    return tile;
  }

  /** The labels of a tile in the colours of their classes, nodata and hidden ones transparent. */
  function painted(tile) {
    if (!tile.labels) return null;
    if (tile.version !== palette.version) {
      tile.painted ??= new OffscreenCanvas(tile.width, tile.height);
      const pixels = new ImageData(tile.width, tile.height);
      const colours = new Uint32Array(pixels.data.buffer);
      for (let i = 0; i < colours.length; i++) colours[i] = palette.colours[tile.labels[i]];
      tile.painted.getContext("2d").putImageData(pixels, 0, 0);
      tile.version = palette.version;
    }
    return tile.painted;
  }

  // ---- the view: which pixel of the map is in the middle, and how large pixels are

  const view = { col: page.width / 2, row: page.height / 2, scale: 1, swipe: 0.5, opacity: 0.85, mark: null };
  let size = { width: 1, height: 1 };
  let fitted = true;
  let waiting = false;

  const fitScale = () => 0.94 * Math.min(size.width / page.width, size.height / page.height);

  function fit() {
    Object.assign(view, { col: page.width / 2, row: page.height / 2, scale: fitScale() });
    fitted = true;
    redraw();
  }

  function zoom(factor, x = size.width / 2, y = size.height / 2) {
    const scale = Math.min(Math.max(view.scale * factor, fitScale() / 2), 40);
    view.col += (x - size.width / 2) * (1 / view.scale - 1 / scale);
    view.row += (y - size.height / 2) * (1 / view.scale - 1 / scale);
    view.scale = scale;
    moved();
  }

  function pan(x, y) {
    view.col -= x / view.scale;
    view.row -= y / view.scale;
    moved();
  }

  function moved() {
    view.col = Math.min(Math.max(view.col, 0), page.width);
    view.row = Math.min(Math.max(view.row, 0), page.height);
    fitted = false;
    redraw();
  }

  const toPixel = (x, y) => [view.col + (x - size.width / 2) / view.scale, view.row + (y - size.height / 2) / view.scale];
  const toScreen = (col, row) => [size.width / 2 + (col - view.col) * view.scale, size.height / 2 + (row - view.row) * view.scale];

  function resize() {
    const box = canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    size = { width: Math.max(1, box.width), height: Math.max(1, box.height) };
    canvas.width = Math.round(size.width * ratio);
    canvas.height = Math.round(size.height * ratio);
    if (fitted) fit();
    redraw();
  }

  // ---- drawing

  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  }

  function draw() {
    const ratio = canvas.width / size.width;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const visible = visibleTiles(ratio);
    drawTiles(visible, ratio, (tile) => tile.image, true);
    context.save();
    context.beginPath();
    context.rect(Math.round(view.swipe * canvas.width), 0, canvas.width, canvas.height);
    context.clip();
    context.globalAlpha = view.opacity;
    drawTiles(visible, ratio, painted, view.scale * ratio * page.levels[0].factor < 1);
    context.restore();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (outlines.shown) drawOutlines();
    if (view.mark) drawMark();
    drawScale();
  }

  /** Level, row and column of the tiles in sight, of the coarsest level that is as fine as the screen. */
  function visibleTiles(ratio) {
    let number = coarsest;
    while (number > 0 && page.levels[number].factor * view.scale * ratio > 1.01) number--;
    const { factor, rows, columns } = page.levels[number];
    const side = page.tile * factor;
    const [left, top] = toPixel(0, 0);
    const [right, bottom] = toPixel(size.width, size.height);
    const seen = [];
    for (let row = Math.max(0, Math.floor(top / side)); row < rows && row * side < bottom; row++) {
      for (let col = Math.max(0, Math.floor(left / side)); col < columns && col * side < right; col++) {
        seen.push([number, row, col]);
      }
    }
    return seen;
  }

  /** Draw a picture of each tile, or what a coarser level has in its place. */
  function drawTiles(seen, ratio, picture, smooth) {
    context.imageSmoothingEnabled = smooth && view.scale * ratio < 4;
    context.imageSmoothingQuality = "high";
    for (const [number, row, col] of seen) {
      const side = page.tile * page.levels[number].factor;
      const [x0, y0] = toScreen(col * side, row * side).map((at) => Math.round(at * ratio));
      const right = Math.min(page.width, (col + 1) * side);
      const bottom = Math.min(page.height, (row + 1) * side);
      const [x1, y1] = toScreen(right, bottom).map((at) => Math.round(at * ratio));
      for (let coarser = number; coarser <= coarsest; coarser++) {
        const shift = coarser - number;
        const tile = tileAt(coarser, row >> shift, col >> shift);
        if (!tile?.done) continue;
        const source = picture(tile);
        const factor = page.levels[coarser].factor;
        const left = (col * side) / factor - (col >> shift) * page.tile;
        const top = (row * side) / factor - (row >> shift) * page.tile;
        const wide = (right - col * side) / factor;
        const high = (bottom - row * side) / factor;
        if (source) context.drawImage(source, left, top, wide, high, x0, y0, x1 - x0, y1 - y0);
        break;
      }
    }
  }

  function drawMark() {
    const [x, y] = toScreen(...view.mark);
    for (const [width, colour] of [[5, "#fff"], [2, "#1c2430"]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.beginPath();
      context.arc(x, y, 9, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  /** The longest round length of up to 130 px. */
  function drawScale() {
    const metres = page.pixel_size_m;
    const unit = (metres ?? 1) / view.scale; // of the map in a pixel of the screen
    const most = 130 * unit;
    const power = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].map((step) => step * power).find((step) => step <= most);
    $("bar").style.width = `${length / unit}px`;
    const text = metres === null ? `${number(length)} px` : length >= 1000 ? `${number(length / 1000)} km` : `${number(length)} m`;
    if ($("length").textContent !== text) $("length").textContent = text;
  }

  // ---- polygons

  const outlines = { list: [], shown: true };

  async function readOutlines() {
    const packed = page.outlines;
    if (!packed) return;
    const [places, areas, rings, counts, corners] = await Promise.all(
      ["places", "areas", "rings", "counts", "corners"].map((name) => inflate(packed[name])),
    );
    const at = { ring: 0, corner: 0, col: 0, row: 0 };
    const [names, sizes, ringCounts, cornerCounts, steps] = [
      new Int32Array(places), new Float32Array(areas), new Int32Array(rings), new Int32Array(counts), new Int32Array(corners),
    ];
    outlines.list = Array.from(ringCounts, (count, polygon) => {
      const shape = { place: names[polygon], area: sizes[polygon], rings: [], box: [Infinity, Infinity, -Infinity, -Infinity] };
      for (let i = 0; i < count; i++) shape.rings.push(ringOf(cornerCounts[at.ring++], steps, at, shape.box));
      return shape;
    });
    redraw();
  }

  /** Corners of a ring in pixels of the map, one after the other; widens a box of left, top, right and bottom. */
  function ringOf(count, steps, at, box) {
    const ring = new Float32Array(2 * count);
    for (let i = 0; i < count; i++, at.corner++) {
      at.col += steps[2 * at.corner];
      at.row += steps[2 * at.corner + 1];
      const [col, row] = [at.col * page.outlines.unit, at.row * page.outlines.unit];
      ring.set([col, row], 2 * i);
      box[0] = Math.min(box[0], col);
      box[1] = Math.min(box[1], row);
      box[2] = Math.max(box[2], col);
      box[3] = Math.max(box[3], row);
    }
    return ring;
  }

  function drawOutlines() {
    const [left, top] = toPixel(0, 0);
    const [right, bottom] = toPixel(size.width, size.height);
    const least = 3 / view.scale; // smaller than that on the screen, nobody sees it
    context.beginPath();
    for (const { rings, box } of outlines.list) {
      if (box[0] > right || box[2] < left || box[1] > bottom || box[3] < top) continue;
      if (box[2] - box[0] < least && box[3] - box[1] < least) continue;
      for (const ring of rings) {
        for (let i = 0; i < ring.length; i += 2) {
          const [x, y] = toScreen(ring[i], ring[i + 1]);
          if (i) context.lineTo(x, y);
          else context.moveTo(x, y);
        }
      }
    }
    context.lineJoin = "round";
    for (const [width, colour] of [[2.6, "rgb(255 255 255 / 70%)"], [1.1, "#1c2430"]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.stroke();
    }
  }

  function polygonAt(col, row) {
    return outlines.list.find(({ rings, box }) => {
      if (col < box[0] || col > box[2] || row < box[1] || row > box[3]) return false;
      let inside = false;
      for (const ring of rings) {
        for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
          const between = ring[i + 1] > row !== ring[j + 1] > row;
          if (between && col < ((ring[j] - ring[i]) * (row - ring[i + 1])) / (ring[j + 1] - ring[i + 1]) + ring[i]) inside = !inside;
        }
      }
      return inside;
    });
  }

  // ---- clusters and the classes they make up

  const number = (value, digits = 3) => new Intl.NumberFormat("en", { maximumSignificantDigits: digits }).format(value);
  const onEarth = page.clusters.every((cluster) => cluster.area_ha !== null);
  const hectares = (area) => {
    const digits = area >= 100 ? 0 : area >= 10 ? 1 : area >= 1 || area === 0 ? 2 : 4;
    return area.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  };
  const areaOf = (item) => (onEarth ? `${hectares(item.area)} ha` : `${item.pixels.toLocaleString("en")} px`);

  const clusters = page.clusters.map((cluster) => ({
    ...cluster,
    area: cluster.area_ha ?? 0,
    own: cluster.colour, // where no other cluster has its name
    typed: cluster.name === `class ${cluster.id}` ? "" : cluster.name,
  }));
  const shownNames = new Map(); // class name -> false where it is hidden
  const palette = { version: 0, colours: new Uint32Array(256) };
  let unsaved = false;

  /** What a name may be made of: no control characters, halves of characters or ends of lines; one blank at a time. */
  const cleaned = (text) => text.normalize("NFC").replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\s\ufffe\uffff]+/gu, " ").trim();
  const nameOf = (cluster) => cluster.typed || `class ${cluster.id}`;

  /** Clusters of one name, the first of them by label giving the class its number. */
  function classes() {
    const groups = new Map();
    for (const cluster of clusters) {
      const name = nameOf(cluster);
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(cluster);
    }
    return Array.from(groups, ([name, members]) => {
      const sum = (key) => members.reduce((total, member) => total + member[key], 0);
      const sure = members.reduce((total, member) => total + member.pixels * (member.mean_confidence ?? 0), 0);
      const pixels = sum("pixels");
      const confidence = page.has_confidence && pixels ? sure / pixels : null;
      return { id: members[0].id, name, colour: members[0].colour, members, pixels, area: sum("area"), share: sum("share"), confidence };
    });
  }

  function rename(cluster, text) {
    const before = nameOf(cluster);
    cluster.typed = cleaned(text);
    if (nameOf(cluster) === before) return;
    const other = clusters.find((each) => each !== cluster && nameOf(each) === nameOf(cluster));
    cluster.colour = other ? other.colour : cluster.own;
    changed();
  }

  function recolour(cluster, colour) {
    cluster.own = colour;
    for (const each of clusters) if (nameOf(each) === nameOf(cluster)) each.colour = colour;
    changed();
  }

  function changed() {
    unsaved = true;
    $("status").textContent = "";
    showClasses();
  }

  function showClasses() {
    const made = classes();
    repaint(made);
    showLegend(made);
    for (const each of made) for (const cluster of each.members) showCard(cluster, each);
    $("names").replaceChildren(...[...new Set([...made.map((each) => each.name), ...COMMON])].map((name) => make("option", { value: name })));
    $("yaml").textContent = yaml(made);
  }

  function repaint(made) {
    palette.colours.fill(0);
    for (const { name, colour, members } of made) {
      const value = parseInt(colour.slice(1), 16);
      const bytes = [value >> 16, (value >> 8) & 255, value & 255, 255];
      const [pixel] = new Uint32Array(new Uint8Array(bytes).buffer);
      if (shownNames.get(name) !== false) for (const member of members) palette.colours[member.id] = pixel;
    }
    palette.version++;
    redraw();
  }

  // ---- the lists beside the map

  const COMMON = ["bare soil", "building", "car", "field", "forest", "grass", "road", "shadow", "tree", "water"];

  function make(name, properties = {}, ...children) {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  }

  function swatch(colour) {
    const element = make("span", { className: "swatch" });
    element.style.background = colour;
    return element;
  }

  function showLegend(made) {
    const rows = [...made].sort((a, b) => b.area - a.area || b.pixels - a.pixels).map((each) => {
      const box = make("input", { type: "checkbox", checked: shownNames.get(each.name) !== false });
      box.addEventListener("change", () => {
        shownNames.set(each.name, box.checked);
        repaint(classes());
      });
      const label = make("label", { title: "Show on the map" }, box, swatch(each.colour), make("span", {}, each.name));
      if (each.members.length > 1) label.append(make("span", { className: "more" }, `${each.members.length} clusters`));
      const cells = [onEarth ? hectares(each.area) : each.pixels.toLocaleString("en"), (100 * each.share).toFixed(1)];
      if (page.has_confidence) cells.push(each.confidence === null ? "–" : `${Math.round(100 * each.confidence)} %`);
      return make("tr", {}, make("th", { scope: "row" }, label), ...cells.map((text) => make("td", {}, text)));
    });
    $("legend").tBodies[0].replaceChildren(...rows);
  }

  function makeCard(cluster) {
    const known = `class ${cluster.id}`;
    const colour = make("input", { type: "color", value: cluster.colour, title: "Colour" });
    colour.setAttribute("aria-label", `Colour of ${known}`);
    colour.addEventListener("input", () => recolour(cluster, colour.value));
    const name = make("input", { type: "text", placeholder: known, value: cluster.typed, maxLength: 200, autocomplete: "off" });
    name.setAttribute("list", "names");
    name.setAttribute("aria-label", `Name of ${known}`);
    name.addEventListener("change", () => {
      rename(cluster, name.value);
      name.value = cluster.typed;
    });
    const area = make("span", { className: "area" }, `cluster ${cluster.id}`, make("br"));
    area.append(`${areaOf(cluster)} · ${(100 * cluster.share).toFixed(1)} %`);
    cluster.inputs = { colour, merged: make("p", { className: "merged", hidden: true }) };
    return make(
      "li",
      { id: `cluster-${cluster.id}` },
      make("div", { className: "head" }, colour, name, area),
      cluster.examples.length
        ? make("div", { className: "examples" }, ...cluster.examples.map((example, place) => makeExample(cluster, example, place)))
        : make("p", { className: "none" }, "Does not occur on this map."),
      cluster.inputs.merged,
    );
  }

  function makeExample(cluster, example, place) {
    const image = make("img", { src: `data:image/webp;base64,${example.image}`, alt: "" });
    const button = make("button", { type: "button", title: "Show on the map" }, image);
    button.setAttribute("aria-label", `Example ${place + 1} of class ${cluster.id}: show on the map`);
    button.addEventListener("click", () => {
      goTo(example);
      if (canvas.getBoundingClientRect().bottom < 80) canvas.scrollIntoView({ block: "start" });
    });
    return button;
  }

  /** Show an example in the middle of the image's half, or of all where that is narrow. */
  function goTo(example) {
    const [col, row] = [example.col + example.side / 2, example.row + example.side / 2];
    const scale = Math.max(view.scale, Math.min(size.width, size.height) / (4 * example.side));
    const aside = view.swipe > 0.3 ? ((1 - view.swipe) * size.width) / 2 / scale : 0;
    Object.assign(view, { col: col + aside, row, scale });
    moved();
    tell(col, row);
  }

  function showCard(cluster, each) {
    const { colour, merged } = cluster.inputs;
    colour.value = cluster.colour;
    const others = each.members.filter((member) => member !== cluster).map((member) => member.id);
    merged.hidden = others.length === 0;
    merged.textContent = `One class with cluster${others.length > 1 ? "s" : ""} ${others.join(", ")}.`;
  }

  // ---- the legend as a file

  /** A text as YAML: in double quotes, everything that YAML does not take for printable escaped. */
  function quoted(text) {
    const characters = Array.from(text, (character) => {
      const code = character.codePointAt(0);
      if (character === '"' || character === "\\") return `\\${character}`;
      const printable = (code >= 0x20 && code < 0x7f) || (code >= 0xa0 && code < 0xd800) || (code >= 0xe000 && code < 0xfeff) || (code > 0xfeff && code < 0xfffe) || code > 0xffff;
      return printable ? character : `\\u${code.toString(16).padStart(4, "0")}`;
    });
    return `"${characters.join("")}"`;
  }

  function yaml(made) {
    const lines = page.model ? [`model: ${quoted(page.model)}`] : [];
    lines.push("classes:");
    for (const { id, name, colour, members } of made) {
      const labels = members.map((member) => member.id).join(", ");
      lines.push(`  - {id: ${id}, name: ${quoted(name)}, colour: "${colour}", labels: [${labels}]}`);
    }
    return `${lines.join("\n")}\n`;
  }

  function download() {
    const address = URL.createObjectURL(new Blob([yaml(classes())], { type: "application/yaml" }));
    make("a", { href: address, download: "legend.yaml" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    unsaved = false;
    $("status").textContent = `Saved ${classes().length} classes to legend.yaml.`;
  }

  // ---- what lies under a click

  /** Label and confidence of a pixel of the map, as fine as the page has them; the label is 255 without data. */
  async function look(col, row) {
    for (let at = 0; at <= coarsest; at++) {
      const { factor } = page.levels[at];
      const [x, y] = [Math.floor(col / factor), Math.floor(row / factor)];
      const tile = tileAt(at, Math.floor(y / page.tile), Math.floor(x / page.tile));
      if (!tile) continue; // still being read
      await tile.ready;
      if (!tile.labels) return { label: NODATA, confidence: NODATA };
      const [left, top] = [x % page.tile, y % page.tile];
      const half = Math.ceil(tile.width / 2);
      const confidence = tile.confidence ? tile.confidence[(top >> 1) * half + (left >> 1)] : NODATA;
      return { label: tile.labels[top * tile.width + left], confidence };
    }
    return { label: NODATA, confidence: NODATA };
  }

  async function tell(col, row) {
    const told = $("told");
    if (col < 0 || row < 0 || col >= page.width || row >= page.height) {
      view.mark = null;
      told.textContent = "Beyond the map.";
      redraw();
      return;
    }
    view.mark = [col, row];
    redraw();
    const { label, confidence } = await look(col, row);
    const cluster = clusters.find((each) => each.id === label);
    const parts = [make("strong", {}, cluster ? nameOf(cluster) : "no data")];
    if (cluster && nameOf(cluster) !== `class ${label}`) parts.push(` (cluster ${label})`);
    if (cluster && confidence !== NODATA) parts.push(` · confidence ${confidence} %`);
    const polygon = outlines.shown ? polygonAt(col, row) : undefined;
    if (polygon) parts.push(` · ${describe(polygon)}`);
    parts.push(` · ${placeOf(col, row)}`);
    told.replaceChildren(...parts);
  }

  function describe(polygon) {
    const unit = page.outlines.area_unit;
    const area = !(polygon.area >= 0) ? "" : unit === "m2" ? `${hectares(polygon.area / 10000)} ha` : `${number(polygon.area)} ${unit}`;
    return ["polygon", page.outlines.names[polygon.place], area].filter(Boolean).join(" ");
  }

  function placeOf(col, row) {
    const [a, b, c, d, e, f] = page.transform;
    if (page.crs === null) return `column ${Math.floor(col)}, row ${Math.floor(row)}`;
    const digits = page.degrees ? 6 : 1;
    return `${(a * col + b * row + c).toFixed(digits)}, ${(d * col + e * row + f).toFixed(digits)}`;
  }

  // ---- what people do

  const pointers = new Map();
  let pressed = null;

  const within = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  function onPointerDown(event) {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, within(event));
    pressed = pointers.size === 1 ? { at: within(event), moved: false } : { at: null, moved: true };
  }

  function onPointerMove(event) {
    const before = pointers.get(event.pointerId);
    if (!before || !pressed) return;
    const now = within(event);
    if (pointers.size === 1 && !pressed.moved && Math.hypot(now[0] - pressed.at[0], now[1] - pressed.at[1]) < 4) return;
    pressed.moved = true;
    canvas.classList.add("moving");
    if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const spread = (at) => Math.max(1, Math.hypot(at[0] - other[0], at[1] - other[1]));
      pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      zoom(spread(now) / spread(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else {
      pan(now[0] - before[0], now[1] - before[1]);
    }
    pointers.set(event.pointerId, now);
  }

  function onPointerUp(event) {
    if (!pointers.delete(event.pointerId) || pointers.size) return;
    canvas.classList.remove("moving");
    if (event.type === "pointerup" && pressed && !pressed.moved) tell(...toPixel(...within(event)));
    pressed = null;
  }

  const KEYS = {
    ArrowLeft: () => pan(60, 0),
    ArrowRight: () => pan(-60, 0),
    ArrowUp: () => pan(0, 60),
    ArrowDown: () => pan(0, -60),
    "+": () => zoom(1.5),
    "=": () => zoom(1.5),
    "-": () => zoom(1 / 1.5),
    0: fit,
    Enter: () => tell(view.col, view.row),
  };

  function listen() {
    canvas.addEventListener("pointerdown", onPointerDown);
    canvas.addEventListener("pointermove", onPointerMove);
    canvas.addEventListener("pointerup", onPointerUp);
    canvas.addEventListener("pointercancel", onPointerUp);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...within(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      KEYS[event.key]();
    });
    $("in").addEventListener("click", () => zoom(1.5));
    $("out").addEventListener("click", () => zoom(1 / 1.5));
    $("fit").addEventListener("click", fit);
    $("swipe").addEventListener("input", () => {
      view.swipe = $("swipe").value / 1000;
      redraw();
    });
    $("opacity").addEventListener("input", () => {
      view.opacity = $("opacity").value / 100;
      redraw();
    });
    $("polygons").addEventListener("change", () => {
      outlines.shown = $("polygons").checked;
      redraw();
    });
    $("download").addEventListener("click", download);
    window.addEventListener("beforeunload", (event) => {
      if (unsaved) event.preventDefault();
    });
    document.addEventListener("DOMContentLoaded", redraw); // the finer levels are there
    new ResizeObserver(resize).observe(canvas);
  }

  /** What the map is, in a line. */
  function about() {
    const finest = page.levels[0].factor;
    const metres = page.pixel_size_m;
    const facts = [`of ${page.scene}`, `${page.width.toLocaleString("en")} × ${page.height.toLocaleString("en")} px`];
    if (metres !== null) facts.push(`${number(metres)} m a pixel`);
    if (page.crs !== null) facts.push(page.crs);
    const reduced = metres === null ? "" : `, ${number(metres * finest)} m`;
    facts.push(finest === 1 ? "shown in full resolution" : `shown at 1 pixel of ${finest} × ${finest}${reduced}`);
    $("about").textContent = facts.join(" · ");
  }

  function start() {
    if (typeof DecompressionStream === "undefined" || typeof OffscreenCanvas === "undefined") {
      $("warning").hidden = false;
      $("warning").textContent = "This browser is too old for the page: use one of 2023 or later.";
      return;
    }
    about();
    if (!page.has_confidence) $("told").textContent = "Click the map for its class.";
    $("unit").textContent = onEarth ? "ha" : "px";
    $("sure").hidden = !page.has_confidence;
    $("north").hidden = page.north === null;
    $("north").firstElementChild.style.transform = `rotate(${page.north ?? 0}deg)`;
    $("drawn").hidden = page.outlines === null;
    const bySize = [...clusters].sort((a, b) => b.area - a.area || b.pixels - a.pixels);
    $("cards").replaceChildren(...bySize.map(makeCard));
    showClasses();
    listen();
    resize();
    readOutlines();
  }

  start();
})();
