"""A page to look through all attention maps: choose layout, layer and target; it opens offline."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from dtx.analysis.attention.spec import AttentionSpec
from dtx.analysis.core.result import Result

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Attention</title><style>
body{font:14px/1.4 system-ui,sans-serif;color:#1b1f2a;margin:16px;max-width:1200px}
h1{font-size:18px;margin:0 0 4px} p{margin:0 0 12px;color:#525a6b}
.controls{display:flex;flex-wrap:wrap;gap:16px;align-items:center;margin-bottom:8px}
select,input{font:inherit;vertical-align:middle} #value_at{min-height:1.4em;font-weight:600}
#heads{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px}
figure{margin:0} figcaption{font-size:12px} canvas{width:100%;image-rendering:pixelated;display:block}
</style><h1>Attention on the way to the decision</h1>
<p>__WHERE__ Rows ask, columns are looked at. Point at a cell to read it.</p>
<div class="controls"><label>layout <select id="layout"></select></label>
<label>layer <select id="layer"></select></label>
<label>reward-to-go <input id="target" type="range" min="0" step="1"> <b id="value"></b></label>
<label><input id="moved" type="checkbox"> minus reward-to-go __HIGH__</label></div>
<div id="value_at" role="status"></div><div id="heads"></div><script>
const D=__DATA__, n=D.names.length, cells=n*(n+1)/2;
const bytes=Uint8Array.from(atob(D.values),c=>c.charCodeAt(0));
const $=id=>document.getElementById(id), fill=(e,a)=>a.forEach((x,i)=>e.add(new Option(x,i)));
fill($('layout'),D.layouts); fill($('layer'),[...Array(D.layers).keys()]);
$('target').max=D.targets.length-1; $('target').value=D.high;
const at=(t,y,l,h,q,k)=>k>q?0:bytes[(((t*D.layouts.length+y)*D.layers+l)*D.heads+h)*cells+q*(q+1)/2+k]/255;
const value=(h,q,k)=>{const [t,y,l]=['target','layout','layer'].map(x=>+$(x).value);
 return at(t,y,l,h,q,k)-($('moved').checked?at(D.high,y,l,h,q,k):0)};
const colour=v=>$('moved').checked?(v<0?[255+205*v,255+140*v,255]:[255,255-140*v,255-205*v])
 :[255-215*v,255-235*v,255-150*v];
for(let h=0;h<D.heads;h++){const f=document.createElement('figure');
 f.innerHTML=`<figcaption>head ${h}</figcaption><canvas width=${n} height=${n}></canvas>`;
 const c=f.lastChild; $('heads').append(f);
 c.addEventListener('pointermove',e=>{const r=c.getBoundingClientRect(),
  k=Math.min(n-1,Math.floor((e.clientX-r.left)/r.width*n)),q=Math.min(n-1,Math.floor((e.clientY-r.top)/r.height*n));
  const read=k>q?'not seen':value(h,q,k).toFixed(2);
  $('value_at').textContent=`head ${h}: ${D.names[q]} to ${D.names[k]}: ${read}`});}
function draw(){$('value').textContent=D.targets[$('target').value];
 document.querySelectorAll('canvas').forEach((c,h)=>{const x=c.getContext('2d'),i=x.createImageData(n,n);
 for(let q=0;q<n;q++)for(let k=0;k<n;k++){const p=k>q?[240,241,244]:colour(value(h,q,k));
  i.data.set([...p,255],4*(q*n+k))} x.putImageData(i,0,0)})}
document.querySelectorAll('select,input').forEach(e=>e.addEventListener('input',draw)); draw();
</script></html>
"""


class AttentionPage:
    """All maps in one file; a :class:`dtx.report.Page`.

    Args:
        result: Of the analysis. spec: Its settings. model: Name of the model.
    """

    def __init__(self, result: Result, spec: AttentionSpec, model: str):
        self.result, self.spec, self.model = result, spec, model

    def write_html(self, path: Path, **_: Any) -> None:
        """Write one file with all maps in it, in steps of 1/255."""
        pattern, names = self.result.arrays["pattern"], self.result.arrays["tokens"].tolist()
        rows, columns = np.tril_indices(len(names))
        values = np.rint(pattern[..., rows, columns] * 255).astype(np.uint8)
        data = {
            "names": names,
            "layouts": self.result.tables["maps"].layout.drop_duplicates().tolist(),
            "layers": pattern.shape[2],
            "heads": pattern.shape[3],
            "targets": self.spec.targets,
            "high": self.spec.targets.index(self.spec.high),
            "values": base64.b64encode(values.tobytes()).decode(),
        }
        where = f"{self.model}: {len(names)} tokens up to the decision square."
        text = _PAGE.replace("__WHERE__", html.escape(where))
        text = text.replace("__HIGH__", f"{self.spec.high:g}")
        path.write_text(text.replace("__DATA__", json.dumps(data).replace("</", "<\\/")))
