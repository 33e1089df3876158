import { describe, expect, it } from 'vitest';
import { type Digest, digestOf, extend, undosLeft } from '../src/replay/digest.js';
import { forgetsFor, generationsUsed, recordedNames } from '../src/replay/forget.js';
import { attemptOf, nextGeneration, originOf, undoAttemptOf } from '../src/replay/keys.js';
import { identityKey, type JournalEntry } from '../src/store/journal.js';

// Pins: what a journal adds up to, entry by entry, alone: the same for a live run and for one that was just loaded.

const at = 1_000;
const key = (name: string, occurrence = 1) => identityKey('step', [name, occurrence]);
const waitKey = (name: string) => identityKey('wait', [name, 1]);
type Given = { readonly kind: JournalEntry['kind'] } & { readonly [field: string]: unknown };
const entriesOf = (given: readonly Given[]) => given.map((entry) => ({ at, ...entry })) as unknown as JournalEntry[];
const started: Given = { kind: 'started', payload: 'p' };
const digest = (...given: readonly Given[]): Digest => digestOf(entriesOf([started, ...given]));

const id = (name: string) => ({ id: [name, 1] });
const done = (name: string, more: object = {}): Given => ({
  ...{ kind: 'step-completed', ...id(name), attempt: 1, asked: 1, value: name },
  ...more,
});
const error = (code: string, more: object = {}) => ({ name: 'Error', message: code, code, ...more });
const failed = (name: string, more: object = {}): Given => ({
  ...{ kind: 'step-failed', ...id(name), attempt: 2, asked: 1, error: error('E'), ...more },
});
const attemptFailed = (name: string, more: object = {}): Given => ({
  ...{ kind: 'attempt-failed', ...id(name), attempt: 1, error: error('E'), retryAt: at + 5, ...more },
});
const unknown = { isUnknown: true };
const undoSet = (name: string): Given => ({ kind: 'undo-set', ...id(name) });
const undone = (name: string): Given => ({ kind: 'undone', ...id(name), attempt: 1 });
const claimed = (more: object = {}): Given => ({ kind: 'claimed', owner: 'o', fence: 1, ...more });
const interrupted = claimed({ interrupted: true });
const taken = (event: string, seq: number, more: object = {}): Given => ({
  ...{ kind: 'event-taken', ...id(event), asked: 1, seq, eventId: `e${seq}`, event, payload: null, acceptedAt: at },
  ...more,
});
const runFailed = (more: object = {}): Given => ({ kind: 'failed', error: error('STEP_FAILED', more) });
const retried = (forgets: readonly unknown[] = [], more: object = {}): Given => ({ kind: 'retried', forgets, ...more });
const names = ({ outcomes }: Digest) => outcomes.map(({ entry }) => entry.id[0]);

describe('the start', () => {
  it('gives payload, retry options, schedule, and whether it is a fork', () => {
    const plain = digest();
    expect([plain.payload, plain.retry, plain.schedule, plain.isFork, plain.generation, plain.begunAt]).toEqual([
      ...['p', undefined, undefined, false, 0, undefined],
    ]);
    const schedule = { name: 's', tick: 5, missed: 0 };
    const forkedFrom = { runId: 'other', before: 'a' };
    const rich = digestOf(entriesOf([{ ...started, retry: { maxAttempts: 2 }, schedule, forkedFrom }]));
    expect([rich.retry, rich.schedule, rich.isFork]).toEqual([{ maxAttempts: 2 }, schedule, true]);
  });

  it('E3: one that was begun anew knows what it had taken before, and is in the hands of its owner', () => {
    const anew = { ...started, generation: 2, floors: [['["a"]', 7]], left: [['["a"]', [3, 5]]] };
    const { generation, begunAt, lastTaken, left } = digestOf(entriesOf([anew]));
    expect([generation, begunAt, [...lastTaken], [...left]]).toEqual([2, at, [['["a"]', 7]], [['["a"]', [3, 5]]]]);
    // A fork of it is nobody's yet.
    expect(digestOf(entriesOf([{ ...anew, forkedFrom: { runId: 'r', before: 'b' } }])).begunAt).toBe(undefined);
  });

  it('Q2: a later start of the same key gives the payload', () => {
    expect(digest({ kind: 'rescheduled', payload: 'later', dueAt: 5 }).payload).toBe('later');
  });

  it('an import forgets sequence numbers: they are of another store', () => {
    const { takenSeqs, lastTaken, left, skipped } = digest(
      taken('a', 5, { over: [3] }),
      { kind: 'event-skipped', ...id('w'), seq: 4, eventId: 'e', event: 'a', reason: 'no' },
      { kind: 'imported' },
    );
    expect([takenSeqs.size, lastTaken.size, left.size, skipped.size]).toEqual([0, 0, 0, 0]);
  });
});

