import type { StepfastError } from '../errors.js';
import { endOf, payloadIn } from '../replay/glance.js';
import type { JournalEntry, RecordedError } from '../store/journal.js';
import type { OpenWait, StoredRun, StoredStatus } from '../store/rows.js';
import type { Codec } from '../values/codec.js';

/** Where a run stands. `blocked` is how it looks from here: the code at hand can not go on with it (spec R5). */
export type RunStatus = StoredStatus | 'blocked';

/** An error as a run shows it. */
export interface RunError {
  readonly code?: string | number;
  readonly name: string;
  readonly message: string;
  /** The step that failed, where one did. */
  readonly step?: string;
  readonly stack?: string;
}

/** Something that a run waits for. */
export interface WaitingFor {
  /** Names of events; the first of them ends the wait. Empty where it waits for a child. */
  readonly events: readonly string[];
  readonly correlationKey?: string;
  readonly deadline?: number;
  /** The child whose end it waits for. */
  readonly runId?: string;
}

/** A run as people and user interfaces see it: a value, never changed afterwards. */
export interface RunSnapshot<Result = unknown> {
  readonly id: string;
  /** Empty where damage has taken it. */
  readonly job: string;
  readonly status: RunStatus;
  readonly payload: unknown;
  readonly result?: Result;
  readonly error?: RunError;
  /** Every attempt that failed, oldest first. */
  readonly attempts: readonly {
    readonly step: string;
    readonly attempt: number;
    readonly error: RunError;
    readonly at: number;
  }[];
  /** Open waits, and children whose end is awaited. */
  readonly waitingFor: readonly WaitingFor[];
  /** What a step last said of how far it is. */
  readonly progress?: unknown;
  /** The run has ended, and its steps are being undone, or its failure is being told. */
  readonly undoing?: true;
  /** Epoch milliseconds, like every `...At`. 0 for a run whose stored data is damaged. */
  readonly createdAt: number;
  readonly startedAt?: number;
  readonly endedAt?: number;
  readonly tags: readonly string[];
  readonly parentId?: string;
}

/** One entry of the journal as people read it: values decoded, the identity as `name` and `occurrence`. */
export type TimelineEntry = {
  readonly at: number;
  readonly kind: JournalEntry['kind'];
  readonly name?: string;
  readonly occurrence?: number;
} & { readonly [field: string]: unknown };

export const errorOf = ({ code, name, message, step, stack }: RecordedError): RunError => ({
  name,
  message,
  ...(code !== undefined && { code }),
  ...(step !== undefined && { step }),
  ...(stack !== undefined && { stack }),
});

const waitOf = ({ events, key, deadline }: OpenWait) => ({
  events,
  ...(key !== undefined && { correlationKey: key }),
  ...(deadline !== undefined && { deadline }),
});

/** Reads a snapshot out of what is stored. `blockedBy`: why this context can not go on with it. */
export function snapshotOf(run: StoredRun, codec: Codec, blockedBy?: Error): RunSnapshot {
  const { row, journal } = run;
  const end = endOf(journal);
  // Why it can not go on comes before why it failed, which attempts and timeline tell as well (spec R5).
  const failure = blockedBy ? codec.encodeError(blockedBy) : end?.kind === 'failed' && end.error;
  const attempts = journal.flatMap((entry) => {
    if (entry.kind !== 'attempt-failed' && entry.kind !== 'step-failed') return [];
    return [{ step: entry.id[0], attempt: entry.attempt, error: errorOf(entry.error), at: entry.at }];
  });
  return {
    id: row.runId,
    job: row.job,
    status: blockedBy ? 'blocked' : row.status,
    payload: codec.decode(payloadIn(journal)),
    attempts,
    waitingFor: [...row.waits.map(waitOf), ...(row.awaits ?? []).map((runId) => ({ events: [], runId }))],
    createdAt: row.createdAt,
    tags: row.tags ?? [],
    ...(end?.kind === 'completed' && { result: codec.decode(end.value) }),
    ...(failure && { error: errorOf(failure) }),
    ...(row.progress !== undefined && { progress: codec.decode(row.progress) }),
    ...(row.undoing && { undoing: true }),
    ...(row.startedAt !== undefined && { startedAt: row.startedAt }),
    ...(row.endedAt !== undefined && { endedAt: row.endedAt }),
    ...(row.parentId !== undefined && { parentId: row.parentId }),
  };
}

/** A run whose stored data is damaged: nothing of it can be told but the damage, and its job where that is known. */
export const lostSnapshotOf = (error: StepfastError, codec: Codec): RunSnapshot => ({
  id: error.runId!,
  job: error.job ?? '',
  status: 'blocked',
  payload: undefined,
  error: errorOf(codec.encodeError(error)),
  attempts: [],
  waitingFor: [],
  createdAt: 0,
  tags: [],
});

/** An error as a timeline shows it: plain fields, and what it carried as it was. Parts may refer to others of the whole. */
const readable = ({ isValue, ...recorded }: RecordedError, decoded: unknown): object => {
  if (isValue) return { ...recorded, data: decoded };
  const { data, cause, errors } = decoded as { data?: unknown; cause?: unknown; errors?: unknown[] };
  return {
    ...recorded,
    ...(recorded.data !== undefined && { data }),
    ...(recorded.cause && { cause: readable(recorded.cause, cause) }),
    ...(recorded.errors && { errors: recorded.errors.map((each, index) => readable(each, errors![index])) }),
  };
};

/** Reads a timeline out of a journal. */
export const timelineOf = (run: StoredRun, codec: Codec): TimelineEntry[] =>
  run.journal.map((entry) => {
    const {
      id,
      value,
      payload,
      data,
      retry,
      error,
      given: _,
      nonce: _nonce,
      floors: _floors,
      left: _left,
      ...rest
    } = entry as JournalEntry & { readonly id?: [string, number] } & { readonly [field: string]: never };
    return {
      ...rest,
      ...(id && { name: id[0], occurrence: id[1] }),
      ...(value !== undefined && { value: codec.decode(value) }),
      ...(payload !== undefined && { payload: codec.decode(payload) }),
      ...(data !== undefined && { data: codec.decode(data) }),
      ...(retry !== undefined && { retry: codec.decode(retry) }),
      ...(error && { error: readable(error, codec.decodeError(error)) }),
    } as TimelineEntry;
  });
