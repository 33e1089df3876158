import type { Identity, JournalEntry, LogLevel } from '../store/journal.js';
import { quoted } from '../values/check.js';
import type { Codec } from '../values/codec.js';

/** Writes lines that are kept with the run, silent while it is replayed; at most 1,000 a run. */
export interface Log {
  /** @param data A value that the codec takes; one it does not take is left out, and the line says so. */
  debug(message: string, data?: unknown): void;
  info(message: string, data?: unknown): void;
  warn(message: string, data?: unknown): void;
  error(message: string, data?: unknown): void;
}

export type LogLine = Extract<JournalEntry, { readonly kind: 'logged' }>;

/** The lines among entries. */
export const linesIn = (entries: readonly JournalEntry[]): LogLine[] =>
  entries.filter((entry) => entry.kind === 'logged');

/** As it stands in a journal that was begun anew since it was said; and as it was said. */
export const ofEarlier = (line: LogLine): LogLine => ({ ...line, earlier: true });
export const asSaid = ({ earlier: _, ...line }: LogLine): LogLine => line;

/** A message longer than this is cut. */
const MAX_MESSAGE = 4_096;

/** A log of one step, or (`id` absent) of the handler. Logging never fails: it must not be what breaks a run. */
export function createLog(
  { codec, now, write }: { readonly codec: Codec; now(): number; write(line: LogLine): void },
  id?: Identity,
): Log {
  const at = (level: LogLevel) => (message: string, data?: unknown) => {
    const line = { kind: 'logged', at: now(), level, message: textOf(message), ...(id && { id }) } as const;
    if (data === undefined) return write(line);
    try {
      write({ ...line, data: codec.encode(data, 'the data of a log line') });
    } catch (error) {
      write({ ...line, message: `${line.message} (data left out: ${(error as Error).message})` });
    }
  };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

const textOf = (message: unknown) => (typeof message === 'string' ? message.slice(0, MAX_MESSAGE) : quoted(message));
