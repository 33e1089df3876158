import { isStepfastError } from '../../../src/errors.js';
import type { Context } from './context.js';
import type { Payload } from './perform.js';
import { EVENTS, type Program, TTL_MS } from './plan.js';
import type { Random } from './random.js';
import type { Scheduler } from './scheduler.js';
import type { Shadow } from './shadow.js';

/*
 * Users of the engines: they start, dispatch, cancel and retry, in whichever context; when they got no answer they ask
 * again, maybe elsewhere. What they were answered has to stay true.
 */

export interface ClientsHost {
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly programs: readonly Program[];
  readonly contexts: () => readonly Context[];
  readonly shadows: ReadonlyMap<string, Shadow>;
  readonly wrong: (what: string) => void;
  readonly count: (what: string) => void;
  readonly log: ((line: string) => void) | undefined;
  /** Runs are forked, too. */
  readonly forks: boolean;
}

interface Request {
  readonly what: string;
  /** Asked of this context, and not answered. */
  by: Context | undefined;
  isAnswered: boolean;
  readonly ask: (context: Context) => Promise<unknown>;
  /** The answer, and what it promises. */
  readonly keep: (answer: unknown) => void;
  /** An error that is an answer. */
  readonly mayRefuse: (error: unknown) => boolean;
  /** Nobody asks again. */
  readonly isOnce: boolean;
}

const isRefusal =
  (...codes: string[]) =>
  (error: unknown) =>
    codes.some((code) => isStepfastError(error, code as never));
const never = () => false;
/** Also where the job is not loaded: for a context that has it. */
const ANYWHERE = { allowUnregistered: true, queue: 'lane' } as const;

export type Clients = ReturnType<typeof createClients>;