describe('claims', () => {
  it('F8: the timeout of the job counts from the first one', () => {
    expect(digest(claimed({ at: 5 }), claimed({ at: 9 })).begunAt).toBe(5);
  });

  it('F5: interruptions count until something is recorded, and their places stay known', () => {
    const cut = digest(
      claimed(),
      interrupted,
      { kind: 'released' },
      { kind: 'logged', level: 'info', message: 'm' },
      interrupted,
    );
    expect([cut.interruptions, cut.interruptedAt]).toEqual([2, [2, 5]]);
    const over = digest(interrupted, done('a'));
    expect([over.interruptions, over.interruptedAt]).toEqual([0, [1]]);
    expect(digest(interrupted, { kind: 'progressed', ...id('a') }).interruptions).toBe(0);
  });

  it('F8: the time for which no code could go on is left out', () => {
    const blocked = { kind: 'released', blocked: true, at: 10 } as const;
    expect(digest(blocked).blockedSince).toBe(10);
    expect(digest({ kind: 'released' }).blockedSince).toBeUndefined();
    const back = digest(blocked, claimed({ at: 25 }), claimed({ at: 50 }));
    expect([back.blockedMs, back.blockedSince]).toEqual([15, undefined]);
    expect(digest(blocked, claimed({ at: 4 })).blockedMs).toBe(0); // the clock was set back
    expect(digest(blocked, claimed({ at: 25 }), { ...blocked, at: 30 }, claimed({ at: 31 })).blockedMs).toBe(16);
  });
});

