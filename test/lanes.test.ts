import { describe, expect, it, vi } from 'vitest';
import type { AnyJob } from '../src/door/job.js';
import { checkPriority, checkShared, createLanes, placeOf, type QueueOptions, queueOf } from '../src/door/queue.js';
import { simulatedClock } from '../src/testing/clock.js';

// Pins: the queues that jobs wait in, alone: which one it is, what keeps other starts out, and how long one counts as full
// (spec Q2, Q4).

type Queue = string | QueueOptions<never>;
const job = (name: string, queue?: Queue): AnyJob => ({
  ...{ name, options: { ...(queue !== undefined && { queue: queue as never }) }, handler: () => 1 },
});
const refusing = (code: string, ...said: string[]) => {
  const message = expect.stringContaining(said[0]!);
  return expect.objectContaining({ code, message, ...(said[1] !== undefined && { job: said[1] }) });
};

describe('the queue of a job', () => {
  it('is the one that it names, or that of all that name none', () => {
    const options = { name: 'q', concurrency: 2 };
    expect([job('a'), undefined, job('a', 'q'), job('a', options)].map(queueOf)).toEqual([
      ...[{ name: 'default' }, { name: 'default' }, { name: 'q' }, options],
    ]);
  });

  it('has priorities that are integers', () => {
    for (const priority of [0, -5, 2 ** 40]) expect(() => checkPriority(priority, 'priority')).not.toThrow();
    for (const priority of [0.5, '1', 2 ** 60, Number.NaN])
      expect(() => checkPriority(priority, 'priority')).toThrow(refusing('INVALID_OPTION', 'priority is '));
  });
});

describe('jobs that share a queue', () => {
  const shared = (mine: Queue | undefined, theirs: Queue | undefined, name = 'other') =>
    checkShared(job('mine', mine), [job('apart', 'apart'), job(name, theirs)]);

  it('Q2: agree on what it is, or say it once', () => {
    const limited = { name: 'q', concurrency: 2, rateLimit: { limit: 3, per: '1m' } } as const;
    expect(() => shared(limited, { ...limited, rateLimit: { limit: 3, per: 60_000 } })).not.toThrow();
    for (const other of ['q', undefined, { name: 'q', priority: 1 }, { ...limited, name: 'p', concurrency: 1 }])
      for (const [one, two] of [
        [limited, other],
        [other, limited],
      ] as const)
        expect(() => shared(one, two)).not.toThrow();
    expect(() => shared(limited, { ...limited, concurrency: 1 }, 'mine')).not.toThrow(); // it is registered anew
  });

  it('Q2: are refused where they do not, with what both say', () => {
    const said = (queue: Partial<QueueOptions>): Queue => ({ name: 'q', ...queue });
    expect(() => shared(said({ concurrency: 2 }), said({ concurrency: 3 }))).toThrow(
      refusing(
        'INVALID_OPTION',
        'queue.concurrency of job "mine" is 2, and 3 in job "other". Give queue "q" one',
        'mine',
      ),
    );
    for (const [other, text] of [
      [{ limit: 3, per: '1m' }, '3 in 60000 ms'],
      [{ limit: 2, per: '1s' }, '2 in 1000 ms'],
    ] as const)
      expect(() => shared(said({ rateLimit: { limit: 2, per: '1m' } }), said({ rateLimit: other }))).toThrow(
        refusing('INVALID_OPTION', `queue.rateLimit of job "mine" is 2 in 60000 ms, and ${text} in job "other"`),
      );
  });
});

describe('a start', () => {
  const place = (queue: Queue | undefined, payload: unknown = { user: 'ada' }) =>
    placeOf(job('mail', queue), () => payload);
  const key = ({ user }: { user: string }) => user;

  it('Q2: is put off by a debounce, and keeps others out until it begins or until it ends', () => {
    expect([place(undefined), place('q'), placeOf(undefined, () => 1)]).toEqual([
      ...[{ delayMs: 0 }, { delayMs: 0 }, { delayMs: 0 }],
    ]);
    expect(place({ name: 'q', debounce: { delay: '2s' } })).toEqual({
      ...{ delayMs: 2000, unique: { key: 'debounce:', until: 'start' } },
    });
    expect(place({ name: 'q', debounce: { delay: 5, key } })).toEqual({
      ...{ delayMs: 5, unique: { key: 'debounce:ada', until: 'start' } },
    });
    expect(place({ name: 'q', singleton: true })).toEqual({
      ...{ delayMs: 0, unique: { key: 'singleton:', until: 'end' } },
    });
    expect(place({ name: 'q', singleton: { key } })).toEqual({
      ...{ delayMs: 0, unique: { key: 'singleton:ada', until: 'end' } },
    });
  });

  it('reads its payload only for a key that is made of it', () => {
    const payload = vi.fn();
    placeOf(job('mail', { name: 'q', singleton: true }), payload);
    placeOf(job('mail', { name: 'q', debounce: { delay: 5 } }), payload);
    expect(payload).not.toHaveBeenCalled();
  });

  it('is refused where its key is none, or could not be made', () => {
    for (const [made, shown] of [
      [undefined, 'undefined'],
      ['', '""'],
      [5, '5'],
    ] as const)
      for (const kind of ['debounce', 'singleton'] as const)
        expect(() => place({ name: 'q', [kind]: { delay: 1, key: () => made as never } })).toThrow(
          refusing('INVALID_KEY', `The ${kind} key of job "mail" is ${shown}`),
        );
    const cause = new Error('no');
    const failing = () => {
      throw cause;
    };
    expect(() => place({ name: 'q', singleton: { key: failing } })).toThrow(
      expect.objectContaining({
        ...{ code: 'INVALID_KEY', cause },
        message: expect.stringMatching(/The singleton key of job "mail" could not be made.*Nothing was written/),
      }),
    );
  });
});

