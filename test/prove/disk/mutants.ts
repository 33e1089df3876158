import { boundsOf, type Folder, isLog, logOf } from './oracle.js';
import type { Random } from './random.js';

/*
 * Damage, as data: which files become what. `Thing`: what stands in the place of the file is no file.
 */

export type Thing = 'link' | 'folder' | 'pipe';

export interface Mutant {
  readonly title: string;
  readonly files: ReadonlyMap<string, Buffer | Thing>;
  /** More than one line, or a whole file, is gone: what nothing left names may be missing, if somebody is told. */
  readonly isGross?: true;
  /** The log is cut at this byte. */
  readonly cutAt?: number;
  /** The damage is all in the line feed that ends a line, or beside what is read: nobody need be told. */
  readonly isHarmless?: true;
}

const GARBAGE: Readonly<Record<string, () => Buffer>> = {
  empty: () => Buffer.alloc(0),
  'NUL bytes': () => Buffer.alloc(700),
  'not JSON': () => Buffer.from('<html>not what you look for</html>\n'),
  'deep nesting': () => Buffer.from(`${'['.repeat(100_000)}${']'.repeat(100_000)}\n`),
  'deep objects': () => Buffer.from(`${'{"v":'.repeat(20_000)}1${'}'.repeat(20_000)}\n`),
  'huge numbers': () => Buffer.from(`{"v":1,"n":1e999,"f":1e308,"seq":${'9'.repeat(400)},"pid":1e999,"token":"t"}\n`),
  null: () => Buffer.from('null\n'),
  number: () => Buffer.from('1\n'),
  array: () => Buffer.from('[]\n'),
  'an empty object': () => Buffer.from('{}\n'),
  'hostile keys': () => Buffer.from('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"v":1}\n'),
  'a future version': () => Buffer.from('{"v":2,"anything":"else"}\n'),
  'UTF-16': () => Buffer.from('\ufeff{"v":1}\n', 'utf16le'),
};

const one = (title: string, path: string, bytes: Buffer | Thing, more: Partial<Mutant> = {}): Mutant => ({
  title: `${path}: ${title}`,
  files: new Map([[path, bytes]]),
  ...more,
});

const flipped = (bytes: Buffer, at: number, bit: number): Buffer => {
  const damaged = Buffer.from(bytes);
  damaged[at]! ^= 1 << bit;
  return damaged;
};

const spliced = (bytes: Buffer, from: number, to: number, ...instead: Buffer[]): Buffer =>
  Buffer.concat([bytes.subarray(0, from), ...instead, bytes.subarray(to)]);

/** What is done to any file, whole. */
export function* wholeFiles(base: Folder): Generator<Mutant> {
  const paths = [...base.keys()];
  for (const [path, bytes] of base) {
    for (const [title, make] of Object.entries(GARBAGE)) yield one(title, path, make(), { isGross: true });
    for (const thing of ['link', 'folder', 'pipe'] as const) yield one(`a ${thing}`, path, thing);
    yield one('a byte order mark in front', path, Buffer.concat([Buffer.from('\ufeff'), bytes]), { isGross: true });
    yield one('garbage behind', path, Buffer.concat([bytes, Buffer.from('garbage\n')]), { isGross: true });
    yield one('NUL bytes behind', path, Buffer.concat([bytes, Buffer.alloc(512)]), { isHarmless: true });
    const other = paths[(paths.indexOf(path) + 1) % paths.length]!;
    const files = new Map([
      [path, base.get(other)!],
      [other, bytes],
    ]);
    if (other !== path) yield { title: `${path} and ${other} changed places`, files, isGross: true };
  }
}

