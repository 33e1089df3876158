import { describe, expect, it, vi } from 'vitest';
import { defineEvent } from '../src/door/event.js';
import type { Command, FunctionCommand, StepContext } from '../src/replay/command.js';
import type { Step } from '../src/replay/language.js';
import { type Ask, createReplay } from '../src/replay/replay.js';
import { createStep, type StepHost } from '../src/replay/step.js';
import type { OutcomeEntry } from '../src/store/journal.js';
import { createCodec } from '../src/values/codec.js';
import { ticks } from './replay-kit.js';

// Pins: the step object alone: what each word asks for, what an outcome settles it with, which arguments are refused and in
// whose words, and what of it loses a race (spec R5, R7 to R10).

const codec = createCodec();
const recorded = { name: 'Error', message: 'why' };
type Given = { readonly kind: OutcomeEntry['kind'] } & { readonly [field: string]: unknown };

/** A handler that asks with its step object, in a first turn; `more` of its host. */
async function asking(
  use: (step: Step) => unknown,
  more: { transact?: unknown; start?: unknown; dispatch?: unknown } = {},
) {
  const undoable: [string, FunctionCommand][] = [];
  const inStep = { is: false };
  const platform = {
    clock: { now: () => 77 },
    newUuid: () => 'a-uuid',
    random: () => 0.5,
    isInStep: () => inStep.is,
    warn: () => undefined,
  };
  const host = { codec, platform, start: vi.fn(), dispatch: vi.fn(), ...more } as unknown as StepHost;
  const step = createStep({ host, replay: () => replay, undoable: (...told) => void undoable.push(told) });
  let returned: unknown;
  const replay = createReplay({
    ...{ outcomes: [], aside: new Set(), slack: 0, hop: (callback) => void setImmediate(callback) },
    ...{ check: () => undefined, since: () => undefined, isWhole: true, onAsk: () => undefined },
    invoke: () => {
      returned = use(step);
    },
  });
  const turn = await replay.turn();
  /** Settles the only ask, or the one at this place. */
  const settle = async (entry: Given, index = 0) => {
    turn.opened[index]!.settle({ at: 1, id: turn.opened[index]!.id, asked: 1, ...entry } as never);
    await ticks(5);
  };
  return { ...turn, step, replay, host, undoable, inStep, settle, returned: () => returned };
}
const one = async (use: (step: Step) => unknown, more = {}) => {
  const asked = await asking(use, more);
  expect([asked.fault, asked.opened.length]).toEqual([undefined, 1]);
  const ask = asked.opened[0]!;
  return { ...asked, ask, command: ask.command, fn: ask.command as FunctionCommand };
};
const given = (value: unknown) => value as never;
const named = (ask: Ask) => [ask.namespace, ...ask.id];
/** The fault of a handler that does this: its code, the step it names, and what it says. */
const faultOf = async (use: (step: Step) => unknown, more = {}) => {
  const { fault, opened } = await asking(use, more);
  expect(opened).toEqual([]);
  const { code, step, message } = fault as Error & { readonly code?: string; readonly step?: string };
  return { code, step, message };
};
const saying = (code: string, step: string | undefined, ...said: string[]) => ({
  ...{ code, step },
  message: expect.stringMatching(new RegExp(said.map((each) => each.replace(/[.[\]()]/g, '\\$&')).join('.*'))),
});

it('R5: options that can not be read are a fault of the code, whatever the word', async () => {
  const odd = given({
    get timeout() {
      throw new Error('from a getter');
    },
  });
  const words: readonly ((step: Step) => unknown)[] = [
    (step) => step.run('a', () => 1, odd),
    (step) => step.waitForEvent('a', odd),
    (step) => step.dispatch('a', undefined, odd),
    (step) => step.call('a', undefined, odd),
    (step) => step.start('a', undefined, odd),
  ];
  for (const word of words) {
    const { fault, opened } = await asking((step) => void word(step));
    expect([fault, opened]).toEqual([new Error('from a getter'), []]);
  }
});

