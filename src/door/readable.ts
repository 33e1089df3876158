import { StepfastError } from '../errors.js';
import type { RunRow } from '../store/rows.js';
import { isOurs } from '../values/check.js';

/** No job of an app has a name of ours: its journal was written through a plug-in, and is not what it looks like. */
export const isReadable = ({ job }: RunRow): boolean => !isOurs(job);

/** Refuses a run that was written through a plug-in which this engine lacks (`stepfast/encryption`). */
export function assertReadable(row: RunRow): void {
  const { runId, job } = row;
  if (!isReadable(row))
    throw new StepfastError(
      'MISSING_PLUGIN',
      `Run ${runId} was written through a plug-in that this engine does not have, such as encryption(). Hand it to createStepfast({ use: [...] }). Nothing was changed.`,
      { runId, job },
    );
}
