import { StepfastError } from '../errors.js';
import type { Driver } from '../run/driver.js';

/**
 * Children that are driven here were cancelled with their parent (spec F9), over all generations; of those whose parent is
 * not in memory here the store knows.
 *
 * @param told Hears of each run that is driven no more.
 */
export function stopFamily(drivers: ReadonlyMap<string, Driver>, runId: string, told: (runId: string) => void): void {
  const cancelled = new Set([runId]);
  for (let before = 0; before < cancelled.size; ) {
    before = cancelled.size;
    for (const driver of drivers.values()) {
      const { parentId, endedAt } = driver.row();
      if (parentId !== undefined && cancelled.has(parentId) && endedAt === undefined) cancelled.add(driver.runId);
    }
  }
  cancelled.delete(runId);
  const reason = new StepfastError('LEASE_LOST', `The run was cancelled with run ${runId}.`);
  for (const driver of [...drivers.values()])
    if (cancelled.has(driver.runId)) {
      driver.stop(reason);
      told(driver.runId);
    } else if (driver.row().parentId !== undefined) driver.verify();
}
