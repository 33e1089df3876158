// SVG of bars on a logarithmic scale, by hand: one group a workload, one bar an engine, a line for the spread.
const WIDTH = 860;
const LABEL = 230;
const BAR = 18;
const GAP = 6;
const HEAD = 34;
const COLORS = { stepfast: '#0b7285', floor: '#868e96', raw: '#ced4da', peer: '#e8590c' };

const colorOf = (engine) => COLORS[['stepfast', 'floor', 'raw'].find((kind) => engine.startsWith(kind)) ?? 'peer'];
const escaped = (text) => text.replace(/[&<>]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[sign]);
const shown = (value) => (value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(2));

/** @param groups `[{ title, bars: [{ engine, value, unit, spread }] }]` */
export function plot(groups) {
  const parts = [];
  let top = 10;
  for (const { title, bars } of groups) {
    const values = bars.map(({ value }) => value);
    const low = Math.floor(Math.log10(Math.min(...values)) - 0.3);
    const high = Math.log10(Math.max(...values)) + 0.1;
    const at = (value) => ((Math.log10(Math.max(value, 10 ** low)) - low) / (high - low)) * (WIDTH - LABEL - 130);
    parts.push(`<text x="10" y="${top + 16}" class="t">${escaped(title)}</text>`);
    top += HEAD - 8;
    for (const { engine, value, unit, spread } of bars) {
      const from = LABEL + at(value * (1 - spread / 2));
      const to = LABEL + at(value * (1 + spread / 2));
      const middle = top + BAR / 2;
      parts.push(
        `<text x="${LABEL - 8}" y="${middle + 4}" text-anchor="end">${escaped(engine)}</text>`,
        `<rect x="${LABEL}" y="${top}" width="${at(value).toFixed(1)}" height="${BAR}" fill="${colorOf(engine)}"/>`,
        `<path d="M${from.toFixed(1)} ${middle}H${to.toFixed(1)}" stroke="#212529" stroke-width="1.5"/>`,
        `<text x="${(LABEL + at(value * (1 + spread / 2)) + 6).toFixed(1)}" y="${middle + 4}">${shown(value)} ${unit}</text>`,
      );
      top += BAR + GAP;
    }
    top += 14;
  }
  const style = 'text{font:12px system-ui,sans-serif;fill:#212529}.t{font-weight:600;font-size:14px}';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top}" width="${WIDTH}" height="${top}"><title>Figures of the bench</title><style>${style}</style><rect width="${WIDTH}" height="${top}" fill="#fff"/>${parts.join('\n')}</svg>\n`;
}

/** Curves over a logarithmic axis: what does not grow is flat. */
export function curves(title, series, unit) {
  const height = 300;
  const all = series.flatMap(({ points }) => points);
  const [x0, x1] = [Math.min(...all.map(([x]) => x)), Math.max(...all.map(([x]) => x))].map(Math.log10);
  const y0 = Math.floor(Math.log10(Math.min(...all.map(([, y]) => y))));
  const y1 = Math.ceil(Math.log10(Math.max(...all.map(([, y]) => y))));
  const at = ([x, y]) => [
    80 + ((Math.log10(x) - x0) / (x1 - x0 || 1)) * (WIDTH - 320),
    height - 50 - ((Math.log10(y) - y0) / (y1 - y0 || 1)) * (height - 90),
  ];
  const parts = [`<text x="10" y="24" class="t">${escaped(title)}</text>`];
  for (let power = y0; power <= y1; power++) {
    const [, y] = at([10 ** x0, 10 ** power]);
    parts.push(
      `<path d="M80 ${y}H${WIDTH - 240}" stroke="#dee2e6"/><text x="72" y="${y + 4}" text-anchor="end">${10 ** power} ${unit}</text>`,
    );
  }
  for (const x of new Set(all.map(([each]) => each)))
    parts.push(
      `<text x="${at([x, 10 ** y0])[0]}" y="${height - 30}" text-anchor="middle">${x.toLocaleString('en')}</text>`,
    );
  for (const [index, { engine, points }] of series.entries()) {
    const color = engine.includes('memory') ? '#2f9e44' : colorOf(engine);
    const line = points
      .map((point) =>
        at(point)
          .map((each) => each.toFixed(1))
          .join(' '),
      )
      .join('L');
    const [, lastY] = at(points.at(-1));
    parts.push(`<path d="M${line}" fill="none" stroke="${color}" stroke-width="2"/>`);
    parts.push(`<text x="${WIDTH - 230}" y="${lastY + 4 + index}">${escaped(engine)}</text>`);
  }
  const style = 'text{font:12px system-ui,sans-serif;fill:#212529}.t{font-weight:600;font-size:14px}';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}"><title>${escaped(title)}</title><style>${style}</style><rect width="${WIDTH}" height="${height}" fill="#fff"/>${parts.join('\n')}</svg>\n`;
}
