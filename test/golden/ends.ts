import type { StoredStatus } from '../../src/index.js';
import { DAY, everything } from './flows.js';

/*
 * What the golden stores hold and what must become of it, written by hand: the oracle does not ask the store.
 */

/** The instant at which the making began; deadlines are counted from here, never from when a store is opened. */
export const BEGUN = Date.UTC(2026, 0, 1);

export interface End {
  /** As the store holds it (`blocked` is never stored). */
  readonly rests: StoredStatus;
  /** Once it is finished. */
  readonly ends: 'completed' | 'failed' | 'cancelled';
  readonly result?: unknown;
  readonly code?: string;
  /** The functions that finishing enters, in order. Nothing else: what is recorded never runs again (spec R1). */
  readonly enters?: readonly string[];
}

export const ends: Readonly<Record<string, End>> = {
  'completed:1': { rests: 'completed', ends: 'completed', result: 4 },
  'copy:1': { rests: 'completed', ends: 'completed', result: 4 },
  'kinds:1': { rests: 'waiting', ends: 'completed', result: everything() },
  'failed:1': { rests: 'failed', ends: 'failed', code: 'STEP_FAILED' },
  'failed:2': { rests: 'failed', ends: 'completed', result: 'paid', enters: ['charge'] },
  'cancelled:1': { rests: 'cancelled', ends: 'cancelled' },
  'scheduled:1': { rests: 'scheduled', ends: 'completed', result: 12, enters: ['a', 'b'] },
  // One slot: the third has overtaken the first, whose first life had gone as far as its `long`.
  'slow:1': { rests: 'queued', ends: 'completed', result: 'one', enters: ['long'] },
  'slow:2': { rests: 'queued', ends: 'completed', result: 'two', enters: ['first', 'long'] },
  'slow:3': { rests: 'running', ends: 'completed', result: 'three', enters: ['long'] },
  'flaky:1': { rests: 'retrying', ends: 'completed', result: 'attempt 3', enters: ['unsound'] },
  'sleepy:1': { rests: 'sleeping', ends: 'completed', enters: ['after'] },
  'waits:1': { rests: 'waiting', ends: 'completed', result: ['early', 'go', 'stored'] },
  'waits:woken': { rests: 'waiting', ends: 'completed', result: ['early', 'while nobody looked', 'stored'] },
  'timesOut:1': {
    rests: 'waiting',
    ends: 'completed',
    result: { timedOut: true, deadline: BEGUN + 2 * DAY },
  },
  'picky:1': { rests: 'waiting', ends: 'completed', result: 42 },
  'races:1': { rests: 'waiting', ends: 'completed', result: ['step', 'go'] },
  'late:1': { rests: 'queued', ends: 'completed', result: 'at last', enters: ['only'] },
  'changed:1': { rests: 'sleeping', ends: 'completed', result: 'fits again', enters: ['after'] },
  'parent:1': { rests: 'waiting', ends: 'completed', result: ['child of go', 'parent:1/aside'] },
  'parent:1/aside': { rests: 'completed', ends: 'completed', result: 4 },
  'child:1': { rests: 'waiting', ends: 'completed', result: 'child of go', enters: ['work'] },
  'parent:2': { rests: 'waiting', ends: 'completed', result: ['child of making', 'parent:2/aside'] },
  'parent:2/aside': { rests: 'completed', ends: 'completed', result: 4 },
  'child:2': { rests: 'completed', ends: 'completed', result: 'child of making' },
  'saga:1': { rests: 'failed', ends: 'failed', code: 'STEP_FAILED', enters: ['undo flight'] },
  'saga:2': { rests: 'failed', ends: 'failed', code: 'STEP_FAILED', enters: ['undo flight'] },
  'counts:1': { rests: 'sleeping', ends: 'completed', result: 41 },
  'loop:1': { rests: 'waiting', ends: 'completed', result: [3, 'go'] },
  'grows:1': { rests: 'sleeping', ends: 'completed', result: '7 kg' },
  'throws:1': { rests: 'retrying', ends: 'completed', result: 'passed' },
  'catches:1': {
    rests: 'sleeping',
    ends: 'completed',
    result: 'Step "bad" failed for good at attempt 1: bad [STEP_FAILED]',
  },
  'calm:1': { rests: 'scheduled', ends: 'completed', result: 'second', enters: ['only'] },
  'solo:1': { rests: 'waiting', ends: 'completed', result: 'go' },
};

/** Events that were dispatched, by what they are dispatched again with: known, whoever has taken them. */
export const events: readonly { readonly name: string; readonly payload: unknown; readonly of: object }[] = [
  { name: 'golden.stored', payload: 'stored', of: { correlationKey: 'waits:1', idempotencyKey: 'stored:1' } },
  { name: 'golden.early', payload: 'early', of: { correlationKey: 'waits:1', idempotencyKey: 'early:1' } },
  { name: 'golden.unwanted', payload: { nobody: true }, of: { idempotencyKey: 'unwanted' } },
];

/** Shared values as they rest; `golden:gone` was deleted, `golden:short` expires a day after the making began. */
export const values: Readonly<Record<string, unknown>> = {
  'golden:plain': 'text',
  'golden:map': new Map([['k', new Date(0)]]),
  'golden:counter': 41,
  'golden:written by a step': 'counts:1',
  'golden:gone': undefined,
  'golden:short': 'for a day',
};
