import { LIMITS } from '../limits.js';
import type { Platform } from '../platform.js';
import type { Digest } from '../replay/digest.js';
import type { Identity, JournalEntry, LogLevel } from '../store/journal.js';
import { quoted } from '../values/check.js';
import type { Codec } from '../values/codec.js';
import type { LiveRun } from './live-run.js';

/** Writes lines that are kept with the run, silent while it is replayed; at most 1,000 a run. */
export interface Log {
  /** @param data A value that the codec takes; one it does not take is left out, and the line says so. */
  debug(message: string, data?: unknown): void;
  info(message: string, data?: unknown): void;
  warn(message: string, data?: unknown): void;
  error(message: string, data?: unknown): void;
}

export type LogLine = Extract<JournalEntry, { readonly kind: 'logged' }>;

/** Keeps a line for the next commit, if there is room for one more. */
export function keepLine(run: LiveRun, { warn }: Pick<Platform, 'warn'>, line: LogLine): boolean {
  const hasRoom = run.digest.logs + run.logs.length < LIMITS.logs;
  if (hasRoom) run.logs.push(line);
  else if (!run.isLogFull) warn(`Run ${run.row.runId} has ${LIMITS.logs} log lines: no more are kept.`);
  run.isLogFull = !hasRoom;
  return hasRoom;
}

/** The lines among entries. */
export const linesIn = (entries: readonly JournalEntry[]): LogLine[] =>
  entries.filter((entry) => entry.kind === 'logged');

/**
 * Whether the handler said a line before it could go another way (the run was retried, or it has thrown): each of these is
 * silent once, wherever it is said again. What it says in their place is new.
 */
export function saidBefore({ entries, turnedAt }: Pick<Digest, 'entries' | 'turnedAt'>): (line: LogLine) => boolean {
  const textOf = ({ level, message, data }: LogLine) => JSON.stringify([level, message, data]);
  const before = linesIn(entries.slice(0, turnedAt)).flatMap((line) => (line.id || line.earlier ? [] : textOf(line)));
  return (line) => {
    const at = before.length ? before.indexOf(textOf(line)) : -1;
    if (at >= 0) before.splice(at, 1);
    return at >= 0;
  };
}

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
