import type { Command } from '../replay/command.js';
import type { Ask } from '../replay/replay.js';
import type { OutcomeEntry } from '../store/journal.js';
import type { Codec } from '../values/codec.js';
import type { Json } from '../values/json.js';

/*
 * What a replay gives for words of the handler that the run knows nothing of, so that what is recorded behind them is asked for.
 */

/** What a word gives by itself, where no result of it is known: as little as it can. */
function given({ command, id: [name] }: Ask, results: { readonly [name: string]: unknown }): unknown {
  if (Object.hasOwn(results, name)) return results[name];
  if (command.kind === 'start') return { id: 'unknown' };
  if (command.kind === 'dispatch') return { id: 'unknown', deduplicated: false, resumed: [] };
  return undefined;
}

/** An outcome for something that is new in the code. */
export function standIn(
  ask: Ask,
  position: { readonly asked: number },
  codec: Codec,
  results: { readonly [name: string]: unknown },
): OutcomeEntry {
  const { id, command } = ask;
  const place = { at: 0, id, asked: position.asked };
  if (command.kind === 'sleep') return { kind: 'sleep-ended', ...place };
  if (command.kind === 'make') return { kind: 'value-made', ...place, word: command.word, value: command.make() };
  const value = codec.encode(given(ask, results), `the result of "${id[0]}"`);
  if (command.kind === 'wait') return { ...eventOf(command, value), ...place };
  if (command.kind === 'call') return { kind: 'child-completed', ...place, runId: 'unknown', value };
  return { kind: 'step-completed', ...place, attempt: 1, value };
}

const eventOf = ({ events, key }: Extract<Command, { readonly kind: 'wait' }>, payload: Json) =>
  ({
    kind: 'event-taken',
    seq: 0,
    eventId: 'unknown',
    event: events[0]!,
    ...(key !== undefined && { key }),
    payload,
    acceptedAt: 0,
  }) as const;
