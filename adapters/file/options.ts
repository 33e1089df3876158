import { check, checkOptions as checkNames } from '../../src/values/check.js';
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
  check(typeof dir === 'string' && /^[^\0]+$/.test(dir), 'dir', dir, 'the path of a folder');
  check(['strict', 'relaxed'].includes(durability), 'durability', durability, '"strict" or "relaxed"');
  check(typeof wait === 'boolean', 'wait', wait, 'true or false');
}
