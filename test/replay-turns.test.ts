import { describe, expect, it } from 'vitest';
import { identityKey } from '../src/store/journal.js';
import { done, gate, type Handler, names, pass, recordedAs, ticks } from './replay-kit.js';

// Pins: the heart alone, between and around its turns: when it tells that somebody has asked, what of a turn is left for
// the next one, what is withdrawn, and that what comes after the end, or after `drop`, is nobody's.

const keyOf = (name: string, occurrence = 1) => identityKey('step', [name, occurrence]);

describe('who asks outside of a turn is told of', () => {
  it('asks, losers and an end are told once each, those within a turn not at all', async () => {
    const first = gate();
    const second = gate();
    const { replay, ask, outside } = pass(async () => {
      void ask('within');
      await first.promise;
      void ask('outside');
      await second.promise;
      return 'end';
    });
    await replay.turn();
    expect(outside()).toBe(0);
    first.open();
    await ticks(5);
    expect(outside()).toBe(1);
    replay.withdraw(keyOf('within'));
    expect(outside()).toBe(2);
    replay.withdraw(keyOf('within')); // gone already
    replay.withdraw(keyOf('nothing'));
    expect(outside()).toBe(2);
    second.open();
    await ticks(5);
    expect(outside()).toBe(3);
    const turn = await replay.turn();
    expect(turn).toMatchObject({ withdrawn: [keyOf('within')], ending: { kind: 'returned', value: 'end' } });
    expect(names(turn.opened)).toEqual(['outside1']);
  });

  it('bad arguments between two turns are told of, within a turn they are its fault', async () => {
    const between = pass((ask) => ask('a'));
    await between.replay.turn();
    between.replay.refuse(new Error('bad'));
    expect(between.outside()).toBe(1);
    expect((await between.replay.turn()).fault).toEqual(new Error('bad'));
    const within = pass((ask) => {
      within.replay.refuse(new Error('bad'));
      within.replay.refuse(new Error('worse'));
      return ask('a');
    });
    const turn = await within.replay.turn();
    expect([turn.fault, turn.opened, within.outside()]).toEqual([new Error('bad'), [], 0]);
  });

  it('before its first turn nothing is under way: an ask is told of', () => {
    const { ask, outside } = pass(() => undefined);
    void ask('early');
    expect(outside()).toBe(1);
  });
});

describe('what a turn leaves behind', () => {
  it('is handed over once, a loser within the turn is never open, and is named once', async () => {
    const { replay, outside } = pass(
      async (ask) => {
        await ask('a');
        void ask('b');
        void ask('c');
        replay.withdraw(keyOf('b'));
        await ask('d');
      },
      [done('a', 1)],
    );
    const turn = await replay.turn();
    expect([names(turn.opened), turn.withdrawn]).toEqual([['c1', 'd1'], [keyOf('b')]]);
    expect(outside()).toBe(0);
    const next = await replay.turn();
    expect([next.opened, next.withdrawn]).toEqual([[], []]);
  });

  it('each ask says how many outcomes came before it', async () => {
    const { replay } = pass(
      async (ask) => {
        void ask('first');
        await ask('a');
        await ask('b');
        void ask('last');
      },
      [done('a', 2), done('b', 3)],
    );
    const { opened } = await replay.turn();
    expect(opened.map(({ id, released }) => [id[0], released])).toEqual([
      ['first', 0],
      ['last', 2],
    ]);
  });

  it('a loser whose outcome is recorded is passed over, also where others are recorded behind it', async () => {
    const handler: Handler = async (ask, trace) => {
      void ask('lost').then(trace);
      await ask('a');
      replay.withdraw(keyOf('lost'));
      trace(await ask('b'));
    };
    const { replay, trace } = pass(handler, [done('a', 2), done('lost', 3), done('b', 3)]);
    const turn = await replay.turn();
    expect([trace, turn.isStalled]).toEqual([['b1'], false]);
  });

  it('what was released stalls nothing', async () => {
    const { replay, ask } = pass(async () => {
      await ask('a');
      await ask('b');
    }, [done('a', 1), done('gone', 2)]);
    expect((await replay.turn()).isStalled).toBe(false);
  });

  it('a fault within a turn ends its releases: what is recorded behind it is not told to the handler', async () => {
    const handler: Handler = async (ask, trace) => {
      const b = ask('b').then(trace);
      await ask('a');
      replay.refuse(new Error('bad'));
      await b;
    };
    const { replay, trace } = pass(handler, [done('a', 2), done('b', 2)]);
    expect([(await replay.turn()).fault, trace]).toEqual([new Error('bad'), []]);
  });

  it('R6: its end does not: what comes behind it is told to what it has left running, as it was the first time', async () => {
    const ended: Handler = async (ask, trace) => {
      void ask('b').then(trace);
      await ask('a');
      return 'end';
    };
    const { replay, trace } = pass(ended, [done('a', 2), done('b', 2)]);
    expect([(await replay.turn()).ending?.kind, trace]).toEqual(['returned', ['b1']]);
  });

  it('what `drop` leaves is told nothing', async () => {
    const dropped: Handler = async (ask, trace) => {
      void ask('b').then(trace);
      await ask('a');
      two.replay.drop();
    };
    const two = pass(dropped, [done('a', 2), done('b', 2)]);
    expect([(await two.replay.turn()).ending, two.trace]).toEqual([undefined, []]);
  });
});

