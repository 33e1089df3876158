import type { AnyJob } from '../../src/door/job.js';
import type { Scheduled } from '../../src/engine/words.js';
import type { Remote } from './connect.js';

/*
 * A schedule that is declared at the other end. Its words return at once, so they speak of what was heard last.
 */

export const remoteSchedule =
  ({ calls, packer, clock, report, ask }: Remote, nameOf: (job: string | AnyJob) => string) =>
  (name: string, when: unknown, job: string | AnyJob, payload?: unknown, options?: unknown): Scheduled => {
    calls.check();
    const given = [name, when, nameOf(job), payload, options].map((each) => packer.value(each));
    const release = calls.keep();
    const { id, answer } = calls.call('schedule', ...given);
    let isStopped = false;
    let isAsking = true;
    let next: Date | undefined;
    const hear = async (told: Promise<unknown>) => {
      isAsking = true;
      next = (await told) as Date | undefined;
      isAsking = false;
    };
    const giveUp = (error: unknown) => {
      if (!isStopped) report(error);
      isStopped = true;
      release();
    };
    hear(answer.then(packer.open)).catch(giveUp);
    return {
      next() {
        if (isStopped) return undefined;
        if (!isAsking) hear(ask('schedule.next', packer.value(id))).catch(giveUp);
        return next && next.getTime() > clock.now() ? new Date(next) : undefined;
      },
      stop() {
        if (isStopped) return;
        isStopped = true;
        release();
        ask('schedule.stop', packer.value(id)).catch(() => undefined); // lost with its port, it is stopped
      },
    };
  };