describe('outcomes', () => {
  it('R7: stand in the order of their release, and by their places in the journal', () => {
    const { outcomes, outcomeKeys } = digest(done('a'), done('b', { before: 1 }), done('c', { before: 99 }));
    expect(outcomes.map(({ key: each, index }) => [each, index])).toEqual([
      [key('b'), 2],
      [key('a'), 1],
      [key('c'), 3],
    ]);
    expect([...outcomeKeys]).toEqual([key('a'), key('b'), key('c')]);
  });

  it('R7: of what is open the place of its first entry is known, until it has an outcome or is forgotten', () => {
    const sleepSet: Given = { kind: 'sleep-set', ...id('z'), dueAt: 9 };
    const waitSet: Given = { kind: 'wait-set', ...id('w'), events: ['e'] };
    const childSet: Given = { kind: 'child-set', ...id('k'), runId: 'child', job: 'j' };
    const open = [
      attemptFailed('a'),
      sleepSet,
      waitSet,
      childSet,
      undoSet('b'),
      attemptFailed('a'),
      attemptFailed('b'),
    ];
    const placed = [
      [key('a'), 1],
      [key('z'), 2],
      [waitKey('w'), 3],
      [key('k'), 4],
      [key('b'), 5],
    ];
    expect([...digest(...open).since]).toEqual(placed);
    const rest = [{ kind: 'undo-attempt-failed', ...id('c'), attempt: 1, retryAt: 9, error: error('E') } as Given];
    expect([...digest(...rest, done('c')).since]).toEqual([]);
    expect([...digest(...open, done('a'), { kind: 'sleep-ended', ...id('z'), asked: 5 }).since]).toEqual(
      placed.slice(2),
    );
    expect([...digest(...open, runFailed(), retried([['step', 'a', 1]])).since]).toEqual(placed.slice(1));
  });

  it('R7: it is whole as long as nothing of it was forgotten, renamed or brought from elsewhere', () => {
    const ends = [done('a'), runFailed()];
    expect([digestOf([]).isWhole, digestOf([]).isFork, digest(...ends).isWhole]).toEqual([true, false, true]);
    expect(digestOf(entriesOf([{ ...started, forkedFrom: { runId: 'other', before: 'a' } }])).isWhole).toBe(false);
    expect(digest(...ends, retried()).isWhole).toBe(false);
    const upgraded = { kind: 'upgraded', from: 1, to: 2 } as Given;
    expect(digest(done('a'), upgraded).isWhole).toBe(false);
    expect(digest(upgraded, done('a')).isWhole).toBe(true); // all that there is, is of the later code
    expect(digest(done('a'), { kind: 'imported' }).isWhole).toBe(false);
  });

  it('R5: the last entry of an identity is what it is recorded as; one that tells nothing of that is not', () => {
    const { shapes } = digest(
      attemptFailed('a'),
      done('a'),
      undoSet('b'),
      { kind: 'logged', ...id('c'), level: 'info', message: 'm' },
      { kind: 'state-incremented', ...id('d'), key: 'k', nth: 1, value: 1 },
      { kind: 'sleep-set', ...id('e'), dueAt: 5 },
      { kind: 'undo-attempt-failed', ...id('f'), attempt: 1, error: error('E'), retryAt: 9 },
    );
    expect([...shapes].map(([each, { kind }]) => [each, kind])).toEqual([
      [key('a'), 'step-completed'],
      [key('e'), 'sleep-set'],
    ]);
  });

  it('F1: failed attempts are counted, and the last one is known', () => {
    const { failures } = digest(attemptFailed('a'), { ...attemptFailed('a'), attempt: 2, retryAt: 77 });
    expect(failures.get(key('a'))).toMatchObject({ count: 2, attempt: 2, retryAt: 77, at });
    expect(digest(failed('a')).failures.size).toBe(0); // it has an outcome
  });

  it('F3: the handler’s own failures are counted until something has an outcome', () => {
    const fails = { kind: 'handler-failed', attempt: 1, error: error('E'), retryAt: 9 } as const;
    expect(digest(fails, fails).handlerFailures).toMatchObject({ count: 2, retryAt: 9 });
    expect(digest(fails, attemptFailed('a')).handlerFailures).toMatchObject({ count: 1 });
    expect(digest(fails, done('a')).handlerFailures).toBeUndefined();
  });

  it('D8: numbers that increments have given are known by key and place', () => {
    const added = (name: string, nth: number, value: number) =>
      ({ kind: 'state-incremented', ...id('a'), key: name, nth, value }) as const;
    const { increments } = digest(added('k', 1, 5), added('k', 2, 6), added('l', 1, 7));
    expect([...increments.get(key('a'))!]).toEqual([
      ['["k",1]', 5],
      ['["k",2]', 6],
      ['["l",1]', 7],
    ]);
  });

  it('sleeps, waits and children are known with their places', () => {
    const { sleeps, waits, children, skipped } = digest(
      { kind: 'sleep-set', ...id('s'), dueAt: 50 },
      { kind: 'wait-set', ...id('w'), events: ['a'], onTimeout: 'fail' },
      { kind: 'child-set', ...id('c'), runId: 'child', job: 'job' },
      { kind: 'event-skipped', ...id('w'), seq: 4, eventId: 'e', event: 'a', reason: 'no' },
    );
    expect([sleeps.get(key('s')), waits.get(waitKey('w')), children.get(key('c'))]).toMatchObject([
      { dueAt: 50, index: 1 },
      { events: ['a'], index: 2 },
      { runId: 'child' },
    ]);
    expect([...skipped]).toEqual([`${waitKey('w')}:4`]);
  });

  it('R7: what was set aside, and how many asks fewer there are, adds up', () => {
    const drift = (name: string, slack: number) => ({ kind: 'drift', ids: [['step', name, 1]], slack }) as const;
    const { aside, slack } = digest(drift('a', 1), drift('b', 2));
    expect([[...aside], slack]).toEqual([[key('a'), key('b')], 3]);
  });

  it('lines are counted, those of the handler apart', () => {
    const line = (more: object = {}) => ({ kind: 'logged', level: 'info', message: 'm', ...more }) as const;
    const { logs, handlerLogs } = digest(line(), line(id('a')), line({ earlier: true }), line());
    expect([logs, handlerLogs]).toEqual([4, 2]);
    const threw: Given = { kind: 'handler-failed', attempt: 1, error: error('E'), retryAt: at };
    for (const turn of [threw, retried()]) {
      const anew = digest(line(), turn, line(), line());
      expect([anew.logs, anew.handlerLogs, anew.turnedAt]).toEqual([3, 2, 2]);
    }
  });

  it('R12: a journal has about the size of its values', () => {
    const empty = digest().bytes;
    expect(empty).toBe(100 + 1);
    expect(digest(done('a', { value: 'x'.repeat(50) })).bytes - empty).toBe(150);
    expect(digest(done('a', { value: { n: 1 } })).bytes - empty).toBe(100 + 7);
    expect(digest(done('a', { value: 5 })).bytes - empty).toBe(100);
    expect(digest({ kind: 'logged', level: 'info', message: 'm', data: [1, 2] }).bytes - empty).toBe(105);
    expect(digest(runFailed()).bytes - empty).toBe(100 + JSON.stringify(error('STEP_FAILED')).length);
  });
});

