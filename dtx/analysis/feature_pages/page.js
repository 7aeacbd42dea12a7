// The list of features and one feature at a time; slices of the file are unpacked when they are shown.
(() => {
  const $ = id => document.getElementById(id);
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === 'class') element.className = value; else element.setAttribute(name, value);
    }
    element.append(...children.filter(child => child !== null && child !== undefined));
    return element;
  };
  const drawn = (tag, attributes, text) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const number = (value, digits = 2) => value === null || value === undefined ? '–' : value.toFixed(digits);
  const share = value => value === null ? '–' : value >= .1 ? (100 * value).toFixed(0) + '%'
    : value >= .001 ? (100 * value).toFixed(1) + '%' : (100 * value).toPrecision(1) + '%';

  // --- slices ---

  const unpacked = new Map();
  const unpack = id => {
    if (!unpacked.has(id)) {
      const text = atob($(id).textContent), bytes = Uint8Array.from(text, letter => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
      unpacked.set(id, new Response(stream).json());
    }
    return unpacked.get(id);
  };
  const detailOf = async place => (await unpack('slice-' + Math.floor(place / ABOUT.slice)))[place % ABOUT.slice];
  const pictureOf = async place => 'data:image/png;base64,'
    + (await unpack('sprite-' + Math.floor(place / ABOUT.pictures)))[place % ABOUT.pictures];

  // --- the list ---

  // name, place in a row of ABOUT.rows, whether it is a number, how it is shown, whether narrow screens leave it out
  const COLUMNS = [
    ['feature', 0, true, String, false],
    ...(ABOUT.labelled ? [['label', 1, false, String, false], ['verdict', 2, false, String, true]] : []),
    ['tokens', 3, true, share, false],
    ...(ABOUT.labelled ? [] : [['largest', 4, true, value => number(value, 1), true], ['kind', 5, false, String, true]]),
    ['seeds', 6, true, number, false],
    ['untrained', 7, true, number, false],
  ];
  const TOGETHER = 200;
  const rows = ABOUT.rows.map((row, place) => ({row, place,
    text: `#${row[0]} ${row[1]} ${row[2]} ${row[5]}`.toLowerCase()}));
  const order = {column: 'tokens', up: false};
  let shown = [], listed = 0, current = null;

  const heads = () => {
    $('heads').replaceChildren(...COLUMNS.map(([name,, numeric,, wide]) => {
      const button = make('button', {type: 'button'}, name);
      button.addEventListener('click', () => sortBy(name));
      const head = make('th', {scope: 'col', class: `${numeric ? 'n' : ''} ${wide ? 'wide' : ''}`}, button);
      if (name === order.column) head.setAttribute('aria-sort', order.up ? 'ascending' : 'descending');
      return head;
    }));
  };
  const sortBy = name => {
    order.up = order.column === name ? !order.up : name === 'label' || name === 'feature';
    order.column = name;
    refresh();
  };
  const lineOf = entry => {
    const cells = COLUMNS.map(([name, at, numeric, show, wide]) => {
      const text = show(entry.row[at]);
      const inner = name === 'label' ? make('div', {class: 'clamped', title: text}, text) : name === 'feature' ? make('button', {type: 'button', 'aria-label': `feature ${text}`}, text) : text;
      return make('td', {class: `${numeric ? 'n' : name === 'label' ? 'name' : ''} ${wide ? 'wide' : ''}`}, inner);
    });
    const line = make('tr', {'data-place': entry.place}, ...cells);
    if (entry.place === current) line.setAttribute('aria-current', 'true');
    return line;
  };
  const more = () => {
    const next = shown.slice(listed, listed + TOGETHER);
    $('rows').append(...next.map(lineOf));
    listed += next.length;
  };
  const refresh = () => {
    const wanted = $('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdict = $('verdict').value, kind = $('kind').value;
    shown = rows.filter(({row, text}) => (!verdict || row[2] === verdict) && (!kind || row[5] === kind)
      && wanted.every(word => /^#\d+$/.test(word) ? '#' + row[0] === word : text.includes(word)));
    const [, at, numeric] = COLUMNS.find(([name]) => name === order.column);
    const missing = value => value === null || value === '';
    shown.sort((a, b) => {
      const [x, y] = [a.row[at], b.row[at]];
      if (missing(x) || missing(y)) return missing(x) - missing(y) || a.place - b.place;
      const less = numeric ? x - y : x < y ? -1 : x > y ? 1 : 0;
      return (order.up ? less : -less) || a.place - b.place;
    });
    $('count').textContent = `${shown.length.toLocaleString('en')} of ${rows.length.toLocaleString('en')}`;
    heads();
    $('rows').replaceChildren();
    listed = 0;
    more();
  };
  const list = document.querySelector('.list');
  list.addEventListener('scroll', () => {
    if (list.scrollTop + list.clientHeight > list.scrollHeight - 300 && listed < shown.length) more();
  });
  $('rows').addEventListener('click', event => {
    const line = event.target.closest('tr');
    if (line) show(+line.dataset.place);
  });

  // --- charts ---

  const columns = (values, labels, square) => {
    const svg = drawn('svg', {viewBox: '0 0 300 84', role: 'img', 'aria-label': labels.join(' to ')});
    const heights = values.map(value => square ? Math.sqrt(value) : value), most = Math.max(...heights, 1e-12);
    const wide = 300 / values.length;
    heights.forEach((height, i) => svg.append(drawn('rect', {class: 'bar', x: (i * wide + .5).toFixed(1),
      y: (66 - 64 * height / most).toFixed(1), width: (wide - 1).toFixed(1), height: (64 * height / most).toFixed(1)})));
    svg.append(drawn('line', {x1: 0, x2: 300, y1: 66.5, y2: 66.5}),
      drawn('text', {x: 0, y: 79, class: 'soft-text'}, labels[0]),
      drawn('text', {x: 300, y: 79, class: 'soft-text', 'text-anchor': 'end'}, labels[1]));
    return svg;
  };
  const bars = (values, names, signed, show) => {
    const svg = drawn('svg', {viewBox: `0 0 300 ${17 * values.length + 2}`, role: 'img', 'aria-label': names.join(', ')});
    const left = 62, room = signed ? 150 : 190, most = Math.max(...values.map(Math.abs), signed ? 1e-12 : 1);
    const low = signed ? Math.min(0, ...values) / most : 0, high = signed ? Math.max(0, ...values) / most : 1;
    const unit = room / (high - low || 1), zero = left + (signed ? 40 : 0) - low * unit;
    values.forEach((value, i) => {
      const length = value / most * unit, y = 17 * i;
      svg.append(drawn('text', {x: left - 6, y: y + 12, 'text-anchor': 'end'}, names[i]),
        drawn('rect', {class: signed ? value < 0 ? 'negative' : 'positive' : 'bar', x: (zero + Math.min(length, 0)).toFixed(1),
          y: y + 3, width: Math.max(Math.abs(length), .5).toFixed(1), height: 11}),
        drawn('text', {x: (zero + length + (value < 0 ? -4 : 4)).toFixed(1), y: y + 12,
          'text-anchor': value < 0 ? 'end' : 'start'}, show(value)));
    });
    return svg;
  };
  const chart = (title, svg) => make('div', {}, make('h3', {}, title), svg);

  // --- one feature ---

  const token = async ([activation, view, world, kind, step, toGo, action]) => {
    const picture = async (place, words) => make('img', {alt: words, width: 74, height: 74, src: await pictureOf(place)});
    const pair = make('div', {class: 'pair'}, await picture(view, 'view'), world < 0 ? null : await picture(world, 'world'));
    const words = ` ${kind} token, step ${step}, RTG ${number(toGo)}` + (action ? `, ${action}` : '');
    return make('figure', {}, pair, make('figcaption', {}, make('b', {}, number(activation)), words));
  };
  const factsTable = facts => {
    const head = make('tr', {}, ...['fact', 'known from', 'F1', 'margin', '95% interval'].map((name, i) =>
      make('th', {scope: 'col', class: i > 1 ? 'n' : ''}, name)));
    const lines = facts.map(([fact, group, f1, margin, low, high]) => make('tr', {}, make('td', {}, fact), make('td', {}, group),
      make('td', {class: 'n'}, number(f1)), make('td', {class: 'n'}, number(margin)),
      make('td', {class: 'n'}, `${number(low)} to ${number(high)}`)));
    return make('div', {class: 'box', tabindex: '0'}, make('table', {}, make('thead', {}, head), make('tbody', {}, ...lines)));
  };
  const beside = (row, detail) => {
    const [seed, other, r] = detail.other, [feature, near] = detail.untrained;
    const words = other < 0 ? 'no other seed' : `feature ${other} of seed ${seed}, correlation ${number(r)}`;
    return make('dl', {class: 'beside'}, make('dt', {}, 'on at'), make('dd', {}, `${share(row[3])} of tokens`),
      make('dt', {}, 'activation there'), make('dd', {}, `mean ${number(detail.mean)}, largest ${number(row[4])}`),
      make('dt', {}, 'nearest in other seeds'), make('dd', {}, words),
      make('dt', {}, 'nearest in an untrained network'),
      make('dd', {}, feature < 0 ? 'none' : `feature ${feature}, correlation ${number(near)}`));
  };
  let asked = 0;
  const show = async place => {
    const mine = ++asked, row = ABOUT.rows[place];
    current = place;
    for (const line of $('rows').rows) {
      if (+line.dataset.place === place) line.setAttribute('aria-current', 'true'); else line.removeAttribute('aria-current');
    }
    try { history.replaceState(null, '', '#feature-' + row[0]); } catch { /* a page without an address */ }
    let detail, sets;
    try {
      detail = await detailOf(place);
      sets = await Promise.all(detail.sets.map(tokens => Promise.all(tokens.map(token))));
    } catch (error) {
      $('detail').replaceChildren(make('p', {}, `This feature cannot be unpacked (${error.message}); a newer browser may be needed.`));
      return;
    }
    if (mine !== asked) return;  // another was chosen meanwhile
    const steps = make('span', {class: 'steps'}, ...[['previous', -1], ['next', 1]].map(([name, by]) => {
      const button = make('button', {type: 'button', class: 'tool'}, name);
      button.addEventListener('click', () => go(by));
      return button;
    }));
    const title = make('h2', {}, `Feature ${row[0]}`, steps);
    const [f1, accuracy, margin, low] = detail.label;
    const scores = `F1 ${number(f1)}, balanced accuracy ${number(accuracy)}, F1 beyond input and untrained networks `
      + `${number(margin)} (lower end of the interval ${number(low)})`;
    const label = !ABOUT.labelled ? null : row[1] ? make('p', {}, make('b', {}, row[1]), ` – ${row[2]}; ${scores}`)
      : make('p', {class: 'soft'}, detail.sentence ? `Unnamed: the best sentence is no name (${detail.sentence}; ${scores})`
        : 'On too seldom to be labelled.');
    const last = `step ${ABOUT.steps}`;
    const charts = make('div', {class: 'charts'},
      chart('activation where it is on (square roots of counts)', columns(detail.histogram, ['0', number(row[4])], true)),
      chart('step of the episode', columns(detail.times, ['step 1', last], false)),
      chart('kind of token', bars(detail.kinds, ['R', 'S', 'A'], false, share)),
      detail.logits.length ? chart('direct effect on logits, per unit', bars(detail.logits, ABOUT.actions, true, number)) : null);
    const tokens = sets.flatMap((figures, i) => [make('h3', {}, ABOUT.sets[i]), make('div', {class: 'tokens'}, ...figures)]);
    $('detail').replaceChildren(title, ...[label, beside(row, detail), charts,
      detail.facts.length ? make('h3', {}, 'facts of which it is the best feature') : null,
      detail.facts.length ? factsTable(detail.facts) : null].filter(Boolean), ...tokens);
  };
  const go = by => {
    const at = shown.findIndex(({place}) => place === current);
    const next = shown[Math.max(0, Math.min(shown.length - 1, at < 0 ? 0 : at + by))];
    if (!next) return;
    while (listed < shown.length && !$('rows').querySelector(`[data-place="${next.place}"]`)) more();
    const line = $('rows').querySelector(`[data-place="${next.place}"]`);
    if (line) {  // within the list only: the page itself stays
      const top = line.offsetTop - 40, bottom = line.offsetTop + line.offsetHeight - list.clientHeight + 8;
      if (list.scrollTop > top) list.scrollTop = top; else if (list.scrollTop < bottom) list.scrollTop = bottom;
    }
    show(next.place);
  };

  // --- keys ---

  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest('input, select, textarea');
    if (typing) {
      if (event.key === 'Escape') event.target.blur();
      return;
    }
    const inList = event.target.closest('.list') !== null;
    if (event.key === 'j' || (inList && event.key === 'ArrowDown')) go(1);
    else if (event.key === 'k' || (inList && event.key === 'ArrowUp')) go(-1);
    else if (event.key === '/') $('filter').focus();
    else if (event.key === 's') {
      const names = COLUMNS.map(([name]) => name);
      sortBy(names[(names.indexOf(order.column) + 1) % names.length]);
    } else return;
    event.preventDefault();
  });
  $('verdicts').hidden = !ABOUT.labelled;
  for (const id of ['filter', 'verdict', 'kind']) $(id).addEventListener('input', refresh);
  refresh();
  const named = /^#feature-(\d+)$/.exec(location.hash);
  const first = named ? rows.find(({row}) => row[0] === +named[1]) : shown[0];
  if (first ?? shown[0]) show((first ?? shown[0]).place);
})();
