import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { startDisplay } from './display.js';
import { type Driver, type Engine, isLoaded, type LaunchOptions, type Tab, until } from './engine.js';
import { BURN, busyAmong, familyOf, signal } from './processes.js';
import { freshProfile } from './profile.js';
import { startProxy } from './proxy.js';
import { connectSocket } from './socket.js';

/*
 * WebKitGTK's own small browser, over the protocol of its inspector. Under WebDriver it would keep nothing on the disk.
 * It needs a display: a virtual one is started for it. Each page has a window there; all but one are hidden.
 */

/** The browser to test with: `STEPFAST_WEBKIT` (a MiniBrowser), or that of Debian's webkit2gtk-driver. */
export function findWebKit(): string | undefined {
  if (process.env.STEPFAST_WEBKIT) return process.env.STEPFAST_WEBKIT;
  if (!existsSync('/usr/bin/Xvfb')) return undefined;
  const folders = existsSync('/usr/lib') ? readdirSync('/usr/lib').map((name) => join('/usr/lib', name)) : [];
  const places = folders.map((folder) => join(folder, 'webkit2gtk-4.1', 'MiniBrowser'));
  return places.find((place) => existsSync(place));
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Messages to one page; `end` lets go of it. */
interface Inspector {
  send<Reply = unknown>(method: string, params?: object): Promise<Reply>;
  /** Calls without an answer fail: the page they were made in is gone. */
  giveUp(): void;
  isOver(): boolean;
}

/** A page may come into another process, and is another target then: calls go to the one of now. */
async function inspect(url: string): Promise<Inspector> {
  const waiting = new Map<number, { resolve(reply: never): void; reject(error: Error): void }>();
  let target: string | undefined;
  let isOver = false;
  let id = 0;
  const giveUp = () => {
    for (const { reject } of waiting.values()) reject(new Error('The page is gone.'));
    waiting.clear();
  };
  const answer = (text: string) => {
    const { id, result, error } = JSON.parse(text);
    const found = waiting.get(id);
    waiting.delete(id);
    if (error) found?.reject(new Error(error.message));
    else found?.resolve(result as never);
  };
  const hear = (text: string) => {
    const { method, params } = JSON.parse(text);
    if (method === 'Target.targetCreated' && !params.targetInfo.isProvisional) target = params.targetInfo.targetId;
    if (method === 'Target.didCommitProvisionalTarget') {
      target = params.newTargetId;
      giveUp();
    }
    if (method === 'Target.targetDestroyed' && params.targetId === target) giveUp();
    if (method === 'Target.dispatchMessageFromTarget') answer(params.message);
  };
  const over = () => {
    isOver = true;
    giveUp();
  };
  const socket = await connectSocket(url, hear, over);
  await until(() => target !== undefined || isOver);
  return {
    giveUp,
    isOver: () => isOver,
    send: (method, params = {}) =>
      new Promise((resolve, reject) => {
        if (isOver) return reject(new Error('The page is gone.'));
        waiting.set(++id, { resolve, reject });
        const message = JSON.stringify({ id, method, params });
        // Answers to the envelope carry an id too, of which nobody waits here.
        socket.send(
          JSON.stringify({ id, method: 'Target.sendMessageToTarget', params: { targetId: target, message } }),
        );
      }),
  };
}

interface Evaluated {
  readonly wasThrown?: boolean;
  readonly result: {
    readonly type: string;
    readonly value?: unknown;
    readonly description?: string;
    readonly className?: string;
    readonly objectId?: string;
  };
}

async function evaluateIn<Value>({ send }: Inspector, expression: string, more: object = {}): Promise<Value> {
  const open = ({ wasThrown, result }: Evaluated) => {
    if (wasThrown) throw new Error(result.description ?? String(result.value));
    return result;
  };
  const first = open(await send<Evaluated>('Runtime.evaluate', { expression, ...more }));
  if (first.objectId === undefined) return first.value as Value;
  const [method, params] =
    first.className === 'Promise'
      ? ['Runtime.awaitPromise', { promiseObjectId: first.objectId }]
      : ['Runtime.callFunctionOn', { objectId: first.objectId, functionDeclaration: 'function () { return this }' }];
  return open(await send<Evaluated>(method, { ...params, returnByValue: true })).value as Value;
}

type WebKitTab = Tab & Required<Omit<Tab, 'freeze' | 'thaw' | 'show'>>;

export interface WebKit extends Required<Engine> {
  /** The process behind IndexedDB dies, which is that of the network as well. Another one is started for what is new. */
  killStorage(): void;
}

export async function launchWebKit(options: LaunchOptions = {}): Promise<WebKit> {
  const profile = freshProfile('webkit', options.inMemory);
  const [display, proxy] = await Promise.all([startDisplay(), startProxy()]);
  const suspended = new Set<number>();
  let child: ChildProcess;
  let port: number;
  /** A page that nobody tests: the others are opened from it. */
  let root: Inspector;
  const start = async () => {
    port = await freePort();
    const args = ['--javascript-can-open-windows-automatically=true', `--proxy=${proxy.address}`];
    child = spawn(findWebKit()!, [...args, '--ignore-host=localhost', 'about:blank'], {
      stdio: 'ignore',
      env: {
        ...process.env,
        DISPLAY: display.name,
        WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1', // which does not start for root
        WEBKIT_INSPECTOR_HTTP_SERVER: `127.0.0.1:${port}`,
        XDG_DATA_HOME: join(profile, 'data'),
        XDG_CACHE_HOME: join(profile, 'cache'),
        XDG_CONFIG_HOME: join(profile, 'config'),
      },
    });
    await until(async () => (await targets()).length === 1 || child.exitCode !== null);
    if (child.exitCode !== null) throw new Error(`MiniBrowser has ended with ${child.exitCode}.`);
    root = await inspect((await targets())[0]!);
  };
  /** Where the inspector's server has pages. */
  const targets = async (): Promise<string[]> => {
    const response = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
    const paths = (await response?.text())?.match(/\/socket\/\d+\/\d+\/WebPage/g) ?? [];
    return paths.map((path) => `ws://127.0.0.1:${port}${path}`);
  };
  const end = async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    if (child.exitCode !== null || child.signalCode !== null) return;
    for (const { pid } of familyOf(child.pid!)) signal(pid, 'SIGKILL');
    suspended.clear();
    await ended;
  };
  const show = async (window: number) => {
    for (const other of await display.windows()) if (other !== window) display.hide(other);
    display.show(window);
  };
  let opening: Promise<unknown> = Promise.resolve();
  /** One after the other: which page and which window are the new ones is seen by their being new. */
  const openOne = async (url: string): Promise<{ inspector: Inspector; window: number }> => {
    const [before, windows] = [await targets(), await display.windows()];
    await evaluateIn(root, `void open(${JSON.stringify(url)}, '_blank', 'noopener')`, { emulateUserGesture: true });
    const added = async <One>(list: () => Promise<readonly One[]>, old: readonly One[]): Promise<One> => {
      for (;;) {
        const found = (await list()).find((one) => !old.includes(one));
        if (found !== undefined) return found;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    const inspector = await inspect(await added(targets, before));
    const window = await added(display.windows, windows);
    await show(window);
    return { inspector, window };
  };
  await start();
  return {
    name: 'webkit',
    profile,
    async open(url) {
      const mine = opening.then(() => openOne(url));
      opening = mine.catch(() => undefined);
      const pages = () =>
        familyOf(child.pid!).flatMap(({ pid, args }) => (args.includes('WebKitWebProcess') ? [pid] : []));
      const { inspector, window } = await mine;
      const tab = tabOf(inspector, pages, suspended);
      tab.show = async () => {
        await show(window);
        await until(() => tab.evaluate<boolean>(`document.visibilityState === 'visible'`));
      };
      await isLoaded(tab);
      return tab;
    },
    killStorage() {
      for (const { pid, args } of familyOf(child.pid!))
        if (args.includes('WebKitNetworkProcess')) signal(pid, 'SIGKILL');
    },
    async restart(meanwhile) {
      await end();
      meanwhile?.();
      await start();
    },
    async close() {
      await end();
      display.end();
      proxy.end();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    },
  };
}

function tabOf(inspector: Inspector, pages: () => readonly number[], suspended: Set<number>): WebKitTab {
  let pid: number | undefined;
  let hasCrashed = false;
  const processOf = async () => (pid ??= await busyAmong(pages, () => tab.evaluate(BURN)));
  /** What waits for an answer of the page before would wait for ever. */
  const arrived = async (fits: string) => {
    await until(() => tab.evaluate<boolean>(fits).catch(() => false));
    inspector.giveUp();
    await isLoaded(tab);
  };
  const tab: WebKitTab = {
    evaluate: (expression) => evaluateIn(inspector, expression),
    async load(url) {
      await tab.evaluate(`void (location.href = ${JSON.stringify(url)})`);
      await arrived(`location.href === ${JSON.stringify(url)}`);
    },
    async back() {
      const url = await tab.evaluate<string>('location.href');
      await tab.evaluate('history.back()');
      await arrived(`location.href !== ${JSON.stringify(url)}`);
    },
    async reload() {
      await tab.evaluate('globalThis.isOld = true');
      await inspector.send('Page.reload');
      await arrived('!globalThis.isOld');
    },
    async close() {
      if (hasCrashed) return; // nobody is there to hear of it
      await tab.evaluate('window.close()').catch(() => undefined);
      await until(() => inspector.isOver());
    },
    prepare: processOf,
    async crash() {
      hasCrashed = true;
      signal(await processOf(), 'SIGKILL');
    },
    async suspend() {
      suspended.add(await processOf());
      signal(pid!, 'SIGSTOP');
    },
    async wake() {
      if (pid !== undefined) signal(pid, 'SIGCONT');
    },
  };
  return tab;
}

export const webkit: Driver = {
  name: 'webkit',
  find: findWebKit,
  launch: launchWebKit,
  skills: ['show', 'crash', 'suspend', 'wake'],
  notDriven: { freeze: 'WebKit does not freeze pages' },
  limits: {
    'navigated away, engine in a worker':
      'WebKit may suspend the worker of a cached page inside a transaction, for which all other tabs then wait',
  },
};
