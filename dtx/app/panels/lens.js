const streamNames = ({n_layers: layers}) => ["blocks.0.hook_resid_pre",
  ...Array.from({length: layers}, (_, i) => [`blocks.${i}.hook_resid_mid`, `blocks.${i}.hook_resid_post`]).flat()];

/** What compute reads of the model, so that one forward pass serves all panels. */
export const hooks = streamNames;

/** Logits (p, a) and their difference (p) that each point of the last token's stream is read as; see lens.py. */
export const compute = (moment) => {
  const {cfg, model} = moment, names = streamNames(cfg), tolerance = 1e-4;
  let error = 0;
  const sides = moment.both((side) => {
    const known = side.activations(names), d = cfg.d_model, streams = new Float32Array(names.length * d);
    names.forEach((name, i) => streams.set(known[name].data.slice(-d), i * d));
    const logits = model.read({shape: [names.length, d], data: streams}), a = logits.shape[1];
    const rows = names.map((_, i) => logits.data.subarray(i * a, i * a + a));
    side.logits.forEach((value, i) => { error = Math.max(error, Math.abs(value - rows.at(-1)[i])); });
    return {logits, ld: {shape: [names.length], data: Float32Array.from(rows, (row) => moment.difference(row))}};
  });
  const layers = Array.from({length: cfg.n_layers}, (_, i) => [`L${i} attention`, `L${i} MLP`]).flat();
  const check = {name: "the last point is the model's output", error, tolerance, holds: error <= tolerance};
  return {points: ["embed", ...layers], ...sides, check};
};
