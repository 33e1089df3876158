import { indexedDBStore } from '../../../adapters/indexeddb/index.js';
import { type BridgePort, connectStepfast, serveStepfast } from '../../../plugins/bridge/index.js';
import { createStepfast, defineJob, type RunSnapshot, type Stepfast } from '../../../src/index.js';

/*
 * An app with a few jobs, in a page or (`?host=worker|shared|service`) in a worker of it; tests call `app` either way.
 * `?db=` names the database, `?tab=` this context: steps ask the server for `/effect/<db>-<step>-<tab>.<load>`, where
 * each load of the page is another context.
 */

const query = new URLSearchParams(location.search);
const db = query.get('db')!;
const host = query.get('host');

/** What is told about this context. */
const told = {
  worked: [] as string[],
  errors: [] as string[],
  shows: [] as string[],
  warnings: [] as string[],
  longTimers: 0,
};
let shiftedMs = 0;
let open: Stepfast | undefined;

const clock = {
  now: () => Date.now() + shiftedMs,
  setTimer(at: number, callback: () => void) {
    const id = setTimeout(callback, Math.min(Math.max(at - clock.now(), 0), 2 ** 30));
    return () => clearTimeout(id);
  },
};

function appIn(me: string) {
  const engine = (): Stepfast => {
    if (open) return open;
    const stepfast = createStepfast({
      store: indexedDBStore({ name: db }),
      // Its own clock only where a test moves it: else what is tested is the platform's.
      ...(query.has('clock') && { clock }),
      onError: (error) => told.errors.push(String(error)),
    });
    stepfast.job('work', async ({ step }) => {
      const by = await step.run('work', async () => {
        const response = await fetch(`/effect/${db}-work-${me}`, { cache: 'no-store' });
        if (!response.ok) throw new Error(String(response.status));
        told.worked.push(me);
        return me;
      });
      return { by };
    });
    stepfast.job<{ key: string }>('wait', { queue: { name: 'waits', concurrency: 200 } }, async ({ payload, step }) => {
      const { payload: n } = await step.waitForEvent<number>('go', { correlationKey: payload.key, timeout: '1 day' });
      await step.run('count', () => void told.worked.push(payload.key));
      return n;
    });
    stepfast.job<{ ms: number }>('sleep', async ({ payload, step }) => {
      await step.sleep('nap', payload.ms);
      await step.run('wake', () => void told.worked.push('awake'));
    });
    stepfast.job<{ parts: number }>('fill', async ({ payload, step }) => {
      // Not compressible: the quota is of bytes on the disk.
      const part = () => Array.from({ length: 250_000 }, () => String.fromCharCode(Math.random() * 0xd000)).join('');
      for (let n = 0; n < payload.parts; n++) await step.run('part', part);
      return 'full';
    });
    open = stepfast;
    return stepfast;
  };
  return {
    ready: () => engine().ready(),
    /** Its page uses it over the bridge as well. */
    serve: (port: BridgePort) => serveStepfast(engine(), port),
    async start(job: string, payload?: unknown): Promise<string> {
      return (await engine().start(job, payload)).id;
    },
    /** The `count` runs whose keys begin with `prefix`, started as fast as can be. */
    async startMany(prefix: string, count: number): Promise<void> {
      const starting = Array.from({ length: count }, (_, n) => engine().start('wait', { key: `${prefix}${n}` }));
      await Promise.all(starting);
    },
    async dispatchMany(prefixes: readonly string[], count: number, isEven: boolean): Promise<string[]> {
      const keys = prefixes.flatMap((prefix) => Array.from({ length: count }, (_, n) => `${prefix}${n}`));
      const mine = keys.filter((_, n) => n % 2 === (isEven ? 0 : 1));
      const receipts = await Promise.all(
        mine.map((key, n) => engine().dispatch('go', n, { correlationKey: key, idempotencyKey: key })),
      );
      return receipts.map(({ id }) => id);
    },
    /** Resolves when the run is seen in that status. */
    until: (runId: string, status: RunSnapshot['status']): Promise<{ status: string; result: unknown }> =>
      new Promise((resolve) => {
        engine().runs.subscribe(runId, (run) => {
          if (run.status === status) resolve({ status, result: run.result ?? null });
        });
      }),
    status: async (runId: string) => (await engine().runs.get(runId))?.status ?? null,
    timeline: async (runId: string): Promise<string[]> =>
      (await engine().runs.timeline(runId)).map(({ kind, name, interrupted }) =>
        [kind, name, interrupted && '(interrupted)'].filter(Boolean).join(' '),
      ),
    async count(status: 'waiting' | 'running' | 'completed'): Promise<number> {
      let count = 0;
      for (let cursor: string | undefined; ; ) {
        const page = await engine().runs.list({ status }, cursor);
        count += page.runs.length;
        if ((cursor = page.cursor) === undefined) return count;
      }
    },
    told: async () => told,
    /** As hot reload does: from now on, the job has other code. */
    async replace(name: 'work' | 'wait', text: string) {
      const wait = defineJob<{ key: string }>('wait', async ({ payload, step }) => {
        const { payload: n } = await step.waitForEvent<number>('go', { correlationKey: payload.key, timeout: '1 day' });
        await step.run(text, () => void told.worked.push(`${text} ${payload.key}`));
        return `${text} ${n}`;
      });
      const work = defineJob('work', async ({ step }) => {
        const by = await step.run('work', () => `entered by ${text}`);
        return { by, then: await step.run('then', () => text) };
      });
      engine().register(name === 'work' ? work : wait, { replace: true });
    },
    async shift(ms: number) {
      shiftedMs += ms;
    },
    /** Drives what is due, for as long as a service worker takes, and lets go of the rest. */
    async drive(ms: number): Promise<void> {
      const stepfast = engine();
      await stepfast.ready();
      for (const end = Date.now() + ms; Date.now() < end; ) {
        const { runs } = await stepfast.runs.list({ status: ['queued', 'running'] });
        if (!runs.length) break;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      await stepfast.close();
      open = undefined;
    },
    async close(): Promise<void> {
      const closing = open?.close();
      open = undefined;
      await closing;
    },
    /** Names of the locks that are held for this database. */
    locks: async (): Promise<string[]> => {
      const { held = [] } = await navigator.locks.query();
      return held.map(({ name }) => name!).filter((name) => name.startsWith(`stepfast:${db}:`));
    },
  };
}
/** What tests call. */
export type App = ReturnType<typeof appIn>;

// ---- a page, and what is called in a worker of it -----------------------------------------------------------------

interface Call {
  readonly n: number;
  readonly method: keyof App;
  readonly args: readonly unknown[];
}
interface Answer {
  readonly n: number;
  readonly value?: unknown;
  readonly error?: string;
}

const answer = async (app: App, { n, method, args }: Call): Promise<Answer> => {
  try {
    return { n, value: await (app[method] as (...given: readonly unknown[]) => unknown)(...args) };
  } catch (error) {
    return { n, error: String(error) };
  }
};

/** `app` whose methods are called through messages. */
function remote(post: (call: Call) => void, listen: (hear: (answer: Answer) => void) => void): App {
  const waiting = new Map<number, (answer: Answer) => void>();
  let calls = 0;
  listen((heard) => waiting.get(heard.n)?.(heard));
  const call = (method: keyof App, args: readonly unknown[]) =>
    new Promise((resolve, reject) => {
      waiting.set(++calls, ({ value, error }) => (error ? reject(new Error(error)) : resolve(value)));
      post({ n: calls, method, args });
    });
  return new Proxy({} as App, {
    get: (_, method) => (method === 'then' ? undefined : (...args: unknown[]) => call(method as keyof App, args)),
  });
}

async function appInFrame(): Promise<App> {
  const frame = document.createElement('iframe');
  frame.src = `/tab?db=${db}&tab=${query.get('tab')}-iframe`;
  document.body.append(frame);
  await new Promise((resolve) => frame.addEventListener('load', resolve));
  return (frame.contentWindow as unknown as { app: App }).app;
}

async function appInWorker(kind: string, script: string): Promise<App> {
  if (kind === 'worker') {
    const worker = new Worker(script, { type: 'module' });
    // A worker hears nothing of the back/forward cache, unless its page tells it: as docs/browsers.md says.
    if (query.has('bridge')) connectStepfast(worker);
    if (query.has('tells')) {
      const say = (kind: string) => worker.postMessage({ kind });
      for (const kind of ['pagehide', 'pageshow'] as const)
        addEventListener(kind, ({ persisted }) => persisted && say(kind));
      if (/^Apple/.test(navigator.vendor))
        addEventListener('beforeunload', () => {
          say('beforeunload');
          setTimeout(() => say('pageshow'), 3_000);
        });
    }
    return remote(
      (call) => worker.postMessage(call),
      (hear) => worker.addEventListener('message', ({ data }) => hear(data as Answer)),
    );
  }
  if (kind === 'shared') {
    const { port } = new SharedWorker(script, { type: 'module' });
    port.start();
    return remote(
      (call) => port.postMessage(call),
      (hear) => port.addEventListener('message', ({ data }) => hear(data as Answer)),
    );
  }
  // Each database has one of its own, so it must have a scope of its own as well.
  const registration = await navigator.serviceWorker.register(script, { type: 'module', scope: `/${db}` });
  const worker = registration.installing ?? registration.waiting ?? registration.active!;
  while (worker.state !== 'activated') await new Promise((resolve) => setTimeout(resolve, 10));
  return remote(
    (call) => worker.postMessage(call),
    (hear) => navigator.serviceWorker.addEventListener('message', ({ data }) => hear(data as Answer)),
  );
}

/** Of the worker scopes, what is used here: their types do not go together with those of pages. */
interface ExtendableMessage extends MessageEvent {
  waitUntil(promise: Promise<unknown>): void;
}

if (typeof document !== 'undefined') {
  const loads = Number(sessionStorage.getItem('loads') ?? 0) + 1;
  sessionStorage.setItem('loads', String(loads));
  addEventListener('pageshow', ({ persisted }) => void told.shows.push(persisted ? 'from the cache' : 'loaded'));
  const { warn } = console;
  console.warn = (...args) => {
    told.warnings.push(args.join(' '));
    warn(...args);
  };
  const original = globalThis.setTimeout;
  globalThis.setTimeout = ((callback: () => void, ms?: number) => {
    if (!(Number(ms ?? 0) < 2 ** 31)) told.longTimers++;
    return original(callback, ms);
  }) as typeof setTimeout;
  const me = `${query.get('tab')}.${loads}`;
  const script = `/tab.js?db=${db}&tab=${query.get('tab')}-${host}${query.has('bridge') ? '&bridge' : ''}`;
  const expose = (app: App) => Object.assign(globalThis, { app });
  // No await here: a service worker that is a module may have none at its top level.
  if (host) void (host === 'iframe' ? appInFrame() : appInWorker(host, script)).then(expose);
  else expose(appIn(me));
} else {
  const app = appIn(query.get('tab')!);
  const scope = globalThis as unknown as EventTarget & { postMessage?(message: unknown): void };
  if (query.has('bridge')) app.serve(globalThis as unknown as BridgePort);
  scope.addEventListener('connect', (event) => {
    const [port] = (event as MessageEvent).ports;
    port!.onmessage = async ({ data }) => port!.postMessage(await answer(app, data as Call));
  });
  scope.addEventListener('message', (event) => {
    const { data, source } = event as ExtendableMessage;
    if (data.kind) return void dispatchEvent(Object.assign(new Event(data.kind), { persisted: true }));
    const answering = answer(app, data as Call);
    if (!source) return void answering.then((said) => scope.postMessage!(said));
    (event as ExtendableMessage).waitUntil(answering.then((said) => source.postMessage(said)));
  });
}
