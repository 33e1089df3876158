import type { MemoryMedium } from '../../../adapters/memory/index.js';
import type { StepContext } from '../../../src/replay/command.js';
import type { Batch, CommitOutcome } from '../../../src/store/batch.js';
import { SKEW_MS } from '../../../src/store/due.js';
import type { JournalEntry } from '../../../src/store/journal.js';
import type { RunRow } from '../../../src/store/rows.js';
import type { Store } from '../../../src/store/store.js';
import type { Context } from './context.js';
import { createEntries, type EntriesHost, TOLD } from './entries.js';
import type { Mix } from './mix.js';
import { presentName } from './plan.js';
import { keyOfId, type Shadow, shadowOf } from './shadow.js';

/*
 * Watches every commit from outside the product: what it was asked to do, what it answered, and what has changed since.
 *
 * I-fence: only the holder of a run's fence commits to it, and fences only grow. I-nack: what was refused has changed
 * nothing. I-row: others only wake a run (rule T3). I-serial: journals have no gaps, rows say how long they are.
 * I-slots: no more runs hold slots of a queue than it allows. I-nostart: no function is entered by a context that the
 * store has told, with its last word on the run, that the outcome is recorded or the run has ended.
 */

export interface WatchHost extends Omit<EntriesHost, 'shadows' | 'storm'> {
  readonly storm: Mix;
  readonly medium: MemoryMedium;
  readonly trueNow: () => number;
  readonly concurrency: (queue: string) => number;
  readonly leaseMs: number;
  /** Deliberate damage, to see that it is caught. */
  readonly tamper: (batch: Batch, row: RunRow | undefined) => Batch;
  readonly log: ((line: string) => void) | undefined;
}

/** What the store last told a context of a run that it drives. */
interface Word {
  readonly commit: number;
  readonly askedAt: number;
}

export type Watch = ReturnType<typeof createWatch>;

