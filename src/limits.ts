/** Named limits of one run (spec R7, R12). */
export const LIMITS = {
  outcomes: 10_000,
  /** Characters of JSON in what a run has recorded. */
  runBytes: 64 * 2 ** 20,
  openWaits: 1_000,
  logs: 1_000,
  /** Pairs of which a run begun anew remembers what it has taken, and events of each that it remembers to have left. */
  carried: 1_000,
  stallMs: 2_000,
  /** How long an undo waits for the function that it undoes, where that is still in flight (spec F7, F9). */
  lateMs: 5_000,
  /** Runs of which late results are kept. */
  late: 100,
  /** Waiting runs whose handlers an engine keeps in memory; more are dropped, and replayed when something comes. */
  resident: 1_000,
  backoffMs: 1_000,
  maxBackoffMs: 30_000,
};
