import { isOurs } from '../../values/check.js';
import type { CommitOutcome, EventOutcome, NewEvent } from '../batch.js';
import type { EventRow } from '../rows.js';
import { mayTake, pairKey, type Scope } from './scope.js';
import { read, type Work } from './work.js';

/** Accepts an event, and wakes the runs that wait for it (spec E1, E4, E7, E8). */
export function* dispatch(scope: Scope, event: NewEvent, index: number): Work<EventOutcome | CommitOutcome> {
  const { reads, writes, now } = scope;
  const pair = pairKey(event.name, event.key);
  const first = yield* findFirst(scope, event, pair);
  if (first) {
    const { id, seq, acceptedAt, resumed, payload, given, runId } = first;
    const told = { kind: 'deduplicated', id, seq, acceptedAt, resumed, payload } as const;
    return { ...told, ...(given !== undefined && { given }), ...(runId !== undefined && { runId }) };
  }
  if (event.runId !== undefined) {
    const row = yield* scope.run(event.runId);
    // One that a plug-in has written (`stepfast/encryption`) hears of no event that has not gone through it as well.
    const isOther = row && isOurs(row.job) !== isOurs(event.name);
    if (!row || row.endedAt !== undefined || isOther) return { kind: 'refused', code: 'RUN_NOT_FOUND', index };
  }
  const change = scope.fresh(pair).reduce((sum, { taken }) => sum + (taken ? -1 : 1), 0);
  if ((yield* read(reads.backlog(pair))) + change >= event.maxBacklog) {
    // The count may hold events that have expired and are not swept yet: look closely before refusing.
    const open = (yield* scope.events(pair, 0)).filter((old) => !old.taken && old.expiresAt > now);
    if (open.length >= event.maxBacklog) return { kind: 'refused', code: 'EVENT_BACKLOG_FULL', index };
  }
  for (const old of yield* read(reads.expired(now))) writes.drops.add(old.seq);
  const seq = scope.tick();
  const acceptedAt = now;
  const { ttlMs, maxBacklog: _, ...given } = event;
  const resumed: string[] = [];
  const accepted: EventRow = Object.assign(given, { seq, acceptedAt, expiresAt: acceptedAt + ttlMs, resumed });
  for (const row of yield* scope.waiting(pair)) {
    if (!row.waits.some((wait) => mayTake(wait, accepted, row.runId))) continue;
    resumed.push(row.runId);
    scope.wake(row);
  }
  writes.events.set(seq, accepted);
  return { kind: 'accepted', id: event.id, seq, acceptedAt, resumed };
}

/** The living event of the same id, or of the same idempotency key on this pair. */
function* findFirst(scope: Scope, { id, idempotencyKey }: NewEvent, pair: string): Work<EventRow | undefined> {
  const { reads, writes, now } = scope;
  const live = (found: EventRow | undefined) => (found && found.expiresAt > now ? found : undefined);
  const same = live([...writes.events.values()].find((other) => other.id === id) ?? (yield* read(reads.eventById(id))));
  if (same || idempotencyKey === undefined) return same;
  return live(
    scope.fresh(pair).find((other) => other.idempotencyKey === idempotencyKey) ??
      (yield* read(reads.eventByKey(pair, idempotencyKey))),
  );
}
