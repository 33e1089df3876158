import { memoryMedium } from '../../../adapters/memory/index.js';
import type { Batch } from '../../../src/store/batch.js';
import type { RunRow } from '../../../src/store/rows.js';
import { type Clients, createClients } from './clients.js';
import { plainClone } from './clone.js';
import { finish } from './final.js';
import { createFleet, type Fleet } from './fleet.js';
import { extrasOf, type Mix, mixOf, moreOf } from './mix.js';
import { isBlocked, judge } from './model.js';
import { leaving, type Program, programsOf } from './plan.js';
import { randomOf } from './random.js';
import { createScheduler } from './scheduler.js';
import { eligible, nodesOf, type Shadow, waitNode } from './shadow.js';
import { createWatch, sayEntry } from './watch.js';

/*
 * One seed: engines on one medium, users who want things of them, and everything that can go wrong. First the storm, in
 * which nothing recorded may be lost or done twice; then calm, in which every run has to end, or wait for what is not
 * there.
 */

export interface SimulateOptions {
  /** Hears of everything that happens, in order. */
  readonly log?: (line: string) => void;
  /** Damages the store on purpose, to see that it is caught. */
  readonly tamper?: (batch: Batch, row: RunRow | undefined) => Batch;
}

export interface Simulated {
  readonly seed: number;
  readonly mix: Mix;
  readonly programs: readonly Program[];
  /** What was broken. Empty: nothing. */
  readonly wrongs: readonly string[];
  /** How often what is interesting happened. */
  readonly counts: ReadonlyMap<string, number>;
  readonly choices: number;
  readonly commits: number;
}

/** After the storm nothing takes longer than what the runs themselves wait for, and this. */
const PATIENCE_MS = 15 * 60_000;
/** In the storm less is waited for without anybody doing anything. */
const DULL_MS = 2 * 60_000;
const MAX_CHOICES = 60_000;
/** So long nothing is committed before all but one context are closed. */
const DULL_CHOICES = 200;

export async function simulate(seed: number, options: SimulateOptions = {}): Promise<Simulated> {
  const { stackTraceLimit } = Error;
  const { structuredClone } = globalThis;
  // Where an error was made is worth its time only to those who read.
  if (!options.log) Error.stackTraceLimit = 0;
  globalThis.structuredClone = plainClone;
  try {
    return await play(seed, options);
  } finally {
    Object.assign(Error, { stackTraceLimit });
    globalThis.structuredClone = structuredClone;
  }
}

