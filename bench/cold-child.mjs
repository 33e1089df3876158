// A process that is killed (`prepare`), and the one that comes after it (`resume`).
import { ENGINES } from './engines/index.mjs';
import { hooks, sumOf } from './journey.mjs';

const { mode, engine: name, dir, runs, count, spawnedAt, ...options } = JSON.parse(process.argv[2]);
const sinceSpawn = () => Number(process.hrtime.bigint() - BigInt(spawnedAt)) / 1e6;
const say = (found) => console.log(JSON.stringify(found));
const rss = () => process.memoryUsage.rss();
const payloadOf = (index) => ({ count, key: `key-${index}` });
const { open } = await ENGINES[name].load();

if (mode === 'prepare') {
  const engine = await open(dir, options);
  let asked = 0;
  let last;
  const all = new Promise((resolve) => {
    hooks.asks = (key) => {
      last = key;
      if (++asked === runs) resolve();
    };
  });
  for (let at = 0; at < runs; at += 500) {
    const part = Array.from({ length: Math.min(500, runs - at) }, (_each, index) => at + index);
    await Promise.all(part.map((index) => engine.start(`run-${index}`, payloadOf(index))));
  }
  await all;
  while (!(await engine.isWaiting(`run-${last.slice(4)}`, last)))
    await new Promise((resolve) => setTimeout(resolve, 5));
  say({ ready: true });
  setInterval(() => undefined, 1_000); // until it is killed
} else {
  const loadedMs = sinceSpawn();
  const engine = await open(dir, options);
  const openMs = sinceSpawn();
  const index = runs >> 1;
  let entered = 0;
  hooks.step = () => entered++;
  const resumed = new Promise((resolve) => {
    hooks.resumed = () => resolve(sinceSpawn());
  });
  await engine.dispatch(`key-${index}`, { bonus: 7 });
  const stepMs = await resumed;
  const found = { loadedMs, openMs, stepMs, rssAfter: rss() };
  const result = await engine.result(`run-${index}`, payloadOf(index));
  const isRight = result === sumOf(payloadOf(index)) && entered === 1;
  say(isRight ? found : { error: `result ${result}, steps run again: ${entered - 1}` });
  process.exit(0);
}
