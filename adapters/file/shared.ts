import type { StateRow } from '../../src/store/rows.js';
import { corruptValue, type Damage, type LostValue } from './damage.js';
import type { Image } from './image.js';
import { markOf, type StateMark } from './record.js';

/*
 * The shared state of an image, and what damage has cost of it.
 *
 * H1. Headers name the keys that their record writes (record.ts), so damage of a record is damage of these keys: whoever
 *     uses one hears of it. An older value is never passed off as the present one.
 * H2. It ends where nothing depends on what was lost: when the value would have expired, or the lock run out (its token
 *     is known, and goes on growing), and with any later record of the key, since rows are whole values.
 */

/** Takes over what a sound record says of a key. */
export function keepState(image: Image, key: string, row: StateRow | undefined, n: number): void {
  image.tables.putState(key, row);
  noteState(image, key, n);
}

/** The key is written by this record; `tables` know it already. */
export function noteState(image: Image, key: string, n: number): void {
  image.lostState.delete(key);
  image.stateRecords.set(key, n);
}

/** The record `n`, which is damaged, wrote this key. */
export function loseState(image: Image, [key, until, token]: StateMark, { file, offset }: Damage, n: number): void {
  if ((image.stateRecords.get(key) ?? 0) > n) return;
  image.tables.putState(key, undefined);
  image.stateRecords.set(key, n);
  image.lostState.set(key, {
    key,
    file,
    offset,
    ...(until !== null && { until }),
    ...(token !== undefined && { token }),
  });
}

/** A record that can not be attributed may have written any key that has no later one. */
export function loseStateBefore(image: Image, n: number, damage: Damage): void {
  for (const row of [...image.tables.shared.values()]) {
    if (image.stateRecords.get(row.key)! > n) continue;
    const [key, until, token] = markOf(row);
    // Each token given out was a write, and each write took a number: none is greater than the last number.
    loseState(image, token === undefined ? [key, until] : [key, until, image.tables.lastClock.seq], damage, n);
  }
}

/** What is left of a lost value at this instant. @throws {StepfastError} `STORE_CORRUPT` while it matters. */
function remains(lost: LostValue, now: number): StateRow | undefined {
  const { key, until = Infinity, token } = lost;
  if (until > now) throw corruptValue(lost);
  return token === undefined ? undefined : { key, value: {}, token, revision: 0 };
}

/** A shared value. @throws {StepfastError} `STORE_CORRUPT` */
export function stateOf(image: Image, key: string, now: number): StateRow | undefined {
  const lost = image.lostState.get(key);
  return lost ? remains(lost, now) : image.tables.state(key);
}

/** What the next segment carries on: rows that have not expired, and what is still lost. */
export function livingState(image: Image, now: number): { rows: StateRow[]; lost: LostValue[] } {
  const rows = [...image.tables.shared.values()].filter((row) => (row.expiresAt ?? Infinity) > now);
  const lost: LostValue[] = [];
  for (const each of image.lostState.values())
    if ((each.until ?? Infinity) > now) lost.push(each);
    else {
      const left = remains(each, now);
      if (left) rows.push(left);
    }
  return { rows, lost };
}
