// What is measured: for each workload the engines, the options, and which figures come out of it.

/** `value` of a figure, its unit, and the raw operation and the floor that it is compared with. */
const rate = (name, of, unit = 'steps/s') => ({ name, of, unit });
const ms = (name, of) => ({ name, of, unit: 'ms' });

const FILE = ['floor', 'stepfast file'];
const MEMORY = ['floor, memory', 'stepfast memory'];

export const FLOORS = {
  'floor, memory': ['stepfast memory', 'stepfast file, relaxed', 'tanstack-core, memory'],
  'floor, sync API': ['stepfast file, sync API'],
};
/** Which floor an engine is measured by: that of the same kind of flush. */
export const floorOf = (engine) => Object.keys(FLOORS).find((floor) => FLOORS[floor].includes(engine)) ?? 'floor';

export function workloads({ quick, full, peers = {} }) {
  const steps = quick ? 300 : 1_000;
  const runs = quick ? 200 : 1_000;
  const with100 = { concurrency: 100 };
  const peersOf = (workload) => Object.keys(peers).filter((name) => peers[name].workloads.includes(workload));
  return [
    {
      id: 'W1',
      title: `one run of ${steps} steps in a row`,
      workload: 'W1',
      engines: [...FILE, 'floor, sync API', 'stepfast file, relaxed', ...MEMORY, ...peersOf('W1')],
      options: { steps },
      figures: [rate('W1', ({ stepsPerS }) => stepsPerS)],
    },
    ...(full
      ? [
          {
            id: 'W1',
            title: 'one run of 10000 steps in a row',
            workload: 'W1',
            engines: [...FILE, ...MEMORY],
            options: { steps: 10_000 },
            figures: [rate('W1 10,000', ({ stepsPerS }) => stepsPerS)],
          },
        ]
      : []),
    {
      id: 'W2',
      title: `${runs} runs of 5 steps at once, concurrency 100`,
      workload: 'W2',
      engines: [...FILE, 'stepfast file, relaxed', ...MEMORY, ...peersOf('W2')],
      options: { runs, ...with100 },
      figures: [rate('W2', ({ stepsPerS }) => stepsPerS)],
    },
    {
      id: 'W2',
      title: `the same with the default concurrency of a queue`,
      workload: 'W2',
      engines: FILE,
      options: { runs },
      figures: [rate('W2 default queue', ({ stepsPerS }) => stepsPerS)],
    },
    {
      id: 'W3',
      title: `${quick ? 100 : 500} onboardings: 2 steps, an event, 1 step`,
      workload: 'W3',
      engines: [...FILE, ...MEMORY, ...peersOf('W3')],
      options: { runs: quick ? 100 : 500, singles: quick ? 30 : 50, ...with100 },
      figures: [
        ms('W3 total', ({ totalMs }) => totalMs),
        ms('W3 event to step p50', ({ latencyP50 }) => latencyP50),
        ms('W3 event to step p99', ({ latencyP99 }) => latencyP99),
      ],
    },
    {
      id: 'W4',
      title: 'killed; a new process; the run takes its next step',
      isCold: true,
      engines: FILE,
      options: { runs: 1, count: 1_000 },
      figures: [ms('W4 1,000 steps', ({ stepMs }) => stepMs)],
    },
    {
      id: 'W4',
      // A run has at most 10,000 outcomes: some are left for what comes after.
      title: 'the same, 9,990 finished steps',
      isCold: true,
      engines: quick ? [] : FILE,
      options: { runs: 1, count: 9_990 },
      figures: [ms('W4 10,000 steps', ({ stepMs }) => stepMs)],
    },
    {
      id: 'W5',
      title: `${quick ? 1_000 : 10_000} waiting runs; killed; a new process; one event`,
      isCold: true,
      engines: FILE,
      options: { runs: quick ? 1_000 : 10_000, count: 0, ...with100 },
      figures: [
        ms('W5 start to step', ({ stepMs }) => stepMs),
        { name: 'W5 RSS', of: ({ rssAfter }) => rssAfter / 2 ** 20, unit: 'MiB' },
      ],
    },
    {
      id: 'W8',
      title: 'what a step costs in a run that is long already',
      workload: 'W8steps',
      engines: [...FILE, 'stepfast memory'],
      options: { steps: quick ? 1_000 : 10_000 },
      figures: [10, 100, 1_000, 10_000]
        .filter((length) => !quick || length <= 1_000)
        .map((length) => ({ name: `W8 step at ${length}`, of: (found) => found[length], unit: 'µs' })),
    },
    {
      id: 'W8',
      title: 'what an event costs, to the next step, when many runs wait',
      workload: 'W8dispatch',
      engines: [...FILE, 'stepfast memory'],
      options: { sizes: quick ? [1, 1_000] : full ? [1, 1_000, 100_000] : [1, 1_000, 10_000], ...with100 },
      figures: (quick ? [1, 1_000] : full ? [1, 1_000, 100_000] : [1, 1_000, 10_000]).map((size) =>
        ms(`W8 dispatch at ${size}`, (found) => found[size]),
      ),
    },
  ];
}
