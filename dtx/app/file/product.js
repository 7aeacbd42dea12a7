// Matrix products: in plain JS, and by the kernel (kernel.wat) where WebAssembly with SIMD can be had. Both sum
// float32 numbers over the inner axis.

// C (n, m) = A (n, k) B (k, m), all row-major; C is filled.
export function plainProduct(a, b, c, n, k, m) {
  c.fill(0, 0, n * m);
  for (let i = 0; i < n; i++) {
    const row = c.subarray(i * m, i * m + m);
    let p = 0;
    for (; p + 4 <= k; p += 4) {
      const at = i * k + p;
      const a0 = a[at], a1 = a[at + 1], a2 = a[at + 2], a3 = a[at + 3];
      const b0 = p * m, b1 = b0 + m, b2 = b1 + m, b3 = b2 + m;
      for (let j = 0; j < m; j++) {
        row[j] += a0 * b[b0 + j] + a1 * b[b1 + j] + a2 * b[b2 + j] + a3 * b[b3 + j];
      }
    }
    for (; p < k; p++) {
      const value = a[i * k + p];
      for (let j = 0; j < m; j++) row[j] += value * b[p * m + j];
    }
  }
}

const SCRATCH = 1 << 20; // bytes for a part of A, and as many for that part of C
const PAGE = 1 << 16;

// A product by the kernel, and a copy of the weights in the memory that it works on. The memory never grows, so
// that views of the weights stay valid. A product that the kernel does not cover is done in plain JS.
export async function kernelProduct(bytes, weights) {
  const size = 2 * SCRATCH + weights.byteLength;
  const memory = new WebAssembly.Memory({ initial: Math.ceil(size / PAGE) });
  const { instance } = await WebAssembly.instantiate(bytes, { env: { memory } });
  const own = new Float32Array(memory.buffer, 2 * SCRATCH, weights.length);
  own.set(weights);
  const from = new Float32Array(memory.buffer, 0, SCRATCH / 4);
  const to = new Float32Array(memory.buffer, SCRATCH, SCRATCH / 4);
  const product = (a, b, c, n, k, m) => {
    const most = Math.floor(SCRATCH / 4 / Math.max(k, m) / 4) * 4;
    if (m % 8 || !most || b.buffer !== memory.buffer) return plainProduct(a, b, c, n, k, m);
    for (let i = 0; i < n; i += most) {
      const rows = Math.min(most, n - i);
      from.set(a.subarray(i * k, (i + rows) * k));
      instance.exports.product(0, b.byteOffset, SCRATCH, (rows + 3) & ~3, k, m);
      c.set(to.subarray(0, rows * m), i * m);
    }
  };
  return { product, weights: own };
}