/** Lines of the log, doubled, removed, exchanged, replaced. */
export function* lines(base: Folder): Generator<Mutant> {
  const path = logOf(base);
  const log = base.get(path)!;
  const bounds = boundsOf(log);
  const count = bounds.length - 1;
  const line = (index: number) => log.subarray(bounds[index]!, bounds[index + 1]!);
  for (let index = 0; index < count; index++) {
    const [from, to] = [bounds[index]!, bounds[index + 1]!];
    const isLast = index === count - 1;
    yield one(`line ${index} doubled`, path, spliced(log, to, to, line(index)), { isHarmless: true });
    yield one(`line ${index} removed`, path, spliced(log, from, to), isLast ? { cutAt: from } : {});
    yield one(
      `line ${index} of zeros`,
      path,
      spliced(log, from, to, Buffer.alloc(to - from)),
      isLast ? { cutAt: from } : { isGross: true },
    );
    for (const [title, make] of Object.entries(GARBAGE))
      if (title !== 'empty' && !(isLast && title === 'NUL bytes'))
        yield one(`line ${index} is ${title}`, path, spliced(log, from, to, make()), { isGross: true });
    for (const distance of [1, 2, 7]) {
      const other = index + distance;
      if (other >= count) continue;
      const swapped = [line(other), log.subarray(to, bounds[other]!), line(index)];
      const title = `lines ${index} and ${other} changed places`;
      yield one(title, path, spliced(log, from, bounds[other + 1]!, ...swapped), { isGross: true });
      const removed = spliced(log, from, bounds[other + 1]!);
      const cut = other === count - 1 ? { cutAt: from } : { isGross: true as const };
      yield one(`lines ${index} to ${other} removed`, path, removed, cut);
    }
  }
}

/** The log cut at each of these bytes. */
export function* cuts(base: Folder, random: Random, count: number): Generator<Mutant> {
  const path = logOf(base);
  const log = base.get(path)!;
  const bounds = boundsOf(log);
  const last = bounds.at(-4) ?? 0;
  const all = new Set<number>();
  for (let at = last; at < log.length && all.size < count; at++) all.add(at);
  for (let at = 0; at < 300 && all.size < count; at++) all.add(at);
  while (all.size < Math.min(count, log.length)) all.add(random.below(log.length));
  for (const cutAt of all) yield one(`cut at byte ${cutAt}`, path, log.subarray(0, cutAt), { cutAt });
  for (const [other, bytes] of base)
    if (!isLog(other))
      for (let at = 1; at < bytes.length; at += 1 + (bytes.length >> 6))
        yield one(`cut at byte ${at}`, other, bytes.subarray(0, at), { isGross: true });
}

/** One bit flipped, anywhere. */
export function* flips(base: Folder, random: Random, count: number): Generator<Mutant> {
  const paths = [...base.keys()];
  const log = logOf(base);
  const ends = new Set(boundsOf(base.get(log)!).flatMap((to) => [to - 1, to - 2]));
  for (let index = 0; index < count; index++) {
    const path = index % 2 ? log : paths[random.below(paths.length)]!;
    const bytes = base.get(path)!;
    if (!bytes.length) continue;
    const [at, bit] = [random.below(bytes.length), random.below(8)];
    const isEnd = path === log && ends.has(at);
    yield one(`bit ${bit} of byte ${at} flipped`, path, flipped(bytes, at, bit), isEnd ? { isHarmless: true } : {});
  }
}

/** Stretches of zeros and of noise, as bad sectors leave them. */
export function* stretches(base: Folder, random: Random, count: number): Generator<Mutant> {
  const path = logOf(base);
  const log = base.get(path)!;
  for (let index = 0; index < count; index++) {
    const from = random.below(log.length);
    // Up to the very end it would be a torn write, which `cuts` are about.
    const to = Math.min(log.length - 1, from + 1 + random.below(3_000));
    if (to <= from) continue;
    const noise = Buffer.from(Array.from({ length: to - from }, () => (index % 2 ? 0 : random.below(256))));
    yield one(
      `${to - from} bytes of ${index % 2 ? 'zeros' : 'noise'} from byte ${from}`,
      path,
      spliced(log, from, to, noise),
      { isGross: true },
    );
  }
}
