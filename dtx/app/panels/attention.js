const patternNames = ({n_layers: layers}) => Array.from({length: layers}, (_, i) => `blocks.${i}.attn.hook_pattern`);

/** What compute reads of the model, so that one forward pass serves all panels. */
export const hooks = patternNames;

/** Patterns (l, h, n, m) of both sides, and of the original their sums over keys of a kind; see attention.py. */
export const compute = (moment) => {
  const names = patternNames(moment.cfg), layers = names.length, {tokens} = moment.original;
  const patterns = (side) => {
    const known = side.activations(names), [, heads, n, m] = known[names[0]].shape;
    const data = new Float32Array(layers * heads * n * m);
    names.forEach((name, layer) => data.set(known[name].data, layer * heads * n * m));
    return {shape: [layers, heads, n, m], data};
  };
  const sides = moment.both(patterns), kinds = ["R", "S", "A", "pad"];
  const {shape: [, heads, n, m], data} = sides.original;
  const byKind = new Float32Array(layers * heads * n * kinds.length);
  for (let row = 0; row < layers * heads * n; row++) for (let j = 0; j < m; j++) {
    byKind[row * kinds.length + kinds.indexOf(tokens.kinds[j])] += data[row * m + j];
  }
  return {tokens: tokens.names, ...sides, kinds, by_kind: {shape: [layers, heads, n, kinds.length], data: byKind}};
};
