// One measurement in a process of its own: `node cell.mjs '{"engine", "workload", "dir", ...}'`. Prints one line of JSON.
import { ENGINES } from './engines/index.mjs';
import { RAW } from './raw.mjs';
import { WORKLOADS } from './workloads.mjs';

const { engine: name, workload, dir, calibrateMs = 150, ...options } = JSON.parse(process.argv[2]);

if (name === 'raw') {
  const found = {};
  for (const [form, measure] of Object.entries(RAW)) found[form] = await measure(dir, options.ms ?? 300);
  console.log(JSON.stringify(found));
} else {
  const { flush, durability, open } = await ENGINES[name].load();
  // The disk drifts from second to second: its own speed is taken right before and right after, in this very process.
  const raw = RAW[flush];
  const before = raw && (await raw(dir, calibrateMs));
  const engine = await open(`${dir}/store`, options);
  const cpu = process.cpuUsage();
  const found = await WORKLOADS[workload](engine, options);
  const { user, system } = process.cpuUsage(cpu);
  const rss = process.memoryUsage.rss();
  await engine.close();
  const after = raw && (await raw(dir, calibrateMs));
  console.log(
    JSON.stringify({
      ...found,
      rss,
      cpuMs: (user + system) / 1000,
      ...(raw && { raw: (before + after) / 2 }),
      info: { flush, durability },
    }),
  );
  process.exit(0);
}
