import { describe, expect, it } from 'vitest';
import { memoryMedium, memoryStore } from '../../adapters/memory/index.js';
import { StepfastError } from '../../src/errors.js';
import type { Store } from '../../src/store/store.js';
import { conformanceCases, runConformance, storeConformance } from '../../src/testing/conformance.js';

/** A memory store with the rules of one that has a single driver at a time: what the others must not do, throws. */
function loneDriverMedium() {
  const medium = memoryMedium();
  let driver: Store | undefined;
  return (): Store => {
    const inner = memoryStore({ medium });
    const locked = new StepfastError('STORE_LOCKED', 'Another context drives this store.');
    const leave = () => {
      if (driver === inner) driver = undefined;
    };
    const assertDriver = () => {
      if (driver && driver !== inner) throw locked;
    };
    return {
      ...inner,
      name: 'lone driver',
      capabilities: { ...inner.capabilities, owners: 'one' },
      async open(options) {
        await inner.open(options);
        if (options.mode === 'drive') assertDriver();
        if (options.mode === 'drive') driver = inner;
      },
      async commit(batch) {
        if (batch.run && batch.run.fence !== 'any') assertDriver();
        return inner.commit(batch);
      },
      async due(query) {
        assertDriver();
        return inner.due(query);
      },
      async close() {
        await inner.close();
        leave();
      },
      abandon() {
        inner.abandon?.();
        leave();
      },
    };
  };
}

const memory = () => {
  const medium = memoryMedium();
  return () => memoryStore({ medium });
};

storeConformance('lone driver', loneDriverMedium, { describe, it });

describe('the conformance suite', () => {
  it('has at least 90 cases, each with a name of its own', () => {
    expect(conformanceCases.length).toBeGreaterThanOrEqual(90);
    expect(new Set(conformanceCases.map(({ name }) => name)).size).toBe(conformanceCases.length);
  });

  it('runs without a test runner and tells of each case', async () => {
    const told: string[] = [];
    const results = await runConformance(memory, { onResult: ({ name }) => told.push(name) });
    expect(results.filter(({ kind }) => kind !== 'passed')).toEqual([]);
    expect(told).toEqual(conformanceCases.map(({ name }) => name));
  });

  it('passes over what a store declares it can not do, and says why', async () => {
    const results = await runConformance(loneDriverMedium);
    const skipped = results.flatMap((result) => (result.kind === 'skipped' ? [result.name] : []));
    expect(skipped).toEqual(conformanceCases.filter(({ owners }) => owners === 'many').map(({ name }) => name));
    expect(results.find(({ kind }) => kind === 'skipped')).toMatchObject({
      reason: 'one context at a time drives this store',
    });
  });

  it('fails a store that forgets what it has acknowledged', async () => {
    const asked = 'a store that is opened again sees everything';
    const others = conformanceCases
      .filter(({ name }) => name !== asked)
      .map(({ name }) => [name, 'not asked'] as const);
    const results = await runConformance(() => () => memoryStore(), { skip: Object.fromEntries(others) });
    expect(results.flatMap(({ kind, name }) => (kind === 'failed' ? [name] : []))).toEqual([asked]);
  });

  it('passes over a case that is to be skipped, with the reason given', async () => {
    const { name } = conformanceCases[0]!;
    const [first] = await runConformance(memory, { skip: { [name]: 'not yet' } });
    expect(first).toMatchObject({ kind: 'skipped', name, reason: 'not yet' });
  });

  it('refuses to skip what is no case', async () => {
    await expect(runConformance(memory, { skip: { 'no such case': 'a typo' } })).rejects.toThrow('no such case');
  });

  it('shows a skip with its reason to the test runner', async () => {
    const { name } = conformanceCases[0]!;
    const bodies = new Map<string, (context: object) => Promise<void>>();
    storeConformance('memory', memory, {
      describe: (_, body) => body(),
      it: (title, body) => bodies.set(title, body),
      skip: { [name]: 'not yet' },
    });
    const reasons: string[] = [];
    await bodies.get(`${name} (skipped: not yet)`)?.({ skip: (reason: string) => reasons.push(reason) });
    expect(reasons).toEqual(['not yet']);
  });
});
