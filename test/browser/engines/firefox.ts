import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Driver, type Engine, isLoaded, type LaunchOptions, type Tab, UNTRUSTED_HOST, until } from './engine.js';
import { BURN, busyAmong, familyOf, signal } from './processes.js';
import { freshProfile } from './profile.js';
import { connectSocket } from './socket.js';

/*
 * Firefox over WebDriver BiDi, which it speaks by itself: there is no driver between.
 */

const PREFS = {
  'app.normandy.enabled': false,
  'app.update.enabled': false,
  'browser.aboutwelcome.enabled': false,
  'browser.sessionstore.resume_from_crash': false,
  'browser.shell.checkDefaultBrowser': false,
  'browser.startup.page': 0,
  'browser.tabs.unloadOnLowMemory': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'network.dns.localDomains': UNTRUSTED_HOST,
  'services.settings.server': 'data:,',
  'toolkit.startup.max_resumed_crashes': -1, // it is killed again and again
  // By default all tabs of one site share a process. Here each has its own, so that one can die alone.
  'dom.ipc.processCount.webIsolated': 16,
};

const PLACES = ['/usr/bin/firefox-esr', '/usr/bin/firefox', '/Applications/Firefox.app/Contents/MacOS/firefox'];

/** The browser to test with: `STEPFAST_FIREFOX`, or the first one found in the usual places. */
export const findFirefox = (): string | undefined =>
  process.env.STEPFAST_FIREFOX ?? PLACES.find((place) => existsSync(place));

type Send = <Reply = unknown>(method: string, params?: object) => Promise<Reply>;

/** Resolves with where it listens, which it says when it has started. */
const addressOf = (child: ChildProcess): Promise<string> =>
  new Promise((resolve, reject) => {
    let said = '';
    child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
      const [, address] = /WebDriver BiDi listening on (ws:\S+)/.exec((said += chunk)) ?? [];
      if (address) resolve(address);
    });
    child.once('exit', (code) => reject(new Error(`Firefox has ended with ${code}: ${said}`)));
  });

async function connect(address: string): Promise<Send> {
  const waiting = new Map<number, { resolve(reply: never): void; reject(error: Error): void }>();
  let isOver = false;
  const hear = (text: string) => {
    const { id, type, result, error, message } = JSON.parse(text);
    const found = waiting.get(id);
    waiting.delete(id);
    if (type === 'error') found?.reject(new Error(`${error}: ${message}`));
    else found?.resolve(result as never);
  };
  const socket = await connectSocket(`${address}/session`, hear, () => {
    isOver = true;
    for (const { reject } of waiting.values()) reject(new Error('The browser has ended.'));
  });
  let id = 0;
  return (method, params = {}) =>
    new Promise((resolve, reject) => {
      if (isOver) return reject(new Error('The browser has ended.'));
      waiting.set(++id, { resolve, reject });
      socket.send(JSON.stringify({ id, method, params }));
    });
}

interface FirefoxOptions extends LaunchOptions {
  /** For all sites together; one may use a fifth of it. Default: by the size of the disk. */
  readonly quotaKiB?: number;
}

export async function launchFirefox(options: FirefoxOptions = {}): Promise<Required<Engine>> {
  const profile = freshProfile('firefox', options.inMemory);
  const { quotaKiB } = options;
  const prefs = { ...PREFS, ...(quotaKiB && { 'dom.quotaManager.temporaryStorage.fixedLimit': quotaKiB }) };
  writeFileSync(
    join(profile, 'user.js'),
    Object.entries(prefs)
      .map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`)
      .join(''),
  );
  const suspended = new Set<number>();
  let child: ChildProcess;
  let send: Send;
  const start = async () => {
    const args = ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0', 'about:blank'];
    child = spawn(findFirefox()!, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    send = await connect(await addressOf(child));
    await send('session.new', { capabilities: {} });
  };
  const kill = () => {
    for (const { pid } of familyOf(child.pid!)) signal(pid, 'SIGKILL');
  };
  const end = async (by: () => unknown) => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    for (const pid of suspended) signal(pid, 'SIGCONT');
    suspended.clear();
    if (child.exitCode !== null || child.signalCode !== null) return;
    await by();
    await ended;
  };
  await start();
  return {
    name: 'firefox',
    profile,
    async open(url) {
      const { context } = await send<{ context: string }>('browsingContext.create', { type: 'tab' });
      const pages = () => familyOf(child.pid!).flatMap(({ pid, args }) => (/ tab$/.test(args) ? [pid] : []));
      const tab = tabOf(send, context, pages, suspended);
      await tab.load(url);
      return tab;
    },
    async restart(meanwhile) {
      await end(kill);
      meanwhile?.();
      await start();
    },
    async close() {
      await end(() => send('browser.close').catch(kill));
      rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    },
  };
}

function tabOf(send: Send, context: string, pages: () => readonly number[], suspended: Set<number>): FirefoxTab {
  let pid: number | undefined;
  const processOf = async () => (pid ??= await busyAmong(pages, () => tab.evaluate(BURN)));
  const tab: FirefoxTab = {
    async evaluate<Value>(expression: string) {
      type Thrown = { text: string };
      // As text, else it comes in a notation of the protocol's own.
      const { result, exceptionDetails } = await send<{ result: { value?: string }; exceptionDetails?: Thrown }>(
        'script.evaluate',
        {
          expression: `(async () => JSON.stringify(await (${expression})))()`,
          target: { context },
          awaitPromise: true,
        },
      );
      if (exceptionDetails) throw new Error(exceptionDetails.text);
      return (result.value === undefined ? undefined : JSON.parse(result.value)) as Value;
    },
    async load(url) {
      await send('browsingContext.navigate', { context, url, wait: 'complete' });
      await isLoaded(tab);
    },
    async back() {
      const url = await tab.evaluate<string>('location.href');
      await send('browsingContext.traverseHistory', { context, delta: -1 });
      await until(() => tab.evaluate<boolean>(`location.href !== ${JSON.stringify(url)}`).catch(() => false));
      await isLoaded(tab);
    },
    async reload() {
      await send('browsingContext.reload', { context, wait: 'complete' });
      await isLoaded(tab);
    },
    close: async () => void (await send('browsingContext.close', { context }).catch(() => undefined)),
    show: async () => void (await send('browsingContext.activate', { context })),
    prepare: processOf,
    crash: async () => signal(await processOf(), 'SIGKILL'),
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

type FirefoxTab = Required<Omit<Tab, 'freeze' | 'thaw'>>;

export const firefox: Driver = {
  name: 'firefox',
  find: findFirefox,
  launch: launchFirefox,
  skills: ['show', 'crash', 'suspend', 'wake'],
  notDriven: { freeze: 'Firefox does not freeze pages' },
  limits: { 'V1, a page in the back/forward cache': 'Firefox caches no page that holds a Web Lock' },
};
