// W1, W2, W3 and W8, in one process. Each returns figures, and throws when the engine has not done what it was asked.
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { entered, hooks, stepsOf, sumOf } from './journey.mjs';
import { quantile } from './stats.mjs';

const now = () => performance.now();
const ids = (prefix, count) => Array.from({ length: count }, (_, index) => `${prefix}-${index}`);

/** Every run has the sum that it must have, every step was entered once, and is recorded. */
async function verify(engine, runs, results, stepsBefore) {
  const wanted = runs.map(([, payload]) => sumOf(payload));
  assert.deepEqual(results, wanted, 'results');
  const steps = runs.reduce((sum, [, payload]) => sum + stepsOf(payload), 0);
  assert.equal(entered.steps - stepsBefore, steps, 'entered steps');
  if (!engine.recorded) return;
  for (const [id, payload] of [runs[0], runs.at(-1)])
    assert.equal(await engine.recorded(id), stepsOf(payload), `recorded steps of ${id}`);
}

/** Engines compile their hot paths in the first moments; a long-lived process is past them. */
async function warmUp(engine, prefix, runs, count) {
  const warm = ids(`${prefix}-warm`, runs);
  await Promise.all(warm.map((id) => engine.start(id, { count })));
  await Promise.all(warm.map((id) => engine.result(id)));
}

/** W1: one run of many steps in a row. */
export async function W1(engine, { steps = 1_000 }) {
  await warmUp(engine, 'w1', 1, 50);
  const before = entered.steps;
  const payload = { count: steps };
  const start = now();
  await engine.start('w1', payload);
  const result = await engine.result('w1');
  const ms = now() - start;
  await verify(engine, [['w1', payload]], [result], before);
  return { stepsPerS: (steps / ms) * 1000 };
}

/** W2: many runs of 5 steps at once. */
export async function W2(engine, { runs: count = 1_000 }) {
  await warmUp(engine, 'w2', 10, 5);
  const before = entered.steps;
  const payload = { count: 5 };
  const runs = ids('w2', count).map((id) => [id, payload]);
  const start = now();
  const results = await Promise.all(
    runs.map(async ([id]) => {
      await engine.start(id, payload);
      return engine.result(id);
    }),
  );
  const ms = now() - start;
  await verify(engine, runs, results, before);
  return { stepsPerS: ((count * 5) / ms) * 1000, runsPerS: (count / ms) * 1000 };
}

/** Resolves when so many handlers have asked for their events, and the engine says of the last that it waits. */
function allAsked(engine, count) {
  let asked = 0;
  return new Promise((resolve, reject) => {
    hooks.asks = (key) => {
      if (++asked < count) return;
      (async () => {
        while (!(await engine.isWaiting(`run ${key}`, key))) await delay(1);
        resolve();
      })().catch(reject);
    };
  });
}

/** W3: onboardings: 2 steps, an event by its key, 1 step; first many at once, then the latency of single ones. */
export async function W3(engine, { runs: count = 500, singles = 100 }) {
  await warmUp(engine, 'w3', 10, 3);
  const before = entered.steps;
  const runs = ids('user', count).map((key) => [`run ${key}`, { count: 2, key }]);
  const start = now();
  const waiting = allAsked(engine, count);
  await Promise.all(runs.map(([id, payload]) => engine.start(id, payload)));
  await waiting;
  const waitingMs = now() - start;
  const ended = runs.map(([id]) => engine.result(id));
  await Promise.all(runs.map(([, { key }]) => engine.dispatch(key, { bonus: 7 })));
  const results = await Promise.all(ended);
  const totalMs = now() - start;
  await verify(engine, runs, results, before);

  const latencies = [];
  for (const key of ids('single', singles)) {
    const asked = allAsked(engine, 1);
    await engine.start(`run ${key}`, { count: 2, key });
    await asked;
    const resumed = new Promise((resolve) => {
      hooks.resumed = () => resolve(now());
    });
    const sent = now();
    void engine.dispatch(key, { bonus: 7 });
    latencies.push((await resumed) - sent);
    assert.equal(await engine.result(`run ${key}`), sumOf({ count: 2, key }));
  }
  return { totalMs, waitingMs, latencyP50: quantile(latencies, 0.5), latencyP99: quantile(latencies, 0.99) };
}

/** W8: what one step costs when the run is long already. */
export async function W8steps(engine, { steps = 10_000 }) {
  await warmUp(engine, 'w8', 1, 200);
  const at = [];
  hooks.step = () => at.push(now());
  const before = entered.steps;
  const payload = { count: steps };
  await engine.start('w8', payload);
  const result = await engine.result('w8');
  await verify(engine, [['w8', payload]], [result], before);
  const found = {};
  for (const length of [10, 100, 1_000, 10_000]) {
    if (length > steps) break;
    const from = Math.floor(length * 0.8);
    const gaps = at.slice(from, length).map((time, index) => time - at[from + index - 1]);
    found[length] = quantile(gaps.slice(1), 0.5) * 1000;
  }
  return found;
}

/** W8: what a dispatch costs, up to the next step, when so many runs wait. */
export async function W8dispatch(engine, { sizes = [1, 1_000, 100_000], samples = 50 }) {
  const found = {};
  let made = 0;
  const start = async (from, to) => {
    const asked = allAsked(engine, to - from);
    for (let at = from; at < to; at += 500) {
      const batch = Array.from({ length: Math.min(500, to - at) }, (_, index) => `k-${at + index}`);
      await Promise.all(batch.map((key) => engine.start(`run ${key}`, { count: 0, key })));
    }
    await asked;
  };
  await start(0, 200); // the first ones warm the engine up, and are gone when it is measured
  for (let index = 0; index < 200; index++) await engine.dispatch(`k-${index}`, { bonus: 7 });
  for (let index = 0; index < 200; index++) await engine.result(`run k-${index}`);
  made = 200;
  for (const size of sizes) {
    const need = Math.max(size, samples);
    const latencies = [];
    if (size > 1) await start(made, made + need);
    for (let index = 0; index < samples; index++) {
      if (size === 1) await start(made + index, made + index + 1);
      const key = `k-${made + index}`;
      const resumed = new Promise((resolve) => {
        hooks.resumed = () => resolve(now());
      });
      const sent = now();
      void engine.dispatch(key, { bonus: 7 });
      latencies.push((await resumed) - sent);
      assert.equal(await engine.result(`run ${key}`), 7);
    }
    made += need;
    found[size] = quantile(latencies, 0.5);
  }
  return found;
}

export const WORKLOADS = { W1, W2, W3, W8steps, W8dispatch };
