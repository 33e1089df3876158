import { nodeDisk } from '../../adapters/file/disk.js';
import { acquire } from '../../adapters/file/lock.js';

/*
 * A process that contends for locks, and stops itself in the middle: `node contender.mjs <task>...`, each a JSON pair of
 * a folder and of the number of the call to the disk before which it stops (SIGSTOP) until somebody lets it go on. What
 * becomes of each is said on standard output, a line each, beginning with the number of the task.
 */

type Call = (...args: unknown[]) => Promise<unknown>;

const tasks = process.argv.slice(2).map((text) => JSON.parse(text) as readonly [folder: string, stopAt: number]);

for (const [n, [folder, stopAt]] of tasks.entries()) {
  const say = (what: string) => void process.stdout.write(`${n} ${what}\n`);
  let calls = 0;
  const disk = Object.fromEntries(
    Object.entries(nodeDisk as unknown as Record<string, Call>).map(([name, call]) => [
      name,
      (...args: unknown[]) => {
        if (++calls === stopAt) {
          say(`stops before ${name}`);
          process.kill(process.pid, 'SIGSTOP');
        }
        return call(...args);
      },
    ]),
  );
  try {
    const found = await acquire(disk as unknown as typeof nodeDisk, folder);
    say(found.kind === 'acquired' ? `holds ${found.lock.isHeld()}` : 'is refused');
  } catch (error) {
    say(`fails: ${error}`);
  }
}