describe('events that were taken', () => {
  it('E3: up to the last of a pair all are, but for those that were left', () => {
    const { takenSeqs, lastTaken, left } = digest(
      taken('a', 5, { over: [2, 3] }),
      taken('b', 9, { key: 'k' }),
      taken('a', 3),
      taken('a', 7, { over: [6] }),
    );
    expect([...takenSeqs]).toEqual([5, 9, 3, 7]);
    expect([...lastTaken]).toEqual([
      ['["b","k"]', 9],
      ['["a"]', 7],
    ]);
    expect([...left]).toEqual([['["a"]', [2, 6]]]);
    expect(digest(taken('a', 5, { over: [2] }), taken('a', 2)).left.size).toBe(0);
  });
});

describe('undoing', () => {
  it('F7: what has failed has nothing to undo; of what timed out, or returned and could not be kept, nobody knows', () => {
    expect(undosLeft(digest(undoSet('a'), done('a')))).toEqual([key('a')]);
    expect(undosLeft(digest(undoSet('a'), failed('a')))).toEqual([]);
    expect(undosLeft(digest(undoSet('a'), attemptFailed('a')))).toEqual([]);
    expect(undosLeft(digest(undoSet('a'), failed('a', unknown)))).toEqual([key('a')]);
    const lasting = digest(undoSet('a'), attemptFailed('a', unknown), failed('a'));
    expect([undosLeft(lasting), lasting.undos.get(key('a'))]).toMatchObject([
      [key('a')],
      { isUnknown: true, index: 1 },
    ]);
  });

  it('F7: nor of an attempt that the owner before had entered, whatever comes of the next one', () => {
    const released: Given = { kind: 'released' };
    for (const taken of [[interrupted], [released, claimed()], [claimed()]]) {
      expect(undosLeft(digest(claimed(), undoSet('a'), ...taken, failed('a')))).toEqual([key('a')]);
      const unknown = digest(claimed(), undoSet('a'), ...taken, attemptFailed('a'), attemptFailed('a'), failed('a'));
      expect(undosLeft(unknown)).toEqual([key('a')]);
      // Its first attempt had failed before, and the second one is of this owner.
      expect(undosLeft(digest(undoSet('a'), attemptFailed('a'), ...taken, undoSet('a'), failed('a')))).toEqual([]);
    }
  });

  it('R2, F7: an import under another id knows under which one was done what it undoes', () => {
    const runIdsOf = (...given: readonly Given[]) =>
      [...digest(...given).undos.values()].map(({ id: [name], runId }) => [name, runId]);
    const imported = (from?: string): Given => ({ kind: 'imported', from });
    const begun = [undoSet('a'), done('a'), undoSet('b')];
    expect(runIdsOf(...begun, imported())).toEqual([
      ['a', undefined],
      ['b', undefined],
    ]); // under its own
    expect(runIdsOf(...begun, imported('r'), done('b'), imported('s'))).toEqual([
      ['a', 'r'],
      ['b', 's'],
    ]);
    expect(runIdsOf(...begun, runFailed(), imported('r'))).toEqual([
      ['a', 'r'],
      ['b', 'r'],
    ]);
  });

  it('F7: what is undone, or given up, is not left; attempts are counted', () => {
    const given = { kind: 'undo-failed', ...id('b'), attempt: 1, error: error('E') } as const;
    const tried = { kind: 'undo-attempt-failed', ...id('c'), attempt: 1, error: error('E'), retryAt: 9 } as const;
    const over = digest(undoSet('a'), undoSet('b'), undoSet('c'), undone('a'), given, tried, tried);
    expect([undosLeft(over), [...over.undone.values()]]).toEqual([[key('c')], ['undone', 'undo-failed']]);
    expect(over.undoFailures.get(key('c'))).toMatchObject({ count: 2, retryAt: 9 });
  });
});

