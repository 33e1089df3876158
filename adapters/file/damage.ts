import { StepfastError } from '../../src/errors.js';

/** Where stored data is damaged, and the run it belonged to, where that is known. */
export interface Damage {
  readonly runId?: string;
  readonly file: string;
  readonly offset: number;
  readonly job?: string;
  /** Kept, so that the key still leads to the run and does not start a second one. */
  readonly key?: readonly [job: string, idempotencyKey: string];
}

/** A shared value that damage has cost: what its record would have said is not known. */
export interface LostValue extends Pick<Damage, 'file' | 'offset'> {
  readonly key: string;
  /** From then on nothing but the token is lost. Absent: never. */
  readonly until?: number;
  readonly token?: number;
}

/** The error that everything touching a quarantined run gets, and `onError` once. */
export function corrupt(damage: Damage): StepfastError {
  const { runId, job, file, offset } = damage;
  const whose = runId === undefined ? 'a record' : `run "${runId}"`;
  return new StepfastError(
    'STORE_CORRUPT',
    `The stored data of ${whose} is damaged (file "${file}", byte ${offset}). ` +
      'It is kept as it is and left alone, other runs go on. Restore the file from a backup, or start the work anew.',
    { ...(runId !== undefined && { runId }), ...(job !== undefined && { job }), file, offset },
  );
}

/** The error that every use of a lost value gets, and `onError` once. */
export const corruptValue = ({ key, file, offset }: LostValue): StepfastError =>
  new StepfastError(
    'STORE_CORRUPT',
    `The stored record of the shared value ${JSON.stringify(key)} is damaged (file "${file}", byte ${offset}), so its ` +
      'present value is not known. Everything else goes on. Restore the file from a backup, or set or delete the value.',
    { file, offset },
  );

export const tooNew = (file: string, version: unknown): StepfastError =>
  new StepfastError(
    'STORE_TOO_NEW',
    `"${file}" was written by a newer stepfast (format ${String(version)}). Update stepfast; nothing was changed.`,
    { file },
  );
