/** Logits, probabilities, entropy in nats and logit difference of both sides; see policy.py. */
export const compute = (moment) => ({actions: moment.actions, gap: moment.gap, value: null, ...moment.both((side) => {
  const logits = side.logits, p = moment.probabilities(logits);
  const entropy = -p.reduce((sum, x) => sum + (x > 0 ? x * Math.log(x) : 0), 0);
  const vector = (data) => ({shape: [data.length], data});
  return {logits: vector(logits), probabilities: vector(p), entropy, ld: moment.difference(logits)};
})});
