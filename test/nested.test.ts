import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Step, Stepfast } from '../src/index.js';
import { everyWay } from './crash-everywhere.js';

// Pins: spec R9: a `step.*` call inside the function of a step is refused; what that function does with the engine is not.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

const run = async (engine: Stepfast, id = 'r') => (await engine.runs.get(id))!;
const kindsOf = async (engine: Stepfast, id = 'r') =>
  (await engine.runs.timeline(id)).map(({ kind, name }) => (name === undefined ? kind : `${kind} ${name}`));

const words: readonly [word: string, call: (step: Step) => unknown][] = [
  ['run', (step) => step.run('inner', () => 1)],
  ['waitForEvent', (step) => step.waitForEvent('inner')],
  ['sleep', (step) => step.sleep('inner', '1h')],
  ['sleepUntil', (step) => step.sleepUntil('inner', 0)],
  ['dispatch', (step) => step.dispatch('inner')],
  ['call', (step) => step.call('inner')],
  ['start', (step) => step.start('inner')],
  ['race', (step) => step.race([Promise.resolve(1)])],
  ['restart', (step) => step.restart()],
  ['now', (step) => step.now()],
  ['uuid', (step) => step.uuid()],
  ['random', (step) => step.random()],
];

everyWay('a step within a step', (open) => {
  it.each(words)('R9: step.%s is refused with NESTED_STEP, and the step fails at once', async (_, call) => {
    for (const awaits of [false, true]) {
      const w = open();
      const engine = w.engine((stepfast) =>
        stepfast.job('nested', ({ step }) =>
          step.run('outer', async () => {
            w.log.push('outer');
            if (awaits) await new Promise((resolve) => setTimeout(resolve, 1));
            await call(step);
          }),
        ),
      );
      await engine.start('nested', undefined, { id: 'r' });
      await w.clock.advance('1h');
      const { status, error, attempts } = await run(engine);
      expect([status, error?.step, attempts.map((each) => each.error.code)]).toEqual([
        'failed',
        'outer',
        ['NESTED_STEP'],
      ]);
      expect(error?.message).toContain('inside the function of a step');
      expect(await kindsOf(engine)).toEqual(['started', 'claimed', 'step-failed outer', 'failed']);
      expect(w.log).toEqual(['outer']);
    }
  });

  it('R9: refused in an undo as well', async () => {
    const w = open();
    const codes: unknown[] = [];
    const engine = w.engine((stepfast) =>
      stepfast.job('nested', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        await step.run('outer', () => 1, {
          undo: () => {
            try {
              void step.run('inner', () => 1);
            } catch (error) {
              codes.push((error as { code: string }).code);
            }
          },
        });
        throw new Error('undo it');
      }),
    );
    await engine.start('nested', undefined, { id: 'r' });
    await w.clock.idle();
    expect([(await run(engine)).status, codes]).toEqual(['failed', ['NESTED_STEP']]);
  });

  it('R9: a refused call counts as none: the steps around it keep their identities', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('nested', async ({ step }) => {
        const inner = () => step.run('same', () => w.log.push('never'));
        const caught = await step.run('outer', () => {
          try {
            void inner();
          } catch (error) {
            return (error as { code: string }).code;
          }
        });
        return [caught, await step.run('same', () => 'first')];
      }),
    );
    await engine.start('nested', undefined, { id: 'r' });
    await w.clock.idle();
    expect((await run(engine)).result).toEqual(['NESTED_STEP', 'first']);
    expect((await engine.runs.timeline('r')).find(({ name }) => name === 'same')).toMatchObject({ occurrence: 1 });
    expect(w.log).toEqual([]);
  });

  it('R9: starting a run and dispatching from within a step works, and the steps of the other run are not nested', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('other', async ({ step }) => {
        const first = await step.run('first', async () => {
          await Promise.resolve();
          return 1;
        });
        const { payload } = await step.waitForEvent<number>('inside');
        return first + payload + (await step.run('last', () => 1));
      });
      stepfast.job('outer', async ({ step }) => {
        const id = await step.run('start', async () => (await stepfast.start('other', undefined, { id: 'o' })).id);
        const receipt = await step.run('dispatch', () => stepfast.dispatch('inside', 40));
        const result = await step.run('result', async () => {
          for (let look = 0; look < 1_000; look++) {
            const found = await stepfast.runs.get('o');
            if (found?.endedAt !== undefined) return found.result;
            await new Promise((resolve) => setTimeout(resolve, 1));
          }
          return 'not there';
        });
        const own = await step.run('own', () => 'own');
        return [id, receipt.deduplicated, result, own];
      });
    });
    await engine.start('outer', undefined, { id: 'r' });
    await w.clock.idle();
    expect((await run(engine)).result).toEqual(['o', false, 42, 'own']);
    expect(w.errors).toEqual([]);
  });

  it('R9: a handler that is woken by the step of another run is outside of it', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('waits', async ({ step }) => {
        await step.waitForEvent('inside');
        return Promise.all([step.run('a', () => 'a'), step.now().then(() => step.run('b', () => 'b'))]);
      });
      stepfast.job('sends', ({ step }) => step.run('send', () => stepfast.dispatch('inside')));
    });
    await engine.start('waits', undefined, { id: 'r' });
    await w.clock.idle();
    await engine.start('sends', undefined, { id: 's' });
    await w.clock.idle();
    expect([(await run(engine)).result, (await run(engine, 's')).status]).toEqual([['a', 'b'], 'completed']);
  });
});
