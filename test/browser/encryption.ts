import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Driver, Engine } from './engines/engine.js';
import { type Site, servePages } from './site.js';

/*
 * Pins: what `stepfast/encryption` seals is nowhere in the raw profile of a real browser; the same search finds all of
 * it where there is no encryption. Not in Firefox, which compresses each value: a text that is not found proves nothing.
 */

const NAMES = [
  'payload',
  'result',
  'output',
  'event',
  'untaken',
  'correlationKey',
  'idempotencyKey',
  'tag',
  'error',
  'log',
  'progress',
  'stateKey',
  'stateValue',
] as const;
// Letters that change places: LevelDB compresses its tables, and a text that repeats itself would not be found there.
const secrets = Object.fromEntries(
  NAMES.map((name, index) => [name, `${name}:${'qzjxkvw'.slice(index % 7)}${index}#`]),
);

const isFound = (bytes: Buffer, text: string) =>
  [Buffer.from(text), Buffer.from(text, 'utf16le'), Buffer.from(text, 'utf16le').swap16()].some((form) =>
    bytes.includes(form),
  );

/** The names of the secrets that stand in some file of the profile. */
function foundIn({ profile }: Engine): string[] {
  const files = readdirSync(profile, { recursive: true, encoding: 'utf8' })
    .map((name) => join(profile, name))
    .filter((file) => statSync(file, { throwIfNoEntry: false })?.isFile());
  const contents = files.map((file) => readFileSync(file));
  return NAMES.filter((name) => contents.some((bytes) => isFound(bytes, secrets[name]!)));
}

export function encryption(driver: Driver): void {
  describe(driver.name, () => encryptionIn(driver));
}

function encryptionIn({ launch }: Driver): void {
  let site: Site;
  beforeAll(async () => {
    site = await servePages('sealed');
  });
  afterAll(() => site?.close());

  for (const isSealed of [false, true])
    it(`values at rest contain ${isSealed ? 'no' : 'all'} plaintext ${isSealed ? 'with' : 'without'} encryption`, async () => {
      const engine = await launch();
      try {
        const page = await engine.open(`${site.origin}/sealed`);
        const result = await page.evaluate<string>(`app.play('sealed', ${isSealed}, ${JSON.stringify(secrets)})`);
        expect(JSON.parse(result)).toEqual([secrets.event, secrets.output]);
        let found: string[] | undefined;
        // What is in memory only does not count, what was committed does; and no file goes while it is searched.
        await engine.restart!(() => {
          found = foundIn(engine);
        });
        expect(found).toEqual(isSealed ? [] : NAMES);
      } finally {
        await engine.close();
      }
    });
}
