import { StepfastError } from '../errors.js';
import type { Identity, JournalEntry } from '../store/journal.js';
import type { Command, WaitCommand } from './command.js';
import type { Digest } from './digest.js';

/*
 * Whether the code at hand asks for what is recorded (spec R5): kinds and waits are compared, names are the identity.
 */

/** What an entry was asked for as. */
const wordOf = (entry: JournalEntry): string => {
  const { kind } = entry;
  if (kind.startsWith('sleep')) return 'sleep';
  if (kind.startsWith('child')) return 'call';
  if (kind === 'value-made') return 'make';
  if (kind[0] === 'w' || kind[0] === 'e') return 'wait';
  return (entry as { readonly word?: string }).word ?? 'run';
};

const SHAPES: { readonly [word: string]: string } = {
  run: 'a step that runs a function',
  sleep: 'a sleep',
  call: 'a call of a child run',
  start: 'the start of a child run',
  dispatch: 'the dispatch of an event',
  transaction: 'a transaction',
  make: 'a recorded value',
};

const waitShape = (events: readonly string[] | undefined, key: string | undefined) =>
  `a wait for ${JSON.stringify(events)} with correlation key ${key === undefined ? 'absent' : JSON.stringify(key)}`;

/** Whether an ask fits what its identity is recorded as; if not, the error that quotes both (spec R5). */
export function mismatch(
  { key, id, command }: { readonly key: string; readonly id: Identity; readonly command: Command },
  { shapes, waits, outcomeKeys, isFork }: Pick<Digest, 'shapes' | 'waits' | 'outcomeKeys' | 'isFork'>,
): StepfastError | undefined {
  const recorded = shapes.get(key);
  const wait = waits.get(key);
  if (!recorded) return undefined;
  const word = wordOf(recorded);
  const isWait = command.kind === 'wait';
  // It may have been settled in the run that this one was forked from, and its key may name that run.
  const isCopied = isFork && outcomeKeys.has(key);
  const isSameWait = (asked: WaitCommand, set: NonNullable<typeof wait>) =>
    (isCopied || set.key === asked.key) && JSON.stringify(set.events) === JSON.stringify(asked.events);
  const fits = word === command.kind && (!isWait || !wait || isSameWait(command, wait));
  if (fits) return undefined;
  const was = word === 'wait' ? waitShape(wait?.events, wait?.key) : SHAPES[word];
  const is = isWait ? waitShape(command.events, command.key) : SHAPES[command.kind];
  return new StepfastError(
    'REPLAY_MISMATCH',
    `"${id[0]}" (occurrence ${id[1]}) was recorded as ${was}, but the handler now asks for ${is}. Give the new one another name, or keep the old. The run is blocked, nothing is lost, and it goes on when fitting code is loaded.`,
    { step: id[0] },
  );
}
