import type { MemoryMedium } from '../../../adapters/memory/index.js';
import type { Batch } from '../../../src/store/batch.js';
import { isOutcome, type JournalEntry } from '../../../src/store/journal.js';
import type { Mix } from './mix.js';
import {
  blankJournal,
  type EntryOf,
  eligible,
  isBegun,
  keyOfId,
  type Nodes,
  namespaceOf,
  rename,
  runNode,
  type Shadow,
  waitNode,
} from './shadow.js';

/*
 * What an entry of a journal must be true of, at the moment in which it becomes durable.
 */

export interface EntriesHost {
  readonly medium: MemoryMedium;
  readonly nodes: (program: number) => Nodes;
  readonly wrong: (what: string) => void;
  readonly count: (what: string) => void;
  readonly shadows: ReadonlyMap<string, Shadow>;
  readonly storm: Pick<Mix, 'maxInterruptions' | 'timeoutMs' | 'tells' | 'upgrade' | 'unique'>;
  /** Sums of what steps have added to the shared values. */
  readonly sums: { told: number; asked: number };
}

/** Kinds that may stand behind the end of a run (rule J4). */
const AFTERMATH = /^(claimed|released|upgraded|undone|undo-attempt-failed|undo-failed|logged|retried)$/;

/** Under which it is recorded that the job was told of a failure. */
export const TOLD = 'stepfast:onFailed';

/** Attempts that a handler has, and words that are no functions of the user. */
const MAX_ATTEMPTS = 5;

