import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const made: string[] = [];
afterAll(() => {
  for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
});

/** A folder that is there until the tests of this file are over. */
export function tempFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'stepfast-files-'));
  made.push(folder);
  return folder;
}

/** A path where a store may make its folder. */
export const freshDir = (): string => join(tempFolder(), 'store');