describe('what an engine knows of the queues', () => {
  const lanesOf = (...jobs: AnyJob[]) => {
    const clock = simulatedClock({ now: 1_000 });
    return { clock, lanes: createLanes(new Map(jobs.map((each) => [each.name, each])), clock) };
  };
  const fulls = (lanes: ReturnType<typeof createLanes>) => [...lanes.full()];

  it('Q2: is what one of their jobs says; 8 runs at once by default, and no rate', () => {
    const { lanes } = lanesOf(
      ...[job('none'), job('other', { name: 'p', concurrency: 5 }), job('named', 'q'), job('silent', { name: 'q' })],
      ...[job('says', { name: 'q', concurrency: 2 }), job('rates', { name: 'q', rateLimit: { limit: 3, per: '1m' } })],
    );
    expect(['q', 'p', 'default', 'unheard'].map(lanes.concurrency)).toEqual([2, 5, 8, 8]);
    const rate = { limit: 3, perMs: 60_000 };
    expect(['q', 'p', 'unheard'].map(lanes.limits)).toEqual([
      { concurrency: 2, rate }, // nothing is left to ask for
      { concurrency: 5, rate: undefined, defaultConcurrency: 8 },
      { concurrency: undefined, rate: undefined, defaultConcurrency: 8 },
    ]);
  });

  it('Q2: is told to others by job, in one order whoever tells it, and only what is new; jobs that are not here keep theirs', () => {
    const says = job('says', { name: 'q', concurrency: 2 });
    const rates = job('rates', { name: 'q', rateLimit: { limit: 3, per: '1m' } });
    const silent = job('silent', { name: 'q', priority: 1 });
    const rows = [
      { job: 'rates', queue: 'q', rate: { limit: 3, perMs: 60_000 } },
      { job: 'says', queue: 'q', concurrency: 2 },
    ];
    const told = (said: typeof rows | undefined, ...jobs: AnyJob[]) => lanesOf(...jobs).lanes.told(said as never);
    expect(told([], says, silent, rates)).toEqual(rows);
    expect(told([rows[0]!], says)).toEqual(rows);
    expect(told([rows[1]!], rates)).toEqual(rows);
    for (const jobs of [[says, rates], [rates, says], [says], [silent]])
      expect(told(rows as never, ...jobs)).toBeUndefined();
    expect(told(rows as never, job('says', 'q'))).toEqual([rows[0]]); // it says nothing any more
    expect(told([], silent)).toBeUndefined();
    expect(told(undefined, silent)).toEqual([]); // what was there is damaged
  });

  it('Q2, Q4: a queue counts as full until its instant, and not by a clock that has been set back', () => {
    const { clock, lanes } = lanesOf();
    lanes.fill('q', 1_010, false, clock.now());
    lanes.fill('p', 1_020, true, clock.now());
    expect(fulls(lanes)).toEqual([
      ['q', 1_010],
      ['p', 1_020],
    ]);
    clock.jump(1_010);
    expect(fulls(lanes)).toEqual([['p', 1_020]]);
    clock.jump(999);
    expect(fulls(lanes)).toEqual([]);
    clock.jump(1_010);
    expect(fulls(lanes)).toEqual([]);
  });

  it('Q2: a slot that is free, or given, is told of once; a rate is not made by slots', () => {
    const { clock, lanes } = lanesOf();
    lanes.fill('q', 2_000, false, clock.now());
    lanes.fill('p', 2_000, true, clock.now());
    expect(['q', 'q', 'p', 'unheard'].map((queue) => lanes.freed(queue))).toEqual([true, false, false, false]);
    expect(fulls(lanes)).toEqual([['p', 2_000]]);
  });

  it('Q2: when others commit something, one slot of a queue may be free, until it is found full again or not', () => {
    const { clock, lanes } = lanesOf();
    for (const queue of ['a', 'b', 'c']) lanes.fill(queue, 1_010, queue === 'c', clock.now());
    expect([...lanes.stirred]).toEqual([]);
    lanes.stir();
    expect([...lanes.stirred]).toEqual(['a', 'b']);
    lanes.fill('a', 1_010, false, clock.now());
    expect([...lanes.stirred]).toEqual(['b']);
    lanes.freed('b');
    expect([...lanes.stirred]).toEqual([]);
    lanes.stir();
    expect([...lanes.stirred]).toEqual(['a']);
    clock.jump(1_010);
    expect([fulls(lanes), [...lanes.stirred]]).toEqual([[], []]);
  });

  it('Q2: a queue that was found full again and again is left alone for a while', () => {
    const { clock, lanes } = lanesOf();
    for (let times = 0; times < 8; times++) {
      lanes.fill('q', 1_010, false, clock.now());
      lanes.stir();
      expect([...lanes.stirred]).toEqual(['q']);
    }
    lanes.fill('q', 1_010, false, clock.now());
    lanes.stir();
    expect([fulls(lanes), [...lanes.stirred]]).toEqual([[['q', 1_010]], []]);
    clock.jump(1_010);
    expect(fulls(lanes)).toEqual([]);
    lanes.fill('q', 2_000, false, clock.now());
    lanes.stir();
    expect([...lanes.stirred]).toEqual(['q']);
  });
});