export function createEntries(host: EntriesHost) {
  const { medium, wrong, count, sums, storm } = host;
  /** Numbers of events that some run has taken. */
  const takers = new Set<number>();
  const log = () => ({ events: medium.tables.log.values(), takers });

  const said = (shadow: Shadow, entry: JournalEntry, what: string) =>
    wrong(`${shadow.runId}: ${what}: ${JSON.stringify(entry).slice(0, 300)}`);

  /** Looks at one entry, and folds it into what is known of its run. */
  const look = (shadow: Shadow, entry: JournalEntry, batch: Batch, commit: number): void => {
    const id = 'id' in entry ? entry.id : undefined;
    const key = id ? keyOfId(namespaceOf(entry), id) : '';
    const name = id?.[0] ?? '';
    const nodes = host.nodes(shadow.program);
    const bad = (what: string) => said(shadow, entry, what);
    if (shadow.endedBy !== undefined && !AFTERMATH.test(entry.kind)) bad('J4: an entry behind the end of the run');
    const { interruptions } = shadow;
    if (!/^(claimed|released|logged)$/.test(entry.kind)) shadow.interruptions = 0;
    if (isOutcome(entry)) {
      if (shadow.outcomes.has(key)) bad('R1: a second outcome of one identity');
      shadow.outcomes.set(key, { entry, commit, index: shadow.seen });
      shadow.handlerFailures = 0;
    }
    switch (entry.kind) {
      case 'started':
        if (entry.generation && !entry.forkedFrom) shadow.begunAt = entry.at;
        break;
      case 'claimed':
        shadow.begunAt ??= entry.at;
        for (const undo of shadow.undos.keys()) if (!shadow.outcomes.has(undo)) shadow.unknown.add(undo); // cut off
        if (entry.fence !== shadow.row.fence) bad(`O1: a claim with another fence than the row (${shadow.row.fence})`);
        if (!entry.interrupted) break;
        count('interruptions');
        if (++shadow.interruptions > storm.maxInterruptions && shadow.endedBy === undefined)
          bad(`F5: interrupted ${shadow.interruptions} times in a row, and not given up`);
        break;
      case 'attempt-failed':
      case 'step-failed': {
        const failures = (shadow.failures.get(key)?.count ?? 0) + 1;
        const node = runNode(nodes, name);
        const most = node?.maxAttempts ?? MAX_ATTEMPTS;
        if (entry.error.code === 'STEP_TIMEOUT' && shadow.undos.has(key)) shadow.unknown.add(key);
        if (!shadow.unknown.has(key)) shadow.undos.delete(key);
        if (entry.kind === 'attempt-failed') {
          shadow.failures.set(key, { count: failures, at: entry.at, retryAt: entry.retryAt, commit });
          if (failures >= most) bad(`F1: attempt ${failures} of at most ${most} is to be retried`);
          if (node?.isFatal && entry.error.name === 'FatalError') bad('F3: a fatal error is to be retried');
          count('attempts that failed');
        } else {
          if (failures > most) bad(`F1: failed ${failures} times, of at most ${most}`);
          const isFinal = failures === most || entry.error.name === 'FatalError' || node === undefined;
          if (!isFinal) bad(`F1: given up after ${failures} of ${most} attempts`);
        }
        break;
      }
      case 'step-completed':
        if (runNode(nodes, name)?.adds === 'told') sums.told++;
        break;
      case 'state-incremented':
        sums.asked++;
        if (entry.value !== sums.asked) bad(`D8: the sum is ${sums.asked}`);
        break;
      case 'sleep-set':
        if (shadow.sleeps.has(key)) bad('E5: a sleep is set twice');
        shadow.sleeps.set(key, entry);
        break;
      case 'sleep-ended':
        if (!(shadow.sleeps.get(key)?.dueAt ?? Infinity) || entry.at < (shadow.sleeps.get(key)?.dueAt ?? Infinity))
          bad('E5: a sleep has ended before its time');
        break;
      case 'wait-set':
        if (shadow.waits.has(key)) bad('E5: a wait is set twice');
        shadow.waits.set(key, entry);
        break;
      case 'event-taken':
        take(shadow, entry, waitNode(nodes, name)?.isPicky === true);
        break;
      case 'wait-timed-out':
        timeOut(shadow, entry, waitNode(nodes, name)?.isPicky === true);
        break;
      case 'child-set':
        shadow.children.set(key, entry);
        childSet(shadow, entry);
        break;
      case 'child-completed':
      case 'child-failed':
        childEnded(shadow, entry);
        break;
      case 'undo-set':
        shadow.undos.set(key, shadow.seen);
        if (entry.isUnknown) shadow.unknown.add(key);
        break;
      case 'undone':
      case 'undo-failed':
        if (shadow.endedBy === undefined) bad('F7: undone before the end');
        undone(shadow, entry, key, interruptions);
        shadow.undone.set(key, { kind: entry.kind, commit });
        break;
      case 'upgraded': {
        const wasBegun = isBegun(shadow);
        count('upgrades');
        count(`upgrades: ${storm.upgrade}`);
        if (entry.to <= entry.from) bad('O6: upgraded to what it was');
        if (entry.renames?.length) count('names changed');
        rename(shadow, new Map(entry.renames ?? []));
        if (shadow.endedBy !== undefined && storm.upgrade !== 'migrate')
          bad('O6: upgraded after its end, and not migrated');
        if (storm.upgrade === 'block' && wasBegun) bad('O6: upgraded, though its job leaves it alone');
        shadow.isAbandoned = storm.upgrade === 'abandon' && wasBegun;
        if (storm.upgrade === 'restart' && shadow.outcomes.size) bad('O6: upgraded, and not begun anew');
        if (shadow.row.version !== entry.to) bad(`O6: upgraded, and of version ${shadow.row.version}`);
        break;
      }
      case 'handler-failed':
        if (++shadow.handlerFailures >= MAX_ATTEMPTS) bad(`F1: the handler is tried more than ${MAX_ATTEMPTS} times`);
        count('handlers that threw');
        break;
      case 'retried':
        retry(shadow, entry);
        break;
      case 'rescheduled':
        count('runs put off');
        if (shadow.row.startedAt !== undefined) bad('Q2: put off, though it was begun');
        break;
      case 'drift':
        count('drifts');
        break;
      case 'failed':
        failed(shadow, entry, interruptions);
        break;
      default:
        break;
    }
    if (entry.kind === 'completed' || entry.kind === 'failed' || entry.kind === 'cancelled') {
      shadow.ends.push(entry);
      shadow.endedBy = commit;
      shadow.isCancelledOutside = entry.kind === 'cancelled' && batch.run?.fence === 'any';
    }
  };

  /** Steps are undone the last one first, by their ends or, of unknown outcome, by their beginnings; then the job is told. */
  const undone = (
    shadow: Shadow,
    entry: EntryOf<'undone' | 'undo-failed'>,
    key: string,
    interruptions: number,
  ): void => {
    const bad = (what: string) => said(shadow, entry, what);
    if (shadow.undone.has(key)) bad('F7: undone twice');
    const isLoop = entry.kind === 'undo-failed' && entry.error.code === 'CRASH_LOOP';
    if (isLoop && interruptions < storm.maxInterruptions) bad(`F5: given up after ${interruptions} interruptions`);
    const isTold = entry.id[0] === TOLD;
    count(isTold ? 'jobs told of a failure' : 'steps undone');
    if (isTold && !(storm.tells && shadow.ends.at(-1)?.kind === 'failed')) bad('F6: told of what did not fail');
    if (!isTold && !shadow.undos.has(key)) bad('F7: undone, and not begun');
    const placeOf = (each: string) => shadow.outcomes.get(each)?.index ?? shadow.undos.get(each) ?? -1;
    const own = isTold ? -1 : placeOf(key);
    for (const other of shadow.undos.keys())
      if (!shadow.undone.has(other) && other !== key && placeOf(other) > own)
        bad(`F7: ${other} came later, and is not undone`);
  };

  const failed = (shadow: Shadow, entry: EntryOf<'failed'>, interruptions: number): void => {
    const bad = (what: string) => said(shadow, entry, what);
    const { code } = entry.error;
    if (code === 'CRASH_LOOP') {
      count('runs given up');
      if (interruptions !== storm.maxInterruptions) bad(`F5: given up after ${interruptions} interruptions`);
    } else if (code === 'RUN_TIMEOUT') {
      count('runs out of time');
      if (!storm.timeoutMs || entry.at < (shadow.begunAt ?? Infinity) + storm.timeoutMs)
        bad('out of time before its time');
    }
  };

  const take = (shadow: Shadow, entry: EntryOf<'event-taken'>, isPicky: boolean): void => {
    const bad = (what: string) => said(shadow, entry, what);
    const wait = shadow.waits.get(keyOfId('wait', entry.id));
    const event = medium.tables.log.get(entry.seq);
    if (!wait || !event) {
      bad('E4: a wait, or an event, that is not there');
      return;
    }
    if (shadow.taken.has(entry.seq)) bad('E4: the run takes the event twice');
    if (JSON.stringify(event.payload) !== JSON.stringify(entry.payload)) bad('E1: the payload is another');
    const fitting = eligible(shadow, wait, isPicky, log());
    if (!fitting.includes(event)) bad('E3: the event does not fit the wait');
    else if (fitting[0] !== event) bad(`E3: an older one (${fitting[0]!.seq}) fits`);
    shadow.taken.add(entry.seq);
    takers.add(entry.seq);
    if (entry.seq <= shadow.row.seq) count('events from before the run');
    if (event.runId !== undefined) count('events for one run');
    const pair = JSON.stringify([event.name, event.key]);
    if (!isPicky && entry.seq < (shadow.lastTaken.get(pair) ?? 0)) count('events taken after younger ones');
    shadow.lastTaken.set(pair, entry.seq);
    if (event.acceptedAt < wait.at) count('events before their wait');
    if (wait.deadline !== undefined && entry.at > wait.deadline) count('events that beat a timeout');
  };

  const timeOut = (shadow: Shadow, entry: EntryOf<'wait-timed-out'>, isPicky: boolean): void => {
    const bad = (what: string) => said(shadow, entry, what);
    const wait = shadow.waits.get(keyOfId('wait', entry.id));
    if (!wait) {
      bad('a wait that is not there');
      return;
    }
    if (entry.deadline !== wait.deadline) bad(`E5: the deadline was ${wait.deadline}`);
    if (entry.at < (wait.deadline ?? Infinity)) bad('E5: before its deadline');
    const [event] = eligible(shadow, wait, isPicky, log());
    if (event) bad(`E5: event ${event.seq} was accepted in time (${event.acceptedAt})`);
    const late = { ...wait, deadline: Infinity };
    count('timeouts');
    if (eligible(shadow, late, isPicky, log()).length) count('timeouts that beat an event');
  };

  const childSet = (shadow: Shadow, entry: EntryOf<'child-set'>): void => {
    const child = medium.tables.run(entry.runId);
    const isOurs = child?.parentId === shadow.runId;
    if (!child || !(isOurs || storm.unique)) said(shadow, entry, 'a child that is not there, or of another');
    else if (!isOurs) count('children that were there');
  };

  const childEnded = (shadow: Shadow, entry: EntryOf<'child-completed' | 'child-failed'>): void => {
    const bad = (what: string) => said(shadow, entry, what);
    const ends = host.shadows.get(entry.runId)?.ends ?? [];
    // Taken up again since it was read: the parent has seen it end all the same.
    const isSo = ends.some((end) =>
      entry.kind === 'child-completed'
        ? end.kind === 'completed' && JSON.stringify(end.value) === JSON.stringify(entry.value)
        : end.kind !== 'completed',
    );
    if (!isSo) bad('E12: the child has not ended so');
    if (shadow.children.get(keyOfId('step', entry.id))?.runId !== entry.runId) bad('E12: another child');
    count('children that ended');
  };

  /** `runs.retry`: what it names, and what was undone, no longer counts. */
  const retry = (shadow: Shadow, entry: EntryOf<'retried'>): void => {
    if (shadow.row.endedAt !== undefined) said(shadow, entry, 'F6: retried, and ended all the same');
    const keysOf = (ids: typeof entry.forgets) =>
      ids.map(([namespace, name, occurrence]) => keyOfId(namespace, [name, occurrence]));
    const keys = keysOf(entry.forgets);
    const rejoined = keysOf(entry.rejoins ?? []);
    if (rejoined.length) count('children rejoined');
    for (const [key, { kind }] of shadow.undone) if (kind === 'undone') keys.push(key);
    for (const key of keys) {
      for (const map of [shadow.outcomes, shadow.waits, shadow.sleeps]) map.delete(key);
      if (!rejoined.includes(key)) shadow.children.delete(key);
      shadow.undos.delete(key);
      shadow.unknown.delete(key);
    }
    shadow.undone.clear();
    shadow.failures.clear();
    shadow.handlerFailures = 0;
    shadow.begunAt = undefined;
    shadow.endedBy = undefined;
    shadow.retries++;
    shadow.isCancelledOutside = shadow.isAbandoned = false;
    // By a context that does not know the queue of its job, it is taken up without its key.
    shadow.isAlone = shadow.row.unique?.until === 'end';
    count('retries from outside');
  };

  /** `step.restart`: a new journal in the place of the old. */
  const restart = (shadow: Shadow, journal: readonly JournalEntry[], batch: Batch): void => {
    const first = journal[0] as EntryOf<'started'>;
    const before = (shadow.journal[0] as EntryOf<'started'>).generation ?? 0;
    // What was undone and done again, and what was renamed, has used numbers in between (spec R2).
    const isRetried = storm.upgrade === 'migrate' || shadow.journal.some(({ kind }) => kind === 'retried');
    const next = first.generation ?? 0;
    if (isRetried ? next <= before : next !== before + 1) said(shadow, first, `generation ${before + 1} was to come`);
    if (shadow.endedBy !== undefined) said(shadow, first, 'J4: begun anew after its end');
    // Outcomes of the very commit are in no journal; what they have taken, and write to the shared state, is known.
    for (const { seq } of batch.run?.takes ?? []) {
      shadow.taken.add(seq);
      takers.add(seq);
    }
    for (const { key } of batch.state ?? []) if (key === 'told' || key === 'asked') sums[key]++;
    Object.assign(shadow, blankJournal());
    shadow.seen = shadow.copied = 0;
    count('restarts');
  };

  return { look, restart, log };
}
