// Bars of every action's probability in pairs, original over edited; a column for each model.

/** Logits, probabilities, entropy in nats and logit difference of both sides; see policy.py. */
export const compute = (moment) => ({actions: moment.actions, contrast: moment.contrast.map((a) => moment.actions[a]), gap: moment.gap, value: null, ...moment.both((side) => {
  const logits = side.logits, p = moment.probabilities(logits);
  const entropy = -p.reduce((sum, x) => sum + (x > 0 ? x * Math.log(x) : 0), 0);
  const vector = (data) => ({shape: [data.length], data});
  return {logits: vector(logits), probabilities: vector(p), entropy, ld: moment.difference(logits)};
})});

const SIDES = ["original", "edited"];
const LEAST = 50; // px of a bar and its gap
const sides = (data) => SIDES.filter((name) => data[name]);
const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;

export const draw = (root, data, look) => {
  const {charts} = look;
  const shown = data.flatMap((item, i) => (item.data ? [{...item.data, i}] : []));
  const names = Math.max(...shown[0].actions.map((name) => charts.measure(name, 13, 700))) + 10;
  const gap = 12;
  // Columns that leave room for bars and numbers; further models stand in rows below, as evenly as can be.
  const most = Math.max(1, Math.floor((look.width - names + gap) / (LEAST + charts.measure("0.00", 12, 700) + gap)));
  const across = Math.ceil(shown.length / Math.ceil(shown.length / most));
  const column = (look.width - names - gap * (across - 1)) / across;
  const figures = shown.map((model, place) => {
    const first = place % across === 0 ? names : 0;
    const inner = charts.bars({title: `probabilities of ${title(look, model.i)}`, width: column + first, names: first,
      thick: sides(model).length > 1 ? 10 : 14,
      rows: model.actions.map((action, a) => ({
        name: first ? action : "",
        strong: best(model[side(model, look)].probabilities.data) === a,
        bars: sides(model).map((name) => ({name, value: model[name].probabilities.data[a], colour: `var(--${name})`, text: model[name].probabilities.data[a].toFixed(2)})),
      }))});
    return shown.length > 1 ? charts.figure(column + first, Number(inner.getAttribute("height")) + 18, "", charts.label(first, 11, String(model.i + 1), {weight: 700, fill: "var(--ink)"}), moved(inner)) : inner;
  });
  root.append(charts.grid(`Probabilities of the actions: ${shown.map((model) => spoken(model, look)).join("; ")}`, figures, across, gap));
  root.append(shown.length > 1 ? compared(shown, look) : facts(shown[0], look));
};

const moved = (inner) => {
  inner.setAttribute("y", 16);
  inner.removeAttribute("role");
  return inner;
};

const side = (model, look) => (model.edited && look.shown === "edited" ? "edited" : "original");
const best = (values) => values.indexOf(Math.max(...values));

const spoken = (model, look) => `${title(look, model.i)}: ${sides(model).map((name) => {
  const values = model[name].probabilities.data;
  return `${name} ${model.actions[best(values)]} ${values[best(values)].toFixed(2)}`;
}).join(", ")}`;

const contrast = (look) => `logit ${look.contrast.join(" − ") || "difference"}`;
const change = (model) => model.edited.ld - model.original.ld;
const reaches = (model) => (Math.abs(change(model)) >= (model.gap ?? 0) ? "✓ reaches" : "✗ below");

const facts = (model, look) => {
  const {html, number} = look;
  const here = sides(model);
  const line = (term, of) => html("tr", {}, html("th", {scope: "row"}, term), here.map((name) => html("td", {}, of(model[name]))));
  return html("table", {class: "facts"}, html("thead", {}, html("tr", {}, html("td"), here.map((name) => html("th", {scope: "col"}, html("span", {class: `swatch ${name}`}), name)))),
    html("tbody", {}, line(contrast(look), ({ld}) => number(ld)), line("entropy, nats", ({entropy}) => number(entropy)),
      model.value === null || model.value === undefined ? null : html("tr", {}, html("th", {scope: "row"}, "value"), html("td", {}, number(model.value))),
      model.edited ? html("tr", {}, html("td", {class: "effect", colspan: 3}, `edit's effect ${number(change(model))}: ${reaches(model)} the gap of ${number(model.gap)}`)) : null));
};

const compared = (shown, look) => {
  const {html, number} = look;
  const pair = shown.some((model) => model.edited);
  return html("table", {class: "facts"}, html("caption", {}, `LD: ${contrast(look)}; entropy in nats`), html("thead", {}, html("tr", {}, html("th", {scope: "col"}, "model"), html("th", {scope: "col", title: contrast(look)}, "LD"), html("th", {scope: "col"}, "entropy"), pair ? html("th", {scope: "col"}, "effect") : null)),
    html("tbody", {}, shown.flatMap((model) => sides(model).map((name, i) => html("tr", {}, html("th", {scope: "row"}, html("span", {class: `swatch ${name}`}), i ? "edited" : `${model.i + 1} ${title(look, model.i)}`),
      html("td", {}, number(model[name].ld)), html("td", {}, number(model[name].entropy)), pair ? html("td", {}, i ? `${number(change(model), 1)} ${reaches(model).slice(0, 1)}` : "") : null)))));
};

export const table = (data, look) => ({
  columns: ["model", "side", "action", "probability", "logit"],
  rows: data.flatMap((item, i) => (item.data ? sides(item.data).flatMap((name) => item.data.actions.map((action, a) =>
    [title(look, i), name, action, item.data[name].probabilities.data[a], item.data[name].logits.data[a]])) : [])),
});
