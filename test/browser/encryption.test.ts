import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Browser, launchBrowser } from './chromium.js';
import { type Site, servePages } from './site.js';

/*
 * Pins: what `stepfast/encryption` seals is nowhere in the raw profile of a real Chromium; the same search finds all of
 * it where there is no encryption.
 */

let site: Site;
beforeAll(async () => {
  site = await servePages('sealed');
});
afterAll(() => site?.close());

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
function foundIn({ profile }: Browser): string[] {
  const files = readdirSync(profile, { recursive: true, encoding: 'utf8' })
    .map((name) => join(profile, name))
    .filter((file) => statSync(file, { throwIfNoEntry: false })?.isFile());
  const contents = files.map((file) => readFileSync(file));
  return NAMES.filter((name) => contents.some((bytes) => isFound(bytes, secrets[name]!)));
}

for (const isSealed of [false, true])
  it(`values at rest contain ${isSealed ? 'no' : 'all'} plaintext ${isSealed ? 'with' : 'without'} encryption`, async () => {
    const browser = await launchBrowser();
    try {
      const page = await browser.open(`${site.origin}/sealed`);
      const result = await page.evaluate(([isSealed, secrets]) => sealed.play('sealed', isSealed, secrets), [
        isSealed,
        secrets,
      ] as const);
      expect(JSON.parse(result)).toEqual([secrets.event, secrets.output]);
      await browser.killAndReopen(); // what is in memory only does not count, what was committed does
      expect(foundIn(browser)).toEqual(isSealed ? [] : NAMES);
    } finally {
      await browser.close();
    }
  });
