import { indexedDBStore } from '../../../../adapters/indexeddb/index.js';
import { createStepfast, type RunSnapshot, type Stepfast } from '../../../../src/index.js';

/*
 * What all releases of one app have in common; each is a bundle of its own, with its own code of the job `flow`. `?db=`
 * names the database, `?me=` this tab: a step asks the server for `/effect/<db>/<run>/<step>/<release>`.
 */

/** A step of a release: it happens in the world outside, and says in which release. */
export type Effect = (runId: string, step: string) => Promise<string>;

interface Release {
  readonly name: string;
  /** The format that its stepfast writes. Absent: that of this source. */
  readonly format?: number;
  define(stepfast: Stepfast, effect: Effect): void;
}

const query = new URLSearchParams(location.search);
const db = query.get('db')!;

export function startApp({ name, format, define }: Release): App {
  const told = { outdated: [] as string[], errors: [] as string[], unhandled: [] as string[] };
  addEventListener('error', ({ message }) => told.unhandled.push(message));
  addEventListener('unhandledrejection', ({ reason }) => told.unhandled.push(String(reason)));
  const store = indexedDBStore({ name: db });
  const { open } = store;
  if (format !== undefined) store.open = (options) => open.call(store, { ...options, format });
  const stepfast = createStepfast({
    store,
    onError: (error) => told.errors.push(String(error)),
    onOutdated: (error) => told.outdated.push(error.code),
  });
  const effect: Effect = async (runId, step) => {
    const { ok, status } = await fetch(`/effect/${db}/${runId}/${step}/${name}`, { cache: 'no-store' });
    if (!ok) throw new Error(`${step}: ${status}`);
    return `${step} by ${name}`;
  };
  define(stepfast, effect);
  // Every release has it, in one version: its end shows that this tab has looked for work since.
  stepfast.job(`own-${query.get('me')}`, ({ step, run }) => step.run('own', () => effect(run.id, 'own')));
  /** The code of a refusal, or nothing. */
  const codeOf = (call: Promise<unknown>): Promise<string | null> =>
    call.then(
      () => null,
      (error: { readonly code?: string; readonly message?: string }) => error.code ?? `no code: ${error.message}`,
    );
  const app = {
    told: () => told,
    ready: () => codeOf(stepfast.ready()),
    start: (id: string, job = 'flow') => codeOf(stepfast.start(job, undefined, { id })),
    go: (id: string) => codeOf(stepfast.dispatch('go', undefined, { correlationKey: id })),
    until: (id: string, status: RunSnapshot['status']): Promise<unknown> =>
      new Promise((resolve) => {
        stepfast.runs.subscribe(id, (run) => {
          if (run.status === status) resolve(run.result ?? null);
        });
      }),
    status: async (id: string) => (await stepfast.runs.get(id))?.status ?? null,
    timeline: async (id: string) =>
      (await stepfast.runs.timeline(id)).map((entry) => `${entry.kind} ${entry.name ?? ''}`.trim()),
    close: () => codeOf(stepfast.close()),
  };
  Object.assign(globalThis, { app });
  return app;
}

export interface App {
  told(): { outdated: readonly string[]; errors: readonly string[]; unhandled: readonly string[] };
  ready(): Promise<string | null>;
  start(id: string, job?: string): Promise<string | null>;
  go(id: string): Promise<string | null>;
  /** Its result, once it is seen in that status. */
  until(id: string, status: RunSnapshot['status']): Promise<unknown>;
  status(id: string): Promise<string | null>;
  timeline(id: string): Promise<string[]>;
  close(): Promise<string | null>;
}