describe('step.run', () => {
  const fn = () => 1;

  it('asks for a function to enter, with what it is told of it', async () => {
    const undo = () => undefined;
    const options = { retry: { maxAttempts: 2 }, timeout: '2s', when: 'online', undo } as const;
    const { ask, command, undoable } = await one((step) => step.run('s', fn, options));
    expect(named(ask)).toEqual(['step', 's', 1]);
    expect(command).toEqual({
      ...{ kind: 'run', fn, undo, isOnline: true, timeoutMs: 2_000, retry: { maxAttempts: 2 } },
    });
    expect(undoable).toEqual([[ask.key, command]]);
  });

  it('has no timeout, undo or need of a network unless it is told', async () => {
    const { command, undoable } = await one((step) => step.run('s', fn));
    expect(command).toEqual({ kind: 'run', fn, isOnline: false });
    expect(undoable).toEqual([]);
    expect((await one((step) => step.run('s', fn, { when: undefined, timeout: undefined }))).command).toEqual(command);
  });

  it('gives what was recorded, decoded', async () => {
    const { settle, returned } = await one((step) => step.run('s', fn));
    await settle({ kind: 'step-completed', attempt: 1, value: codec.encode({ at: new Date(5) }, 'v') });
    expect(await returned()).toEqual({ at: new Date(5) });
  });

  it('R10: throws what it failed for, and says at which attempt, and which step', async () => {
    const { settle, returned } = await one((step) => step.run('s', fn));
    await settle({ kind: 'step-failed', attempt: 3, error: recorded });
    await expect(returned()).rejects.toMatchObject({
      ...{ name: 'StepError', code: 'STEP_FAILED', step: 's', identity: ['step', 's', 1] },
      ...{ message: 'Step "s" failed for good at attempt 3: why [STEP_FAILED]', cause: { message: 'why' } },
    });
  });

  it('R5: refuses what is no name, function or option, by the name of the step', async () => {
    expect(await faultOf((step) => step.run(given(''), fn))).toEqual(saying('INVALID_NAME', '', 'name of a step'));
    expect(await faultOf((step) => step.run(given(7), fn))).toEqual(
      saying('INVALID_NAME', undefined, 'name of a step is 7'),
    );
    expect(await faultOf((step) => step.run('stepfast:s', fn))).toMatchObject({ code: 'INVALID_NAME' });
    const bad = (options: unknown) => faultOf((step) => step.run('s', fn, given(options)));
    const option = (...said: string[]) => saying('INVALID_OPTION', 's', ...said);
    expect(await faultOf((step) => step.run('s', given('fn')))).toEqual(
      option('function of step "s" is "fn"', 'a function'),
    );
    expect(await bad({ undo: 1 })).toEqual(option('undo of step "s" is 1', 'a function'));
    expect(await bad({ when: 'offline' })).toEqual(option('when of step "s" is "offline"', '"online"'));
    expect(await bad({ retries: 1 })).toEqual(option('options of step "s" is "retries"', 'retry, timeout, when, undo'));
    expect(await bad(5)).toEqual(option('options of step "s" is 5', 'a plain object'));
    expect(await bad({ retry: { maxAttempts: 0 } })).toMatchObject({ step: 's', code: 'INVALID_OPTION' });
    expect(await bad({ timeout: '2 parsecs' })).toEqual(saying('INVALID_DURATION', 's', 'timeout of step "s"'));
    expect((await bad({ timeout: 0 })).message).toContain('timeout of step "s"');
  });

  it('R8: one that nobody awaits is no unhandled rejection', async () => {
    const unhandled = vi.fn();
    process.on('unhandledRejection', unhandled);
    const { settle } = await one((step) => void step.run('s', fn));
    await settle({ kind: 'step-failed', attempt: 1, error: recorded });
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });

  it('a step that can be undone and was not asked for, behind the end, is not told of', async () => {
    const { step, undoable, replay } = await asking(() => undefined);
    replay.drop();
    void step.run('late', fn, { undo: () => undefined });
    expect(undoable).toEqual([]);
  });
});

