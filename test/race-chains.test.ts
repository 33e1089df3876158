import { expect, it } from 'vitest';
import type { Stepfast } from '../src/index.js';
import { everyWay } from './crash-everywhere.js';

// Pins: what a chain on a step has come to by the time when it loses a race is withdrawn (spec E11).

everyWay('a chain that loses a race', (open) => {
  it('E11: takes no event with the wait that it has come to, also after a crash', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      stepfast.job('order', async ({ step }) => {
        const first = await step.race([
          step
            .run('send', () => 'sent')
            .then(() => step.waitForEvent<string>('confirmed', { name: 'loser' }))
            .finally(() => undefined),
          step.sleep('patience', '1h'),
        ]);
        const second = await step.waitForEvent<string>('confirmed', { name: 'second' });
        return [first?.payload, second.payload];
      });
    };
    const before = w.engine(define);
    await before.start('order', undefined, { id: 'r' });
    await w.clock.idle();
    expect((await before.runs.get('r'))!.waitingFor).toMatchObject([{ events: ['confirmed'] }]);
    await w.clock.advance('2h');
    expect((await before.runs.get('r'))!.waitingFor).toMatchObject([{ events: ['confirmed'] }]); // the second, alone
    w.crash(before);
    const after = w.engine(define);
    await after.dispatch('confirmed', 'late');
    await w.clock.idle();
    expect((await after.runs.get('r'))!.result).toEqual([undefined, 'late']);
  });

  it('E11: has the function aborted that it has come to, in a race within a race as well', async () => {
    const w = open();
    const aborted: string[] = [];
    const hangs =
      (name: string) =>
      ({ signal }: { readonly signal: AbortSignal }) =>
        new Promise<never>((_, reject) => {
          w.log.push(name);
          signal.addEventListener('abort', () => {
            aborted.push(name);
            reject(signal.reason);
          });
        });
    const engine = w.engine((stepfast) =>
      stepfast.job('order', async ({ step }) => {
        await step.race([
          step.run('a', () => 1).then(() => step.race([step.run('b', hangs('b')), step.run('c', hangs('c'))])),
          step.waitForEvent('enough'),
        ]);
        await step.waitForEvent('go');
      }),
    );
    await engine.start('order', undefined, { id: 'r' });
    await expect.poll(() => w.log).toEqual(['b', 'c']);
    await engine.dispatch('enough');
    await expect.poll(() => aborted).toEqual(['b', 'c']);
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'waiting', waitingFor: [{ events: ['go'] }] });
  });

  it('E11: asks for nothing more, where it has lost before it came to its next link', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('order', async ({ step }) => {
        await step.race([
          step.sleep('long', '1h').then(() => step.run('late', () => void w.log.push('late'))),
          step.sleep('short', '1m'),
        ]);
        await step.sleep('on', '3h');
        return 'done';
      }),
    );
    const run = await engine.start('order');
    await w.clock.advance('5h');
    expect([await run.result(), w.log]).toEqual(['done', []]);
  });

  it('E11: wins by what it has come to', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      stepfast.job('order', async ({ step }) => {
        const first = await step.race([
          step.run('send', () => 'sent').then(() => step.waitForEvent<string>('confirmed')),
          step.sleep('patience', '1h'),
        ]);
        await step.sleep('on', '3h');
        return first?.payload;
      });
    };
    const before = w.engine(define);
    const run = await before.start('order', undefined, { id: 'r' });
    await w.clock.idle();
    await before.dispatch('confirmed', 'yes');
    await w.clock.idle();
    expect(await run.status()).toBe('sleeping');
    w.crash(before);
    const after = w.engine(define);
    await after.ready();
    await w.clock.advance('5h');
    expect((await after.runs.get(run.id))!.result).toBe('yes');
  });
});
