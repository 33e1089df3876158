import type { Store } from '../../src/store/store.js';
import { createFileStore, type FileStoreOptions } from './store.js';

export type { FileStoreOptions } from './store.js';

/**
 * A store in a folder of JSON files, for Node and Electron's main process.
 *
 * One process drives runs; others may start, dispatch, cancel and read at the same time. Live runs are in an append-only
 * log of JSON lines (`log/`), ended ones in a readable file each (`runs/`). Files are 0600, folders 0700.
 *
 * @param options.dir The folder; created when absent.
 * @param options.durability `'strict'` (default) survives power loss, `'relaxed'` the end of the process.
 * @param options.wait Wait for another driving process to end, instead of `STORE_LOCKED`. Default: false.
 * @throws {StepfastError} `INVALID_OPTION` at once. Later, from the engine's calls: `STORE_LOCKED` (with `pid`),
 *   `STORE_TOO_NEW`, `STORE_CORRUPT` (with `file` and `offset`), `QUOTA_EXCEEDED`, `STORE_UNAVAILABLE`.
 * @example const stepfast = createStepfast({ store: fileStore({ dir: './data/stepfast' }) });
 */
export const fileStore = (options: FileStoreOptions): Store => createFileStore(options);
