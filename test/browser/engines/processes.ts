import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/*
 * The processes of a browser, found by descent.
 */

interface Process {
  readonly pid: number;
  readonly args: string;
}

/** The process and all that descend from it. */
export function familyOf(root: number): readonly Process[] {
  const lines = execFileSync('ps', ['-A', '-ww', '-o', 'pid=,ppid=,args='], { encoding: 'utf8' }).split('\n');
  const all = lines.flatMap((line) => {
    const [, pid, ppid, args] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? [];
    return pid && ppid && args ? [{ pid: Number(pid), ppid: Number(ppid), args }] : [];
  });
  const found = new Set([root]);
  for (let before = 0; before !== found.size; ) {
    before = found.size;
    for (const { pid, ppid } of all) if (found.has(ppid)) found.add(pid);
  }
  return all.filter(({ pid }) => found.has(pid));
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // it has ended
  }
}

/** Processor time that each has used, in ticks of the kernel. Linux only. */
const ticksOf = (pids: readonly number[]): Map<number, number> =>
  new Map(
    pids.flatMap((pid) => {
      try {
        // What follows the name, which is in brackets: state is field 3, utime 14, stime 15.
        const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
          .replace(/^.*\) /s, '')
          .split(' ');
        return [[pid, Number(fields[11]) + Number(fields[12])]];
      } catch {
        return []; // it has ended
      }
    }),
  );

/** Which of the processes a page is in: the one that is busy while the page is, far more than any other. */
export async function busyAmong(pids: () => readonly number[], burn: () => Promise<unknown>): Promise<number> {
  for (;;) {
    const before = ticksOf(pids());
    await burn();
    const burnt = [...ticksOf([...before.keys()])].map(([pid, ticks]) => ({ pid, ticks: ticks - before.get(pid)! }));
    const [first, second] = burnt.sort((a, b) => b.ticks - a.ticks);
    if (first && first.ticks >= 10 && first.ticks > 3 * (second?.ticks ?? 0)) return first.pid;
  }
}

/** For `busyAmong`: half a second of work. */
export const BURN = '(() => { for (const end = performance.now() + 500; performance.now() < end; ); })()';