describe('a retry', () => {
  it('F6: forgets what it names, and gives fresh budgets; the end is taken back', () => {
    const over = digest(
      claimed({ at: 5 }),
      done('a'),
      attemptFailed('slow'),
      failed('b'),
      { kind: 'released', blocked: true, at: 8 },
      runFailed(),
      retried([['step', 'b', 1]]),
    );
    expect([names(over), over.outcomeKeys.has(key('b')), over.shapes.has(key('b'))]).toEqual([['a'], false, false]);
    expect([over.failures.size, over.begunAt, over.blockedMs, over.blockedSince, over.end]).toEqual([
      ...[0, undefined, 0, undefined, undefined],
    ]);
    expect(originOf(over, key('b'), ['b', 1])).toEqual([0, ['b', 1]]); // it failed: nothing is known under its key
  });

  it('F7: what was undone is not done any more, and gets new keys; what could not be undone still is done', () => {
    const kept = { kind: 'undo-failed', ...id('b'), attempt: 1, error: error('E') } as const;
    const over = digest(undoSet('a'), done('a'), undoSet('b'), done('b'), runFailed(), undone('a'), kept, retried());
    expect([names(over), undosLeft(over), over.undone.size]).toEqual([['b'], [key('b')], 0]);
    expect(originOf(over, key('a'), ['a', 1])).toEqual([1, ['a', 1]]);
    expect(originOf(over, key('b'), ['b', 1])).toEqual([0, ['b', 1]]);
  });

  it('forgets nothing else: what it names and has no outcome takes none along', () => {
    expect(names(digest(done('a'), attemptFailed('b'), retried([['step', 'b', 1]])))).toEqual(['a']);
    expect(names(digest(done('a'), retried([['step', 'nothing', 1]])))).toEqual(['a']);
  });

  it('D8: what has completed counts anew, and what has failed keeps the numbers that it was given', () => {
    const added: Given = { kind: 'state-incremented', ...id('a'), key: 'k', nth: 1, value: 5 };
    const forgotten = retried([['step', 'a', 1]]);
    expect(digest(added, done('a'), forgotten).increments.size).toBe(0);
    for (const over of [failed('a'), attemptFailed('a')])
      expect(digest(added, over, forgotten).increments.size).toBe(1);
  });

  it('R2: what has sent something gets new keys, so that it is sent anew', () => {
    for (const [entry, generation] of [
      [done('a', { word: 'dispatch' }), 1],
      [done('a', { word: 'start' }), 1],
      [done('a', { word: 'transaction' }), 0],
      [done('a'), 0],
      [{ ...attemptFailed('a'), word: 'dispatch' }, 0],
      [{ kind: 'child-set', ...id('a'), runId: 'c', job: 'j' } as const, 1],
    ] as const)
      expect(originOf(digest(entry, retried([['step', 'a', 1]])), key('a'), ['a', 1])[0]).toBe(generation);
    expect(generationsUsed(digest(done('a', { word: 'dispatch' }), retried([['step', 'a', 1]])))).toBe(1);
  });

  it('F6: a call whose child goes on is joined again: its outcome alone is forgotten', () => {
    const child = { kind: 'child-set', ...id('a'), runId: 'c', job: 'j' } as const;
    const end = { kind: 'child-failed', ...id('a'), asked: 1, runId: 'c', error: error('E') } as const;
    const ids = [['step', 'a', 1]];
    const over = digest(child, end, runFailed(), retried(ids, { rejoins: ids }));
    expect([over.children.get(key('a'))?.runId, names(over), over.shapes.get(key('a'))?.kind]).toEqual([
      'c',
      [],
      'child-set',
    ]);
    expect(originOf(over, key('a'), ['a', 1])[0]).toBe(0);
    expect(digest(child, end, runFailed(), retried(ids)).children.size).toBe(0);
  });
});

