import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Encryption } from '../plugins/encryption/index.js';
import type { Stepfast } from '../src/index.js';
import { keyVault, plugin } from './encryption-kit.js';
import { type Medium, media, onEveryStore, world } from './harness.js';

// Pins: what `forget` does to runs whose end other runs await: they are ended, those who await them hear of it as of any
// cancelled child, and then they are deleted, with their key or without it.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => vi.restoreAllMocks());

/** Parents under the default key, or that of their tag; children under the key of the user that the payload names. */
function familyOf(medium: Medium) {
  const w = world(medium);
  const vault = keyVault('user:1', 'user:2');
  const key = vault.keys.get('user:1')!;
  const child = (stepfast: Stepfast) =>
    void stepfast.job('child', async ({ step }) => (await step.waitForEvent('done')).payload);
  const parent = (stepfast: Stepfast) =>
    void stepfast.job<readonly string[]>('parent', async ({ step, payload }) => {
      const called = payload.map((user) =>
        step.call('child' as never, undefined as never, { name: user, tags: [user] }),
      );
      const ends = await Promise.allSettled(called as Promise<unknown>[]);
      return ends.map((end) => (end.status === 'fulfilled' ? end.value : end.reason.cause.code));
    });
  return {
    w,
    drop: () => void vault.keys.delete('user:1'),
    giveBack: () => void vault.keys.set('user:1', key),
    /** Engines and their plug-in. Default: both jobs. */
    engine(...jobs: ('parent' | 'child')[]): { readonly stepfast: Stepfast; readonly own: Encryption } {
      const own = plugin(vault.options);
      const define = (stepfast: Stepfast) => {
        if (jobs[0] !== 'parent') child(stepfast);
        if (jobs[0] !== 'child') parent(stepfast);
      };
      return { stepfast: w.engine(define, { use: [own] }), own };
    },
    async seen(stepfast: Stepfast) {
      await w.clock.idle();
      const { runs } = await stepfast.runs.list();
      return runs.map(({ job, status, result }) => [job, status, ...(result === undefined ? [] : [result])]);
    },
  };
}

onEveryStore('forget', (medium) => {
  it('E12: a child is removed, and its parent hears that it was cancelled', async () => {
    for (const isDropped of [false, true]) {
      const { w, engine, drop, seen } = familyOf(medium);
      const { stepfast, own } = engine();
      await stepfast.start('parent', ['user:1']);
      await w.clock.idle();
      if (isDropped) drop();
      expect(await own.forget('user:1')).toBe(1);
      expect(await seen(stepfast)).toEqual([['parent', 'completed', ['RUN_CANCELLED']]]);
      expect(await own.forget('user:1')).toBe(0);
    }
  });

  it('E12: so are a parent and its child under one key, and nothing else', async () => {
    const { w, engine, drop, seen } = familyOf(medium);
    const { stepfast, own } = engine();
    await stepfast.start('parent', ['user:1'], { tags: ['user:1'] });
    await stepfast.start('parent', ['user:2', 'user:1'], { tags: ['user:2'] });
    await w.clock.idle();
    drop();
    expect(await own.forget('user:1')).toBe(3);
    expect(await seen(stepfast)).toEqual([
      ['child', 'waiting'],
      ['parent', 'waiting'],
    ]);
    await stepfast.dispatch('done', 'done');
    expect(await seen(stepfast)).toEqual([
      ['child', 'completed', 'done'],
      ['parent', 'completed', ['done', 'RUN_CANCELLED']],
    ]);
  });
});

/** A parent that can not read its child, which has completed meanwhile: the key is gone. */
async function unreadableChild() {
  const family = familyOf(media.memory!);
  const { w, engine, drop, seen } = family;
  const first = engine();
  await first.stepfast.start('parent', ['user:1']);
  await w.clock.idle();
  await first.stepfast.close();
  const second = engine('child');
  await second.stepfast.dispatch('done', 'done');
  await w.clock.idle();
  await second.stepfast.close();
  drop();
  const third = engine();
  await third.stepfast.ready();
  await w.clock.idle();
  expect(await seen(third.stepfast)).toContainEqual(['parent', 'waiting']);
  return { ...family, third };
}

describe('forget where a parent can not go on', () => {
  it('E12: the parent hears of it when it goes on, and the child is removed by the next forget', async () => {
    const { w, engine, drop, seen } = familyOf(media.memory!);
    const first = engine();
    await first.stepfast.start('parent', ['user:1']);
    await w.clock.idle();
    await first.stepfast.close();
    drop();
    const second = engine('child');
    expect(await second.own.forget('user:1')).toBe(0);
    expect((await seen(second.stepfast)).map(([job, status]) => [job, status])).toContainEqual(['child', 'cancelled']);
    await second.stepfast.close();
    const third = engine();
    await third.stepfast.ready();
    expect(await seen(third.stepfast)).toContainEqual(['parent', 'completed', ['RUN_CANCELLED']]);
    expect(await third.own.forget('user:1')).toBe(1);
  });

  it('E12: a child that has completed and can not be read any more counts as cancelled, once it is forgotten', async () => {
    const { seen, third } = await unreadableChild();
    expect(await third.own.forget('user:1')).toBe(1);
    expect(await seen(third.stepfast)).toEqual([['parent', 'completed', ['RUN_CANCELLED']]]);
  });

  it('E12: without forget it waits for the key', async () => {
    const { engine, giveBack, seen, third } = await unreadableChild();
    await third.stepfast.close();
    giveBack();
    const fourth = engine();
    await fourth.stepfast.ready();
    expect(await seen(fourth.stepfast)).toContainEqual(['parent', 'completed', ['done']]);
  });
});
