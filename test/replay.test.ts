import { describe, expect, it } from 'vitest';
import { createReplay } from '../src/replay/replay.js';
import { type Identity, identityKey, type OutcomeEntry } from '../src/store/journal.js';
import { done, failed, gate, type Handler, names, pass, slept, taken, ticks } from './replay-kit.js';

// Pins: the heart alone, a function of handler and journal. Spec R4 (identity), R5 (faults), R6 (promises of a dropped
// pass stay pending), R7 (order of release, `asked`, stall).

const oneByOne: Handler = async (ask, trace) => {
  trace(await ask('a'));
  trace(await ask('b'));
  trace(await ask('a'));
  return 'end';
};

describe('a journal and a handler give trace, open asks and ending', () => {
  const table: [
    title: string,
    handler: Handler,
    entries: readonly OutcomeEntry[],
    expected: { trace?: unknown[]; opened?: string[]; ending?: unknown; isStalled?: boolean },
  ][] = [
    ['an empty journal opens the first ask', oneByOne, [], { trace: [], opened: ['a1'] }],
    ['what is recorded is replayed, the next is open', oneByOne, [done('a', 1)], { trace: ['a1'], opened: ['b1'] }],
    [
      'the second use of a name is its second occurrence',
      oneByOne,
      [done('a', 1), done('b', 2)],
      { trace: ['a1', 'b1'], opened: ['a2'] },
    ],
    [
      'a full journal leads to the end',
      oneByOne,
      [done('a', 1), done('b', 2), done('a', 3, { occurrence: 2 })],
      { trace: ['a1', 'b1', 'a2'], opened: [], ending: { kind: 'returned', value: 'end' } },
    ],
    [
      'a handler without asks ends at once',
      () => 1,
      [],
      { trace: [], opened: [], ending: { kind: 'returned', value: 1 } },
    ],
    [
      'a handler that throws before its first await has thrown',
      () => {
        throw new RangeError('no');
      },
      [],
      { opened: [], ending: { kind: 'threw', error: new RangeError('no') } },
    ],
    [
      'a recorded failure is thrown into the handler, which may catch it',
      async (ask, trace) => {
        try {
          await ask('a');
        } catch (error) {
          trace((error as Error).message);
        }
        await ask('b');
      },
      [failed('a', 1)],
      { trace: ['a failed'], opened: ['b1'] },
    ],
    [
      'a recorded failure that is not caught ends the handler',
      (ask) => ask('a'),
      [failed('a', 1)],
      { opened: [], ending: { kind: 'threw', error: new Error('a failed') } },
    ],
    [
      'sleeps and events settle like steps',
      async (ask, trace) => {
        trace(await ask('nap'));
        trace(await ask('go', 'wait'));
      },
      [slept('nap', 1), taken('go', 2, 'now')],
      { trace: ['sleep-ended', 'now'], ending: { kind: 'returned', value: undefined } },
    ],
    [
      'a wait and a step of one name are two identities',
      async (ask, trace) => {
        trace(await ask('x', 'wait'));
        trace(await ask('x'));
      },
      [taken('x', 1, 'event')],
      { trace: ['event'], opened: ['x1'] },
    ],
    [
      "a user's own 'x#2' or '[x,2]' is not the second 'x'",
      (ask) => Promise.all([ask('x'), ask('x'), ask('x#2'), ask('x,2')]),
      [done('x', 4, { occurrence: 2, value: 'second' })],
      { opened: ['x1', 'x#21', 'x,21'] },
    ],
    [
      'an inserted step simply runs',
      async (ask, trace) => {
        trace(await ask('a'));
        trace(await ask('new'));
        trace(await ask('b'));
      },
      [done('a', 1), done('b', 2)],
      { trace: ['a1'], opened: ['new1'] },
    ],
    [
      'a renamed step runs as new',
      async (ask, trace) => {
        trace(await ask('A'));
      },
      [done('a', 1)],
      { trace: [], opened: ['A1'], isStalled: false },
    ],
  ];
  it.each(table)('%s', async (_, handler, entries, { trace, opened, ending, isStalled }) => {
    const { replay, trace: seen } = pass(handler, entries);
    const turn = await replay.turn();
    if (trace) expect(seen).toEqual(trace);
    if (opened) expect(names(turn.opened)).toEqual(opened);
    expect(turn.ending).toEqual(ending);
    expect(turn.fault).toBeUndefined();
    if (isStalled !== undefined) expect(turn.isStalled).toBe(isStalled);
  });
});