describe('step.transaction', () => {
  const body = () => 1;
  const sharing = { transact: () => undefined };

  it('asks for a function that is called within the transaction of its result', async () => {
    const retry = { maxAttempts: 2 };
    const { command, fn } = await one((step) => step.transaction('t', ['a', 'b'], given(body), { retry }), sharing);
    expect(command).toEqual({
      kind: 'transaction',
      fn: expect.any(Function),
      shared: { scope: ['a', 'b'], body },
      retry,
    });
    expect(fn.fn(given({}), given({}))).toBeUndefined();
    expect((await one((step) => step.transaction('t', ['a'], given(body)), sharing)).fn.retry).toBeUndefined();
  });

  it('refuses a scope that is none, what is no function, options it has not, and a store that shares nothing', async () => {
    const bad = (scope: unknown, fn: unknown = body, options: unknown = undefined, host: object = sharing) =>
      faultOf((step) => step.transaction('t', given(scope), given(fn), given(options)), host);
    const option = (...said: string[]) => saying('INVALID_OPTION', 't', ...said);
    for (const scope of [[], 'a', undefined, ['a', 1], { length: 1 }])
      expect(await bad(scope)).toEqual(option('scope of transaction "t"', 'names of object stores'));
    expect(await bad(['a'], 7)).toEqual(option('function of transaction "t" is 7', 'a function'));
    expect(await bad(['a'], body, { timeout: 5 })).toEqual(option('options of transaction "t" is "timeout"', 'retry'));
    expect(await bad(['a'], body, { retry: 5 })).toMatchObject({ code: 'INVALID_OPTION', step: 't' });
    expect(await bad(['a'], body, undefined, {})).toEqual(
      option('What the store shares with the app is undefined', 'shares a database', 'indexedDBStore({ database })'),
    );
  });
});

describe('step.waitForEvent', () => {
  const taken = { kind: 'event-taken', seq: 4, eventId: 'e', event: 'paid', payload: 9, acceptedAt: 5 } as const;

  it('asks for a wait under its own name, or that of its events', async () => {
    const { ask, command } = await one((step) => step.waitForEvent('paid', { correlationKey: 'k', timeout: 5 }));
    expect(named(ask)).toEqual(['wait', 'paid', 1]);
    expect(command).toEqual({ kind: 'wait', events: ['paid'], onTimeout: 'fail', key: 'k', timeoutMs: 5 });
    expect(named((await one((step) => step.waitForEvent(['a', 'b']))).ask)).toEqual(['wait', '["a","b"]', 1]);
    expect(named((await one((step) => step.waitForEvent('a', { name: 'own' }))).ask)).toEqual(['wait', 'own', 1]);
  });

  it('gives the event that was taken, with its correlation key if it has one', async () => {
    const keyed = await one((step) => step.waitForEvent('paid'));
    await keyed.settle({ ...taken, key: 'k', payload: codec.encode(new Date(3), 'v') });
    expect(await keyed.returned()).toStrictEqual({
      ...{ timedOut: false, id: 'e', name: 'paid', payload: new Date(3), correlationKey: 'k', acceptedAt: 5 },
    });
    const bare = await one((step) => step.waitForEvent('paid'));
    await bare.settle(taken);
    expect(await bare.returned()).toStrictEqual({ timedOut: false, id: 'e', name: 'paid', payload: 9, acceptedAt: 5 });
  });

  it('E5: throws when its time is over, and says for which events and when; or says so where it is to go on', async () => {
    const out = { kind: 'wait-timed-out', deadline: 0 } as const;
    const failing = await one((step) => step.waitForEvent(['a', 'b'], { name: 'w' }));
    await failing.settle(out);
    await expect(failing.returned()).rejects.toMatchObject({
      ...{ name: 'EventTimeoutError', code: 'EVENT_TIMEOUT', step: 'w', identity: ['wait', 'w', 1] },
      message: 'No event "a" or "b" came by 1970-01-01T00:00:00.000Z. [EVENT_TIMEOUT]',
    });
    const on = await one((step) => step.waitForEvent('a', { onTimeout: 'continue' }));
    await on.settle({ ...out, deadline: 8 });
    expect(await on.returned()).toStrictEqual({ timedOut: true, deadline: 8 });
  });

  it('refuses options that are none, and the name of a wait that is none', async () => {
    const bad = (options: unknown) => faultOf((step) => step.waitForEvent('a', given(options)));
    const none = saying('INVALID_OPTION', 'a', 'options of step.waitForEvent', 'a plain object');
    expect([await bad(5), await bad('x'), await bad(null)]).toEqual([none, none, none]);
    expect(await bad({ nmae: 'w' })).toMatchObject({ code: 'INVALID_OPTION', step: 'a' });
    expect(await bad({ name: '' })).toEqual(
      saying('INVALID_NAME', '', 'name of a wait (by default that of its events)'),
    );
  });
});

