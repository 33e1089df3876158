// `npm run bench:report -- FILE...`: docs/performance.md and its plots, out of the JSON of the benches. No figure in it is
// written by hand.
import { readFileSync, writeFileSync } from 'node:fs';
import { curves, plot } from './plot.mjs';
import { targets } from './targets.mjs';

const files = process.argv.slice(2);
if (!files.length)
  throw new Error('Name the JSON files of `npm run bench -- --json FILE` and `npm run bench:browser`.');
const reports = files.map((file) => JSON.parse(readFileSync(file, 'utf8')));
const [first] = reports;
const cells = reports.flatMap((report) => report.cells);
const docs = new URL('../docs/', import.meta.url).pathname;

const shown = (value) => {
  if (value === null || value === undefined) return '';
  if (value >= 100) return Math.round(value).toLocaleString('en');
  return value >= 10 ? value.toFixed(1) : value.toPrecision(2);
};
const table = (head, rows) => [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');

const groups = [
  [
    'Raw limits of the disk',
    (name) => ['sync', 'pool', 'mixed', 'paced', 'group', 'replace'].includes(name),
    `Append + fdatasync by the sync API, on the thread pool, and with the append alone in place (\`mixed\`); the last after 0.1 ms of
work each, which is left out (\`paced\`): a disk and a processor that were at rest take longer, so one who computes between two
flushes can not have the rate of one who does not. Then 100 records a flush, and a file replaced as a whole.`,
  ],
  ['W1: one run of steps in a row', (name) => name.startsWith('W1')],
  ['W2: many runs of 5 steps at once', (name) => name.startsWith('W2')],
  ['W3: onboardings (2 steps, an event by its key, 1 step)', (name) => name.startsWith('W3')],
  ['W4: killed, a new process, the next step', (name) => name.startsWith('W4')],
  ['W5: waiting runs, killed, a new process, one event', (name) => name.startsWith('W5')],
  ['W6: what an app takes on', (name) => name.startsWith('W6')],
  ['W8: growth', (name) => name.startsWith('W8')],
  ['fsyncs, counted with strace', (name) => name.startsWith('fsyncs')],
  ['Browser', (name) => /^B\d/.test(name)],
];

const section = ([title, fits, note]) => {
  const found = cells.filter(({ workload }) => fits(workload));
  if (!found.length) return '';
  const rows = found.map(({ engine, workload, value, unit, spread, ratioToRaw, ratioToFloor, node }) => [
    workload,
    engine + (node ? ` (Node ${node})` : ''),
    `${shown(value)} ${unit}`,
    `±${(spread * 50).toFixed(0)} %`,
    shown(ratioToRaw),
    shown(ratioToFloor),
  ]);
  const said = note ? `${note}\n\n` : '';
  return `## ${title}\n\n${said}${table(['figure', 'engine', 'median', 'spread', '/ raw', '/ floor'], rows)}\n`;
};

const found = targets(cells);
const missed = found.filter(({ isReached }) => !isReached);
const targetRows = found.map(({ title, found: value, limit, unit, sign, isReached }) => [
  title,
  `${sign} ${limit}${unit}`,
  `${shown(value)}${unit}`,
  isReached ? 'reached' : `**not reached**, by ${shown(sign === '≥' ? limit / value : value / limit)}x`,
]);

/** Figures of rate and time in which another engine that keeps runs is ahead. */
const ahead = cells
  .filter(({ engine }) => engine.startsWith('stepfast'))
  .flatMap((mine) =>
    cells
      .filter(({ engine, workload }) => workload === mine.workload && !/^(stepfast|floor|raw|bare)/.test(engine))
      .filter((peer) => (peer.flush === 'none') === (mine.flush === 'none'))
      .filter((peer) => (/\/s$/.test(mine.unit) ? peer.value > mine.value : peer.value < mine.value))
      .map(
        (peer) =>
          `- ${mine.workload}: ${peer.engine} ${shown(peer.value)} ${peer.unit}, ${mine.engine} ${shown(mine.value)}`,
      ),
  );

const classes = [...new Map(cells.filter((cell) => cell.durability).map((cell) => [cell.engine, cell])).values()];
const pick = (workload) => cells.filter((cell) => cell.workload === workload);
const bars = ['W1', 'W2', 'W3 total', 'W3 event to step p50', 'B1 one commit', 'B2 100 at once']
  .map((workload) => ({ title: workload, bars: pick(workload) }))
  .filter((group) => group.bars.length);
writeFileSync(`${docs}performance.svg`, plot(bars));

const growth = (prefix) => {
  const by = new Map();
  for (const { engine, workload, value } of cells) {
    if (!workload.startsWith(prefix)) continue;
    const points = by.get(engine) ?? [];
    by.set(engine, points);
    points.push([Number(workload.split(' ').at(-1)), value]);
  }
  return [...by].map(([engine, points]) => ({ engine, points }));
};
const pictures = ['performance.svg'];
for (const [prefix, title, unit, file] of [
  ['W8 step at', 'W8: one step, by the length of its run', 'µs', 'performance-steps.svg'],
  ['W8 dispatch at', 'W8: event to next step, by the number of waiting runs', 'ms', 'performance-dispatch.svg'],
]) {
  const series = growth(prefix);
  if (!series.length || series[0].points.length < 2) continue;
  writeFileSync(docs + file, curves(title, series, unit));
  pictures.push(file);
}

const { cpu, memoryGiB, system, node, disk, load, stepfast, commit, rounds, seconds, date } = first;
const text = `# Performance

Made by \`npm run bench:report\` out of measurements; no figure here is written by hand. \`npm run bench -- --peers --json FILE\`
takes them anew.

${table(
  ['', ''],
  [
    ['stepfast', `${stepfast} (${commit})`],
    [
      'taken',
      `${date.slice(0, 10)}, ${rounds} rounds in ${seconds} s${first.flags?.quick ? ', small sizes (--quick)' : ''}`,
    ],
    ...reports.flatMap(({ browser }) => (browser ? [['browser', browser]] : [])),
    ['machine', `${cpu}, ${memoryGiB} GiB, ${system}, load ${load.toFixed(1)} at the end`],
    ['disk', `${disk?.type ?? '?'}`],
    ['Node', node],
  ],
)}

Each figure is the median of fresh processes, taken in rounds in which all engines take turns; the spread is half the distance
between the least and the greatest. **Only ratios say something**: a disk like this one drifts by a factor of three within an
hour. \`/ raw\` is against append + fdatasync by the same kind of call, taken in the same process right before and after;
\`/ floor\` against the floor in the same round. The floor is the thinnest replay engine on one log with group commit that we
could write (\`bench/floor.mjs\`): no retries, leases, timeouts, versions, checksums. For times, less is better.

Every cell checks its results, how often steps were entered, and what is recorded. The file store runs with its defaults, so a
step's promise resolves after an fdatasync; W2, W3 and W5 raise the concurrency of the queue from 8 to 100.

${pictures.map((file) => `![${file}](${file})`).join('\n\n')}

## Targets

${table(['target', 'limit', 'measured', ''], targetRows)}

${missed.length} of ${found.length} are not reached.

## Where a peer is better

${ahead.length ? ahead.join('\n') : 'In no row of the same durability.'}

## Durability of each engine

${table(
  ['engine', 'what has happened when a step resolves'],
  classes.map(({ engine, durability }) => [engine, durability]),
)}

${groups.map(section).filter(Boolean).join('\n')}${
  reports.some(({ failures }) => failures?.length)
    ? `\n## Failed\n\n${reports.flatMap(({ failures = [] }) => failures.map((each) => `- ${each.engine}, ${each.workload}: ${each.error.split('\n')[0]}`)).join('\n')}\n`
    : ''
}`;
writeFileSync(`${docs}performance.md`, `${text.trimEnd()}\n`);
console.log(`docs/performance.md: ${cells.length} figures, ${missed.length} of ${found.length} targets not reached`);
