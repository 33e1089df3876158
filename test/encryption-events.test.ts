import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { DispatchOptions, Step, Stepfast } from '../src/index.js';
import { keyVault, plugin } from './encryption-kit.js';
import { type Medium, onEveryStore, world } from './harness.js';

// Pins: an event that can not be opened is not there, as far as a run can see: it takes those that can be opened, times out,
// and goes on with everything else. It is told of once, stays in the store, and is taken when its key is back before that.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => vi.restoreAllMocks());

interface Note {
  readonly from: string;
  readonly urgent?: boolean;
}

const missing = expect.objectContaining({ code: 'KEY_MISSING' });
const team = { correlationKey: 'team:7' };
const onTimeout = 'continue';

/** A world in which each event has the key of whom `send` names, and one job, which begins with a sleep of an hour. */
function worldOf(medium: Medium, wait: (step: Step) => Promise<unknown>) {
  const w = world(medium);
  const vault = keyVault('user:1', 'user:2');
  const key = vault.keys.get('user:1')!;
  let from = '';
  const options = { ...vault.options, keyOf: ({ kind }: { kind: string }) => (kind === 'event' ? from : undefined) };
  const define = (stepfast: Stepfast) =>
    void stepfast.job('job', async ({ step }) => {
      await step.sleep('weekend', '1h');
      return wait(step);
    });
  const send = async (stepfast: Stepfast, who: string, given: DispatchOptions & { readonly urgent?: true } = {}) => {
    const { urgent, ...place } = given;
    from = who;
    await stepfast.dispatch('note', { from, ...(urgent && { urgent }) }, { ...team, ...place });
  };
  return {
    w,
    engine: () => w.engine(define, { use: [plugin(options)] }),
    /** It drives nothing. */
    otherEngine: () => w.engine(undefined, { use: [plugin(options)] }),
    send,
    /** Sends an event whose key is gone by the time a run could take it. */
    async seal(stepfast: Stepfast, given?: Parameters<typeof send>[2]) {
      vault.keys.set('user:1', key);
      await send(stepfast, 'user:1', given);
      vault.keys.delete('user:1');
    },
    giveBack: () => void vault.keys.set('user:1', key),
    async seen(stepfast: Stepfast, runId = 'r') {
      await w.clock.idle();
      const run = await stepfast.runs.get(runId);
      return run?.status === 'completed' ? run.result : run?.status;
    },
  };
}

const takeOne = async (step: Step) => (await step.waitForEvent<Note>('note', team)).payload.from;
const takeTwo = async (step: Step) => {
  const taken: string[] = [];
  for (let count = 0; count < 2; count++) taken.push((await step.waitForEvent<Note>('note', team)).payload.from);
  return taken;
};
const takeUrgent = async (step: Step) => {
  const match = ({ urgent }: Note) => urgent === true;
  return (await step.waitForEvent<Note>('note', { ...team, match })).payload.from;
};
const takeInTime = async (step: Step) => {
  const event = await step.waitForEvent<Note>('note', { ...team, timeout: '1d', onTimeout });
  return event.timedOut ? 'too late' : event.payload.from;
};
const takeEarlier = async (step: Step) => {
  const event = await step.waitForEvent<Note>('note', { ...team, lookback: 'any', timeout: '1d', onTimeout });
  return event.timedOut ? 'too late' : event.payload.from;
};

