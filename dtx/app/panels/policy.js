// Bars of every action's probability in pairs, original over edited; a column for each model.

const SIDES = ["original", "edited"];
const sides = (data) => SIDES.filter((name) => data[name]);
const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;

export const draw = (root, data, look) => {
  const {charts, html, number} = look;
  const shown = data.flatMap((item, i) => (item.data ? [{...item.data, i}] : []));
  const names = Math.max(...shown[0].actions.map((name) => charts.measure(name, 13, 700))) + 10;
  const gap = 12;
  const column = (look.width - names - gap * (shown.length - 1)) / shown.length;
  const figures = shown.map((model, place) => {
    const first = place === 0 ? names : 0;
    const inner = charts.bars({title: `probabilities of ${title(look, model.i)}`, width: column + first, names: first,
      thick: sides(model).length > 1 ? 10 : 14,
      rows: model.actions.map((action, a) => ({
        name: place === 0 ? action : "",
        strong: best(model[side(model, look)].probabilities.data) === a,
        bars: sides(model).map((name) => ({name, value: model[name].probabilities.data[a], colour: `var(--${name})`, text: model[name].probabilities.data[a].toFixed(2)})),
      }))});
    return shown.length > 1 ? charts.titled(cut(`${model.i + 1} ${title(look, model.i)}`, column, charts), inner) : inner;
  });
  root.append(charts.beside(`Probabilities of the actions: ${shown.map((model) => spoken(model, look)).join("; ")}`, figures, gap));
  root.append(...shown.map((model) => facts(model, look, html, number, shown.length > 1)));
};

/** A text that fits a width: what does not fit is cut with a sign that says so. */
const cut = (text, width, charts) => {
  if (charts.measure(text, 12, 650) <= width) return text;
  let short = text;
  while (short.length > 1 && charts.measure(`${short}…`, 12, 650) > width) short = short.slice(0, -1);
  return `${short.trimEnd()}…`;
};

const side = (model, look) => (model.edited && look.shown === "edited" ? "edited" : "original");
const best = (values) => values.indexOf(Math.max(...values));

const spoken = (model, look) => `${title(look, model.i)}: ${sides(model).map((name) => {
  const values = model[name].probabilities.data;
  return `${name} ${model.actions[best(values)]} ${values[best(values)].toFixed(2)}`;
}).join(", ")}`;

const facts = (model, look, html, number, several) => {
  const here = sides(model);
  const head = (name) => html("th", {scope: "col"}, html("span", {class: `swatch ${name}`}), name);
  const line = (term, of) => html("tr", {}, html("th", {scope: "row"}, term), here.map((name) => html("td", {}, of(model[name]))));
  const reached = here.length > 1 ? Math.abs(model.original.ld - model.edited.ld) >= (model.gap ?? 0) : null;
  return html("table", {class: "facts"}, html("thead", {}, html("tr", {}, several ? html("th", {scope: "col"}, `${model.i + 1} ${title(look, model.i)}`) : html("td"), here.map(head))),
    html("tbody", {}, line(`logit ${look.contrast.join(" − ") || "difference"}`, ({ld}) => number(ld)), line("entropy, nats", ({entropy}) => number(entropy)),
      model.value === null || model.value === undefined ? null : html("tr", {}, html("th", {scope: "row"}, "value"), html("td", {}, number(model.value))),
      reached === null ? null : html("tr", {}, html("td", {class: "effect", colspan: here.length + 1}, `edit's effect ${number(model.edited.ld - model.original.ld)}: ${reached ? "✓ reaches" : "✗ below"} the gap of ${number(model.gap)}`))));
};

export const table = (data, look) => ({
  columns: ["model", "side", "action", "probability", "logit"],
  rows: data.flatMap((item, i) => (item.data ? sides(item.data).flatMap((name) => item.data.actions.map((action, a) =>
    [title(look, i), name, action, item.data[name].probabilities.data[a], item.data[name].logits.data[a]])) : [])),
});