describe('step.sleep and step.sleepUntil', () => {
  const untilOf = (command: Command) => (command as Extract<Command, { kind: 'sleep' }>).until;

  it('last from the moment of recording, or until their instant; and give nothing', async () => {
    const { ask, command, settle, returned } = await one((step) => step.sleep('nap', '2s'));
    expect([...named(ask), command.kind, untilOf(command)(100)]).toEqual(['step', 'nap', 1, 'sleep', 2_100]);
    await settle({ kind: 'sleep-ended' });
    expect(await returned()).toBeUndefined();
    const until = await one((step) => step.sleepUntil('then', new Date(5_000)));
    expect([...named(until.ask), untilOf(until.command)(100)]).toEqual(['step', 'then', 1, 5_000]);
  });

  it('Q3: refuse what is no duration and no instant, by the name of the sleep', async () => {
    expect(await faultOf((step) => step.sleep('nap', given('soon')))).toEqual(
      saying('INVALID_DURATION', 'nap', 'The duration of sleep "nap" is "soon"'),
    );
    expect(await faultOf((step) => step.sleepUntil('nap', given('soon')))).toMatchObject({
      ...{ step: 'nap', message: expect.stringContaining('The instant of sleep "nap" is "soon"') },
    });
    expect(await faultOf((step) => step.sleep(given(null), 5))).toMatchObject({ code: 'INVALID_NAME' });
  });
});

describe('step.dispatch', () => {
  it('E1: sends under a key of this very step, for whoever owns the run, and gives the receipt', async () => {
    const dispatch = vi.fn(() => 'receipt');
    const { ask, fn, command } = await one(
      (step) => step.dispatch('paid', { a: 1 }, { correlationKey: 'k', name: 'tell' }),
      { dispatch },
    );
    expect([...named(ask), command.kind]).toEqual(['step', 'tell', 1, 'dispatch']);
    const confirm = given({ runId: 'r' });
    expect(fn.fn({ idempotencyKey: 'r/step' } as StepContext, { runId: 'r', createdAt: 5, confirm })).toBe('receipt');
    expect(dispatch).toHaveBeenCalledExactlyOnceWith(
      ...['paid', { a: 1 }, { correlationKey: 'k' }, { id: 'stepfast:5/r/step', run: confirm }],
    );
    expect(named((await one((step) => step.dispatch('paid'))).ask)).toEqual(['step', 'paid', 1]);
    const typed = defineEvent('typed', given({ '~standard': { validate: (value: unknown) => ({ value }) } }));
    expect(named((await one((step) => step.dispatch(typed, given(1)))).ask)).toEqual(['step', 'typed', 1]);
  });

  it('refuses options that are none, and what dispatch itself refuses', async () => {
    const bad = (options: unknown) => faultOf((step) => step.dispatch('paid', 1, given(options)));
    expect(await bad(5)).toEqual(saying('INVALID_OPTION', 'paid', 'options of step.dispatch is 5', 'a plain object'));
    expect(await bad([])).toEqual(
      saying('INVALID_OPTION', 'paid', 'options of step.dispatch is an empty array', 'a plain object'),
    );
    expect(await bad(null)).toMatchObject({ code: 'INVALID_OPTION', step: 'paid' });
    expect(await bad({ correlationKey: '' })).toMatchObject({ code: 'INVALID_KEY', step: 'paid' });
    expect(await bad({ ttl: 'soon' })).toMatchObject({ code: 'INVALID_DURATION', step: 'paid' });
    expect(await bad({ nmae: 'tell' })).toEqual(
      saying('INVALID_OPTION', 'paid', 'is "nmae". Give name, correlationKey'),
    );
  });
});

