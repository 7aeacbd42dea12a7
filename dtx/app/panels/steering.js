// Logit difference by the size of the push, both runs, dashed for a random vector; the policy at the chosen size.

const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;
const sides = (data) => ["original", "edited"].filter((name) => data[name]);

export const draw = (root, data, look) => {
  const {charts, html, number} = look;
  const shown = data.flatMap((item, i) => (item.data ? [{...item.data, i}] : []));
  const contrast = look.contrast.length ? `logit ${look.contrast.join(" − ")}` : "logit difference";
  const figures = shown.flatMap((model) => {
    const x = [...model.alphas.data];
    const series = sides(model).flatMap((side) => [
      {name: side, colour: `var(--${side})`, x, y: [...model[side].ld.data]},
      {name: `${side}, random`, colour: `var(--${side})`, dash: "3 4", x, y: [...model[side].random.data], dots: false}]);
    const words = `${model.place}${model.norm === null ? "" : `; length ${number(model.norm)}, the stream's there ${number(model.stream)}`}`;
    const lines = charts.lines({title: `Steering: ${contrast} by size. ${words}`, width: look.width, height: 230, series, y: {label: contrast}, x: {label: "size (0: nothing, 1: the whole)"}, marks: [{x: model.alpha, text: `size ${number(model.alpha)}`}]});
    const bars = charts.bars({title: `Probabilities at size ${model.alpha}`, width: look.width, thick: 9, gap: 6, rows: model.actions.map((action, a) => ({name: action,
      bars: sides(model).map((side) => ({name: side, value: model[side].probabilities.data[a], colour: `var(--${side})`, text: `${model[side].probabilities.data[a].toFixed(2)} (was ${model[side].unsteered.data[a].toFixed(2)})`}))}))});
    return [charts.titled(shown.length > 1 ? `${model.i + 1} ${title(look, model.i)}: ${words}` : words, lines, {width: look.width}), charts.titled(`probabilities at size ${number(model.alpha)}`, bars, {width: look.width})];
  });
  root.append(charts.stack("Steering", figures), html("p", {class: "note"}, "Dashed: a random vector of the same length at the same place."));
};

export const table = (data, look) => ({
  columns: ["model", "side", "size", "LD", "LD, random vector", "action", "probability at the chosen size", "without"],
  rows: data.flatMap((item, i) => (item.data ? sides(item.data).flatMap((side) => {
    const {alphas, actions} = item.data;
    const own = item.data[side];
    return [...[...alphas.data].map((alpha, k) => [title(look, i), side, alpha, own.ld.data[k], own.random.data[k], null, null, null]),
      ...actions.map((action, a) => [title(look, i), side, item.data.alpha, null, null, action, own.probabilities.data[a], own.unsteered.data[a]])];
  }) : [])),
});
