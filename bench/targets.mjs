// What stepfast set out to reach, as checks of the figures: `{ title, found, limit, isReached }`, or nothing where the run
// did not measure it. `ratio(engine, workload, against)` is a figure of the JSON.
const find = (cells, engine, workload) => cells.find((cell) => cell.engine === engine && cell.workload === workload);

const atLeast = (title, found, limit, unit = 'x') => ({
  title,
  found,
  limit,
  unit,
  sign: '≥',
  isReached: found >= limit,
});
const atMost = (title, found, limit, unit = 'x') => ({
  title,
  found,
  limit,
  unit,
  sign: '≤',
  isReached: found <= limit,
});

export function targets(cells) {
  const of = (engine, workload, field = 'value') => find(cells, engine, workload)?.[field] ?? undefined;
  const file = (workload, field) => of('stepfast file', workload, field);
  const times = (a, b) => (a === undefined || b === undefined ? undefined : a / b);
  const bare = of('bare Node', 'W4 1,000 steps');
  const over = (value) => (value === undefined || bare === undefined ? undefined : value - bare);
  const all = [
    atLeast('W1 against append + fdatasync on the thread pool', file('W1', 'ratioToRaw'), 0.75),
    atLeast('W1 against openworkflow on SQLite', times(file('W1'), of('openworkflow, SQLite', 'W1')), 5),
    atLeast('W2 against the floor', file('W2', 'ratioToFloor'), 0.5),
    atLeast('W2 against tanstack-core on a log', times(file('W2'), of('tanstack-core on a log', 'W2')), 1.3),
    atLeast(
      'W2 in memory against tanstack-core in memory',
      times(of('stepfast memory', 'W2'), of('tanstack-core, memory', 'W2')),
      2,
    ),
    atMost('W3 total against the floor', file('W3 total', 'ratioToFloor'), 2),
    atMost('W3 event to step, against the floor', file('W3 event to step p50', 'ratioToFloor'), 1.5),
    atLeast(
      'W3 total: tanstack-core on a log takes longer',
      times(of('tanstack-core on a log', 'W3 total'), file('W3 total')),
      1.5,
    ),
    atMost('W4, 1,000 steps: above the start of Node', over(file('W4 1,000 steps')), 15, 'ms'),
    atMost('W4, 10,000 steps: above the start of Node', over(file('W4 10,000 steps')), 45, 'ms'),
    atMost('W5 against the floor', file('W5 start to step', 'ratioToFloor'), 1.2),
    atMost('W5 resident memory', file('W5 RSS'), 80, 'MiB'),
    atMost('fsyncs a step, in sequence', file('fsyncs a step, in sequence'), 1, ''),
    atMost('fsyncs a step, 100 runs at once', file('fsyncs a step, 100 at once'), 0.05, ''),
    atMost('import, above that of an empty module', times(of('stepfast', 'W6 import'), 1), 10, 'ms'),
    atMost(
      'browser: one step commit against raw get + put + put',
      of('stepfast IndexedDB', 'B1 one commit', 'ratioToRaw'),
      1.3,
    ),
    atLeast(
      'browser: 100 runs at once against one transaction each',
      of('stepfast IndexedDB', 'B2 100 at once', 'ratioToRaw'),
      2,
    ),
    atLeast(
      'browser: one step commit, Dexie takes longer',
      times(of('Dexie', 'B1 one commit'), of('stepfast IndexedDB', 'B1 one commit')),
      1.5,
    ),
    atMost('browser: resume of 1,000 steps after a reload', of('stepfast IndexedDB', 'B3 resume'), 15, 'ms'),
  ];
  return all.filter(({ found }) => found !== undefined && found !== null);
}