describe('order of release', () => {
  const race: Handler = async (ask, trace) => {
    trace(await Promise.race([ask('a'), ask('b')]));
    await ask('after');
  };

  it.each([
    ['a', 'b'],
    ['b', 'a'],
  ])('the winner of a race is what was recorded first: %s before %s', async (first, second) => {
    const { replay, trace } = pass(race, [done(first, 2), done(second, 3)]);
    const { opened } = await replay.turn();
    expect(trace).toEqual([`${first}1`]);
    expect(names(opened)).toEqual(['after1']);
  });

  it('a winner that goes through many promises still wins against a later outcome', async () => {
    const slow: Handler = async (ask, trace) => {
      const deep = ask('a').then(async (value) => {
        await ticks(50);
        return value;
      });
      trace(await Promise.race([deep, ask('b')]));
    };
    const { replay, trace } = pass(slow, [done('a', 2), done('b', 2)]);
    await replay.turn();
    expect(trace).toEqual(['a1']);
  });

  it('what an outcome sets off is over before an outcome that was asked for later is released', async () => {
    // Live, 'c' takes at least a macrotask after 'a'; the branch that only computes after 'a' is always first.
    const branches: Handler = async (ask, trace) => {
      const a = ask('a');
      const computes = a.then(async () => {
        await ticks(20);
        return 'computed';
      });
      const asks = a.then(async () => `asked ${await ask('c')}`);
      trace(await Promise.race([computes, asks]));
      await asks;
      await ask('after');
    };
    const live = pass(branches);
    await live.replay.turn();
    live.replay.feed(identityKey('step', ['a', 1]), done('a', 1));
    await live.replay.turn();
    const { asked } = live.replay.position();
    live.replay.feed(identityKey('step', ['c', 1]), done('c', asked));
    await live.replay.turn();
    expect(live.trace).toEqual(['computed']);

    const again = pass(branches, [done('a', 1), done('c', asked)]);
    await again.replay.turn();
    expect(again.trace).toEqual(live.trace);
  });

  it('occurrences are counted as the handler asked for them live, though one branch computes longer', async () => {
    const branches: Handler = async (ask, trace) => {
      const branch = async (name: string, work: number) => {
        await ask(name);
        await ticks(work);
        trace([name, await ask('x')]);
      };
      await Promise.all([branch('slow', 30), branch('quick', 0)]);
    };
    const live = pass(branches);
    await live.replay.turn();
    const entries: OutcomeEntry[] = [];
    for (const [name, occurrence] of [
      ['slow', 1],
      ['quick', 1],
      ['x', 2],
      ['x', 1],
    ] as Identity[]) {
      const entry = done(name, live.replay.position().asked, { occurrence });
      entries.push(entry);
      live.replay.feed(identityKey('step', [name, occurrence]), entry);
      await live.replay.turn();
    }
    expect(live.trace).toEqual([
      ['quick', 'x2'],
      ['slow', 'x1'],
    ]);
    const again = pass(branches, entries);
    expect((await again.replay.turn()).ending).toEqual({ kind: 'returned', value: undefined });
    expect(again.trace).toEqual(live.trace);
  });

  it('Promise.any and allSettled see failures and successes in the order of the journal', async () => {
    const handler: Handler = async (ask, trace) => {
      trace(await Promise.any([ask('a'), ask('b'), ask('c')]));
      const settled = await Promise.allSettled([ask('d'), ask('e')]);
      trace(settled.map(({ status }) => status));
    };
    const { replay, trace } = pass(handler, [failed('b', 3), done('c', 3), done('a', 5), failed('e', 5), done('d', 5)]);
    const { ending } = await replay.turn();
    expect(trace).toEqual(['c1', ['fulfilled', 'rejected']]);
    expect(ending).toEqual({ kind: 'returned', value: undefined });
  });

  it('two outcomes that are both asked for have a macrotask between them', async () => {
    const moments: string[] = [];
    const handler: Handler = (ask) =>
      Promise.all(
        ['a', 'b'].map((name) =>
          ask(name).then(async () => {
            moments.push(`${name} begins`);
            await ticks(100);
            moments.push(`${name} ends`);
          }),
        ),
      );
    const { replay } = pass(handler, [done('b', 2), done('a', 2)]);
    await replay.turn();
    expect(moments).toEqual(['b begins', 'b ends', 'a begins', 'a ends']);
  });
});

