// The binary form of an answer: a JSON head, then its arrays. dtx/app/frames.py writes it.

const KINDS = {f4: Float32Array, f8: Float64Array, i4: Int32Array, u1: Uint8Array};

const revived = (value, buffer, start) => {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map((item) => revived(item, buffer, start));
  if ("$array" in value) {
    const [offset, kind, shape] = value.$array;
    return {shape, data: new KINDS[kind](buffer, start + offset, shape.reduce((a, b) => a * b, 1))};
  }
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, revived(item, buffer, start)]));
};

/** Decode one frame (ArrayBuffer); an array is {shape, data: typed array}. */
export const decode = (buffer) => {
  const length = new DataView(buffer).getUint32(0, true);
  const head = new TextDecoder().decode(new Uint8Array(buffer, 4, length));
  return revived(JSON.parse(head), buffer, 4 + length);
};

/** Decode a stream of frames (each behind its length, uint32) as they come. */
export async function* stream(reader) {
  let rest = new Uint8Array(0);
  for (;;) {
    const {value, done} = await reader.read();
    if (done) break;
    const joined = new Uint8Array(rest.length + value.length);
    joined.set(rest);
    joined.set(value, rest.length);
    rest = joined;
    while (rest.length >= 4) {
      const length = new DataView(rest.buffer, rest.byteOffset).getUint32(0, true);
      if (rest.length < 4 + length) break;
      yield decode(rest.slice(4, 4 + length).buffer);
      rest = rest.slice(4 + length);
    }
  }
  if (rest.length) throw new Error("the answer ended in the middle of a frame");
}

/** Row i of an array: an array of one axis less that shares its memory. */
export const row = ({shape, data}, ...indices) => {
  let from = 0;
  let size = data.length;
  indices.forEach((index, axis) => {
    size /= shape[axis];
    from += index * size;
  });
  return {shape: shape.slice(indices.length), data: data.subarray(from, from + size)};
};
