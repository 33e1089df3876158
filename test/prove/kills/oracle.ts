import type { StoredRun } from '../../../src/index.js';

/*
 * What killed processes have said, and whether a folder agrees: everything acknowledged is there, nothing twice.
 */

export interface Oracle {
  violation(line: string): void;
  /** One more process; hears its lines. */
  process(): (line: string) => void;
  judge(runs: readonly StoredRun[], numbers?: ReadonlyMap<string, unknown>): void;
  /** Processes that have counted. */
  lives(): Iterable<string>;
  dispatched(): ReadonlyMap<string, string>;
  leftovers(count: number): void;
  counts(): { starts: number; outcomes: number; events: number; 'in flight': number; swept: number; numbers: number };
}

export function createOracle(violation: (line: string) => void): Oracle {
  const starts = new Map<string, string>();
  const runOfKey = new Map<string, string>();
  const words = new Map<string, string>();
  const events = new Set<string>();
  /** `run step` and its value, acknowledged. */
  const outcomes = new Map<string, string>();
  const finished = new Map<string, string>();
  const entered = new Set<string>();
  /** What each process has counted up to, acknowledged. */
  const numbers = new Map<string, number>();
  let swept = 0;
  let inFlight = 0;

  const hear = (line: string, mine: Set<string>) => {
    const [kind, run = '', what = '', value = ''] = line.split(' ');
    const step = `${run} ${what}`;
    if (kind === 'S') {
      const other = runOfKey.get(what);
      if (other !== undefined && other !== run) violation(`the key ${what} gave run ${other}, and then ${run}`);
      if (starts.has(run) && starts.get(run) !== what)
        violation(`run ${run} was given to ${starts.get(run)} and to ${what}`);
      starts.set(run, what);
      runOfKey.set(what, run);
    } else if (kind === 'D') {
      if (events.has(what)) violation(`the event ${what} was acknowledged to two`);
      events.add(what);
      words.set(run, value);
    } else if (kind === 'E') {
      if (outcomes.has(step)) violation(`${step} was entered after its outcome was acknowledged`);
      if (mine.has(step)) violation(`${step} was entered twice in one life`);
      mine.add(step);
      entered.add(step);
    } else if (kind === 'C') {
      if (outcomes.has(step)) violation(`the outcome of ${step} was acknowledged twice`);
      outcomes.set(step, value);
    } else if (kind === 'F') {
      if (finished.has(run)) violation(`run ${run} completed twice`);
      finished.set(run, what);
    } else if (kind === 'N') {
      const last = numbers.get(run) ?? 0;
      if (Number(what) !== last + 1) violation(`process ${run} counted ${what} after ${last}`);
      numbers.set(run, Number(what));
    } else violation(`a line that nobody knows: ${line}`);
  };

  return {
    violation,
    process() {
      const mine = new Set<string>();
      return (line) => hear(line, mine);
    },
    lives: () => numbers.keys(),
    judge(runs, found = new Map()) {
      inFlight = [...entered].filter((step) => !outcomes.has(step)).length; // before anybody goes on with them
      const byId = new Map(runs.map((run) => [run.row.runId, run]));
      if (byId.size !== runs.length) violation('a run is listed twice');
      const keys = runs.flatMap(({ row }) => row.idempotencyKey ?? []);
      if (new Set(keys).size !== keys.length) violation('two runs have one idempotency key');
      for (const [run, key] of starts)
        if (byId.get(run)?.row.idempotencyKey !== key) violation(`run ${run} (${key}) was acknowledged and is lost`);
      for (const [step, value] of outcomes) {
        const [run = '', name] = step.split(' ');
        const entries = (byId.get(run)?.journal ?? []).filter(
          (entry) => entry.kind === 'step-completed' && entry.id[0] === name,
        );
        const [entry] = entries;
        if (entries.length !== 1 || entry?.kind !== 'step-completed' || String(entry.value) !== value)
          violation(`${step} was acknowledged as ${value}, and is there ${entries.length} times`);
      }
      for (const [run, value] of finished) {
        const last = byId.get(run)?.journal.at(-1);
        if (last?.kind !== 'completed' || String(last.value) !== value)
          violation(`run ${run} was acknowledged as completed, and is not`);
      }
      // The last one may have been asked for by a process that was killed before it heard.
      for (const [life, number] of numbers)
        if (found.get(life) !== number && found.get(life) !== number + 1)
          violation(`process ${life} counted up to ${number}, and ${String(found.get(life))} is there`);
      for (const { row, journal } of runs) {
        const fences = journal.flatMap((entry) => (entry.kind === 'claimed' ? [entry.fence] : []));
        if (fences.some((fence, index) => index > 0 && fence <= fences[index - 1]!))
          violation(`the fences of ${row.runId} do not grow: ${fences.join(' ')}`);
        if (row.length !== journal.length)
          violation(`run ${row.runId} has length ${row.length}, its journal ${journal.length}`);
      }
    },
    dispatched: () => words,
    leftovers(count) {
      swept += count;
    },
    counts: () => ({
      starts: starts.size,
      outcomes: outcomes.size,
      events: events.size,
      'in flight': inFlight,
      swept,
      numbers: [...numbers.values()].reduce((sum, number) => sum + number, 0),
    }),
  };
}
