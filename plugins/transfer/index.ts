import { assertReadable } from '../../src/door/readable.js';
import { IDEMPOTENCY_TTL_MS, lostBy } from '../../src/door/start.js';
import { readExported } from '../../src/engine/exported.js';
import type { Plugin, PluginHost } from '../../src/engine/plugin.js';
import type { ExportedRow, ExportedRun, ExportOptions, ImportOptions, Transfer } from '../../src/engine/words.js';
import { StepfastError } from '../../src/errors.js';
import type { NewRun, StartOutcome } from '../../src/store/batch.js';
import { FORMAT_VERSION, type JournalEntry } from '../../src/store/journal.js';
import type { RunState, StoredRun } from '../../src/store/rows.js';
import { check, checkOptions, checkText, quoted } from '../../src/values/check.js';
import type { Json } from '../../src/values/json.js';
import { sameJson } from '../../src/values/same.js';
import { visitJournal, visitRow } from './parts.js';
import { keeping, visitFor } from './redact.js';

export type {
  ExportedRow,
  ExportedRun,
  ExportOptions,
  ImportOptions,
  RedactPlace,
  Transfer,
} from '../../src/engine/words.js';

/** What `transfer` adds to the engine. */
export interface TransferWords {
  readonly runs: Transfer;
}

/**
 * Runs that leave their store, or come from another: `runs.export` and `runs.import`, for reports of what went wrong, for
 * moving house, and for `replay` of `stepfast/testing` in an app's CI. `ExportedRun` says what the format is.
 *
 * @example
 * const stepfast = createStepfast({ store: indexedDBStore(), use: [transfer()] });
 * const bundle = JSON.stringify(await stepfast.runs.export(runId, { redact: true }));
 */
export function transfer(): Plugin<TransferWords> {
  return {
    name: 'transfer',
    words: (host) => ({
      runs: {
        export: (runId, options = {}) => exportRun(host, runId, options),
        import: (run, options = {}) => importRun(host, run, options),
      },
    }),
  };
}

// ---- out ------------------------------------------------------------------------------------------------------------

async function exportRun(host: PluginHost, runId: string, options: ExportOptions): Promise<ExportedRun> {
  checkOptions(options, ['redact'], 'The options of export');
  const { redact = false } = options;
  check(typeof redact === 'boolean' || typeof redact === 'function', 'redact', redact, 'true or a function');
  checkText(runId, 'runId', 'INVALID_ID');
  await host.open();
  const found = await host.store.load(runId);
  if (!found) throw new StepfastError('RUN_NOT_FOUND', `There is no run ${quoted(runId)}.`, { runId });
  assertReadable(found.row);
  const visit = visitFor(redact, host, host.store.capabilities.blobs);
  const run = visitRow(portableRow(found), visit);
  const journal = visitJournal(found.journal, visit);
  return plain<ExportedRun>({ stepfast: 1, format: FORMAT_VERSION, run, journal });
}

function portableRow({ row }: StoredRun): ExportedRow {
  const { owner: _o, slot: _s, seq: _q, fence: _f, length: _l, woken: _w, ended: _e, unsettled: _u, ...more } = row;
  const { setAt: _a, ...kept } = more;
  return { ...kept, waits: row.waits.map(({ after: _, afters: _a, ...wait }) => wait) };
}

/** A copy that shares nothing with the store, without fields that are `undefined`. */
const plain = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

// ---- in -------------------------------------------------------------------------------------------------------------

async function importRun(host: PluginHost, given: ExportedRun, options: ImportOptions) {
  checkOptions(options, ['id'], 'The options of import');
  const { id } = options;
  if (id !== undefined) checkText(id, 'id', 'INVALID_ID');
  const { run, journal } = readExported(given, host.codec);
  const start = newRun(run, journal, id, host.platform.clock.now());
  const outcome = await host.commit({ starts: [start] });
  if (outcome.kind !== 'committed') throw lostBy(outcome, undefined);
  const [found] = outcome.starts as readonly [StartOutcome];
  const created = found.kind === 'created';
  if (created) host.look();
  else if (!(await isSame(host, found, start, journal))) throw conflict(found, start);
  return { id: start.runId, created };
}

/** The run as this store is to begin with it. */
function newRun(run: ExportedRow, journal: readonly JournalEntry[], id: string | undefined, now: number): NewRun {
  const { runId, job, version, queue, parentId, tags, priority, idempotencyKey, keyUntil, unique } = run;
  const isScheduled = run.status === 'scheduled';
  const isUnique = unique?.until === 'start' ? isScheduled : run.endedAt === undefined;
  const dueAt = isScheduled ? Math.max(run.dueAt ?? now, now) : now;
  const optional = {
    parentId,
    tags,
    priority,
    // An id that is given here is one that a start has given (spec Q1).
    keyUntil: id === undefined ? keyUntil : Math.max(keyUntil ?? 0, now + IDEMPOTENCY_TTL_MS),
    ...(id === undefined && { idempotencyKey }),
    ...(id === undefined && isUnique && { unique }),
  };
  const set = Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined));
  return {
    ...set,
    runId: id ?? runId,
    job,
    version,
    queue,
    dueAt,
    entries: [...journal, { kind: 'imported', at: now, ...(id !== undefined && id !== runId && { from: runId }) }],
    ...(!isScheduled && { state: stateOf(run, now) }),
  };
}

/** A run that was active is due at once: whoever has its job replays it, and goes on. */
function stateOf(run: ExportedRow, now: number): RunState {
  const { version, startedAt, endedAt, progress, undoable, undoing, awaits } = run;
  const base = {
    version,
    ...(startedAt !== undefined && { startedAt }),
    ...(progress !== undefined && { progress }),
    ...(undoable && { undoable }),
  };
  if (endedAt !== undefined)
    return { ...base, status: run.status, endedAt, waits: [], ...(undoing && { undoing, dueAt: now }) };
  // Its owner knows from the journal which events are too old to be taken; the store only has to wake it.
  const waits = run.waits.map((wait) => ({ ...wait, after: 0 }));
  return { ...base, status: 'queued', dueAt: now, waits, ...(awaits && { awaits }) };
}

/** Whether the run that is there has this journal, and may have gone on from there. */
async function isSame(host: PluginHost, found: StartOutcome, { runId, job }: NewRun, journal: readonly JournalEntry[]) {
  if (found.runId !== runId || found.isUnique || found.fingerprint !== undefined) return false;
  const old = await host.store.load(runId);
  if (!old || old.row.job !== job) return false;
  const there = plain(visitJournal(old.journal, keeping));
  return journal.every((entry, index) => there[index] && sameJson(entry as Json, there[index] as Json));
}

const conflict = (found: StartOutcome, { runId, idempotencyKey }: NewRun) => {
  const said = found.isUnique
    ? `Run ${quoted(found.runId)} has the same unique key and has not ended`
    : found.runId !== runId
      ? `Run ${quoted(found.runId)} has the same idempotencyKey ${quoted(idempotencyKey)}`
      : found.fingerprint === undefined
        ? `There is a run ${quoted(runId)} with another journal`
        : `Run ${quoted(runId)} was deleted here, and is remembered`;
  return new StepfastError(
    'IDEMPOTENCY_CONFLICT',
    `${said}. Import this one under an id of its own: runs.import(run, { id }). Nothing was stored.`,
    { runId },
  );
};
