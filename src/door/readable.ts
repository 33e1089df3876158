import { StepfastError } from '../errors.js';
import type { RunRow } from '../store/rows.js';
import { isOurs } from '../values/check.js';

/**
 * Refuses a run that was written through a plug-in which this engine lacks (`stepfast/encryption`): no job of an app has
 * such a name, and what stands in its journal is not what it looks like.
 */
export function assertReadable({ runId, job }: RunRow): void {
  if (isOurs(job))
    throw new StepfastError(
      'MISSING_PLUGIN',
      `Run ${runId} was written through a plug-in that this engine does not have, such as encryption(). Hand it to createStepfast({ use: [...] }). Nothing was changed.`,
      { runId, job },
    );
}