describe('thresholds: an outcome waits until as many are asked for as when it was recorded', () => {
  it('a slow import before the second ask does not flip a race', async () => {
    const loaded = gate();
    const handler: Handler = async (ask, trace) => {
      const b = loaded.promise.then(() => ask('b'));
      trace(await Promise.race([ask('a'), b]));
    };
    const { replay, trace, outside } = pass(handler, [done('b', 2), done('a', 2)]);
    const first = await replay.turn();
    expect(trace).toEqual([]);
    expect(first.isStalled).toBe(true);
    loaded.open();
    await ticks(5);
    expect(outside()).toBe(1);
    const second = await replay.turn();
    expect(trace).toEqual(['b1']);
    expect(second.isStalled).toBe(false);
  });

  it('an outcome is held though it is the next, while fewer are asked for', async () => {
    const loaded = gate();
    const handler: Handler = async (ask, trace) => {
      const late = (async () => {
        await loaded.promise;
        trace(['late', await ask('x')]);
      })();
      const early = ask('x').then((value) => trace(['early', value]));
      await Promise.all([late, early]);
    };
    const entries = [done('x', 2, { occurrence: 1 }), done('x', 2, { occurrence: 2 })];
    const { replay, trace } = pass(handler, entries);
    await replay.turn();
    expect(trace).toEqual([]);
    loaded.open();
    await ticks(5);
    await replay.turn();
    expect(trace).toEqual([
      ['early', 'x1'],
      ['late', 'x2'],
    ]);
  });

  it('code that asks for more than when it was recorded is not held up', async () => {
    const handler: Handler = async (ask, trace) => {
      void ask('new');
      trace(await ask('a'));
      trace(await ask('b'));
    };
    const { replay, trace } = pass(handler, [done('a', 1), done('b', 2)]);
    const { opened } = await replay.turn();
    expect(trace).toEqual(['a1', 'b1']);
    expect(names(opened)).toEqual(['new1']);
  });
});

describe('stall and skip', () => {
  const removed: Handler = async (ask, trace) => {
    trace(await ask('a'));
    trace(await ask('c'));
    return 'end';
  };
  const entries = [done('a', 1), done('b', 2), done('c', 3)];

  it('a removed step stalls what was recorded after it; skip goes on and tells what is set aside', async () => {
    const { replay, trace } = pass(removed, entries);
    expect(await replay.turn()).toMatchObject({ opened: [], isStalled: true });
    expect(trace).toEqual(['a1']);
    const { ids, slack } = replay.skip();
    expect(ids.map(({ key }) => key)).toEqual([identityKey('step', ['b', 1])]);
    expect(slack).toBe(1);
    const { ending, isStalled } = await replay.turn();
    expect(isStalled).toBe(false);
    expect(trace).toEqual(['a1', 'c1']);
    expect(ending).toEqual({ kind: 'returned', value: 'end' });
    expect(replay.unasked().map(({ key }) => key)).toEqual([identityKey('step', ['b', 1])]);
  });

  it('the next pass, told of the drift, does not stall again', async () => {
    const first = pass(removed, entries);
    await first.replay.turn();
    const { ids, slack } = first.replay.skip();
    const aside = new Set(ids.map(({ key }) => key));
    const { replay, trace } = pass(removed, entries, { aside, slack });
    const { ending, isStalled } = await replay.turn();
    expect(isStalled).toBe(false);
    expect(trace).toEqual(['a1', 'c1']);
    expect(ending).toEqual({ kind: 'returned', value: 'end' });
  });

  it('a removed step that was never recorded holds later outcomes by its ask alone; skip gives the slack', async () => {
    const handler: Handler = async (ask, trace) => {
      trace(await ask('a'));
    };
    const { replay, trace } = pass(handler, [done('a', 3)]);
    expect((await replay.turn()).isStalled).toBe(true);
    expect(replay.skip()).toEqual({ ids: [], slack: 2 });
    await replay.turn();
    expect(trace).toEqual(['a1']);
  });

  it('what was set aside and is asked for after all keeps its recorded outcome', async () => {
    const { replay, trace } = pass(oneByOne, [done('a', 1), done('b', 2)], {
      aside: new Set([identityKey('step', ['b', 1])]),
      slack: 1,
    });
    const { opened } = await replay.turn();
    expect(trace).toEqual(['a1', 'b1']);
    expect(names(opened)).toEqual(['a2']);
  });

  it('code that does not ask for the last outcomes any more is not stalled: it simply goes on', async () => {
    const handler: Handler = async (ask, trace) => {
      trace(await ask('a'));
      trace(await ask('new'));
    };
    const { replay } = pass(handler, entries);
    const turn = await replay.turn();
    expect(turn.isStalled).toBe(false);
    expect(names(turn.opened)).toEqual(['new1']);
    expect(replay.unasked().map(({ index }) => index)).toEqual([2, 3]);
  });
});

