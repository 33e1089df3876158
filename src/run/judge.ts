import type { Ask } from '../replay/replay.js';
import type { JournalEntry } from '../store/journal.js';
import type { DriverHost } from './host.js';
import type { LiveRun } from './live-run.js';
import { unanswered } from './placed.js';
import { type unjudged, verdictKey } from './questions.js';

/**
 * Asks waits with `match` or `schema` about the events that fit them otherwise (spec E9).
 *
 * @returns Entries that say which events a schema has refused, for the first time.
 */
export async function judge(
  run: LiveRun,
  { codec, report }: Pick<DriverHost, 'codec' | 'report'>,
  open: ReturnType<typeof unjudged>,
  at: number,
): Promise<JournalEntry[]> {
  const refusals: JournalEntry[] = [];
  for (const { asked, event } of open) {
    const { ask, set } = asked;
    const { judge: ofWait } = ask.command as Extract<Ask['command'], { kind: 'wait' }>;
    const key = verdictKey(asked, event);
    try {
      run.verdicts.set(key, await ofWait!(codec.decode(event.payload)));
    } catch (error) {
      // A predicate that throws says no: the event stays for whoever wants it.
      report(unanswered(error, run.row, set.id[0]));
      run.verdicts.set(key, { kind: 'other' });
    }
    const verdict = run.verdicts.get(key)!;
    if (verdict.kind !== 'refused' || run.digest.skipped.has(key)) continue;
    const { seq, id: eventId, name } = event;
    refusals.push({ kind: 'event-skipped', at, id: set.id, seq, eventId, event: name, reason: verdict.reason });
  }
  return refusals;
}
