import { describe, expect, it } from 'vitest';
import { endOf, payloadIn } from '../src/replay/glance.js';
import { copyOf } from '../src/store/copy.js';
import type { JournalEntry } from '../src/store/journal.js';

// Pins: what is read of a journal without folding it, and what of a value crosses the border of a store (rule S6).

const journal = (...entries: object[]) => entries.map((each) => ({ at: 1, ...each })) as unknown as JournalEntry[];
const started = { kind: 'started', payload: 'first' };

describe('the end of a run', () => {
  it.each([
    { kind: 'completed', value: 1 },
    { kind: 'failed', error: {} },
    { kind: 'cancelled' },
  ])('is the entry that says so, though others come behind it: $kind', (end) => {
    expect(endOf(journal(started, end))).toEqual({ at: 1, ...end });
    expect(endOf(journal(started, end, { kind: 'undone' }, { kind: 'undo-failed' }))?.kind).toBe(end.kind);
  });

  it('is none before there is one, nor after the run was taken up again, until it ends anew', () => {
    const failed = { kind: 'failed', error: {} };
    expect(endOf(journal())).toBeUndefined();
    expect(endOf(journal(started, { kind: 'claimed' }))).toBeUndefined();
    expect(endOf(journal(started, failed, { kind: 'retried', forgets: [] }))).toBeUndefined();
    const again = journal(started, failed, { kind: 'retried', forgets: [] }, { kind: 'cancelled' });
    expect(endOf(again)?.kind).toBe('cancelled');
  });

  it('is not the end of a step, an attempt, a child or a handler that is tried again', () => {
    const near = ['step-completed', 'step-failed', 'child-completed', 'child-failed', 'attempt-failed', 'undo-failed'];
    for (const kind of [...near, 'handler-failed']) expect(endOf(journal(started, { kind }))).toBeUndefined();
  });
});

describe('the payload of a run', () => {
  it('is the last that was given: at its start, when it was rescheduled, or by an upgrade', () => {
    expect(payloadIn(journal(started, { kind: 'claimed' }))).toBe('first');
    expect(payloadIn(journal(started, { kind: 'rescheduled', payload: 'moved' }))).toBe('moved');
    expect(payloadIn(journal(started, { kind: 'upgraded', payload: ['new'] }, { kind: 'claimed' }))).toEqual(['new']);
    expect(payloadIn(journal(started, { kind: 'upgraded', payload: null }))).toBeNull();
  });

  it('is not changed by an upgrade that says nothing of it, nor by the payload of an event', () => {
    expect(payloadIn(journal(started, { kind: 'upgraded' }))).toBe('first');
    expect(payloadIn(journal(started, { kind: 'upgraded', payload: undefined }))).toBe('first');
    expect(payloadIn(journal(started, { kind: 'event-taken', payload: 'of the event' }))).toBe('first');
    expect(payloadIn(journal())).toBeNull();
  });
});

describe('a copy', () => {
  it('S6: shares nothing with what was given, at any depth', () => {
    const given = { list: [{ deep: [1, [2]] }, null], object: { a: 'x' }, text: 't', no: false, nothing: null };
    const copy = copyOf(given);
    expect(copy).toStrictEqual(given);
    expect([copy === given, copy.list === given.list, copy.list[0] === given.list[0]]).toEqual([false, false, false]);
    expect(copy.object).not.toBe(given.object);
    given.object.a = 'changed';
    expect(copy.object.a).toBe('x');
  });

  it('S6: has no properties that are undefined; a place in a list is kept', () => {
    expect(Object.keys(copyOf({ a: undefined, b: { c: undefined }, d: 1 }))).toEqual(['b', 'd']);
    expect(copyOf({ b: { c: undefined } })).toStrictEqual({ b: {} });
    expect(copyOf([undefined, 1])).toStrictEqual([undefined, 1]);
    expect([copyOf(undefined), copyOf(null), copyOf(7), copyOf('x')]).toEqual([undefined, null, 7, 'x']);
  });

  it('S6: has own properties only, in their order; one without a prototype is a plain object too', () => {
    const bare = Object.assign(Object.create(null), { z: 1, a: { y: 2 } });
    const copy = copyOf(bare);
    expect(JSON.stringify(copy)).toBe('{"z":1,"a":{"y":2}}');
    expect([copy === bare, copy.a === bare.a, Object.getPrototypeOf(copy)]).toEqual([false, false, Object.prototype]);
    const prototype = Object.prototype as { inherited?: number };
    prototype.inherited = 1; // as some page's polyfill may
    const { ...own } = copyOf({ own: 1 });
    delete prototype.inherited;
    expect(own).toStrictEqual({ own: 1 });
  });

  it('S6: "__proto__" is a property like any other', () => {
    const copy = copyOf(JSON.parse('{"__proto__":{"polluted":1},"b":2}'));
    expect(JSON.stringify(copy)).toBe('{"__proto__":{"polluted":1},"b":2}');
    expect([Object.getPrototypeOf(copy), copy.polluted]).toEqual([Object.prototype, undefined]);
    const { value, ...rest } = Object.getOwnPropertyDescriptor(copy, '__proto__')!;
    expect([value, rest]).toEqual([{ polluted: 1 }, { enumerable: true, configurable: true, writable: true }]);
  });

  it('S6: what is neither a plain object nor a list is copied as it is told, or not at all', () => {
    const bytes = new Uint8Array([1]);
    const cloned: unknown[] = [];
    const clone = (value: never) => {
      cloned.push(value);
      return 'copied';
    };
    expect(copyOf({ bytes, list: [bytes], text: 'x' }, clone)).toStrictEqual({
      ...{ bytes: 'copied', list: ['copied'], text: 'x' },
    });
    expect(cloned).toEqual([bytes, bytes]);
    expect(copyOf({ bytes }).bytes).toBe(bytes);
  });
});
