import type { AnyJob, MigratedRun, Migration } from '../door/job.js';
import { isStepfastError, StepfastError } from '../errors.js';
import type { Digest } from '../replay/digest.js';
import { recordedNames } from '../replay/forget.js';
import type { JournalEntry } from '../store/journal.js';
import { isPromise } from '../store/transition/work.js';
import { check, checkName, checkOptions } from '../values/check.js';
import type { Codec } from '../values/codec.js';
import { isPlain } from '../values/kinds.js';
import type { LiveRun } from './live-run.js';

/*
 * What becomes of a run when code of a later version takes it up (spec O6): old code can not stay deployed in a client,
 * so each job says what is to happen to what it left behind. Decided once, in the commit that raises the run's version.
 *
 * Of a run that has ended, only what `migrate` says is asked for: its steps are undone by their present names. Any other
 * policy has nothing to say of undoing; it is asked should the run be taken up again, and the version is not raised before.
 */

export type Upgraded = Extract<JournalEntry, { readonly kind: 'upgraded' }>;

/**
 * What the job says of runs of this earlier version; `undefined`: the code is of the run's own. Of one that no code has begun
 * there is nothing to abandon, to begin anew or to be left alone; `migrate` fits its payload.
 */
function policyOf({ row, digest }: Pick<LiveRun, 'row' | 'digest'>, { options }: AnyJob) {
  const { version = 1, migrate, upgrade = migrate ? 'migrate' : 'continue' } = options;
  if (version <= row.version) return undefined;
  const isBegun = row.startedAt !== undefined || digest.shapes.size > 0; // a copy has what was recorded, and was not started
  return isBegun || upgrade === 'migrate' ? upgrade : 'continue';
}

/** Whether the code leaves the run alone, or begins or ends it by itself: then it does not matter how old it is. */
export const isSetAside = (run: LiveRun, job: AnyJob): boolean =>
  !run.isOwner && /^(block|restart|abandon)$/.test(policyOf(run, job) ?? '');

/** What the policy of the job makes of the run; `undefined`: the code is of the run's own version. */
export function upgradeOf(
  { row, digest }: Pick<LiveRun, 'row' | 'digest'>,
  job: AnyJob,
  codec: Codec,
  now: number,
): { readonly entry: Upgraded; readonly then: 'continue' | 'restart' | 'abandon' } | undefined {
  const { version = 1 } = job.options;
  const upgrade = policyOf({ row, digest }, job);
  if (!upgrade || (digest.end && upgrade !== 'migrate')) return undefined;
  const entry = { kind: 'upgraded', at: now, from: row.version, to: version } as const;
  if (upgrade === 'block')
    throw new StepfastError(
      'UPGRADE_BLOCKED',
      `Version ${row.version} has begun it, and version ${version} leaves such runs alone (upgrade: "block"). Cancel it, or give the job another policy.`,
    );
  if (upgrade === 'restart' || upgrade === 'abandon') return { entry, then: upgrade };
  if (upgrade === 'continue') return { entry, then: 'continue' };
  return { entry: { ...entry, ...migrated({ row, digest }, job, codec) }, then: 'continue' };
}

const checkPlain = (given: unknown, what: string) => check(isPlain(given), what, given, 'a plain object, at once');

/**
 * The same is said of all runs: what one has not come to may be in flight in it, and is renamed as well; what it knows by the
 * new name already (an earlier release has said the same) is passed over.
 */
function renamesOf(rename: NonNullable<Migration['rename']>, recorded: ReadonlySet<string>, { names }: Digest) {
  const all = Object.entries(rename);
  for (const [from, to] of all) {
    checkName(to, `"${from}" in rename`);
    const isPassedOn = Object.hasOwn(rename, to);
    const isFree = !(recorded.has(from) && recorded.has(to) && !isPassedOn);
    check(isFree, `rename of "${from}"`, to, 'a new name that nothing is recorded under');
    const isOne = all.filter(([, other]) => other === to).length === 1;
    check(isOne, `rename of "${from}"`, to, 'a new name for each: two can not become one');
    // A step renamed twice, of which this run knows the first name? Or one that takes the place of another?
    const isClear = !(recorded.has(from) && isPassedOn && !recorded.has(to));
    check(isClear, `rename of "${from}"`, to, `one that is not renamed itself: ask run.version which of both is meant`);
  }
  return all.filter(([from, to]) => recorded.has(from) || !(recorded.has(to) || names.has(to)));
}

/** Asks the job's `migrate`, and checks what it says. */
function migrated({ row, digest }: Pick<LiveRun, 'row' | 'digest'>, job: AnyJob, codec: Codec) {
  const steps = [...digest.shapes.values()].flatMap((entry) => {
    if (!('id' in entry) || !entry.id) return [];
    const [name, occurrence] = entry.id;
    const value = 'value' in entry ? entry.value : 'payload' in entry ? entry.payload : undefined;
    return [{ name, occurrence, ...(value !== undefined && { value: codec.decode(value as never) }) }];
  });
  const run: MigratedRun = { id: row.runId, version: row.version, payload: codec.decode(digest.payload), steps };
  try {
    const migration: Migration = job.options.migrate!(run);
    if (isPromise(migration)) void migration.then(undefined, () => undefined); // refused, whatever comes of it
    checkPlain(migration, 'What it gave');
    checkOptions(migration, ['payload', 'rename', 'forget'], 'What it gave');
    const { payload, rename = {}, forget = [] } = migration;
    checkPlain(rename, 'rename');
    check(Array.isArray(forget), 'forget', forget, 'an array of names');
    const recorded = recordedNames(digest);
    return {
      renames: renamesOf(rename, recorded, digest),
      forgets: forget.filter((name) => recorded.has(name)),
      ...(payload !== undefined && {
        payload: codec.encode(payload, `the payload that migrate of job "${job.name}" gave`),
      }),
    };
  } catch (cause) {
    // What the app's own error says may quote the payload (spec V4).
    const why = isStepfastError(cause) ? cause.message : 'it has thrown, which is the `cause`';
    throw new StepfastError(
      'MIGRATION_FAILED',
      `migrate could not fit it to version ${job.options.version}: ${why}. Nothing was changed; the run goes on when it can.`,
      {},
      { cause },
    );
  }
}
