// A font whose every letter is the same box, made here byte by byte: pages that are set in it look alike on every machine, whatever
// fonts that one has. What is compared is where text stands and how much of it there is, and not what it says.

const WIDTH = 550;
const SPACE = 300;
const [LEFT, RIGHT, TOP] = [50, 500, 520];
/** Which characters are boxes; the spaces between them are none. */
const RANGES = [[0x21, 0x9f], [0xa1, 0x2fff]];

/** Numbers of 16 bits, of which those of 32 are given as two. */
const words = (...numbers) => {
  const bytes = Buffer.alloc(numbers.length * 2);
  numbers.forEach((number, n) => bytes.writeUInt16BE(number & 0xffff, n * 2));
  return bytes;
};
const long = (number) => [number >>> 16, number & 0xffff];
const padded = (bytes) => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);

function box() {
  const deltas = [LEFT, 0, RIGHT - LEFT, 0, 0, TOP, LEFT - RIGHT, 0];
  // Every point has both of its coordinates in full, so that one form fits all.
  return padded(Buffer.concat([words(1, LEFT, 0, RIGHT, TOP, 3, 0), Buffer.from([1, 1, 1, 1]), words(...[0, 1, 2, 3].map((n) => deltas[n * 2])), words(...[0, 1, 2, 3].map((n) => deltas[n * 2 + 1]))]));
}

/** Which character is which glyph: 1 is a space, and 2 a box. */
function cmap() {
  const segments = [[0x20, 0x20, 1], [...RANGES[0], 2], [0xa0, 0xa0, 1], [...RANGES[1], 2], [0xffff, 0xffff, 0]];
  const count = segments.length;
  const glyphs = [];
  const offsets = segments.map(([from, to, glyph], n) => {
    if (from === to) return 0;
    const offset = 2 * (count - n) + 2 * glyphs.length;
    for (let code = from; code <= to; code += 1) glyphs.push(glyph);
    return offset;
  });
  const deltas = segments.map(([from, to, glyph]) => (from === to ? glyph - from : 0));
  const range = 2 ** Math.floor(Math.log2(count)) * 2;
  const body = words(
    count * 2, range, Math.log2(range / 2), count * 2 - range, ...segments.map(([, to]) => to), 0, ...segments.map(([from]) => from), ...deltas, ...offsets, ...glyphs,
  );
  return Buffer.concat([words(0, 1, 3, 1, ...long(12)), words(4, body.length + 6, 0), body]);
}

function name() {
  const texts = ["Box", "Regular", "Box", "Box"].map((text) => Buffer.from(text, "utf16le").swap16());
  let at = 0;
  const records = texts.map((text, n) => {
    const record = words(3, 1, 0x409, [1, 2, 4, 6][n], text.length, at);
    at += text.length;
    return record;
  });
  return Buffer.concat([words(0, texts.length, 6 + 12 * texts.length), ...records, ...texts]);
}

/** The font, as a browser takes it. */
export function boxFont() {
  const glyph = box();
  const tables = {
    "OS/2": words(4, WIDTH, 400, 5, 0, 600, 600, 0, 75, 600, 600, 0, 350, 50, 250, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x2020, 0x2020, 0x40, 0x20, 0x2fff, 900, -250, 0, 900, 250, 0, 1, 0, 0, TOP, TOP, 0, 0x20, 1),
    cmap: cmap(),
    glyf: Buffer.concat([glyph, glyph]),
    head: words(1, 0, 1, 0, 0, 0, 0x5f0f, 0x3cf5, 0xb, 1000, 0, 0, 0, 0, 0, 0, 0, 0, LEFT, 0, RIGHT, TOP, 0, 8, 2, 0, 0),
    hhea: words(1, 0, 900, -250, 0, WIDTH, 0, 0, RIGHT, 1, 0, 0, 0, 0, 0, 0, 0, 3),
    hmtx: words(WIDTH, LEFT, SPACE, 0, WIDTH, LEFT),
    loca: words(0, glyph.length / 2, glyph.length / 2, glyph.length),
    maxp: words(1, 0, 3, 4, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0),
    name: name(),
    post: words(3, 0, 0, 0, -100, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
  };
  const names = Object.keys(tables).sort();
  let at = 12 + 16 * names.length;
  const records = [];
  const bodies = [];
  for (const tag of names) {
    const body = padded(tables[tag]);
    let sum = 0;
    for (let n = 0; n < body.length; n += 4) sum = (sum + body.readUInt32BE(n)) >>> 0;
    records.push(Buffer.concat([Buffer.from(tag, "latin1"), words(...long(sum), ...long(at), ...long(tables[tag].length))]));
    bodies.push(body);
    at += body.length;
  }
  const range = 2 ** Math.floor(Math.log2(names.length)) * 16;
  return Buffer.concat([words(1, 0, names.length, range, Math.log2(range / 16), names.length * 16 - range), ...records, ...bodies]);
}
