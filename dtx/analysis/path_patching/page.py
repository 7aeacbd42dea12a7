"""A page to look through all edges: choose edit, pairs, reward-to-go and threshold; it opens offline."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pandas as pd

from dtx.analysis.core.result import Result
from dtx.analysis.path_patching.plots import row_of
from dtx.dt.names import MLP, attention_name, mlp_name, part_of, renamed
from dtx.figures import NEGATIVE, POSITIVE

LEAST = 0.005
"""Cells that restore less than this everywhere, of either sign, are not on the page; the table has them."""

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Path patching</title><style>
body{font:14px/1.4 system-ui,sans-serif;color:#1b1f2a;margin:16px;max-width:1100px}
h1{font-size:18px;margin:0 0 4px} p{margin:0 0 12px;color:#525a6b}
.controls{display:flex;flex-wrap:wrap;gap:8px 16px;align-items:center;margin-bottom:8px}
select,input{font:inherit;vertical-align:middle} #said{min-height:1.4em;font-weight:600}
#graph{overflow-x:auto} svg{display:block;height:auto}
table{border-collapse:collapse;font-size:13px} td,th{padding:2px 10px 2px 0;text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums} .wide{overflow-x:auto}
</style><h1>Along which edges the difference travels</h1>
<p>__WHERE__ Patched: __DIRECTION__. Columns are tokens, computing goes upwards. Red edges bring
the other run's decision (restored logit difference above 0), blue ones work against it; dotted: a head moves
it from one token to another. Point at an edge.</p>
<div class="controls"><label>edit <select id="edit"></select></label>
<label>pairs <select id="kind"></select></label>
<label>reward-to-go <select id="target"></select></label>
<label>tokens <select id="tokens"><option value="1">each alone</option>
<option value="0">all together</option></select></label>
<label>restored from, of either sign <input id="least" type="range" min="0" max="100" value="48">
<b id="value"></b></label></div>
<div id="said" role="status"></div><div id="graph"></div>
<div class="wide"><table id="list"></table></div><script>
const D=__DATA__, $=id=>document.getElementById(id);
const option=(e,a,f)=>{const v=e.value;e.replaceChildren(...a.map(x=>new Option(f?f(x):x,x)));
 if(a.map(String).includes(v))e.value=v};
option($('edit'),[...new Set(D.groups.map(g=>g.edit))],x=>x.replaceAll('_',' '));
const kinds={edit:'the edit',donor_clean:"control: unrelated layout, clean run's answer, the strongest edges",
 donor_corrupt:"control: unrelated layout, corrupt run's answer, the strongest edges"};
const mine=(k,v)=>D.groups.filter(g=>g.edit==$('edit').value&&(k==null||g.kind==k)&&(v==null||g.target==v));
const least=()=>LEAST*Math.pow(1/LEAST,$('least').value/100), LEAST=D.least;
const fix=x=>x.toFixed(3), esc=s=>String(s).replace(/[&<>]/g,c=>({'&':'&amp;','<':'&lt;','>':'&gt;'}[c]));
function draw(){
 option($('kind'),[...new Set(mine().map(g=>g.kind))],x=>kinds[x]||x);
 option($('target'),[...new Set(mine($('kind').value).map(g=>g.target))]);
 const t=least(), one=$('tokens').value=='1', g=mine($('kind').value,$('target').value)[0];
 $('value').textContent=t.toFixed(3);
 const name=e=>D.names[e[0]]+' to '+D.names[e[1]]+('qkv'.includes(e[2])?' '+e[2]:'');
 let all=g?g.edges.map(e=>[...D.cells[e[0]],e[1],e[2],e[3]]):[];
 all=all.filter(e=>(e[3]>=0)==one&&Math.abs(e[4])>=t).sort((a,b)=>Math.abs(b[4])-Math.abs(a[4]));
 const shown=all.slice(0,80);
 $('said').textContent=`${all.length} edges`+(all.length>80?', the 80 strongest drawn':'')
  +(g?`; ${g.pairs} pairs`:'');
 const token=e=>e[3]<0?'all':D.tokens[e[3]], cols=[...new Set(shown.map(e=>e[3]))].sort((a,b)=>a-b);
 const rows=[...new Set(shown.flatMap(e=>[D.rows[e[0]],D.rows[e[1]]]))].sort((a,b)=>a-b);
 const at={}, cells={};
 for(const e of shown)for(const n of [e[0],e[1]]){const k=e[3]+'/'+D.rows[n];(cells[k]??=new Set()).add(n)}
 const most=cols.map(c=>Math.max(...rows.map(r=>(cells[c+'/'+r]||new Set()).size)));
 const wide=most.map(m=>Math.max(m*62+40,120)), left=86, high=84, H=rows.length*high+40;
 let x=left; const begin=wide.map(w=>{const b=x;x+=w;return b}), W=Math.max(x+10,420);
 for(const k in cells){const [c,r]=k.split('/').map(Number), list=[...cells[k]].sort((a,b)=>a-b);
  const i=cols.indexOf(c);
  list.forEach((n,j)=>at[c+':'+n]=[begin[i]+wide[i]*(j+.5)/list.length, H-50-rows.indexOf(r)*high])}
 let s=''; rows.forEach((r,i)=>{const y=H-50-i*high;
  s+=`<line x1="${left-8}" x2="${W}" y1="${y}" y2="${y}" stroke="#eceef3"/>
   <text x="0" y="${y+4}" font-size="11" fill="#525a6b">${D.bands[r]}</text>`});
 cols.forEach((c,i)=>s+=`<text x="${begin[i]+wide[i]/2}" y="${H-8}" text-anchor="middle"
  font-weight="600">${c<0?'all':D.tokens[c]}</text>`);
 for(const e of shown.filter(e=>'kv'.includes(e[2])))
 for(const c of new Set(shown.filter(o=>o[0]==e[1]&&o[3]!=e[3]).map(o=>o[3]))){
  const [a,b]=at[e[3]+':'+e[1]],[p,q]=at[c+':'+e[1]];
  s+=`<line x1="${a}" y1="${b}" x2="${p}" y2="${q}" stroke="#8d99ae" stroke-dasharray="2 4"/>`}
 shown.slice().reverse().forEach(e=>{
  const [a,b]=at[e[3]+':'+e[0]],[p,q]=at[e[3]+':'+e[1]],far=(b-q)/high-1,bow=far<.5?0:50+14*far;
  const said=esc(`${name(e)} at ${token(e)}: ${fix(e[4])} [${fix(e[5])}, ${fix(e[6])}]`), third=(b-q)*.3;
  const colour=e[4]>0?'__POSITIVE__':'__NEGATIVE__', thick=(.8+5*Math.min(1.2,Math.abs(e[4]))).toFixed(1);
  s+=`<path d="M${a} ${b-12} C${a+bow} ${b-12-third} ${p+bow} ${q+12+third} ${p} ${q+12}" fill="none"
   stroke="${colour}" stroke-width="${thick}" stroke-opacity=".75" data-said="${said}">
   <title>${said}</title></path>`});
 for(const k in at){const [a,b]=at[k], n=+k.split(':')[1];
  s+=`<rect x="${a-27}" y="${b-11}" width="54" height="22" rx="6" fill="#fff" stroke="#525a6b"/>
   <text x="${a}" y="${b+4}" text-anchor="middle" font-size="12">${esc(D.names[n])}</text>`}
 $('graph').innerHTML=!shown.length?'<p>No edge reaches this threshold.</p>':
  `<svg viewBox="0 0 ${W} ${H}" style="width:${W}px" role="img" aria-label="edges">${s}</svg>`;
 document.querySelectorAll('path').forEach(p=>
  p.addEventListener('pointerenter',()=>$('said').textContent=p.dataset.said));
 $('list').innerHTML='<tr><th>edge<th>token<th class=n>restored<th class=n>95% interval</tr>'+shown.map(e=>
  `<tr><td>${esc(name(e))}<td>${token(e)}<td class=n>${fix(e[4])}`+
  `<td class=n>${fix(e[5])} to ${fix(e[6])}</tr>`).join('')}
document.querySelectorAll('select,input').forEach(e=>e.addEventListener('input',draw)); draw();
</script></html>
"""