describe('step.call and step.start', () => {
  const job: never = given({ name: 'mail', options: {}, handler: () => 1 });
  const enter = (fn: FunctionCommand, runId = 'parent') =>
    fn.fn({ idempotencyKey: 'parent/mail' } as StepContext, { runId, createdAt: 5, confirm: given('confirm') });

  it.each(['call', 'start'] as const)('step.%s starts one child, however often it is tried', async (word) => {
    const start = vi.fn(async () => ({ runId: 'kid' }));
    const { ask, fn, command } = await one((step) => step[word](job, { a: 1 }, { name: 'send', tags: ['x'] }), {
      start,
    });
    expect(named(ask)).toEqual(['step', 'send', 1]);
    expect(command).toEqual({ kind: word, job: 'mail', fn: expect.any(Function) });
    expect(await enter(fn)).toEqual({ id: 'kid' });
    const inner = { parentId: 'parent', key: 'stepfast:child:5/parent/mail', run: 'confirm' };
    expect(start).toHaveBeenCalledExactlyOnceWith(job, { a: 1 }, { tags: ['x'] }, inner);
    expect(named((await one((step) => step[word](job))).ask)).toEqual(['step', 'mail', 1]);
    expect(named((await one((step) => step[word]('by-name'))).ask)).toEqual(['step', 'by-name', 1]);
  });

  it('a run that is given itself would wait for its own end: a call refuses that, a start does not', async () => {
    const start = async () => ({ runId: 'parent' });
    const called = await one((step) => step.call(job), { start });
    await expect(enter(called.fn)).rejects.toMatchObject({
      ...{ code: 'INVALID_OPTION', message: expect.stringContaining('The run that step.call gave is "parent"') },
    });
    await expect(enter(called.fn)).rejects.toThrow('another than the run itself');
    expect(await enter((await one((step) => step.start(job), { start })).fn)).toEqual({ id: 'parent' });
  });

  it('E12: a call gives what the child returned, or throws what it failed for', async () => {
    const done = await one((step) => step.call(job));
    await done.settle({ kind: 'child-completed', runId: 'kid', value: [1] });
    expect(await done.returned()).toEqual([1]);
    const failed = await one((step) => step.call(job));
    await failed.settle({ kind: 'child-failed', runId: 'kid', error: recorded });
    await expect(failed.returned()).rejects.toMatchObject({
      ...{ code: 'STEP_FAILED', step: 'mail', identity: ['step', 'mail', 1] },
      message: 'The child run of step "mail" did not complete: why [STEP_FAILED]',
    });
  });

  it.each(['call', 'start'] as const)('step.%s refuses what is no job, and options that are none', async (word) => {
    const bad = (of: unknown, options?: unknown) => faultOf((step) => step[word](given(of), 1, given(options)));
    expect(await bad('m', 5)).toEqual(saying('INVALID_OPTION', 'm', `options of step.${word} is 5`, 'a plain object'));
    expect(await bad('m', null)).toMatchObject({ code: 'INVALID_OPTION', step: 'm' });
    expect(await bad('m', { nmae: 'x' })).toEqual(
      saying('INVALID_OPTION', 'm', `options of step.${word} is "nmae"`, 'name'),
    );
    for (const none of [null, 7, undefined]) expect(await bad(none)).toMatchObject({ code: 'INVALID_NAME' });
    expect(await bad(null, { name: 'own' })).toEqual(saying('INVALID_NAME', 'own', 'The name of a job is null'));
    expect(await bad('', { name: 'own' })).toEqual(saying('INVALID_NAME', 'own', 'The name of a job'));
  });
});

describe('values that are made once', () => {
  it('are asked for under a name of ours, made by the platform, and given as recorded', async () => {
    const words = { now: 77, uuid: 'a-uuid', random: 0.5 } as const;
    for (const word of ['now', 'uuid', 'random'] as const) {
      const { ask, command, settle, returned } = await one((step) => step[word]());
      expect(named(ask)).toEqual(['step', `stepfast:${word}`, 1]);
      const { kind, make, word: said } = command as Extract<Command, { kind: 'make' }>;
      expect([kind, said, make()]).toEqual(['make', word, words[word]]);
      await settle({ kind: 'value-made', word, value: `recorded ${word}` });
      expect(await returned()).toBe(`recorded ${word}`);
    }
  });
});