export function createWatch(host: WatchHost) {
  const { medium, wrong, count, log } = host;
  const shadows = new Map<string, Shadow>();
  const entries = createEntries({ ...host, shadows });
  /** What a fork begins with was looked at when it became durable. */
  const nothing = () => undefined;
  const copies = createEntries({ ...host, shadows, wrong: nothing, count: nothing, sums: { told: 0, asked: 0 } });
  const numbers = new WeakMap<CommitOutcome, number>();
  const words = new WeakMap<Context, Map<string, Word>>();
  const executions = new Map<string, number>();
  let commits = 0;
  /** Instants at which slots were given out, by the clocks of those who asked; in order, or forgotten. */
  let given: number[] = [];

  const journalOf = (runId: string): readonly JournalEntry[] => medium.journals.get(runId) ?? [];

  const commit = async (context: Context, store: Store, batch: Batch): Promise<CommitOutcome> => {
    const { run } = batch;
    const before = run && medium.tables.run(run.runId);
    const { seq } = medium.tables.clock();
    const ended = (batch.events ?? []).filter(
      ({ runId }) => runId !== undefined && medium.tables.run(runId)?.endedAt !== undefined,
    );
    const outcome = await store.commit(host.tamper(batch, before));
    log?.(
      `  commit of ${context.name}: ${sayBatch(batch)} -> ${outcome.kind}${'fence' in outcome ? ` ${outcome.fence}` : ''}`,
    );
    if (outcome.kind === 'committed') {
      commits++;
      numbers.set(outcome, commits);
      if (run && before) fenced(context, batch, before);
      if (run?.state?.slot !== undefined && before?.slot === undefined) rated(batch.now);
      for (const { id, runId } of ended)
        if (outcome.events.some((each) => each.id === id && each.kind === 'accepted'))
          wrong(`E4: event ${id} was accepted for ${runId}, which had ended`);
    } else {
      refused(context, outcome, seq);
    }
    for (const row of medium.tables.runs.values()) {
      const shadow = shadows.get(row.runId);
      if (shadow?.row === row) continue;
      if (outcome.kind !== 'committed')
        wrong(`I-nack: a commit that was answered "${outcome.kind}" changed ${row.runId}`);
      else if (shadow) changed(shadow, row, batch, context);
      else born(row, batch);
    }
    slots();
    if (host.storm.unique) alone();
    return outcome;
  };

  /** Q2: what a clock that ran ahead has left does not count (spec Q4): only right clocks, and what comes in order, are judged. */
  const rated = (now: number) => {
    const { rate, jump, skew } = host.storm;
    if (!rate || jump || skew) return;
    if (now < (given.at(-1) ?? 0)) given = [];
    given = given.filter((at) => at > now - rate.per);
    given.push(now);
    if (given.length > rate.limit) wrong(`Q2: ${given.length} slots within ${rate.per} ms, of ${rate.limit}`);
  };

  /** Who commits to a run, and with which fence. */
  const fenced = (context: Context, { run }: Batch, before: RunRow) => {
    const { runId, fence, raise, length } = run!;
    const shadow = shadows.get(runId)!;
    if (fence !== 'any' && fence !== before.fence)
      wrong(`I-fence: ${runId} was written with fence ${fence}, its fence is ${before.fence}`);
    if (length !== undefined && length !== before.length) wrong(`I-fence: ${runId} was claimed at another length`);
    if (fence === 'any' && !raise) wrong(`I-fence: ${runId} was written by anybody, and its fence stays`);
    if (run!.state && run!.state.owner === context.owner && context.version < before.version)
      wrong(`O6: ${context.name} has version ${context.version}, and drives ${runId} of version ${before.version}`);
    if (!raise && shadow.holder !== context)
      wrong(`I-fence: ${context.name} writes to ${runId}, ${shadow.holder?.name} holds it`);
    if (!raise || !run!.state) return;
    const isClaim = run!.state.owner === context.owner;
    if (isClaim && before.owner !== undefined && before.owner !== context.owner) count('takeovers');
    shadow.holder = isClaim || run!.append.some(({ kind }) => kind === 'claimed') ? context : undefined;
  };

  const refused = (context: Context, outcome: CommitOutcome, seq: number) => {
    if (medium.tables.clock().seq !== seq) wrong(`I-nack: a commit that was answered "${outcome.kind}" took a number`);
    if (outcome.kind === 'fenced') count(context.wasFrozen ? 'zombies refused' : 'late owners refused');
    if (outcome.kind === 'overtaken') count('commits overtaken by an event');
    if (outcome.kind === 'no-slot') count('runs refused a slot');
    if (outcome.kind === 'no-slot' && outcome.retryAt !== undefined) count('runs kept waiting by a rate');
  };

  const born = (row: RunRow, batch: Batch) => {
    if (row.parentId !== undefined) count('children started');
    const [first] = journalOf(row.runId) as readonly { readonly forkedFrom?: { readonly runId: string } }[];
    const shadow = shadowOf(row, journalOf(row.runId), shadows.get(first?.forkedFrom?.runId ?? ''));
    shadows.set(row.runId, shadow);
    append(shadow, row, batch);
  };

  const changed = (shadow: Shadow, row: RunRow, batch: Batch, context: Context) => {
    const { row: old, runId } = shadow;
    if (row.fence < old.fence) wrong(`I-fence: the fence of ${runId} fell from ${old.fence} to ${row.fence}`);
    if (row.seq !== old.seq || row.job !== old.job || row.createdAt !== old.createdAt)
      wrong(`I-row: ${runId} was born anew`);
    if (row.version < old.version) wrong(`O6: ${runId} went from version ${old.version} to ${row.version}`);
    const isOurs = batch.run?.runId === runId;
    if (!isOurs) foreign(shadow, row, batch);
    else if (row.fence !== old.fence + (batch.run!.raise ? 1 : 0))
      wrong(`I-fence: ${runId} went to fence ${row.fence}`);
    if (journalOf(runId) !== shadow.journal) {
      if (!batch.run?.reset || !isOurs) wrong(`J3: the journal of ${runId} was replaced by ${context.name}`);
      entries.restart(shadow, journalOf(runId), batch);
    }
    const hadEnded = old.endedAt !== undefined;
    append(shadow, row, batch);
    if (hadEnded && shadow.endedBy !== undefined && (row.status !== old.status || row.endedAt !== old.endedAt))
      wrong(`F9: ${runId} was ${old.status}, and is ${row.status}`);
    if ((row.endedAt !== undefined) !== (shadow.endedBy !== undefined))
      wrong(`I-row: ${runId} is ${row.status}, its journal says otherwise`);
  };

  /** A commit that is not of the run itself only wakes it, or cancels it with its parent. */
  const foreign = (shadow: Shadow, row: RunRow, batch: Batch) => {
    const { row: old, runId } = shadow;
    const isCancelled = row.status === 'cancelled' && old.status !== 'cancelled';
    if (isCancelled) {
      count('children cancelled');
      if (medium.tables.run(row.parentId ?? '')?.status !== 'cancelled')
        wrong(`T3: ${runId} was cancelled without its parent`);
      if (row.fence !== old.fence + 1) wrong(`I-fence: ${runId} was cancelled, and its fence stays`);
      shadow.holder = undefined;
      return;
    }
    // A start has put it off, or taken its place where it was too late for that.
    const isMoved = batch.starts?.some(({ moves }) => moves) && old.startedAt === undefined && old.unique;
    const { woken: _, dueAt: __, ended: ___, ...rest } = isMoved ? { ...row, length: 0, unique: undefined } : row;
    const { woken: _a, dueAt: _b, ended: _c, ...was } = isMoved ? { ...old, length: 0, unique: undefined } : old;
    if (JSON.stringify(rest) !== JSON.stringify(was)) wrong(`T3: ${runId} was changed by ${sayBatch(batch)}`);
  };

  /** I-unique: no two runs hold one key, and an active run of a singleton does not lose it. */
  const alone = () => {
    const holders = new Map<string, string>();
    for (const { runId, unique, endedAt } of medium.tables.runs.values()) {
      if (unique) {
        const other = holders.get(unique.key);
        if (other !== undefined) wrong(`Q2: ${runId} and ${other} hold one key`);
        holders.set(unique.key, runId);
        if (endedAt !== undefined) wrong(`Q2: ${runId} has ended, and holds a key`);
      } else if (endedAt === undefined && shadows.get(runId)?.isAlone)
        wrong(`Q2: ${runId} is active, and has lost its key`);
    }
  };

  const append = (shadow: Shadow, row: RunRow, batch: Batch) => {
    shadow.row = row;
    shadow.journal = journalOf(row.runId);
    if (row.length !== shadow.journal.length)
      wrong(`I-serial: ${row.runId} has length ${row.length}, its journal ${shadow.journal.length}`);
    for (; shadow.seen < shadow.journal.length; shadow.seen++) {
      const entry = shadow.journal[shadow.seen]!;
      log?.(`    ${row.runId} ${sayEntry(entry)}`);
      (shadow.seen < shadow.copied ? copies : entries).look(shadow, entry, batch, commits);
    }
  };

  const slots = () => {
    const used = new Map<string, number>();
    for (const { slot, endedAt } of medium.tables.runs.values()) {
      if (slot === undefined) continue;
      used.set(slot, (used.get(slot) ?? 0) + 1);
      if (endedAt !== undefined) wrong('Q2: a run that has ended holds a slot');
    }
    for (const [queue, number] of used)
      if (number > host.concurrency(queue)) wrong(`Q2: ${number} runs hold slots of ${queue}`);
  };

  const answered = (context: Context, { run }: Batch, outcome: CommitOutcome, askedAt: number) => {
    if (!run || run.fence === 'any' || outcome.kind !== 'committed') return;
    if (run.state && run.state.owner !== context.owner) return;
    const of = words.get(context) ?? new Map<string, Word>();
    words.set(context, of);
    // Answers do not come in the order of asking: the newest word of each kind counts.
    const before = of.get(run.runId);
    const commit = Math.max(numbers.get(outcome)!, before?.commit ?? 0);
    of.set(run.runId, { commit, askedAt: Math.max(askedAt, before?.askedAt ?? -Infinity) });
  };

  /** Idempotency keys have the name of before `migrate`. */
  const presentId = ({ row, program }: Shadow, name: string, occurrence: string | undefined) => {
    const present = presentName(name);
    const isRenamed = row.version > 1 && host.nodes(program).has(present);
    return keyOfId('step', [isRenamed ? present : name, Number(occurrence)]);
  };

  /** A function of the run is called by this context: whether it may. */
  const mayEnter = (context: Context, runId: string, what: string): Shadow | undefined => {
    const shadow = shadows.get(runId);
    const word = words.get(context)?.get(runId);
    if (!shadow || !word) {
      wrong(`D2: ${context.name} enters ${what} without a commit`);
      return undefined;
    }
    const age = context.clock.now() - word.askedAt;
    // Its clock can not tell how long ago that was, when it was set in between.
    if (host.trueNow() - context.clock.setAt() > 2 * age + host.leaseMs && age >= host.leaseMs)
      wrong(`F5: ${context.name} enters ${what}, the fence was confirmed ${age} ms ago`);
    return shadow;
  };

  const entered = (context: Context, { idempotencyKey: key, attempt }: StepContext): number => {
    const [runId = '', generation, name = '', occurrence] = key.split('/');
    const execution = (executions.get(key) ?? 0) + 1;
    executions.set(key, execution);
    log?.(`  ${context.name} enters ${key}, attempt ${attempt}, execution ${execution}`);
    const shadow = mayEnter(context, runId, key);
    if (!shadow) return execution;
    const { commit: told } = words.get(context)!.get(runId)!;
    const id = presentId(shadow, name, occurrence);
    const outcome = shadow.outcomes.get(id);
    const first = shadow.journal[0] as { readonly generation?: number };
    const isPresent = Number(generation) >= (first.generation ?? 0);
    if (isPresent && outcome && outcome.commit <= told)
      wrong(`R1: ${context.name} enters ${key}, its outcome is recorded`);
    if (shadow.endedBy !== undefined && shadow.endedBy <= told)
      wrong(`F9: ${context.name} enters ${key}, the run has ended`);
    const failure = shadow.failures.get(id);
    // A backoff that was set by a clock that was ahead, and has been corrected, is over (spec Q4).
    const wasAhead = failure && failure.at > context.clock.earliest() + SKEW_MS;
    if (isPresent && failure && failure.commit <= told && context.clock.latest() < failure.retryAt && !wasAhead)
      wrong(`F4: ${context.name} enters ${key} before its time`);
    if (execution > 1) count('functions entered again');
    return execution;
  };

  const undoes = (context: Context, runId: string, idempotencyKey: string): number => {
    const execution = (executions.get(idempotencyKey) ?? 0) + 1;
    executions.set(idempotencyKey, execution);
    log?.(`  ${context.name} undoes ${idempotencyKey}, execution ${execution}`);
    const [, , name = '', occurrence] = idempotencyKey.split('/'); // of what a fork was given, those of another run
    const shadow = mayEnter(context, runId, idempotencyKey);
    if (!shadow) return execution;
    const { commit: told } = words.get(context)!.get(runId)!;
    const key = presentId(shadow, name, occurrence);
    const done = shadow.undone.get(key);
    if (done && done.commit <= told) wrong(`F7: ${context.name} undoes ${idempotencyKey} again`);
    if (!shadow.undos.has(key)) wrong(`U1: ${context.name} undoes ${idempotencyKey}, which was not begun`);
    if (shadow.endedBy === undefined) count('undone while taken up again');
    return execution;
  };

  const told = (context: Context, runId: string): number => {
    const key = `${runId}/told`;
    const execution = (executions.get(key) ?? 0) + 1;
    executions.set(key, execution);
    log?.(`  ${context.name} tells that ${runId} has failed, execution ${execution}`);
    const shadow = mayEnter(context, runId, key);
    const { commit: last } = words.get(context)?.get(runId) ?? { commit: 0 };
    if (shadow?.endedBy === undefined) count('undone while taken up again');
    const done = shadow?.undone.get(keyOfId('step', [TOLD, 1]));
    if (done && done.commit <= last) wrong(`F6: ${context.name} tells again that ${runId} has failed`);
    return execution;
  };

  return {
    told,
    log: entries.log,
    commit,
    answered,
    entered,
    undoes,
    shadows,
    executions,
    sums: host.sums,
    commits: () => commits,
  };
}

const sayBatch = ({ run, starts = [], events = [], state = [], deletes = [] }: Batch): string =>
  [
    run &&
      `${run.runId}@${run.fence}${run.raise ? '+' : ''}${run.reset ? ' anew' : ''} ${run.state?.status ?? 'confirm'}`,
    ...starts.map(({ runId, idempotencyKey = '' }) => `start ${runId} ${idempotencyKey}`),
    ...events.map(({ id, name, key = '' }) => `event ${id} ${name} ${key}`),
    ...state.map(({ kind, key }) => `${kind} ${key}`),
    ...deletes.map(({ runId }) => `delete ${runId}`),
  ]
    .filter(Boolean)
    .join(', ');

export const sayEntry = (entry: JournalEntry): string => {
  const id = 'id' in entry && entry.id ? ` ${entry.id[0]}/${entry.id[1]}` : '';
  const asked =
    'asked' in entry ? ` asked ${entry.asked}${entry.before === undefined ? '' : ` before ${entry.before}`}` : '';
  const seq = 'seq' in entry ? ` #${entry.seq}` : '';
  return `${entry.kind}${id}${seq}${asked}`;
};
