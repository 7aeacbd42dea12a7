// Features of a sparse autoencoder: which are active at each token, and what scaling one of them does.

const SIDES = ["original", "edited"];
const list = (value) => (value?.data ? [...value.data] : value ?? []);

const each = (root, data, look, one) => {
  const shown = data.map((item, i) => item.data && [item.data, look.models[i]?.title ?? `model ${i + 1}`]).filter(Boolean);
  const figures = shown.map(([value, title]) => (shown.length > 1 ? look.charts.titled(title, one(value)) : one(value)));
  root.append(figures.length > 1 ? look.charts.grid("Features", figures) : figures[0]);
};

const figure = (data, look) => {
  const {titled, grid, maps, lines, bars, number} = look.charts;
  const here = SIDES.filter((name) => data[name]);
  const rows = list(data.features).map((number) => `feature ${number}`);
  const high = Math.max(...here.flatMap((side) => list(data[side].activation)), 1e-9);
  const active = rows.length ? here.map((side) => titled(`Active features, ${side} (press one to choose it)`, maps({title: `Active features, ${side}`, width: look.width, blocks: [{values: data[side].activation.data}],
    rows, columns: data.tokens, kind: side, low: 0, high, axes: true, tokens: ["columns"], most: 26, chosen: (_, r) => look.set("feature", String(list(data.features)[r])),
    tell: (_, r, c, x) => `${rows[r]}, ${data.tokens[c]}: ${number(x, 3)}`}), {width: look.width})) : [];
  const scales = list(data.scales);
  const difference = `${look.contrast[0]} − ${look.contrast[1]}`;
  const line = titled(`Feature ${data.feature} multiplied by …`, lines({title: `${difference} against the scale of feature ${data.feature}`, width: look.width, height: 180, marks: [{x: data.scale, text: number(data.scale, 1)}],
    series: here.flatMap((side) => [{name: side, x: scales, y: list(data[side].ld), colour: `var(--${side})`}, {name: `random, ${side}`, x: scales, y: list(data[side].random), colour: `var(--${side})`, dash: "3 4"}]),
    x: {label: "scale; 1 changes nothing"}, y: {label: difference}}));
  const [at, as] = [scales.indexOf(scales.find((x) => Math.abs(x - data.scale) < 1e-5)), scales.indexOf(1)];
  const count = data.original.logits.shape[1];
  const chances = titled(`Probabilities at scale ${number(data.scale, 1)}, and unchanged`, bars({title: "Probabilities with the feature scaled", width: Math.min(look.width, 560), low: 0, high: 1,
    rows: data.actions.slice(0, count).map((name, a) => ({name, bars: here.flatMap((side) => [[at, "scaled", `var(--${side})`], [as, "unchanged", "var(--soft)"]].map(([row, what, colour]) => {
      const value = data[side].probabilities.data[row * count + a];
      return {value, colour, text: number(value, 2), name: `${side}, ${what}`};
    }))}))}));
  return grid("Features", [...active, line, chances]);
};

const told = (data, number) => {
  const here = SIDES.filter((name) => data[name]);
  return `${data.dictionary}: ${data.size} features of ${data.hook}${data.gives ? `, which give ${data.gives}` : ""}; reconstruction explains ${here.map((side) => `${number(100 * data[side].explained, 0)}% (${side})`).join(", ")} of this window's variance. `
    + `Dictionaries here: ${data.dictionaries.join(", ")}.${data.left_out.length ? ` Left out: ${data.left_out.join("; ")}.` : ""}`;
};

export const draw = (root, data, look) => {
  for (const item of data) if (item.data) root.append(look.html("p", {}, told(item.data, look.charts.number)));
  each(root, data, look, (value) => figure(value, look));
};

export const table = (data, look) => ({
  columns: ["model", "feature", "token", "original", "edited"],
  rows: data.flatMap((item, m) => (item.data ? list(item.data.features).flatMap((feature, f) => item.data.tokens.map((token, t) => {
    const at = f * item.data.tokens.length + t;
    return [look.models[m]?.title ?? m + 1, feature, token, ...SIDES.map((side) => item.data[side]?.activation.data[at] ?? null)];
  })) : [])),
});
