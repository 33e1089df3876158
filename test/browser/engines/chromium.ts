import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { ARGS, findChromium, processesOf } from '../chromium.js';
import { type Driver, type Engine, isLoaded, type LaunchOptions, type Tab, UNTRUSTED_HOST, until } from './engine.js';
import { freshProfile } from './profile.js';

/*
 * Chromium over its own protocol, through a pipe: a test library between would tell every page that it is visible and
 * has the focus, so that none is ever hidden, or frozen. Its new headless mode is the whole browser without a window.
 */

const MORE = ['--headless=new', '--remote-debugging-pipe', `--host-resolver-rules=MAP ${UNTRUSTED_HOST} 127.0.0.1`];

type Send = <Reply = unknown>(method: string, params?: object, sessionId?: string) => Promise<Reply>;

/** The protocol: JSON, each message ended by a zero byte, on the file descriptors 3 and 4 of the browser. */
function connect(child: ChildProcess): Send {
  const [, , , to, from] = child.stdio as unknown as [unknown, unknown, unknown, Writable, Readable];
  const waiting = new Map<number, { resolve(reply: never): void; reject(error: Error): void }>();
  let id = 0;
  let text = '';
  from.setEncoding('utf8').on('data', (chunk: string) => {
    const messages = (text + chunk).split('\0');
    text = messages.pop()!;
    for (const message of messages) {
      const { id, result, error } = JSON.parse(message);
      const found = waiting.get(id);
      waiting.delete(id);
      if (error) found?.reject(new Error(error.message));
      else found?.resolve(result as never);
    }
  });
  to.on('error', () => undefined); // it was killed; whoever waits for an answer is told below
  child.on('exit', () => {
    for (const { reject } of waiting.values()) reject(new Error('The browser has ended.'));
    waiting.clear();
  });
  return (method, params = {}, sessionId) =>
    new Promise((resolve, reject) => {
      if (child.exitCode !== null || child.signalCode !== null) return reject(new Error('The browser has ended.'));
      waiting.set(++id, { resolve, reject });
      to.write(`${JSON.stringify({ id, method, params, ...(sessionId && { sessionId }) })}\0`);
    });
}

export interface ChromiumTab extends Required<Tab> {
  /** A message of the browser's protocol, to this page. */
  send<Reply = unknown>(method: string, params?: object): Promise<Reply>;
}

export interface Chromium extends Engine {
  open(url: string): Promise<ChromiumTab>;
  restart(meanwhile?: () => void): Promise<void>;
}

export async function launchChromium(options: LaunchOptions = {}): Promise<Chromium> {
  const profile = freshProfile('chromium', options.inMemory);
  const suspended = new Set<number>();
  let child: ChildProcess;
  let send: Send;
  const start = async () => {
    const args = [...ARGS, ...MORE, `--user-data-dir=${profile}`, 'about:blank'];
    child = spawn(findChromium(), args, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    send = connect(child);
    await send('Browser.getVersion');
  };
  const end = async (kill: () => unknown) => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    for (const pid of suspended) signal(pid, 'SIGCONT');
    suspended.clear();
    if (child.exitCode !== null || child.signalCode !== null) return;
    await kill();
    await ended;
  };
  const kill = () => {
    for (const pid of processesOf(profile)) signal(pid, 'SIGKILL');
  };
  await start();
  return {
    name: 'chromium',
    profile,
    async open(url) {
      const { targetId } = await send<{ targetId: string }>('Target.createTarget', { url });
      const { sessionId } = await send<{ sessionId: string }>('Target.attachToTarget', { targetId, flatten: true });
      const tab = tabOf(send, targetId, sessionId, suspended);
      await isLoaded(tab);
      return tab;
    },
    async restart(meanwhile) {
      await end(kill);
      meanwhile?.();
      await start();
    },
    async close() {
      await end(() => send('Browser.close').catch(kill));
      rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    },
  };
}

function signal(pid: number, name: NodeJS.Signals) {
  try {
    process.kill(pid, name);
  } catch {
    // it has ended
  }
}

function tabOf(send: Send, targetId: string, sessionId: string, suspended: Set<number>): ChromiumTab {
  const ask: ChromiumTab['send'] = (method, params) => send(method, params, sessionId);
  let pid: number | undefined;
  /** The process of the page is the one that is busy while the page is. */
  const processOf = async (): Promise<number> => {
    const times = async () => {
      type Info = { type: string; id: number; cpuTime: number };
      const { processInfo } = await send<{ processInfo: Info[] }>('SystemInfo.getProcessInfo');
      return new Map(processInfo.filter(({ type }) => type === 'renderer').map(({ id, cpuTime }) => [id, cpuTime]));
    };
    const before = await times();
    await tab.evaluate('(() => { for (const end = performance.now() + 400; performance.now() < end; ); })()');
    const burnt = [...(await times())].map(([id, time]) => [id, time - (before.get(id) ?? time)] as const);
    return burnt.reduce((most, one) => (one[1] > most[1] ? one : most))[0];
  };
  const tab: ChromiumTab = {
    send: ask,
    async evaluate<Value>(expression: string) {
      type Thrown = { text: string; exception?: { description?: string } };
      const { result, exceptionDetails } = await ask<{ result: { value: Value }; exceptionDetails?: Thrown }>(
        'Runtime.evaluate',
        { expression, awaitPromise: true, returnByValue: true },
      );
      if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
      return result.value;
    },
    async load(url) {
      await ask('Page.navigate', { url });
      await until(() => tab.evaluate<boolean>(`location.href === ${JSON.stringify(url)}`).catch(() => false));
      await isLoaded(tab);
    },
    async back() {
      type Entry = { id: number; url: string };
      const { entries, currentIndex } = await ask<{ entries: Entry[]; currentIndex: number }>(
        'Page.getNavigationHistory',
      );
      const { id, url } = entries[currentIndex - 1]!;
      await ask('Page.navigateToHistoryEntry', { entryId: id });
      await until(() => tab.evaluate<boolean>(`location.href === ${JSON.stringify(url)}`).catch(() => false));
      await isLoaded(tab);
    },
    async reload() {
      await tab.evaluate('globalThis.isOld = true');
      await ask('Page.reload');
      await until(() => tab.evaluate<boolean>('!globalThis.isOld').catch(() => false));
      await isLoaded(tab);
    },
    close: async () => void (await send('Target.closeTarget', { targetId }).catch(() => undefined)),
    show: async () => void (await send('Target.activateTarget', { targetId })),
    prepare: async () => (pid ??= await processOf()),
    crash: async () => void ask('Page.crash').catch(() => undefined), // no answer comes from a crashed page
    freeze: async () => void (await ask('Page.setWebLifecycleState', { state: 'frozen' })),
    thaw: async () => void (await ask('Page.setWebLifecycleState', { state: 'active' })),
    async suspend() {
      pid ??= await processOf();
      suspended.add(pid);
      signal(pid, 'SIGSTOP');
    },
    async wake() {
      if (pid !== undefined) signal(pid, 'SIGCONT');
    },
  };
  return tab;
}

export const chromium: Driver = {
  name: 'chromium',
  find: findChromium,
  launch: launchChromium,
  skills: ['show', 'crash', 'freeze', 'thaw', 'suspend', 'wake'],
  notDriven: {},
};
