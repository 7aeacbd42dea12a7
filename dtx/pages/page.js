// Tables that are sorted by their heads and filtered; links that a page without an address cannot follow.
for (const box of document.querySelectorAll('[data-table]')) {
  const table = box.querySelector('table'), body = table.tBodies[0], filter = box.querySelector('input');
  const text = (row, i) => row.cells[i].dataset.value ?? row.cells[i].textContent.trim();
  table.querySelectorAll('th button').forEach((button, i) => button.addEventListener('click', () => {
    const head = button.parentElement, up = head.getAttribute('aria-sort') !== 'ascending';
    table.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const number = head.classList.contains('n'), missing = number ? Infinity : '\uffff';
    const key = row => { const t = text(row, i); return t === '' ? missing : number ? +t : t };
    const rows = [...body.rows].map(row => [key(row), row]);
    rows.sort(([a], [b]) => (a === missing) - (b === missing)
      || (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1));
    body.append(...rows.map(([, row]) => row));
  }));
  filter?.addEventListener('input', () => {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) {
      const whole = row.textContent.toLowerCase();
      row.hidden = !wanted.every(word => whole.includes(word));
    }
  });
  box.querySelector('button.tool')?.addEventListener('click', () => {
    const quoted = t => /[",\n]/.test(t) ? '"' + t.replaceAll('"', '""') + '"' : t;
    const lines = [...table.rows].map(row => [...row.cells].map((_, i) => quoted(text(row, i))).join(','));
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([lines.join('\n') + '\n'], {type: 'text/csv'}));
    link.download = box.dataset.table + '.csv';
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
if (!['file:', 'http:', 'https:'].includes(location.protocol)) {
  // MLflow shows a page without an address: it can neither follow links to files nor download.
  for (const link of document.querySelectorAll('a[href^=".."]'))
    link.replaceWith(Object.assign(document.createElement('code'),
      {textContent: link.getAttribute('href').replace('../../', 'store/')}));
  for (const button of document.querySelectorAll('button.tool')) button.remove();
}