describe('feed and position', () => {
  it('R1: what was asked for between two turns and is fed before the next is not open: nobody executes it', async () => {
    const work = gate();
    const { replay, trace } = pass(async (ask, note) => {
      await work.promise;
      note(await ask('a'));
    });
    expect(names((await replay.turn()).opened)).toEqual([]);
    work.open();
    await ticks(5);
    replay.feed(identityKey('step', ['a', 1]), done('a', 1));
    expect(names((await replay.turn()).opened)).toEqual([]);
    expect(trace).toEqual(['a1']);
  });

  it('a live pass is a replay that has caught up', async () => {
    const { replay, trace } = pass(oneByOne, [done('a', 1)]);
    expect(names((await replay.turn()).opened)).toEqual(['b1']);
    expect(replay.position()).toEqual({ asked: 2 });
    replay.feed(identityKey('step', ['b', 1]), done('b', 2));
    expect(names((await replay.turn()).opened)).toEqual(['a2']);
    replay.feed(identityKey('step', ['a', 2]), done('a', 3, { occurrence: 2 }));
    expect((await replay.turn()).ending).toEqual({ kind: 'returned', value: 'end' });
    expect(trace).toEqual(['a1', 'b1', 'a2']);
  });

  it('an outcome that comes before a recorded one was released says so, and the next pass puts it first', async () => {
    const loaded = gate();
    const handler: Handler = async (ask, trace) => {
      const old = loaded.promise.then(() => ask('old'));
      const fresh = ask('fresh');
      trace(await Promise.race([old, fresh]));
      await Promise.all([old, fresh]);
    };
    const { replay, trace } = pass(handler, [done('old', 2)]);
    expect(names((await replay.turn()).opened)).toEqual(['fresh1']);
    const position = replay.position();
    expect(position).toEqual({ asked: 1, before: 1 });
    replay.feed(identityKey('step', ['fresh', 1]), { ...done('fresh', 1), ...position });
    await replay.turn();
    expect(trace).toEqual(['fresh1']);
    loaded.open();
    await ticks(5);
    expect((await replay.turn()).ending).toBeDefined();

    const again = pass(handler, [done('fresh', 1, { before: 1 }), done('old', 2)]);
    await again.replay.turn();
    expect(again.trace).toEqual(['fresh1']);
  });

  it('an outcome that is fed before it is asked for waits until it is', async () => {
    const { replay, trace } = pass(oneByOne);
    await replay.turn();
    replay.feed(identityKey('step', ['b', 1]), done('b', 2), 7);
    expect((await replay.turn()).opened).toEqual([]);
    expect(trace).toEqual([]);
    replay.feed(identityKey('step', ['a', 1]), done('a', 1), 8);
    await replay.turn();
    expect(trace.slice(0, 2)).toEqual(['a1', 'b1']);
  });

  it('feeding twice, or to another namespace, changes nothing', async () => {
    const { replay, trace } = pass(oneByOne);
    await replay.turn();
    replay.feed(identityKey('wait', ['a', 1]), done('a', 1));
    expect((await replay.turn()).opened).toEqual([]);
    expect(trace).toEqual([]);
    replay.feed(identityKey('step', ['a', 1]), done('a', 1, { value: 'first' }));
    replay.feed(identityKey('step', ['a', 1]), done('a', 1, { value: 'second' }));
    await replay.turn();
    expect(trace).toEqual(['first']);
  });

  it('each open ask is handed over once', async () => {
    const { replay } = pass((ask) => Promise.all([ask('a'), ask('b')]));
    expect(names((await replay.turn()).opened)).toEqual(['a1', 'b1']);
    expect((await replay.turn()).opened).toEqual([]);
  });
});

