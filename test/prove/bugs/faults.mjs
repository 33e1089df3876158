import { mediaFaults } from './media.mjs';
import { runFaults } from './run.mjs';
import { storeFaults } from './store.mjs';

/*
 * Deliberate faults: in a copy of the source, `find` (which must be there exactly once) becomes `instead`, and one of the
 * tests named in `by` must fail: a test file, or `prove` with a technique and its cases. One that survives is a promise
 * that nothing watches.
 */

export const faults = [...storeFaults, ...runFaults, ...mediaFaults];