class PathsPage:
    """A page (:class:`dtx.report.Page`) of all edges.

    Args:
        result: Of path patching.
        label: Of the model. direction: Of the patches.
    """

    def __init__(self, result: Result, label: str, direction: str):
        self.result, self.label, self.direction = result, label, direction

    def write_html(self, path: Path, **_: Any) -> None:
        """Write one file with all cells in it that reach :data:`LEAST`."""
        data = _data(self.result)
        where = html.escape(f"{self.label}.")
        text = _PAGE.replace("__WHERE__", where).replace("__DIRECTION__", self.direction)
        text = text.replace("__POSITIVE__", POSITIVE).replace("__NEGATIVE__", NEGATIVE)
        path.write_text(text.replace("__DATA__", json.dumps(data).replace("</", "<\\/")))


def _data(result: Result) -> dict[str, Any]:
    table = result.tables["edges"]
    table = table[table["rho"].abs() >= LEAST]
    names = sorted({*table["sender"], *table["receiver"]}, key=lambda n: (row_of(n), _head(n)))
    number = {name: i for i, name in enumerate(names)}
    top = max([row_of(name) for name in names if name != "logits"], default=0.0) + 1
    rows = [min(row_of(name), top) for name in names]
    cells: dict[tuple, int] = {}
    groups = []
    of = ["edit", "kind", "reward_to_go"]
    for key, rows_of_group in table.groupby(of, sort=False, observed=True):
        edit, kind, target = key  # type: ignore[misc]
        edges = []
        for e in rows_of_group.itertuples():
            cell = (number[str(e.sender)], number[str(e.receiver)], str(e.input), int(e.position))  # type: ignore[arg-type]
            values = [round(float(x), 4) for x in (e.rho, e.low, e.high)]  # type: ignore[arg-type]
            edges.append([cells.setdefault(cell, len(cells)), *values])
        pairs = int(pd.Series(rows_of_group["pairs"]).max())
        groups.append(
            {"edit": edit, "kind": kind, "target": target, "pairs": pairs, "edges": edges}
        )
    bands = {str(int(row)): _band(name) for name, row in zip(names, rows, strict=True)}
    return {
        "names": [renamed(name) for name in names],
        "rows": [int(row) for row in rows],
        "bands": bands,
        "tokens": result.arrays["tokens"].tolist(),
        "least": LEAST,
        "cells": [list(cell) for cell in cells],
        "groups": groups,
    }


def _head(name: str) -> int:
    part = part_of(name)
    return part.unit if part else 0


def _band(name: str) -> str:
    if name in ("embed", "logits"):
        return "embedding" if name == "embed" else name
    part = part_of(name)
    assert part is not None, name
    return mlp_name(part.layer) if part.kind == MLP else attention_name(part.layer)