describe('what a retry names', () => {
  const fails = { kind: 'wait-timed-out', ...id('w'), asked: 1, deadline: 5 } as const;
  const reached = (...identities: readonly unknown[]) =>
    runFailed({ errors: identities.map((identity) => error('E', { identity })) });

  it('F6: the first failure that the error tells of, and those behind it', () => {
    const over = digest(failed('before'), failed('a'), done('good'), fails, failed('c'), reached(['step', 'a', 1]));
    expect(forgetsFor(over, undefined, at)).toEqual([
      ['step', 'a', 1],
      ['wait', 'w', 1],
      ['step', 'c', 1],
    ]);
    expect(forgetsFor(digest(failed('a'), reached(['step', 'b', 1])), undefined, at)).toEqual([]);
    expect(forgetsFor(digest(failed('a'), { kind: 'cancelled' }), undefined, at)).toEqual([]);
    expect(forgetsFor(digest(failed('a')), undefined, at)).toEqual([]);
    expect(forgetsFor(digest(failed('a'), reached(['step', 'a', 1])), undefined, at)).toEqual([['step', 'a', 1]]);
    const deep = runFailed({ cause: error('E', { cause: error('E', { identity: ['step', 'c', 1] }) }) });
    expect(forgetsFor(digest(failed('a'), failed('c'), deep), undefined, at)).toEqual([['step', 'c', 1]]);
  });

  it('F6: from a step, all that has an outcome from there on, and what is between two attempts', () => {
    const over = digest(done('a'), attemptFailed('slow'), done('b'), done('c'), runFailed());
    expect(forgetsFor(over, 'b', at)).toEqual([
      ['step', 'b', 1],
      ['step', 'c', 1],
      ['step', 'slow', 1],
    ]);
    expect(forgetsFor(over, 'slow', at)).toEqual([['step', 'slow', 1]]);
    expect(forgetsFor(digest(attemptFailed('a'), done('a')), 'a', at)).toEqual([['step', 'a', 1]]);
    expect(forgetsFor(digest(attemptFailed('other'), attemptFailed('slow')), 'slow', at)).toEqual([
      ['step', 'slow', 1],
    ]);
    expect(forgetsFor(digest(done('b'), attemptFailed('slow')), 'b', at).map(([, name]) => name)).toEqual([
      'b',
      'slow',
    ]);
  });

  it('F6: waits and sleeps whose instants have passed, and from a step those behind it', () => {
    const sleep = (name: string, dueAt: number) => ({ kind: 'sleep-set', ...id(name), dueAt }) as const;
    const wait = (name: string, deadline?: number) =>
      ({ kind: 'wait-set', ...id(name), events: ['e'], onTimeout: 'fail', ...(deadline && { deadline }) }) as const;
    const ended = { kind: 'sleep-ended', ...id('over'), asked: 1 } as const;
    const over = digest(
      ...[
        sleep('s1', at),
        sleep('s2', at + 1),
        wait('w1', at),
        wait('w2', at + 1),
        wait('w3'),
        sleep('over', 5),
        ended,
      ],
      ...[done('a'), sleep('s4', at + 9), wait('w4'), runFailed()],
    );
    const plain = forgetsFor(over, undefined, at).map(([, name]) => name);
    expect(plain).toEqual(['w1', 's1']);
    expect(forgetsFor(over, 'a', at).map(([, name]) => name)).toEqual(['a', 'w1', 'w4', 's1', 's4']);
    expect(forgetsFor(over, 'w2', at).map(([, name]) => name)).toEqual(['w1', 'w2', 's1']);
    const behind = digest(failed('a'), wait('w', at + 9), reached(['step', 'a', 1]));
    expect(forgetsFor(behind, undefined, at)).toEqual([['step', 'a', 1]]); // it keeps its deadline
  });
});

