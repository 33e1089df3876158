import { StepfastError } from '../errors.js';
import type { Identity, JournalEntry } from '../store/journal.js';
import type { Command } from './command.js';

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
  { id, command }: { readonly id: Identity; readonly command: Command },
  recorded: JournalEntry | undefined,
  wait: Extract<JournalEntry, { kind: 'wait-set' }> | undefined,
): StepfastError | undefined {
  if (!recorded) return undefined;
  const word = wordOf(recorded);
  const isWait = command.kind === 'wait';
  const fits =
    word === command.kind &&
    (!isWait || !wait || (wait.key === command.key && JSON.stringify(wait.events) === JSON.stringify(command.events)));
  if (fits) return undefined;
  const was = word === 'wait' ? waitShape(wait?.events, wait?.key) : SHAPES[word];
  const is = isWait ? waitShape(command.events, command.key) : SHAPES[command.kind];
  return new StepfastError(
    'REPLAY_MISMATCH',
    `"${id[0]}" (occurrence ${id[1]}) was recorded as ${was}, but the handler now asks for ${is}. Give the new one another name, or keep the old. The run is blocked, nothing is lost, and it goes on when fitting code is loaded.`,
    { step: id[0] },
  );
}