async function play(seed: number, options: SimulateOptions): Promise<Simulated> {
  const { log, tamper = (batch: Batch) => batch } = options;
  const random = randomOf(seed);
  const basic = mixOf(random);
  const drawn = programsOf(random, random.between(2, 4));
  const { rate, upgrade } = extrasOf(randomOf(seed + 0x40000000));
  // A handler that awaits something else between its steps takes a slot for that as well: where a rate gives out no two
  // of them, it begins again and again (docs/reliability.md).
  const left = randomOf(seed + 0x10000000);
  const programs = drawn.map((each) => ({ ...leaving(left, each), isRenamed: upgrade === 'migrate' }));
  const isRated = rate && !JSON.stringify(programs).includes('"pause"');
  const storm: Mix = { ...basic, upgrade, ...moreOf(randomOf(seed + 0x20000000)), ...(isRated && { rate }) };
  const calm = {
    ...storm,
    ...{
      failBefore: 0,
      loseAnswer: 0,
      slow: 0,
      dropHint: 0,
      doubleHint: 0,
      delayHint: 0,
      hurry: 0,
      skew: 0,
      partial: 0,
    },
  };
  let mix = storm;
  log?.(JSON.stringify({ storm, programs }));
  const scheduler = createScheduler(random, log);
  const medium = memoryMedium();
  const counts = new Map<string, number>();
  const wrongs: string[] = [];
  const count = (what: string) => void counts.set(what, (counts.get(what) ?? 0) + 1);
  const wrong = (what: string) => {
    log?.(`WRONG ${what}`);
    wrongs.push(what);
  };
  const nodes = programs.map(nodesOf);
  const base = { scheduler, random, medium, programs, storm, mix: () => mix, log, count, wrong };
  const watch = createWatch({
    ...base,
    tamper,
    nodes: (program) => nodes[program]!,
    sums: { told: 0, asked: 0 },
    concurrency: () => storm.concurrency,
    leaseMs: storm.leaseMs,
    trueNow: scheduler.now,
  });
  const fleet = createFleet({ ...base, watch });
  const clients = createClients({
    ...base,
    forks: storm.forks === true,
    contexts: fleet.contexts,
    shadows: watch.shadows,
  });
  const world = { ...base, watch, fleet, clients, nodes };

  await scheduler.drained();
  fleet.open();
  clients.start();
  let acts = 0;
  while (acts < storm.acts && !wrongs.length) {
    if (random.chance(storm.actShare)) {
      acts++;
      if (storm.isCalm || random.chance(0.5)) clients.act();
      else fleet.suffer();
      if (random.chance(0.3)) clients.askAgain();
      await scheduler.drained();
    } else if (isDull(scheduler, random) || !(await scheduler.choose(storm))) {
      acts++;
      clients.act();
      if (!storm.isCalm) fleet.suffer();
      await scheduler.drained();
    }
  }
  log?.('calm');
  mix = calm;
  fleet.calm();
  if (!wrongs.length) await settle(world);
  if (!wrongs.length) finish(world);
  return { seed, mix: storm, programs, wrongs, counts, choices: scheduler.choices(), commits: watch.commits() };
}

/** Nothing happens before an instant that is far away: most often somebody does something before. */
const isDull = (scheduler: World['scheduler'], random: World['random']) =>
  scheduler.isIdle() && (scheduler.nextTimerAt() ?? Infinity) - scheduler.now() > DULL_MS && random.chance(0.8);

export interface World {
  readonly scheduler: ReturnType<typeof createScheduler>;
  readonly random: ReturnType<typeof randomOf>;
  readonly medium: ReturnType<typeof memoryMedium>;
  readonly programs: readonly Program[];
  readonly nodes: readonly ReturnType<typeof nodesOf>[];
  readonly watch: ReturnType<typeof createWatch>;
  readonly fleet: Fleet;
  readonly clients: Clients;
  readonly storm: Mix;
  readonly log: ((line: string) => void) | undefined;
  readonly wrong: (what: string) => void;
}

const hasEnded = ({ programs }: Pick<World, 'programs'>, shadow: Shadow) =>
  shadow.row.endedAt !== undefined && (!shadow.row.undoing || isBlocked(programs[shadow.program]!, shadow));
/** It waits, and nobody has to look at it before an instant that it says, but for those who listen to its handler. */
const rests = ({ row }: Shadow, now: number, isQuiet: boolean) =>
  row.status === 'waiting' &&
  row.slot === undefined &&
  (row.unsettled ? isQuiet : !row.woken && (row.dueAt ?? Infinity) > now);