describe('an upgrade', () => {
  const upgraded = (more: object): Given => ({ kind: 'upgraded', from: 1, to: 2, ...more });

  it('O6: gives a payload, and names, all at once, to everything that is known by them', () => {
    const swap = [
      ['a', 'b'],
      ['b', 'a'],
    ];
    const over = digest(
      ...[undoSet('a'), done('a'), { kind: 'sleep-set', ...id('b'), dueAt: 5 } as const, attemptFailed('other')],
      { kind: 'drift', ids: [['step', 'a', 1]], slack: 0 },
      upgraded({ payload: 'new', renames: swap }),
    );
    expect([over.payload, names(over), [...over.outcomeKeys], [...over.aside]]).toEqual([
      ...['new', ['b'], [key('b')], [key('b')]],
    ]);
    expect([over.sleeps.get(key('a'))?.id, over.undos.get(key('b'))?.id, [...over.failures.keys()]]).toEqual([
      ...[['a', 1], ['b', 1], [key('other')]],
    ]);
    expect(recordedNames(over)).toEqual(new Set(['b', 'a', 'other']));
  });

  it('O6: what is undone stays so under its new name, and what is not said stays as it is', () => {
    const over = digest(
      undoSet('a'),
      done('a'),
      { kind: 'cancelled' },
      undone('a'),
      upgraded({ renames: [['a', 'b']] }),
    );
    expect([over.undone.get(key('b')), undosLeft(over)]).toEqual(['undone', []]);
    const silent = digest({ kind: 'cancelled' }, upgraded({}));
    expect([silent.payload, silent.forgotten]).toEqual(['p', []]);
  });

  it('R2: outside a renamed step is known by its first name; what is new under an old name by a key never used', () => {
    const over = digest(done('a'), upgraded({ renames: [['a', 'b']] }));
    expect(originOf(over, key('b'), ['b', 1])).toEqual([0, ['a', 1]]);
    expect(originOf(over, key('a'), ['a', 1])).toEqual([1, ['a', 1]]);
    expect([generationsUsed(over), nextGeneration(over)]).toEqual([1, 2]);
    const twice = digest(done('a'), upgraded({ renames: [['a', 'b']] }), upgraded({ renames: [['b', 'c']] }));
    expect(originOf(twice, key('c'), ['c', 1])).toEqual([0, ['a', 1]]);
    expect(originOf(twice, key('b'), ['b', 1])).toEqual([2, ['b', 1]]);
    expect([generationsUsed(digest()), nextGeneration(digest())]).toEqual([0, 1]);
  });

  it('O6: forgets names at once, or when a run that has ended is taken up again', () => {
    expect(names(digest(done('a'), done('b'), upgraded({ forgets: ['a'] })))).toEqual(['b']);
    const ended = digest(done('a'), undoSet('a'), { kind: 'cancelled' }, upgraded({ forgets: ['a'] }));
    expect([names(ended), ended.forgotten, undosLeft(ended)]).toEqual([['a'], ['a'], [key('a')]]);
    const again = digest(done('a'), runFailed(), upgraded({ forgets: ['a'] }), retried());
    expect([names(again), again.forgotten]).toEqual([[], []]);
  });
});

describe('attempts', () => {
  it('R2: count failures, and interruptions since the step was asked for', () => {
    const over = digest(interrupted, done('a'), interrupted, attemptFailed('b'), interrupted);
    expect(attemptOf(over, key('b'), 1)).toBe(1 + 1 + 2);
    expect(attemptOf(over, key('c'), 1)).toBe(1 + 2);
    expect(attemptOf(over, key('c'), 0)).toBe(1 + 3);
    expect(attemptOf(over, key('c'), 99)).toBe(1 + 3);
  });
});

describe('the end', () => {
  it('is the last of three entries, whatever stands behind it', () => {
    for (const kind of ['completed', 'failed', 'cancelled'] as const)
      expect(digest({ kind, value: 1, error: error('E') }, { kind: 'released' }).end?.kind).toBe(kind);
    expect(digest(done('a')).end).toBeUndefined();
  });

  it('N1: folded in pieces, a journal adds up to the same', () => {
    const all = entriesOf([
      started,
      undoSet('a'),
      done('a'),
      attemptFailed('b'),
      runFailed(),
      retried([['step', 'a', 1]]),
      done('a'),
    ]);
    const live = digestOf(all.slice(0, 1));
    for (const entry of all.slice(1)) extend(live, [entry]);
    expect(live).toEqual(digestOf(all));
  });
});

it('R2: an attempt to undo has the number of failures of undoing, and of interruptions since the one before was over', () => {
  const undoFailed: Given = { kind: 'undo-attempt-failed', ...id('a'), attempt: 1, error: error('E'), retryAt: at };
  const begun = [done('a'), undoSet('a'), done('b'), undoSet('b'), interrupted, runFailed()];
  expect(undoAttemptOf(digest(...begun), key('a'))).toBe(1);
  expect(undoAttemptOf(digest(...begun, interrupted, undoFailed), key('a'))).toBe(1 + 1 + 1);
  expect(undoAttemptOf(digest(...begun, interrupted, undoFailed, undone('b'), interrupted), key('a'))).toBe(1 + 1 + 1);
  const givenUp: Given = { kind: 'undo-failed', ...id('b'), attempt: 1, error: error('E') };
  expect(undoAttemptOf(digest(...begun, interrupted, givenUp), key('a'))).toBe(1);
  expect(undoAttemptOf(digest(done('a'), undoSet('a'), interrupted, { kind: 'cancelled' }), key('a'))).toBe(1);
});