describe('step.race', () => {
  const sleeps = (step: Step, ...names: string[]) => names.map((each) => step.sleep(each, 5));

  it('R7: settles with the first, and the others are asked for no more', async () => {
    const { opened, settle, returned, replay, fault } = await asking((step) => step.race(sleeps(step, 'a', 'b', 'c')));
    expect([fault, opened.length]).toEqual([undefined, 3]);
    await settle({ kind: 'sleep-ended' }, 1);
    expect(await returned()).toBeUndefined();
    expect((await replay.turn()).withdrawn).toEqual(opened.map(({ key }) => key));
  });

  it('R7: what was made of a step with then, catch or finally loses in its place, and so does a race within a race', async () => {
    const { opened, settle, replay, returned } = await asking((step) => {
      const [a, b, c, d] = sleeps(step, 'a', 'b', 'c', 'd') as [
        Promise<void>,
        Promise<void>,
        Promise<void>,
        Promise<void>,
      ];
      const made = [a.then(() => 1).then(() => 'a'), b.catch(() => 1), c.finally(() => undefined)];
      return step.race([step.race(made), d.then(() => 'd')]);
    });
    await settle({ kind: 'sleep-ended' }, 3);
    await ticks(5);
    expect(await returned()).toBe('d');
    expect(new Set((await replay.turn()).withdrawn)).toEqual(new Set(opened.map(({ key }) => key)));
  });

  it('R7: one that fails fails the race, which is no unhandled rejection, and the others are asked for no more', async () => {
    const unhandled = vi.fn();
    process.on('unhandledRejection', unhandled);
    const { settle, replay, opened } = await asking((step) => {
      void step.race([step.run('a', () => 1), ...sleeps(step, 'b')]);
    });
    await settle({ kind: 'step-failed', attempt: 1, error: recorded }, 0);
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
    expect((await replay.turn()).withdrawn).toEqual(opened.map(({ key }) => key));
  });

  it('takes what is no step as well: a value, or a promise of the app', async () => {
    const { returned, replay, opened } = await asking((step) =>
      step.race(['now', null, ...sleeps(step, 'a')] as never),
    );
    expect([await returned(), (await replay.turn()).withdrawn, opened.length]).toEqual(['now', [], 0]);
  });

  it('refuses what is no list, and an empty one, which nothing could win', async () => {
    for (const bad of [undefined, [], 'ab', {}])
      expect(await faultOf((step) => step.race(given(bad)))).toEqual(
        saying('INVALID_OPTION', undefined, 'What step.race is given', 'an array of steps'),
      );
    const settled = vi.fn();
    await asking((step) => step.race([]).then(settled, settled));
    await ticks(5);
    expect(settled).not.toHaveBeenCalled();
  });
});

describe('step.restart', () => {
  it('ends the pass with a new payload, encoded, and never settles', async () => {
    const settled = vi.fn();
    const { ending } = await asking((step) => step.restart(given(new Date(5))).then(settled, settled));
    expect(ending).toEqual({ kind: 'restarts', payload: codec.encode(new Date(5), 'v') });
    await ticks(5);
    expect(settled).not.toHaveBeenCalled();
  });

  it('R5, D7: with a payload that can not be kept is a fault of the code, and restarts nothing', async () => {
    const { fault, ending } = await asking((step) => step.restart(given({ deep: () => 1 })));
    expect(fault).toMatchObject({
      code: 'NOT_SERIALIZABLE',
      message: expect.stringContaining('payload of step.restart'),
    });
    expect(ending?.kind).not.toBe('restarts');
  });
});

describe('within the function of a step', () => {
  it('R9: nothing is asked for, and the call says what it was', async () => {
    const { step, inStep, replay } = await asking(() => undefined);
    const calls: [string, () => unknown][] = [
      ['"s"', () => step.run('s', () => 1)],
      ['"e"', () => step.waitForEvent('e')],
      ['"nap"', () => step.sleep('nap', 5)],
      ['"stepfast:now"', () => step.now()],
      ['step.race', () => step.race([])],
      ['step.restart', () => step.restart(given(1))],
    ];
    inStep.is = true;
    for (const [what, call] of calls)
      expect(call).toThrow(
        expect.objectContaining({
          code: 'NESTED_STEP',
          message: expect.stringMatching(new RegExp(`^${what} is asked for inside the function of a step.*handler`)),
        }),
      );
    const { fault, opened } = await replay.turn();
    expect([fault, opened]).toEqual([undefined, []]);
  });
});
