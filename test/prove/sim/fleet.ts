import type { FailedContext, HandlerContext } from '../../../src/door/job.js';
import { createEngine } from '../../../src/engine/engine.js';
import { type Context, ownClock, platformOf } from './context.js';
import type { Mix } from './mix.js';
import { type Outside, type Payload, performRun } from './perform.js';
import { type Program, renamesOf } from './plan.js';
import type { Watch } from './watch.js';
import { type Wire, type WireHost, wireOf } from './wire.js';

/*
 * The contexts of one simulation, and what happens to them: opened, frozen, thawed, killed, closed, their clocks set.
 */

interface FleetHost extends Omit<WireHost, 'commit' | 'answered'> {
  readonly storm: Mix;
  readonly programs: readonly Program[];
  readonly watch: Watch;
  readonly wrong: (what: string) => void;
}

const programKey = ({ plan }: Payload) => `program ${plan}`;

/** What keeps a program from being run twice at once, as a job says it. */
const uniqueIn = ({ unique }: Mix) => {
  if (!unique) return {};
  if (unique === 'singleton') return { singleton: { key: programKey } };
  return { debounce: { delay: unique.debounceMs, key: programKey } };
};

interface Member {
  readonly context: Context;
  readonly wire: Wire;
  hasJob: boolean;
}

export type Fleet = ReturnType<typeof createFleet>;

