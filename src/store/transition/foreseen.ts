import type { Batch } from '../batch.js';
import { LANES, tombstoneKeys } from './state.js';

/**
 * What the transition of a batch reads, whatever the store holds: runs by their ids, and keys of the state. A store that is
 * answered late asks for all of it at once, for a group of batches even, where one read after the other would each wait.
 */
export const foreseen = ({ run, starts = [], state = [] }: Batch) => ({
  runs: [...(run ? [run] : []), ...starts].map(({ runId }) => runId),
  state: [
    ...starts.flatMap(tombstoneKeys),
    ...state.map(({ key }) => key),
    ...(run?.defaultConcurrency ? [LANES] : []),
  ],
});