export function createClients(host: ClientsHost) {
  const { random, scheduler, programs, contexts, shadows, wrong, count, log } = host;
  const requests: Request[] = [];
  const started = new Map<string, string>();
  const events = new Map<string, string>();
  const cancelled = new Set<string>();
  const ending = new Set<string>();
  let numbers = 0;
  let repeated = 0;

  const send = (request: Request, context: Context) => {
    request.by = context;
    log?.(`${request.what} asked of ${context.name}`);
    request.ask(context).then(
      (answer) => {
        if (request.isAnswered) return; // asked twice: the first answer counts, the second was checked by its own
        request.isAnswered = true;
        log?.(`${request.what} answered: ${JSON.stringify(answer)}`);
        request.keep(answer);
      },
      (error: unknown) => {
        if (request.by === context) request.by = undefined;
        log?.(`${request.what} failed: ${String(error)}`);
        if (request.mayRefuse(error)) request.isAnswered = true;
        else if (!isStepfastError(error, 'STORE_UNAVAILABLE') && !isStepfastError(error, 'CLOSED'))
          wrong(`a client was told: ${String((error as Error).stack ?? error)}`);
      },
    );
  };
  const open = () => contexts().filter(({ state, isClosing }) => state === 'live' && !isClosing);
  const request = (given: Pick<Request, 'what' | 'ask'> & Partial<Request>) => {
    const [context] = open().length ? [random.pick(open())] : [];
    const made: Request = {
      keep: () => undefined,
      mayRefuse: never,
      isOnce: false,
      by: undefined,
      isAnswered: false,
      ...given,
    };
    requests.push(made);
    if (context) send(made, context);
  };

  // ---- what they ask ------------------------------------------------------------------------------------------------

  const merged = new Set<string>();
  const start = (key: string, plan: number) => {
    const options = {
      ...(key[0] === 'r' ? { id: key } : { idempotencyKey: key }),
      ...ANYWHERE,
      ...(random.chance(0.1) && { delay: random.between(1, 5_000) }),
      ...(random.chance(0.2) && { priority: random.below(3) }),
    };
    const payload: Payload = { plan, round: 0 };
    request({
      what: `start ${key}`,
      ask: async ({ engine }) => {
        const { id, created } = await engine.start('job', payload, options);
        return { id, created };
      },
      keep(answer) {
        const { id, created } = answer as { id: string; created: boolean };
        if (!shadows.has(id)) wrong(`I-ack: start ${key} was answered with ${id}, which is not there`);
        const known = started.get(key);
        if (known !== undefined && known !== id) wrong(`Q1: start ${key} gave ${known}, and then ${id}`);
        started.set(key, id);
        const isOwn = shadows.get(id)?.row.idempotencyKey === key || id === key;
        if (!created) count(isOwn ? 'starts recognised' : 'starts merged');
        if (!isOwn) merged.add(key);
      },
    });
  };
  /**
   * The key of before, and another payload. Not of a start that another run has answered: what that is remembered by expires,
   * and a clock that ran ahead may have taken it away (spec Q4).
   */
  const startOther = (key: string) =>
    merged.has(key) ||
    request({
      what: `start ${key} otherwise`,
      isOnce: true,
      ask: ({ engine }) =>
        engine.start(
          'job',
          { plan: -1, round: 0 },
          { ...(key[0] === 'r' ? { id: key } : { idempotencyKey: key }), ...ANYWHERE },
        ),
      keep: () => wrong(`Q1: start ${key} with another payload was accepted`),
      mayRefuse: isRefusal('IDEMPOTENCY_CONFLICT'),
    });
  const dispatch = (
    name: string,
    correlationKey: string | undefined,
    idempotent: boolean,
    { times = 1, runId }: { readonly times?: number; readonly runId?: string } = {},
  ) => {
    const n = ++numbers;
    const key = idempotent ? `e${n}` : undefined;
    const options = {
      ttl: TTL_MS,
      ...(correlationKey !== undefined && { correlationKey }),
      ...(key && { idempotencyKey: key }),
      ...(runId !== undefined && { runId }),
    };
    for (let copy = 0; copy < times; copy++)
      request({
        what: `dispatch ${name} ${correlationKey ?? '-'} ${n}`,
        isOnce: !idempotent,
        ask: async ({ engine }) => engine.dispatch(name, { n }, options),
        keep(answer) {
          const { id, deduplicated } = answer as { id: string; deduplicated: boolean };
          const known = key && events.get(key);
          if (known && known !== id) wrong(`E8: dispatch ${key} gave ${known}, and then ${id}`);
          events.set(key ?? id, id);
          if (deduplicated) count('duplicates recognised');
        },
        mayRefuse(error) {
          if (runId === undefined || !isStepfastError(error, 'RUN_NOT_FOUND')) return false;
          if (!shadows.get(runId)?.ends.length) wrong(`E4: an event for ${runId} was refused, and it had never ended`);
          return true;
        },
      });
  };
  const cancel = (runId: string) => {
    const before = shadows.get(runId)?.retries;
    request({
      what: `cancel ${runId}`,
      ask: ({ engine }) => engine.runs.cancel(runId),
      keep() {
        // It had ended when it was asked for, or has since; another may have taken it up again meanwhile.
        const shadow = shadows.get(runId);
        if (shadow?.endedBy === undefined && shadow?.retries === before)
          wrong(`I-ack: ${runId} was cancelled, and has not ended`);
        cancelled.add(runId);
        count('runs cancelled');
      },
    });
  };
  const retry = (runId: string) =>
    request({
      what: `retry ${runId}`,
      isOnce: true,
      ask: ({ engine }) => engine.runs.retry(runId),
      mayRefuse: isRefusal('RUN_NOT_FAILED', 'RUN_ACTIVE'),
    });

  const fork = (runId: string, before: string) =>
    request({
      what: `fork ${runId} before ${before}`,
      isOnce: true,
      ask: async ({ engine }) => {
        const { id, created } = await engine.runs.fork(runId, { before });
        return { id, created };
      },
      keep(answer) {
        const { id, created } = answer as { id: string; created: boolean };
        if (!created || !shadows.has(id))
          wrong(`I-ack: a fork of ${runId} was answered with ${id}, which is not there`);
        count('forks');
      },
      // Asked for by a name that it had before code of a later version took it up, or before it was begun anew.
      mayRefuse: (error) => {
        const isGone = ![...(shadows.get(runId)?.outcomes.keys() ?? [])].some((key) => key.split('/')[1] === before);
        return isRefusal('RUN_ACTIVE', ...(programs[0]!.isRenamed || isGone ? ['INVALID_OPTION'] : []))(error);
      },
    });

  // ---- what they are up to ------------------------------------------------------------------------------------------

  const keys: string[] = [];
  /** Hits a wait that is open, if it has a deadline about when that comes. */
  const aim = (shadow: Shadow) => {
    const wait = random.pick(shadow.row.waits);
    const ms =
      wait.deadline === undefined
        ? 0
        : wait.deadline - scheduler.now() + (random.chance(0.6) ? random.between(-15, 0) : random.between(0, 30));
    const only = random.chance(0.2) && { runId: shadow.runId };
    const send = () => dispatch(random.pick(wait.events), wait.key, random.chance(0.5), { ...only });
    if (wait.deadline !== undefined) count('dispatches about a deadline');
    if (ms > 0) scheduler.after(undefined, ms, 'a dispatch about a deadline', send);
    else send();
  };
  const isWaiting = (runId: string) => shadows.get(runId)!.row.waits.length > 0;
  const act = () => {
    const known = [...shadows.keys()];
    if (host.forks && shadows.size < 12 && random.chance(0.15)) {
      const recorded = [...shadows.values()].flatMap(({ runId, outcomes }) =>
        [...outcomes.values()].map(({ entry }) => [runId, (entry as { id: readonly [string, number] }).id[0]] as const),
      );
      if (recorded.length) return fork(...random.pick(recorded));
    }
    const kind = random.below(12);
    if (kind < 3 && keys.length < 4) {
      const key = `${random.chance(0.5) ? 'r' : 'i'}${keys.length}`;
      keys.push(key);
      const plan = Math.min(keys.length - 1, programs.length - 1);
      for (let times = random.chance(0.3) ? 2 : 1; times > 0; times--) start(key, plan);
    } else if (kind === 3 && started.size && random.chance(0.3)) startOther(random.pick([...started.keys()]));
    else if (kind < 8 && known.some(isWaiting)) aim(shadows.get(random.pick(known.filter(isWaiting)))!);
    else if (kind < 9) {
      const correlationKey =
        random.chance(0.45) && known.length ? random.pick(known) : random.pick(['shared', undefined]);
      const isTwice = random.chance(0.2);
      dispatch(random.pick(EVENTS), correlationKey, isTwice || random.chance(0.5), {
        times: isTwice ? 2 : 1,
        ...(random.chance(0.1) && known.length && { runId: random.pick(known) }),
      });
    } else if ((kind === 9 || kind === 10) && known.length && random.chance(0.7)) {
      const parents = known.filter((runId) => shadows.get(runId)!.row.awaits);
      cancel(random.pick(parents.length && random.chance(0.8) ? parents : known));
    } else {
      const failed = known.filter((runId) => shadows.get(runId)!.row.status === 'failed');
      if (failed.length) retry(random.pick(failed));
    }
  };

  return {
    act,
    dispatch,
    hasStarted: () => keys.length > 0,
    start: () => {
      keys.push('r0');
      start('r0', 0);
    },
    /** True: some of them are not cancelled yet. */
    cancelAll(runs: readonly Shadow[]): boolean {
      const fresh = runs.filter(({ runId }) => !ending.has(runId));
      for (const { runId } of fresh) {
        ending.add(runId);
        cancel(runId);
      }
      return fresh.length > 0;
    },
    /** Those who have no answer, and nobody to give one any more, ask again. */
    askAgain(): boolean {
      const before = repeated;
      for (const each of requests) {
        const isHeard = each.by?.state !== 'dead' && each.by !== undefined;
        if (each.isAnswered || each.isOnce || isHeard || !open().length) continue;
        count('requests repeated');
        repeated++;
        send(each, random.pick(open()));
      }
      return repeated > before;
    },
    isAnswered: () =>
      requests.every(({ isAnswered, isOnce, by }) => isAnswered || (isOnce && (!by || by.state === 'dead'))),
    unanswered: () => requests.filter(({ isAnswered, isOnce }) => !isAnswered && !isOnce).map(({ what }) => what),
    /** What was answered is still so. */
    check(eventIds: ReadonlySet<string>) {
      for (const [key, runId] of started) if (!shadows.has(runId)) wrong(`I-ack: start ${key}: ${runId} is gone`);
      for (const [key, id] of events) if (!eventIds.has(id)) wrong(`I-ack: event ${key} (${id}) is gone`);
      for (const runId of cancelled) {
        const { row, journal } = shadows.get(runId)!;
        const isRetried = journal.some(({ kind }) => kind === 'retried');
        if (row.endedAt === undefined && !isRetried) wrong(`I-ack: ${runId} was cancelled, and is ${row.status}`);
      }
    },
  };
}
