import type { Proof, Proving, Technique } from '../technique.js';
import { differences, type Ending } from './ending.js';
import { type Fault, faultsOf, type Mode, textOf } from './faults.js';
import { flows } from './flows.js';
import { FOUND } from './found.js';
import { MEDIA, type MediumKind } from './media.js';
import { type Flow, playCase } from './stage.js';

/*
 * Every flow on every medium, with a fault at every operation in every mode that applies to it (errors of disks and
 * databases are thinned, faults.ts says how much); then two faults in a row,
 * drawn by seed: the second one strikes what recovers from the first.
 *
 * `CRASH_CASE=file/onboarding/torn@7 npm run prove -- crash` plays one case, and shows how it ended; a medium alone, or
 * a medium and a flow, plays all of it.
 */

/** Double faults without a budget of time. */
const DOUBLES = 2_000;
/** Cases of this many operations are told from those that never end. */
const MAX_AT = 500;
const HANGS_MS = 60_000;

interface Tally {
  cases: number;
  seeds: number;
  readonly violations: string[];
  readonly counts: Record<string, number>;
}

/** A flow on a medium, and what it comes to when nothing is struck. */
interface Subject {
  readonly name: string;
  readonly medium: string;
  readonly flow: Flow;
  readonly kind: MediumKind;
  readonly expected: Ending;
}

/** What is wrong with a case; `undefined` when it has ended before its faults could strike. */
async function tryCase({ flow, kind, expected }: Subject, faults: readonly Fault[], show: (found: Ending) => void) {
  let timeout: ReturnType<typeof setTimeout> | undefined;
  const hangs = new Promise<never>((_, reject) => {
    timeout = setTimeout(reject, HANGS_MS, new Error('it hangs'));
  });
  try {
    const found = await Promise.race([playCase(flow, kind, faults), hangs]);
    show(found);
    return found.struck < faults.length ? undefined : differences(expected, found);
  } catch (error) {
    return [`it could not go on: ${error instanceof Error ? error.stack : error}`];
  } finally {
    clearTimeout(timeout);
  }
}

async function count(tally: Tally, subject: Subject, faults: readonly Fault[], { say }: Pick<Proving, 'say'>) {
  const isOne = process.env.CRASH_CASE?.split('/').length === 3;
  const wrong = await tryCase(subject, faults, (found) => isOne && console.error(found));
  if (!wrong) return false;
  const what = faults.length > 1 ? 'second faults' : subject.medium;
  tally.cases++;
  tally.counts[what] = (tally.counts[what] ?? 0) + 1;
  for (const each of wrong) {
    const said = `CRASH_CASE=${subject.name}/${textOf(faults)} npm run prove -- crash: ${each}`;
    say(said);
    tally.violations.push(said);
  }
  return true;
}

/** Mulberry32: small, and the same everywhere. */
const randomOf = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
};

/** Two faults somewhere in a flow, by what the flow does when nothing is struck. */
function doubleOf(seed: number, subjects: readonly Subject[]) {
  const random = randomOf(seed);
  const among = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const subject = among(subjects);
  const modes: readonly (readonly [string, Mode])[] = Object.entries(subject.kind.modes);
  const one = (): Fault => {
    const [mode] = among(modes);
    return { mode, at: 1 + Math.floor(random() * (subject.expected.counts.get(mode) ?? 1)) };
  };
  return { subject, faults: [one(), one()] };
}

async function prove(proving: Proving): Promise<Proof> {
  const { budgetMs, firstSeed, part, say } = proving;
  const [onlyMedium, onlyFlow, onlyFaults] = process.env.CRASH_CASE?.split('/') ?? [];
  if (!onlyFaults) Error.stackTraceLimit = 0; // faults are errors, thousands of them: where they were made tells nothing
  const tally: Tally = { cases: 0, seeds: 0, violations: [], counts: {} };
  const began = Date.now();
  const subjects: Subject[] = [];
  for (const [medium, kind] of Object.entries(MEDIA))
    for (const flow of flows) {
      const isMeant = (!onlyMedium || medium === onlyMedium) && (!onlyFlow || flow.name === onlyFlow);
      if (!isMeant || (flow.media && !flow.media.includes(medium))) continue;
      const name = `${medium}/${flow.name}`;
      subjects.push({ name, medium, flow, kind, expected: await playCase(flow, kind, []) });
    }

  if (onlyFaults) await count(tally, subjects[0]!, faultsOf(onlyFaults), proving);
  // What has no chance in it was tried when the first seed was.
  else if (firstSeed === 1)
    for (const [index, subject] of subjects.entries()) {
      if (index % part.of !== part.index) continue;
      const before = tally.cases;
      for (const [mode, { stride = 1 }] of Object.entries(subject.kind.modes)) {
        let at = 1 + (index % stride);
        while (at < MAX_AT && (await count(tally, subject, [{ mode, at }], proving))) at += stride;
      }
      for (const found of FOUND)
        if (found.startsWith(`${subject.name}/`)) await count(tally, subject, faultsOf(found.split('/')[2]!), proving);
      say(`${subject.name}: ${tally.cases - before} cases, ${tally.violations.length} violations so far`);
    }
  const isOver = () => (budgetMs === undefined ? tally.seeds >= DOUBLES : Date.now() - began > budgetMs);
  while (!onlyFaults && !isOver()) {
    const { subject, faults } = doubleOf(firstSeed + tally.seeds + part.index, subjects);
    tally.seeds += part.of;
    await count(tally, subject, faults, proving);
  }
  const { cases, seeds, violations, counts } = tally;
  return { cases, seeds, violations, counts: { flows: new Set(subjects.map(({ flow }) => flow)).size, ...counts } };
}

export const technique: Technique = { title: 'Crash at every operation', prove };
