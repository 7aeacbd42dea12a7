// The exact gelu, x * (1 + erf(x / sqrt(2))) / 2, from a table: cubic interpolation of values and slopes at 1,025
// places misses by less than 1e-9, and is several times as fast as a formula for erf.

const REACH = 8; // beyond it, gelu is x or 0 to within 1e-14
const PER_UNIT = 64;
const COUNT = 2 * REACH * PER_UNIT;

const density = (x) => Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);

function tables() {
  const values = new Float64Array(COUNT + 1), slopes = new Float64Array(COUNT + 1);
  const step = 1 / PER_UNIT;
  let below = 0; // the normal distribution below x, by Simpson's rule
  for (let i = 0; i <= COUNT; i++) {
    const x = i * step - REACH;
    if (i) below += (density(x - step) + 4 * density(x - step / 2) + density(x)) * step / 6;
    values[i] = x * below;
    slopes[i] = (below + x * density(x)) * step;
  }
  return [values, slopes];
}

const [VALUES, SLOPES] = tables();

export function gelu(x) {
  if (x >= REACH) return x;
  if (!(x > -REACH)) return x <= -REACH ? 0 : x; // not a number stays that
  const place = (x + REACH) * PER_UNIT;
  const i = Math.floor(place);
  if (i >= COUNT) return x;
  const t = place - i, rest = 1 - t;
  const from = VALUES[i], to = VALUES[i + 1];
  return rest * rest * ((1 + 2 * t) * from + t * SLOPES[i]) + t * t * ((3 - 2 * t) * to - rest * SLOPES[i + 1]);
}
