import type { RunSnapshot } from '../../../src/run/inspect.js';
import { isOutcome, type JournalEntry } from '../../../src/store/journal.js';
import type { StoredRun } from '../../../src/store/rows.js';

/*
 * What a case has come to, and how that differs from the case in which nothing was struck.
 */

/** What a case came to, as text where it is compared. */
export interface Ending {
  readonly runs: string;
  readonly journals: string;
  readonly rows: string;
  readonly view: string;
  readonly left: string;
  /** How often each function was entered, by its idempotency key. */
  readonly entered: ReadonlyMap<string, number>;
  /** Functions that were entered after their outcome had been acknowledged. */
  readonly again: readonly string[];
  readonly errors: readonly string[];
  readonly commits: number;
  readonly deaths: number;
  /** How many of the faults have struck. */
  readonly struck: number;
  readonly counts: ReadonlyMap<string, number>;
}

/** Without what differs from case to case and means nothing: ids, and attempts, which a crash lets skip a number. */
export const neutral = (text: string): string =>
  text
    .replace(/00000000-0000-4000-8000-\d{12}/g, '<uuid>')
    .replace(/\bid-\d+/g, '<id>')
    .replace(/"resumed":\[[^\]]*\]/g, '"resumed":<runs>')
    .replace(/at attempt \d+/g, 'at attempt <n>');
export const say = (value: unknown): string => neutral(JSON.stringify(value) ?? 'undefined');

const snapshotText = ({ job, status, result, error, undoing }: RunSnapshot): string =>
  say([job, status, result, error?.code, error?.name, error?.message, error?.step, undoing]);

/** What replay settles promises with. Their order is the store's own where several come at once. */
const outcomesOf = ({ row, journal }: StoredRun): string => {
  const texts = journal.filter(isOutcome).map((entry: JournalEntry) => {
    const { kind, id, value, payload, error, deadline, word } = entry as {
      [field: string]: unknown;
      error?: { message: string };
    };
    return say([kind, id, value, payload, error?.message, deadline, word]);
  });
  return `${row.job}: ${texts.sort().join(' ')}`;
};

/** What a run that has ended holds on to. */
const rowText = ({ row }: StoredRun): string => {
  const { job, status, waits, slot, awaits, undoing, dueAt, ended, owner, unique } = row;
  return say([job, status, waits, slot, awaits, undoing, dueAt, ended, owner, unique]);
};

export const endOf = (runs: readonly RunSnapshot[], stored: readonly StoredRun[]) => ({
  runs: runs.map(snapshotText).sort().join('\n'),
  journals: stored.map(outcomesOf).sort().join('\n'),
  rows: stored.map(rowText).sort().join('\n'),
});

const cut = (text: string) => (text.length > 600 ? `${text.slice(0, 600)}...` : text);

/** Every way in which a case differs from the one without faults, in words. */
export function differences(expected: Ending, found: Ending): string[] {
  const wrong: string[] = [];
  for (const part of ['runs', 'journals', 'rows', 'view', 'left'] as const)
    if (found[part] !== expected[part]) wrong.push(`${part}: ${cut(found[part])} instead of ${cut(expected[part])}`);
  for (const key of found.again) wrong.push(`${key} was entered again after its outcome was acknowledged`);
  for (const key of new Set([...expected.entered.keys(), ...found.entered.keys()])) {
    const [wanted = 0, times = 0] = [expected.entered.get(key), found.entered.get(key)];
    // A function that was in flight at a death is entered once more; one whose context lives is not.
    const most = wanted + found.deaths;
    if (wanted === 0 || times < wanted || times > most)
      wrong.push(`${key} was entered ${times} times instead of ${wanted}, with ${found.deaths} deaths`);
  }
  for (const error of found.errors) wrong.push(`reported: ${cut(error)}`);
  const most = 3 * expected.commits + 20;
  if (found.commits > most) wrong.push(`${found.commits} commits where ${expected.commits} would do`);
  return wrong;
}
