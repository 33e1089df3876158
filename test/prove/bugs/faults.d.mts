export interface Fault {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly instead: string;
  /** Test files with words of vitest, or `prove`, a technique and its cases. */
  readonly by: readonly string[];
  /** Why nothing can notice it. */
  readonly survives?: string;
}
export const faults: readonly Fault[];
