import { describe, expect, it } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { createStepfast, FatalError } from '../src/index.js';
import { simulatedClock } from '../src/testing/index.js';
import { hands, settle, soon } from './hand-kit.js';

// Pins: an undo waits for the attempt that it undoes, where that has lost its race or run out of time and is still in flight in
// this context, and is handed what it came to (spec F7, F8, E11). Ended from outside: undo.test.ts.

const FATES = ['has lost its race', 'has run out of time', 'has run out of time, and was tried again'] as const;

describe.each(FATES)('an attempt that %s', (fate) => {
  const open = () => {
    const h = hands();
    const log: string[] = [];
    const ends: ((value: string) => void)[] = [];
    const charge = () =>
      new Promise<string>((resolve, reject) => {
        ends.push(resolve);
        if (ends.length === 2) reject(new Error('declined'));
      });
    const undo = ({ result }: { readonly result?: unknown }) => void log.push(`undo ${result}`);
    const engine = h.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        const maxAttempts = fate === 'has run out of time' ? 1 : 2;
        const retry = { maxAttempts, initialDelay: '1s', jitter: false } as const;
        if (fate === 'has lost its race')
          await step.race([step.run('charge', charge, { undo }), step.sleep('patience', '1m')]);
        else await step.run('charge', charge, { undo, timeout: '1m', retry });
        throw new FatalError('sold out');
      });
    });
    return { h, engine, log, ends };
  };

  it('F7: is waited for by its undo, which is handed what it comes to', async () => {
    const { h, engine, log, ends } = open();
    await engine.start('order', undefined, { id: 'r' });
    await h.advance(70_000);
    expect([h.row('r')!.status, h.row('r')!.undoing, log]).toEqual(['failed', true, []]);
    log.push('charged');
    ends[0]!('ch_1');
    await settle();
    expect([log, h.row('r')!.undoing]).toEqual([['charged', 'undo ch_1'], undefined]);
    await soon(engine.close());
  });

  it('F7: is waited for no longer than five seconds', async () => {
    const { h, engine, log } = open();
    await engine.start('order', undefined, { id: 'r' });
    await h.advance(70_000);
    await h.impatient(4_999);
    expect(log).toEqual([]);
    await h.impatient(5_000);
    expect(log).toEqual(['undo undefined']);
    await soon(engine.close());
  });
});

it('F7: what a simulated clock has moved on without is not waited for', async () => {
  const clock = simulatedClock({ patience: 200 });
  const engine = createStepfast({ store: memoryStore(), clock });
  const log: string[] = [];
  engine.job('order', { retry: { maxAttempts: 1 } }, ({ step }) =>
    step.run('charge', () => new Promise<never>(() => undefined), { timeout: '1m', undo: () => void log.push('undo') }),
  );
  await engine.start('order');
  await clock.advance('2m'); // an undo that waits is work under way, and would outlast this patience
  expect(log).toEqual(['undo']);
  await engine.close();
});