describe('quiet', () => {
  it('is a handler that has asked for nothing since the last release: not one that has not begun, nor one that ended', async () => {
    const later = gate();
    const { replay, ask } = pass(async () => {
      await ask('a');
      await later.promise;
      await ask('b');
    }, [done('a', 1)]);
    expect(replay.isQuiet()).toBe(false);
    await replay.turn();
    expect(replay.isQuiet()).toBe(true);
    later.open();
    await ticks(5);
    expect(replay.isQuiet()).toBe(false);
    replay.feed(keyOf('b'), done('b', 2));
    expect(replay.isQuiet()).toBe(true);
    await replay.turn();
    expect(replay.isQuiet()).toBe(false);
  });
});

describe('behind what is recorded', () => {
  const since = (key: string) => (key === keyOf('open') ? 0 : undefined);

  it('R7: what was open before is not begun, and what becomes of it comes last', async () => {
    const slow = gate();
    const { replay, trace } = pass(
      async (ask, trace) => {
        void ask('open').then(() => trace('open'));
        await slow.promise;
        void ask('a').then(() => trace('a'));
      },
      [done('a', 2)],
      { since },
    );
    const first = await replay.turn();
    expect([names(first.opened), names(first.behind), first.isStalled]).toEqual([[], ['open1'], true]);
    expect(replay.isQuiet()).toBe(true);
    expect(replay.position(keyOf('open'))).toEqual({ asked: 1 });
    replay.feed(keyOf('open'), done('open', 1), 9);
    expect(names((await replay.turn()).behind)).toEqual([]);
    slow.open();
    await ticks(5);
    const last = await replay.turn();
    expect([trace, names(last.opened), names(last.behind)]).toEqual([['a', 'open'], [], []]);
  });

  it('R7: it is begun when all that is recorded was told, or the handler has ended', async () => {
    for (const ends of [false, true]) {
      const slow = gate();
      const { replay } = pass(
        async (ask) => {
          void ask('open');
          await slow.promise;
          if (!ends) void ask('a');
        },
        [done('a', 2)],
        { since },
      );
      expect(names((await replay.turn()).opened)).toEqual([]);
      slow.open();
      await ticks(5);
      const turn = await replay.turn();
      expect([names(turn.opened), turn.isStalled]).toEqual([['open1'], false]);
    }
  });

  it('R7: after the stall limit what is recorded and not asked for is set aside for it', async () => {
    const { replay } = pass(async (ask) => void ask('open'), [done('gone', 1), done('too', 2)], { since });
    const never = pass(
      async (ask) => {
        void ask('open');
        await new Promise(() => undefined);
      },
      [done('gone', 1), done('too', 2)],
      { since },
    ).replay;
    expect(names((await replay.turn()).opened), 'it has ended').toEqual(['open1']);
    expect((await never.turn()).isStalled).toBe(true);
    const { ids, slack } = never.skip();
    expect([ids.map(({ key }) => key), slack]).toEqual([[keyOf('gone'), keyOf('too')], 0]);
    const turn = await never.turn();
    expect([names(turn.opened), turn.isStalled]).toEqual([['open1'], false]);
  });

  it('R7, R4: a function without a trace waits while less is asked for than was, and no longer than the stall limit', async () => {
    const fn = { kind: 'run', fn: () => undefined } as never;
    const begun = (asked: number, isWhole = true, slack = 0, next = asked + 1) => {
      const handler = async () => {
        replay.ask('step', 'fresh', fn, () => undefined);
        await new Promise(() => undefined);
      };
      const { replay } = pass(handler, [done('a', asked), done('b', next)], { isWhole, slack });
      return replay;
    };
    expect(names((await begun(2, false).turn()).opened), 'done again, after a retry').toEqual(['fresh1']);
    expect(names((await begun(1).turn()).opened), 'in the place of another: new code').toEqual(['fresh1']);
    expect(names((await begun(2, true, 1).turn()).opened), 'less is asked for since a drift').toEqual(['fresh1']);
    const later = begun(1, true, 0, 3);
    expect(names((await later.turn()).behind), 'it may have been there when the second was recorded').toEqual([
      'fresh1',
    ]);
    const replay = begun(2);
    const first = await replay.turn();
    expect([names(first.opened), names(first.behind), first.isStalled]).toEqual([[], ['fresh1'], true]);
    expect(replay.skip()).toEqual({ ids: [], slack: 0 });
    const turn = await replay.turn();
    expect([names(turn.opened), turn.isStalled]).toEqual([['fresh1'], false]);
    expect(replay.position(keyOf('fresh'))).toEqual({ asked: 1, before: 1 });
  });

  it('R4: what was open before is begun where all that is still to come was recorded before it was: new code', async () => {
    const options = { since: (key: string) => (key === keyOf('open') ? 3 : undefined) };
    const { replay } = pass(async (ask) => void (await ask('open')), [done('a', 1), done('b', 2)], options);
    expect(names((await replay.turn()).opened)).toEqual(['open1']);
  });

  it('R7: a function whose first failure was recorded behind what is to come may have been there before', async () => {
    const fn = { kind: 'run', fn: () => undefined } as never;
    const failedAt = (asked: number) => {
      const handler = () => {
        replay.ask('step', 'open', fn, () => undefined);
        return new Promise(() => undefined);
      };
      const { replay } = pass(handler, [done('a', asked)], { since: () => 9 });
      return replay;
    };
    expect(names((await failedAt(2).turn()).behind)).toEqual(['open1']);
    expect(names((await failedAt(1).turn()).opened), 'nothing but a was asked for').toEqual(['open1']);
  });

  it('R7: what was released counts no more, and what is to come does, whatever came before it', async () => {
    const openSince = (index: number) => ({ since: (key: string) => (key === keyOf('open') ? index : undefined) });
    const handler =
      (first: string): Handler =>
      async (ask) => {
        void ask('open');
        await ask(first);
        await new Promise(() => undefined);
      };
    const behind = pass(handler('a'), [done('a', 2), done('b', 2)], openSince(1));
    expect(names((await behind.replay.turn()).behind), 'b was recorded since').toEqual(['open1']);
    const [a, b] = [recordedAs(done('a', 2), 1), recordedAs(done('b', 2, { before: 1 }), 3)];
    const before = pass(handler('b'), [], { outcomes: [b, a], ...openSince(2) });
    expect(names((await before.replay.turn()).opened), 'a was recorded before').toEqual(['open1']);
  });

  it('R7: what becomes of something else is told at once', async () => {
    const handler: Handler = async (ask, trace) => {
      void ask('open').then(() => trace('open'));
      void ask('other').then(() => trace('other'));
      await new Promise(() => undefined);
    };
    const { replay, trace } = pass(handler, [done('a', 2)], { since });
    expect(names((await replay.turn()).opened)).toEqual(['other1']);
    expect(replay.position(keyOf('other'))).toEqual({ asked: 2, before: 1 });
    replay.feed(keyOf('other'), done('other', 2), 9);
    await replay.turn();
    expect(trace).toEqual(['other']);
  });

  it('E11: what loses its race meanwhile is not begun at all', async () => {
    const slow = gate();
    const { replay } = pass(
      async (ask) => {
        void ask('open');
        await slow.promise;
        await ask('a');
        replay.withdraw(keyOf('open'));
      },
      [done('a', 2)],
      { since },
    );
    await replay.turn();
    slow.open();
    await ticks(5);
    expect(await replay.turn()).toMatchObject({ opened: [], behind: [], withdrawn: [keyOf('open')] });
  });
});

