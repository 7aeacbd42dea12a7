// Maps of rho, a node or head by a token, with those of unrelated runs below on the same scale.

const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;
const wording = {resid_pre: "residual stream before a layer", resid_mid: "residual stream between attention and MLP", resid_post: "residual stream after a layer", attn_out: "attention output", mlp_out: "MLP output"};

export const draw = (root, data, look) => {
  const {charts, html, number} = look;
  const shown = data.flatMap((item, i) => (item.data ? [{...item.data, i}] : []));
  const readout = html("p", {class: "readout soft"}, "Point at a cell: how much of the edit's effect this activation carries.");
  const figures = shown.flatMap((model) => {
    const before = shown.length > 1 ? `${model.i + 1} ${title(look, model.i)}: ` : "";
    const maps = [charts.titled(`${before}${heading(model, number)}`, map(model, model.measurable ? model.rho.data : model.change.data, look, readout, "this edit"), {width: look.width})];
    if (!model.measurable) return maps;
    for (const donor of model.donors) maps.push(charts.titled(control(donor), map(model, donor.rho.data, look, readout, control(donor)), {width: look.width, colour: "var(--soft)"}));
    return maps;
  });
  root.append(charts.stack(`Activation patching, ${wording[shown[0].node] ?? shown[0].node}, ${shown[0].direction}`, figures), readout,
    html("p", {class: "note"}, shown.map((model) => facts(model, number)).join(" · ")));
};

const heading = (model, number) => (model.measurable
  ? `restored share of LD (rho), ${model.direction === "denoise" ? "original into edited" : "edited into original"}`
  : `change of LD: the edit moves LD by ${number(Math.abs(model.ld.original - model.ld.edited))}, under ${number(model.gap)}, so there is no rho`);

const control = ({like, expected, edit_as: as}) => `control: unrelated run that decides as the ${like} run${expected === null || expected === undefined ? "" : `; ${expected} if the place carries the decision`}${as ? ` (in what is edited like: ${as === "clean" ? "original" : as === "corrupt" ? "edited" : as})` : ""}`;

const facts = (model, number) => `LD original ${number(model.ld.original)}, edited ${number(model.ld.edited)}; equal runs: largest change ${number(model.null)}`;

const map = (model, values, look, readout, which) => {
  const {charts, number} = look;
  const finite = [...values].filter(Number.isFinite).map(Math.abs);
  const most = model.measurable ? Math.max(1, ...finite) : Math.max(1e-3, ...finite);
  const tell = (block, r, c, value) => `${model.rows[r]} at ${model.tokens[c]}${model.changed.data[c] ? " (edited)" : ""}, ${which}: ${Number.isFinite(value) ? `${value > 0 ? "+" : ""}${number(value)}` : "not computed yet"}`;
  return charts.maps({title: `Patching, ${which}`, width: look.width, blocks: [{title: "", values}], rows: model.rows, columns: model.tokens, kind: "signed", low: -most, high: most,
    axes: true, tokens: ["columns"], tell, moved: (block, r, c, text) => { readout.textContent = text; }});
};

export const table = (data, look) => ({
  columns: ["model", "direction", "place", "token", "edited token", "change of LD", "rho", "rho unrelated, original's decision", "rho unrelated, edited's decision"],
  rows: data.flatMap((item, i) => {
    if (!item.data) return [];
    const {rows, tokens, rho, change, changed, donors, direction} = item.data;
    const of = (kind) => donors.find((donor) => donor.kind === kind)?.rho.data;
    const finite = (values, place) => (values && Number.isFinite(values[place]) ? values[place] : null);
    return rows.flatMap((name, r) => tokens.map((token, m) => {
      const place = r * tokens.length + m;
      return [title(look, i), direction, name, token, changed.data[m] ? "yes" : "no", finite(change.data, place), finite(rho.data, place), finite(of("donor_clean"), place), finite(of("donor_corrupt"), place)];
    }));
  }),
});
