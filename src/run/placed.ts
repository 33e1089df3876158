import { isStepfastError, StepfastError } from '../errors.js';
import type { RunRow } from '../store/rows.js';

/** An error with what its thrower did not know: whose it is. */
export function placed(fault: Error, { runId, job }: RunRow, step?: string): Error {
  if (!isStepfastError(fault)) return fault;
  const { code, message } = fault;
  const place = { ...fault, job, runId };
  if (step !== undefined) place.step = step;
  const said = message.slice(0, -` [${code}]`.length);
  const of = place.step !== undefined && !said.includes(`"${place.step}"`) ? `, step "${place.step}"` : '';
  return new StepfastError(code, `Run ${runId} of job "${job}"${of}: ${said}`, place, fault);
}

/** What `match` or the schema of a wait has thrown. A text of its own: that of the cause may quote the payload (spec V4). */
export function unanswered(cause: unknown, row: RunRow, wait: string): Error {
  const said = 'match or schema has thrown, which is its `cause`: this wait leaves the event.';
  return placed(isStepfastError(cause) ? cause : new StepfastError('INVALID_OPTION', said, {}, { cause }), row, wait);
}