describe('positions', () => {
  it('an outcome that comes now stands before the next recorded one, if it is asked for', async () => {
    const { replay, ask } = pass(async () => {
      void ask('a');
      void ask('fresh');
      await gate().promise;
    }, [done('late', 3)]);
    await replay.turn();
    expect(replay.position(keyOf('fresh'))).toEqual({ asked: 2, before: 1 });
    expect(replay.position(keyOf('unasked'))).toEqual({ asked: 2 });
    expect(replay.position()).toEqual({ asked: 2, before: 1 });
  });

  it('one that is fed without a place of its own has the index -1', async () => {
    const { replay } = pass(() => gate().promise);
    await replay.turn();
    replay.feed(keyOf('a'), done('a', 1));
    expect(replay.unasked().map(({ index }) => index)).toEqual([-1]);
  });

  it('one that is fed for what is asked for leaves the other asks open', async () => {
    const work = gate();
    const { replay, ask } = pass(async () => {
      await work.promise;
      void ask('a');
      void ask('b');
    });
    await replay.turn();
    work.open();
    await ticks(5);
    replay.feed(keyOf('a'), done('a', 2));
    expect(names((await replay.turn()).opened)).toEqual(['b1']);
  });
});

describe('skip', () => {
  it('has nothing to skip once what stalled has lost its race', async () => {
    const { replay, ask } = pass(async () => {
      await ask('c');
    }, [done('gone', 1), done('c', 2)]);
    expect((await replay.turn()).isStalled).toBe(true);
    replay.withdraw(keyOf('c'));
    expect(replay.skip()).toEqual({ ids: [], slack: 0 });
    expect(replay.unasked().map(({ key }) => key)).toEqual([keyOf('gone'), keyOf('c')]);
  });

  it('does not look at what was released, and counts slack that was given before', async () => {
    const handler: Handler = async (ask, trace) => {
      trace(await ask('a'));
      trace(await ask('b'));
      trace(await ask('b'));
    };
    const second = done('b', 6, { occurrence: 2 });
    const { replay, trace } = pass(handler, [done('a', 2), done('b', 3), second], { slack: 1 });
    expect((await replay.turn()).isStalled).toBe(true);
    expect(trace).toEqual(['a1', 'b1']);
    expect(replay.skip()).toEqual({ ids: [], slack: 2 }); // 6 - 1 - 3
    expect(replay.unasked()).toEqual([]); // it is asked for
    await replay.turn();
    expect(trace).toEqual(['a1', 'b1', 'b2']);
  });
});

describe('after the end', () => {
  it('nothing takes its place, neither another end nor bad arguments', async () => {
    const { replay, outside } = pass(() => {
      replay.restart('again');
      return 'returned later';
    });
    const turn = await replay.turn();
    expect(turn.ending).toEqual({ kind: 'restarts', payload: 'again' });
    replay.restart('and again');
    replay.refuse(new Error('late'));
    expect(outside()).toBe(0);
    const next = await replay.turn();
    expect([next.ending, next.fault]).toEqual([{ kind: 'restarts', payload: 'again' }, undefined]);
  });

  it('after `drop` nothing is told, fed, refused or ended', async () => {
    const { replay, outside } = pass(() => gate().promise);
    await replay.turn();
    replay.drop();
    replay.refuse(new Error('late'));
    replay.restart('late');
    replay.feed(keyOf('a'), done('a', 1));
    expect(outside()).toBe(0);
    expect(replay.unasked()).toEqual([]);
    const turn = await replay.turn();
    expect([turn.ending, turn.fault]).toEqual([undefined, undefined]);
  });
});
