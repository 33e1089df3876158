import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { changedFiles, type Looked, type Told } from './bench.js';
import type { Mutant } from './mutants.js';
import { boundsOf, type Facts, type Folder, factsOf, isLog, logOf, snapshotEndOf } from './oracle.js';

/*
 * What may become of a damaged folder (spec D3): each fact is as it was, or answers with a code; what is gone is told of,
 * with the file; everything else goes on; nothing but the damaged file is touched, and its bytes are kept.
 */

const CODES = new Set(['STORE_CORRUPT', 'STORE_UNAVAILABLE', 'STORE_TOO_NEW']);

/** The facts that a file tells, but for the log and the index. */
function factsIn(path: string, bytes: Buffer): string[] {
  if (path.startsWith('runs/')) {
    const { row } = JSON.parse(bytes.toString()) as { row: { runId: string; job: string; idempotencyKey?: string } };
    return [`run ${row.runId}`, `key ${row.job} ${row.idempotencyKey}`];
  }
  if (!path.startsWith('keys/')) return [];
  const { job, idempotencyKey } = JSON.parse(bytes.toString()) as { job: string; idempotencyKey: string };
  return [`key ${job} ${idempotencyKey}`];
}

const known = new WeakMap<Folder, Map<number, Facts>>();

/** Many cuts leave the same whole lines. */
function factsUpTo(base: Folder, cutAt: number): Facts {
  const byLength = known.get(base) ?? new Map<number, Facts>();
  known.set(base, byLength);
  const bounds = boundsOf(base.get(logOf(base))!);
  const length = bounds.filter((bound) => bound <= cutAt).at(-1)!;
  const facts = byLength.get(length) ?? factsOf(base, length);
  byLength.set(length, facts);
  return facts;
}

const names = (told: Told, path: string): boolean => `${told.file ?? ''} ${told.message}`.includes(basename(path));

/** What is wrong with how the store took the damage; nothing when it is all right. */
export function judge(mutant: Mutant, base: Folder, truth: Facts, looked: Looked, dir: string): string[] {
  const wrong: string[] = [];
  const paths = [...mutant.files.keys()];
  const { refused, seen, told } = looked;
  for (const each of [...told, ...(refused ? [refused] : [])])
    if (each.code === undefined) wrong.push(`an error without a code: ${each.message}`);
  wrong.push(...judgeFiles(mutant, base, looked, dir));
  if (refused) {
    const isThing = [...mutant.files.values()].some((bytes) => typeof bytes === 'string');
    const mayRefuse =
      paths.some((path) => path.startsWith('lock/')) ||
      (isThing && paths.some(isLog)) ||
      (/future version/.test(mutant.title) && refused.code === 'STORE_TOO_NEW');
    if (!mayRefuse) wrong.push(`nothing goes on: ${refused.message}`);
    if (!paths.some((path) => names(refused, path)))
      wrong.push(`the refusal does not name the file: ${refused.message}`);
    return wrong;
  }

  const log = paths.find(isLog);
  const isTail = mutant.cutAt !== undefined && log !== undefined && mutant.cutAt >= snapshotEndOf(base.get(log)!);
  const expected = isTail ? factsUpTo(base, mutant.cutAt) : truth;
  const own = new Set(paths.flatMap((path) => factsIn(path, base.get(path)!)));
  const isTold = told.some((each) => paths.some((path) => names(each, path)));
  let isLess = false;
  for (const fact of truth.keys()) {
    const should = expected.get(fact) ?? (fact.startsWith('key ') ? 'started a second one' : 'absent');
    const is = seen.get(fact);
    if (is === should) continue;
    if (fact.startsWith('value stepfast:lock:') && isLockKept(is, should)) continue;
    isLess = true;
    if (!log && !own.has(fact) && is !== 'not listed') wrong.push(`${fact} is ${cut(is)}, and is in another file`);
    else if (CODES.has(is ?? '')) continue;
    else if (is === 'not listed' && seen.has('list')) continue;
    else if (mutant.isGross || mutant.cutAt !== undefined || /^(event|key) /.test(fact)) {
      const isGone = ['absent', 'not listed', 'started a second one'].includes(is ?? '');
      if (!isGone || isTail) wrong.push(`${fact} is ${cut(is)}, not ${cut(should)}`);
    } else wrong.push(`${fact} is ${cut(is)}, not ${cut(should)}`);
  }
  if (isLess && !isTold) wrong.push('something is gone, and nobody was told where');
  if (log && !isTail && !mutant.isHarmless && !isTold) wrong.push('the log is damaged, and nobody was told where');
  return wrong;
}

/** Of a lock whose record is lost the token goes on growing, and nobody is said to hold it. */
export function isLockKept(is: string | undefined, should: string): boolean {
  if (is === undefined || !is.startsWith('{') || !should.startsWith('{')) return false;
  const [now, before] = [JSON.parse(is), JSON.parse(should)] as { token: number; value: object; holder?: string }[];
  return now!.token >= before!.token && JSON.stringify(now!.value) === '{}' && JSON.stringify(before!.value) === '{}';
}

const cut = (text: string | undefined): string =>
  text !== undefined && text.length > 60 ? `${text.slice(0, 60)}...` : String(text);

/** Nothing but the damaged files is touched, and what was damaged is kept. */
function judgeFiles({ files, cutAt }: Mutant, base: Folder, { refused }: Looked, dir: string): string[] {
  const wrong: string[] = [];
  const isKept = (path: string) => /^(runs|keys)\/|^ended/.test(path) || (refused !== undefined && !files.has(path));
  const touched = changedFiles(dir, base, (path) => isKept(path) && !files.has(path));
  if (touched.length) wrong.push(`other files were touched: ${touched.join(', ')}`);
  for (const [path, bytes] of files) {
    if (typeof bytes === 'string') {
      if (!existsSync(join(dir, path)) && bytes !== 'link') wrong.push(`the ${bytes} at ${path} is gone`);
    } else if (isLog(path)) {
      const kept = readdirSync(join(dir, 'log')).map((name) => readFileSync(join(dir, 'log', name)));
      const isHere = (found: Buffer) =>
        found.subarray(0, bytes.length).equals(bytes) ||
        (bytes.subarray(0, found.length).equals(found) &&
          (found.length === bytes.length ||
            (cutAt !== undefined && found.length > bytes.lastIndexOf(10)) ||
            isZeros(bytes.subarray(found.length))));
      if (!kept.some(isHere)) wrong.push(`the bytes of ${path} are not kept`);
    } else if (isKept(path) && changedFiles(dir, new Map([[path, bytes]]), () => true).length)
      wrong.push(`the damaged ${path} was changed`);
  }
  return wrong;
}

/** What a file system leaves of a write that never arrived. */
const isZeros = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);