/** Lets everything go on, and dispatches what runs wait for, until all have ended (I-live). */
async function settle(world: World): Promise<void> {
  const { scheduler, watch, clients, fleet, random, wrong, storm } = world;
  const last = scheduler.choices() + MAX_CHOICES;
  let commits = -1;
  let until = 0;
  let changedAt = 0;
  for (;;) {
    if (clients.askAgain()) await scheduler.drained();
    const now = scheduler.now();
    const left = [...watch.shadows.values()].filter((shadow) => !hasEnded(world, shadow));
    if (!left.length && clients.isAnswered()) return;
    if (commits < watch.commits()) {
      // As long as there are commits something goes on; then all that may come is what the rows say, and a little more.
      commits = watch.commits();
      changedAt = scheduler.choices();
      const instants = left.flatMap(({ row, waits, sleeps, journal }) => [
        row.dueAt ?? 0,
        ...journal.map((entry) => ('retryAt' in entry ? entry.retryAt : 0)),
        ...[...waits.values()].map(({ deadline = 0 }) => deadline),
        ...[...sleeps.values()].map(({ dueAt }) => dueAt),
      ]);
      until = Math.max(now, ...instants) + PATIENCE_MS;
    }
    // For weeks the others would see every few seconds whether the owner of a handler that may be about to ask is alive.
    if (scheduler.choices() - changedAt > DULL_CHOICES) fleet.closeAllButOne();
    const areHungry = (isQuiet: boolean) => left.length > 0 && left.every((shadow) => rests(shadow, now, isQuiet));
    const isFed = scheduler.isIdle() && areHungry(false) && random.chance(0.5);
    if (isFed || !(await scheduler.choose({ hurry: 0, until }))) {
      // What its job leaves alone (`upgrade: 'block'`) goes no further until somebody ends it.
      const blocked = left.filter(
        ({ row }) => storm.upgrade === 'block' && row.version < 2 && row.endedAt === undefined,
      );
      if (blocked.length && clients.cancelAll(blocked)) {
        await scheduler.drained();
        continue;
      }
      if (!areHungry(true)) return wrong(`I-live: nothing happens any more: ${sayAll(world)}`);
      if (!feed(world, left)) return;
      await scheduler.drained();
    }
    if (scheduler.choices() > last) return wrong(`I-live: no end after ${MAX_CHOICES} choices: ${sayAll(world)}`);
  }
}

/** Every run that is left waits: rightly so, and for what? */
function feed(
  { nodes, clients, random, wrong, watch, programs, scheduler }: World,
  waiting: readonly Shadow[],
): boolean {
  const now = scheduler.now();
  const hungry = waiting.filter(({ row }) => row.waits.length);
  for (const shadow of waiting) {
    for (const problem of judge(programs[shadow.program]!, shadow, 'waiting')) wrong(problem);
    for (const { id } of shadow.row.waits) {
      const set = shadow.waits.get(`wait/${id[0]}/${id[1]}`);
      const isPicky = waitNode(nodes[shadow.program]!, id[0])?.isPicky === true;
      const [event] = set ? eligible(shadow, set, isPicky, watch.log()) : [];
      // Woken by a clock that ran ahead: it is looked at then.
      if (event && (shadow.row.dueAt ?? 0) <= now)
        wrong(`E1: ${shadow.runId} waits for ${id[0]}, and event ${event.seq} is there`);
    }
    const children = (shadow.row.awaits ?? []).map((runId) => watch.shadows.get(runId));
    if (children.some((child) => child?.row.endedAt !== undefined))
      wrong(`E12: ${shadow.runId} waits for a child that has ended`);
    // One that a clock ahead has left due for later is looked at then.
    const isLater = (shadow.row.dueAt ?? 0) > now;
    if (!shadow.row.waits.length && !children.length && !isLater) wrong(`I-live: ${shadow.runId} waits for nothing`);
  }
  if (!hungry.length && waiting.some(({ row }) => (row.dueAt ?? 0) > now)) return true;
  if (!hungry.length) {
    wrong('I-live: all that is left waits for each other');
    return false;
  }
  const { row } = random.pick(hungry);
  const wait = random.pick(row.waits);
  clients.dispatch(random.pick(wait.events), wait.key, true);
  if (random.chance(0.5)) clients.dispatch(random.pick(wait.events), wait.key, true);
  return true;
}

function sayAll(world: World): string {
  const { watch, fleet, scheduler } = world;
  const runs = [...watch.shadows.values()]
    .filter((shadow) => !hasEnded(world, shadow))
    .map(({ row, journal }) => `${JSON.stringify(row)} ${journal.map(sayEntry).join(' | ')}`);
  return [
    ...runs,
    ...fleet.contexts().map(({ name, state, owner }) => `${name} (${owner}) ${state}`),
    `${scheduler.now()} ${scheduler.nextTimerAt()}`,
  ].join('\n  ');
}