export function createFleet(host: FleetHost) {
  const { scheduler, random, storm, programs, watch, wrong, log, count, mix } = host;
  const members: Member[] = [];
  const passes = new Map<string, number>();
  let made = 0;

  const with_ = (state: Context['state']) => members.filter(({ context }) => context.state === state);
  const live = () => with_('live').filter(({ context }) => !context.isClosing);

  /** Those that have a function in flight. */
  const working = () => {
    const owners = new Set([...host.medium.tables.runs.values()].map(({ slot, owner }) => slot && owner));
    return live().filter(({ context }) => context.owner !== undefined && owners.has(context.owner));
  };

  const outsideOf = (context: Context): Outside => ({
    programs,
    version: context.version,
    entered: (_, step) => watch.entered(context, step),
    undoes: (run, { idempotencyKey }) => watch.undoes(context, run.id, idempotencyKey),
    told: (runId) => watch.told(context, runId),
    passes(run, name) {
      const key = `${run.id}/${run.generation}/${name}`;
      passes.set(key, (passes.get(key) ?? 0) + 1);
      return passes.get(key)!;
    },
    delay: (ms) => new Promise((resolve) => void scheduler.after(context, ms, 'work', resolve)),
  });

  const define = (member: Member) => {
    const { context } = member;
    member.hasJob = true;
    const outside = outsideOf(context);
    context.engine.job(
      'job',
      {
        queue: {
          name: 'lane',
          concurrency: storm.concurrency,
          ...(storm.rate && { rateLimit: storm.rate }),
          ...uniqueIn(storm),
        },
        version: context.version,
        upgrade: storm.upgrade,
        ...(storm.upgrade === 'migrate' && { migrate: () => ({ rename: renamesOf(programs) }) }),
        maxInterruptions: storm.maxInterruptions,
        retention: Infinity,
        ...(storm.timeoutMs && { timeout: storm.timeoutMs }),
        ...(storm.tells && {
          onFailed({ run }: FailedContext<Payload>) {
            if (outside.told(run.id) === 1 && random.chance(0.3)) throw new Error('could not be told');
          },
        }),
      },
      (given: HandlerContext<Payload>) => performRun(outside, given),
    );
  };

  const open = (version = random.chance(storm.old) ? 1 : 2) => {
    const isSkewed = random.chance(mix().skew);
    const clock = ownClock(scheduler.now, {
      rate: isSkewed ? random.pick([0.5, 0.9, 1.1, 2]) : 1,
      offset: isSkewed ? random.between(-3_600_000, 3_600_000) : 0,
    });
    const wakes = new Set<() => void>();
    const context = {
      name: `c${++made}`,
      state: 'live',
      parked: [],
      clock,
      version,
      owner: undefined,
      isOnline: true,
      isClosing: false,
      isPresumedDead: false,
      wasFrozen: false,
      wake() {
        for (const callback of [...wakes]) scheduler.soon(context, 'wake', callback);
      },
    } as unknown as Context;
    const report = (error: unknown) => {
      log?.(`${context.name} reports ${String(error)}`);
      const said = String((error as { readonly stack?: unknown } | undefined)?.stack ?? error);
      if (/^(TypeError|ReferenceError|RangeError)/.test(said)) wrong(`${context.name} reports ${said}`);
    };
    const platform = platformOf(context, {
      scheduler,
      random,
      clock,
      report,
      wrong,
      wakes,
      isOnline: () => context.isOnline,
    });
    const wire = wireOf({ ...host, commit: watch.commit, answered: watch.answered }, context);
    const { leaseMs, replay } = storm;
    const engine = createEngine(platform, {
      store: wire.store,
      clock: platform.clock,
      leaseMs,
      replay,
      onError: report,
    });
    Object.assign(context, { platform, engine });
    const member: Member = { context, wire, hasJob: false };
    members.push(member);
    log?.(`${context.name} opens${version > 1 ? '' : ', of the release before'}`);
    if (random.chance(mix().partial)) log?.(`${context.name} has not loaded the job`);
    else define(member);
    engine.ready().catch(() => undefined);
  };

  const freeze = ({ context, wire }: Member) => {
    log?.(`${context.name} freezes`);
    count('freezes');
    scheduler.freeze(context);
    context.wasFrozen = true;
    if (!random.chance(storm.presumeDead)) return;
    scheduler.after(undefined, random.below(30_000), `${context.name} counts as dead`, () => {
      if (context.state !== 'frozen') return;
      context.isPresumedDead = true;
      wire.presume(false);
    });
  };
  const thaw = ({ context, wire }: Member) => {
    log?.(`${context.name} thaws`);
    scheduler.thaw(context);
    if (context.isPresumedDead)
      scheduler.soon(undefined, `${context.name} counts as alive`, () => {
        if (context.state === 'dead' || context.isClosing) return;
        context.isPresumedDead = false;
        wire.presume(true);
      });
    if (random.chance(0.7)) context.wake();
  };
  const kill = ({ context, wire }: Member) => {
    log?.(`${context.name} dies`);
    count('kills');
    scheduler.kill(context);
    wire.die();
  };
  const close = ({ context }: Member) => {
    log?.(`${context.name} closes`);
    count('closes');
    context.isClosing = true;
    context.engine.close().catch((error: unknown) => wrong(`${context.name} does not close: ${String(error)}`));
  };
  const jump = ({ context }: Member) => {
    const ms = random.pick([1, 60, 3_600]) * random.between(-1_000, 1_000);
    log?.(`the clock of ${context.name} jumps by ${ms}`);
    count('clocks set');
    context.clock.jump(ms);
  };
  const goOffline = ({ context }: Member) => {
    context.isOnline = !context.isOnline;
    log?.(`${context.name} is ${context.isOnline ? 'online' : 'offline'}`);
    if (context.isOnline) context.wake();
  };

  /** One thing that happens to one of them. */
  const suffer = (): void => {
    const { owners, freeze: toFreeze, kill: toKill, close: toClose, jump: toJump, offline } = storm;
    const frozen = with_('frozen');
    const lacking = live().filter(({ hasJob }) => !hasJob);
    const choices: (readonly [weight: number, what: (member: Member) => void, from: readonly Member[]])[] = [
      [toFreeze, freeze, live()],
      [toFreeze * 1.5, thaw, frozen],
      [toKill, kill, random.chance(0.6) ? working() : [...live(), ...frozen]],
      [toClose, close, live()],
      [toJump, jump, live()],
      [offline, goOffline, live()],
      [1, define, lacking],
    ];
    if (live().length + frozen.length < owners) choices.push([1.5, () => open(), members]);
    const possible = choices.filter(([weight, , from]) => weight > 0 && from.length);
    let at = random.next() * possible.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, what, from] of possible) {
      at -= weight;
      if (at >= 0) continue;
      what(random.pick(from));
      return;
    }
  };

  return {
    open,
    suffer,
    contexts: () => members.map(({ context }) => context),
    /** The storm is over: those that were frozen go on or are gone, clocks are right, everybody has the code. */
    calm() {
      for (const member of with_('frozen')) (random.chance(0.6) ? thaw : kill)(member);
      for (const member of live()) {
        const { context } = member;
        context.clock.correct();
        if (!context.isOnline) goOffline(member);
        if (!member.hasJob) define(member);
      }
      if (!live().some(({ context }) => context.version > 1)) open(2);
      for (const { context } of live()) {
        // Where the call was under way already, the storm may have got it: an app asks again.
        const { engine } = context;
        engine.ready().catch(() => engine.ready().catch(() => undefined));
        context.wake();
      }
    },
    live,
    closeAllButOne() {
      const kept = live().find(({ context }) => context.version > 1);
      for (const member of live()) if (member !== kept) close(member);
    },
  };
}
