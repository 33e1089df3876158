import { StepfastError } from '../../src/errors.js';
import { checkOptions as checkNames } from '../../src/values/check.js';
import type { Disk } from './disk.js';

export interface FileStoreOptions {
  /** Folder of the store. Created (0700) with everything in it when absent; no other program should write there. */
  readonly dir: string;
  /**
   * `strict`: what was acknowledged survives power loss (one sync for all commits that come together).
   * `relaxed`: it survives the end of the process, and a power loss may cost the latest. Default: `strict`.
   */
  readonly durability?: 'strict' | 'relaxed';
  /** When another process drives the folder, `ready()` waits for its end instead of rejecting with `STORE_LOCKED`. Default: false. */
  readonly wait?: boolean;
}

/** Seams and limits that only tests set. */
export interface FileStoreInternals {
  readonly disk?: Disk;
  readonly compactAt?: number;
  /** 0, the default where `compactAt` is given: at once, and after each start. */
  readonly quietMs?: number;
}

/** @throws {StepfastError} `INVALID_OPTION` */
export function checkOptions(given: FileStoreOptions | undefined): void {
  checkNames(given, ['dir', 'durability', 'wait'], 'The options of fileStore');
  const { dir, durability = 'strict', wait = false } = given ?? {};
  if (typeof dir !== 'string' || dir === '')
    throw new StepfastError(
      'INVALID_OPTION',
      `fileStore({ dir }) needs the path of a folder, got ${JSON.stringify(dir)}.`,
    );
  if (durability !== 'strict' && durability !== 'relaxed')
    throw new StepfastError(
      'INVALID_OPTION',
      `fileStore({ durability }) is 'strict' or 'relaxed', got ${JSON.stringify(durability)}.`,
    );
  if (typeof wait !== 'boolean')
    throw new StepfastError('INVALID_OPTION', `fileStore({ wait }) is true or false, got ${JSON.stringify(wait)}.`);
}
