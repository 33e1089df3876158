import { type Ask, createReplay, type Recorded, type ReplayOptions } from '../src/replay/replay.js';
import { identityKey, type Namespace, namespaceOf, type OutcomeEntry } from '../src/store/journal.js';

/*
 * The heart without a store, an engine or time: a pass of a handler over outcomes that a test makes up.
 */

export type AskFor = (name: string, namespace?: Namespace) => Promise<unknown>;
export type Handler = (ask: AskFor, trace: (word: unknown) => void) => unknown;

/** A completed step; its value is its name and occurrence unless one is given. */
export const done = (
  name: string,
  asked: number,
  more: { occurrence?: number; value?: string; before?: number } = {},
) => {
  const { occurrence = 1, value = `${name}${occurrence}`, before } = more;
  const rest = before === undefined ? {} : { before };
  return { kind: 'step-completed', at: 0, id: [name, occurrence], attempt: 1, value, asked, ...rest } as const;
};
export const failed = (name: string, asked: number): OutcomeEntry => ({
  kind: 'step-failed',
  at: 0,
  id: [name, 1],
  attempt: 5,
  error: { name: 'Error', message: `${name} failed` },
  asked,
});
export const slept = (name: string, asked: number): OutcomeEntry => ({
  kind: 'sleep-ended',
  at: 0,
  id: [name, 1],
  asked,
});
export const taken = (name: string, asked: number, payload: string): OutcomeEntry => ({
  kind: 'event-taken',
  at: 0,
  id: [name, 1],
  seq: 1,
  eventId: 'e',
  event: name,
  payload,
  acceptedAt: 0,
  asked,
});

export const recordedAs = (entry: OutcomeEntry, index: number): Recorded => ({
  key: identityKey(namespaceOf(entry), entry.id),
  index,
  entry,
});
export const outcomeValue = (entry: OutcomeEntry) => {
  if (entry.kind === 'step-failed') throw new Error(entry.error.message);
  return entry.kind === 'step-completed' ? entry.value : entry.kind === 'event-taken' ? entry.payload : entry.kind;
};

/** A pass of `handler` over a journal that begins with `started` (index 0) and then holds these outcomes. */
export function pass(handler: Handler, entries: readonly OutcomeEntry[] = [], options: Partial<ReplayOptions> = {}) {
  const trace: unknown[] = [];
  let outside = 0;
  const ask: AskFor = (name, namespace = 'step') => {
    const promise = new Promise<unknown>((resolve, reject) => {
      const settle = (entry: OutcomeEntry) => {
        try {
          resolve(outcomeValue(entry));
        } catch (error) {
          reject(error);
        }
      };
      replay.ask(namespace, name, { kind: 'sleep', until: (now) => now }, settle);
    });
    promise.catch(() => undefined);
    return promise;
  };
  const replay = createReplay({
    outcomes: entries.map((entry, at) => recordedAs(entry, at + 1)),
    aside: new Set(),
    slack: 0,
    hop: (callback) => void setImmediate(callback),
    invoke: () => handler(ask, (word) => trace.push(word)),
    check: () => undefined,
    since: () => undefined,
    isWhole: true,
    onAsk: () => void outside++,
    ...options,
  });
  return { replay, trace, ask, outside: () => outside };
}

export const names = (asks: readonly Ask[]) => asks.map(({ id: [name, occurrence] }) => `${name}${occurrence}`);
export const ticks = async (count: number) => {
  for (let tick = 0; tick < count; tick++) await null;
};
/** A promise that this test settles itself: an import, a fetch. */
export function gate() {
  let open = (): void => undefined;
  const promise = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}