onEveryStore('events that can not be opened', (medium) => {
  it('E4: a run takes those behind one, and is told of it once', async () => {
    const { w, engine, send, seal, seen } = worldOf(medium, takeTwo);
    const stepfast = engine();
    await stepfast.start('job', undefined, { id: 'r' });
    for (let count = 0; count < 3; count++) await seal(stepfast);
    await send(stepfast, 'user:2');
    await w.clock.advance('2h');
    expect(await seen(stepfast)).toBe('waiting');
    await send(stepfast, 'user:2');
    expect(await seen(stepfast)).toEqual(['user:2', 'user:2']);
    expect(w.errors).toEqual([missing]);
  });

  it('E4: one that comes while a run waits does not keep it from the next, nor from what it was offered before', async () => {
    for (const [wait, given] of [[takeOne], [takeUrgent, { urgent: true }]] as const) {
      const { w, engine, send, seal, seen } = worldOf(medium, wait);
      const stepfast = engine();
      await stepfast.start('job', undefined, { id: 'r' });
      await w.clock.advance('2h');
      if (given) await send(stepfast, 'user:2');
      await w.clock.idle();
      await seal(stepfast, given);
      expect(await seen(stepfast)).toBe('waiting');
      await send(stepfast, 'user:2', given);
      expect(await seen(stepfast)).toBe('user:2');
    }
  });

  it('E5: a wait times out in spite of one, also after the engine was opened anew', async () => {
    for (const isReopened of [false, true])
      for (const wait of [takeInTime, takeEarlier]) {
        const { w, engine, seal, seen } = worldOf(medium, wait);
        let stepfast = engine();
        await seal(stepfast);
        await stepfast.start('job', undefined, { id: 'r' });
        await seal(stepfast);
        await w.clock.advance('2h');
        expect(await seen(stepfast)).toBe('waiting');
        if (isReopened) {
          await stepfast.close();
          stepfast = engine();
          await stepfast.ready();
        }
        await w.clock.advance('20h');
        expect(await seen(stepfast)).toBe('waiting');
        await w.clock.advance('4h');
        expect(await seen(stepfast)).toBe('too late');
        await stepfast.close();
      }
  });

  it('E5: a wait that is to time out takes the one that can be opened, whichever came first', async () => {
    for (const order of [
      ['user:1', 'user:2'],
      ['user:2', 'user:1'],
    ]) {
      const { w, engine, otherEngine, send, seal, seen } = worldOf(medium, takeInTime);
      const first = engine();
      await first.start('job', undefined, { id: 'r' });
      await w.clock.advance('2h');
      await first.close();
      const other = otherEngine();
      for (const who of order) await (who === 'user:1' ? seal(other) : send(other, who));
      await w.clock.advance('2d');
      await other.close();
      const second = engine();
      await second.ready();
      expect(await seen(second)).toBe('user:2');
      await second.close();
    }
  });

  it('R6: sleeps and steps beside the wait go on', async () => {
    const { w, engine, seal, seen } = worldOf(medium, (step) =>
      step.race([
        takeOne(step),
        (async () => {
          await step.sleep('nap', '1h');
          await step.run('work', () => w.log.push('work'));
          await step.sleep('rest', '1h');
          return 'awake';
        })(),
      ]),
    );
    const stepfast = engine();
    await stepfast.start('job', undefined, { id: 'r' });
    await seal(stepfast);
    await w.clock.advance('90m');
    await seal(stepfast);
    await w.clock.advance('1h');
    expect(w.log).toEqual(['work']);
    await w.clock.advance('1h');
    expect(await seen(stepfast)).toBe('awake');
  });

  it('E1: it is taken when its key is back, at the next look', async () => {
    const calls = [(stepfast: Stepfast) => stepfast.ready(), (stepfast: Stepfast) => stepfast.dispatch('for.nobody')];
    const waits = [[takeInTime], [takeEarlier], [takeUrgent, { urgent: true }]] as const;
    for (const [call, [wait, given]] of calls.flatMap((call) => waits.map((each) => [call, each] as const))) {
      const { w, engine, send, seal, giveBack, seen } = worldOf(medium, wait);
      const stepfast = engine();
      await stepfast.start('job', undefined, { id: 'r' });
      if (wait === takeUrgent) await send(stepfast, 'user:2');
      await seal(stepfast, given);
      await w.clock.advance('2h');
      expect(await seen(stepfast)).toBe('waiting');
      giveBack();
      await call(stepfast);
      expect(await seen(stepfast)).toBe('user:1');
      await stepfast.close();
    }
  });

  it('E1: it is taken when the key comes back after the engine was closed, or has died', async () => {
    for (const isCrash of [false, true])
      for (const isEarly of [false, true]) {
        const { w, engine, seal, giveBack, seen } = worldOf(medium, takeInTime);
        const first = engine();
        await first.start('job', undefined, { id: 'r' });
        if (isEarly) await seal(first);
        await w.clock.advance('2h');
        if (!isEarly) await seal(first);
        await w.clock.idle();
        if (isCrash) w.crash(first);
        else await first.close();
        const second = engine();
        await second.ready();
        expect(await seen(second)).toBe('waiting');
        await second.close();
        giveBack();
        const third = engine();
        await third.ready();
        expect(await seen(third)).toBe('user:1');
        await third.close();
      }
  });

  it('Q4: a run that rests beside one costs no commit with each look', async () => {
    const { w, engine, send, seal, seen } = worldOf(medium, takeUrgent);
    const stepfast = engine();
    await stepfast.start('job', undefined, { id: 'r' });
    for (let count = 0; count < 3; count++) await seal(stepfast);
    await send(stepfast, 'user:2');
    await seal(stepfast);
    await w.clock.advance('2h');
    for (let look = 0; look < 2; look++) {
      await stepfast.ready();
      expect(await seen(stepfast)).toBe('waiting');
    }
    const before = w.commits();
    for (let look = 0; look < 5; look++) {
      await stepfast.ready();
      await w.clock.idle();
    }
    expect(w.commits()).toBe(before);
  });

  it('O1: contexts that share a store do not take such a run from each other', async () => {
    const { w, engine, send, seal, seen } = worldOf(medium, takeUrgent);
    if (!w.isShared) return;
    const [first, second] = [engine(), engine()];
    await first.start('job', undefined, { id: 'r' });
    await second.ready();
    await w.clock.advance('2h');
    await send(first, 'user:2');
    await seal(second);
    await w.clock.advance('1m');
    const before = w.commits();
    await w.clock.advance('10m');
    expect(w.commits()).toBe(before);
    await send(second, 'user:2', { urgent: true });
    await w.clock.advance('1m');
    expect(await seen(first)).toBe('user:2');
  });
});