describe('faults', () => {
  it('stops the pass, names the fault, and runs no user code because of it', async () => {
    const fault = new Error('another kind');
    const handler: Handler = async (ask, trace) => {
      try {
        trace(await ask('a'));
        await ask('b');
        trace('after the fault');
      } catch {
        trace('catch');
      } finally {
        trace('finally');
      }
    };
    const { replay, trace } = pass(handler, [done('a', 1), done('b', 2), done('c', 2)], {
      check: ({ id: [name] }) => (name === 'b' ? fault : undefined),
    });
    const turn = await replay.turn();
    expect(turn.fault).toBe(fault);
    expect(turn.ending).toBeUndefined();
    expect(trace).toEqual(['a1']);
    expect((await replay.turn()).fault).toBe(fault);
    expect(trace).toEqual(['a1']);
  });

  it('bad arguments are a fault of their ask; the first fault is the one that is told', async () => {
    const seen: string[] = [];
    const replay = createReplay({
      outcomes: [],
      aside: new Set(),
      slack: 0,
      hop: (callback) => void setImmediate(callback),
      invoke: async () => {
        replay.ask('step', '', { kind: 'sleep', until: (now) => now }, () => seen.push('settled'), new Error('first'));
        replay.ask('step', 'x', { kind: 'sleep', until: (now) => now }, () => seen.push('settled'), new Error('next'));
      },
      check: () => undefined,
      since: () => undefined,
      isWhole: true,
      onAsk: () => undefined,
    });
    expect((await replay.turn()).fault?.message).toBe('first');
    expect(seen).toEqual([]);
  });

  it('the check sees identity, namespace and command of every ask', async () => {
    const seen: string[] = [];
    const { replay } = pass((ask) => Promise.all([ask('a'), ask('a'), ask('a', 'wait')]), [], {
      check: ({ key, command }) => {
        seen.push(`${key} ${command.kind}`);
        return undefined;
      },
    });
    await replay.turn();
    expect(seen).toEqual(['["step","a",1] sleep', '["step","a",2] sleep', '["wait","a",1] sleep']);
  });
});

describe('drop', () => {
  it('leaves promises pending: neither then, catch nor finally of the handler runs', async () => {
    const handler: Handler = async (ask, trace) => {
      try {
        await ask('a');
        trace('then');
      } catch {
        trace('catch');
      } finally {
        trace('finally');
      }
    };
    const { replay, trace, ask } = pass(handler);
    await replay.turn();
    replay.drop();
    replay.feed(identityKey('step', ['a', 1]), done('a', 1));
    void ask('late').then(
      () => trace.push('late'),
      () => trace.push('late'),
    );
    const turn = await replay.turn();
    expect(turn).toMatchObject({ opened: [], isStalled: false });
    expect(turn.ending).toBeUndefined();
    await new Promise((resolve) => setImmediate(resolve));
    expect(trace).toEqual([]);
  });

  it('asks that a handler makes after it has ended are nobody’s', async () => {
    const later = gate();
    const handler: Handler = (ask) => {
      void later.promise.then(() => ask('stray'));
      return 'end';
    };
    const { replay, outside } = pass(handler);
    expect((await replay.turn()).ending).toEqual({ kind: 'returned', value: 'end' });
    later.open();
    await ticks(5);
    expect((await replay.turn()).opened).toEqual([]);
    expect(outside()).toBe(0);
  });
});
