import type { RunChange } from '../store/batch.js';
import type { JournalEntry } from '../store/journal.js';
import type { RunRow, RunState } from '../store/rows.js';

/** What a row says once its run is left to whoever looks next. */
export function leftState(row: RunRow, isOver: boolean, now: number): RunState {
  const { version, waits, awaits, startedAt, progress, undoable } = row;
  const base: RunState = { version, waits, awaits, startedAt, progress, undoable, status: 'queued', dueAt: now };
  const { status, endedAt, undoing, dueAt = now } = row;
  return isOver ? { ...base, status, endedAt, undoing, dueAt: Math.max(now, dueAt) } : base;
}

/**
 * Takes a run from an owner who died with a slot, and lets it go: for a context without the code for it, whose own runs
 * would wait for that slot for ever (spec R5). The run is anybody's then, as it was, and the interruption counts.
 */
export const givenBack = (row: RunRow, owner: string, now: number, interrupted: boolean): RunChange => {
  const { runId, fence, length } = row;
  const claimed: JournalEntry = {
    kind: 'claimed',
    at: now,
    owner,
    fence: fence + 1,
    ...(interrupted && { interrupted }),
  };
  const append: JournalEntry[] = [claimed, { kind: 'released', at: now, blocked: true }];
  return { runId, fence, length, raise: true, append, state: leftState(row, row.endedAt !== undefined, now) };
};
