import { connectStepfast } from '../../../plugins/bridge/index.js';
import type { RunSnapshot } from '../../../src/index.js';

/*
 * A page whose engine is in a worker, used over the bridge alone. `?db=` names the database.
 */

const worker = new Worker('/bridge-engine.js', {
  type: 'module',
  name: new URLSearchParams(location.search).get('db')!,
});
const lost: string[] = [];
const stepfast = connectStepfast(worker, { heartbeat: 300, onLost: ({ code }) => lost.push(code) });

const tools = {
  lost,
  interruptions: async (runId: string) =>
    (await stepfast.runs.timeline(runId)).filter((entry) => entry.kind === 'claimed' && entry.interrupted).length,
  terminate: () => worker.terminate(),
  start: async (): Promise<{ id: string; created: boolean }> => {
    const { id, created } = await stepfast.start('order', { items: new Map([['a', 1]]) }, { idempotencyKey: 'one' });
    return { id, created };
  },
  pay: () => stepfast.dispatch('paid', { at: new Date(0) }).then(({ resumed }) => resumed),
  /** Resolves with a description of the snapshot once the run is seen in that status. */
  until: (runId: string, status: RunSnapshot['status']): Promise<string> =>
    new Promise((resolve) => {
      const undo = stepfast.runs.subscribe(runId, ({ status: seen, result }) => {
        if (seen !== status) return;
        const { items, at } = (result ?? {}) as { items?: Map<string, number>; at?: Date };
        queueMicrotask(() => undo());
        resolve(`${status} ${items instanceof Map && items.get('a')} ${at instanceof Date && at.getTime()}`);
      });
    }),
  codeOf: (call: 'unknown' | 'list') =>
    (call === 'unknown' ? stepfast.start('nobody') : stepfast.runs.list()).then(
      () => 'none',
      (error: { readonly code: string }) => error.code,
    ),
};

await stepfast.ready();
Object.assign(globalThis, { app: tools });
