import type { JournalEntry } from '../../../src/store/journal.js';
import { TOLD } from './entries.js';
import { judge } from './model.js';
import { keyOfId, type Shadow } from './shadow.js';
import type { World } from './simulate.js';

/*
 * The end of a simulation: what was answered is there, what runs came to is what their programs permit, and nothing is left
 * to do.
 */

/** What has to be true when all is over. */
export function finish({ medium, watch, clients, wrong, programs, storm }: World): void {
  clients.check(new Set([...medium.tables.log.values()].map(({ id }) => id)));
  for (const what of clients.unanswered()) wrong(`I-live: ${what} was never answered`);
  for (const shadow of watch.shadows.values()) {
    for (const problem of judge(programs[shadow.program]!, shadow, 'ended')) wrong(problem);
    if (shadow.row.undoing) continue; // blocked, and rightly so
    for (const problem of unfollowed(shadow, storm.tells)) wrong(`${shadow.runId}: ${problem}`);
  }
  if (medium.tables.slots('lane')) wrong(`Q2: ${medium.tables.slots('lane')} slots are still held`);
  for (const key of ['told', 'asked'] as const) {
    const sum = medium.tables.state(key)?.value ?? 0;
    if (sum !== watch.sums[key]) wrong(`D8: "${key}" is ${JSON.stringify(sum)}, steps have added ${watch.sums[key]}`);
  }
  if (!storm.isCalm) return;
  // Nothing went wrong: whatever was done was done once for each attempt that is recorded.
  for (const [key, executions] of watch.executions) {
    const [runId = '', , name, occurrence] = key.split('/');
    const shadow = watch.shadows.get(runId)!;
    // What was taken up again, or begun anew, has forgotten what it did before.
    if (/\/(undo|told)$/.test(key) || shadow.journal.some(isNew)) continue;
    const id = `step/${name}/${occurrence}`;
    const recorded = (shadow.failures.get(id)?.count ?? 0) + 1;
    if (executions > recorded) wrong(`I-atleast: ${key} was executed ${executions} times, ${recorded} are recorded`);
  }
}

/** Also of a pass that has thrown, what lost a race is not recorded: the next one may be at the race no sooner than at it. */
const isNew = (entry: JournalEntry) =>
  entry.kind === 'retried' ||
  entry.kind === 'upgraded' ||
  entry.kind === 'handler-failed' ||
  (entry.kind === 'started' && entry.generation);

/** What should have followed the end of a run, and did not (spec F6, F7). */
function unfollowed({ undos, undone, ends }: Shadow, tells: boolean): string[] {
  const end = ends.at(-1)?.kind;
  if (end === 'completed') return undone.size ? ['F7: it has completed, and something is undone'] : [];
  const left = [...undos.keys()].filter((key) => !undone.has(key)).map((key) => `F7: ${key} was never undone`);
  const isTold = undone.has(keyOfId('step', [TOLD, 1]));
  return isTold === (tells && end === 'failed') ? left : [...left, `F6: ${end}, and told: ${isTold}`];
}
