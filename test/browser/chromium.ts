import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium, type Page } from 'playwright-core';

/*
 * A real Chromium, its profile in a folder of its own.
 */

export const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--enable-logging', // into the profile, for `hasWiped`
];
const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
const FOLDERS = [...(process.env.PATH ?? '').split(':'), '/usr/bin', '/usr/local/bin', '/snap/bin'];
const APPS = [
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
];

/** The browser to test with: `STEPFAST_CHROMIUM`, or the first one found in the usual places. */
export function findChromium(): string {
  const places = [...FOLDERS.flatMap((folder) => NAMES.map((name) => join(folder, name))), ...APPS];
  const found = process.env.STEPFAST_CHROMIUM ?? places.find((place) => existsSync(place));
  if (!found) throw new Error('No Chromium found. Install it, or name it in STEPFAST_CHROMIUM.');
  return found;
}

/** Ids of the browser's processes: the one that has the profile open, and all its descendants. */
export function processesOf(profile: string): number[] {
  const lines = execFileSync('ps', ['-A', '-ww', '-o', 'pid=,ppid=,args='], { encoding: 'utf8' }).split('\n');
  const all = lines.flatMap((line) => {
    const [, pid, ppid, args] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? [];
    return pid && ppid && args ? [{ pid: Number(pid), ppid: Number(ppid), args }] : [];
  });
  const found = new Set(all.filter(({ args }) => args.includes(`--user-data-dir=${profile}`)).map(({ pid }) => pid));
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const { pid, ppid } of all) if (found.has(ppid)) found.add(pid);
  }
  found.delete(process.pid);
  return [...found];
}

export interface Browser {
  readonly context: BrowserContext;
  /** The folder that holds all it keeps. */
  readonly profile: string;
  /**
   * Whether this start of the browser found its own database damaged, and deleted it. Chromium does that to LevelDB after
   * about one of 30 kills in the middle of constant writing ("Corruption: checksum mismatch"): nothing that a page could
   * prevent, and not what these tests are about (docs/limits.md).
   */
  hasWiped(): boolean;
  /** The files of every database with their sizes, and what LevelDB says about itself: for the message of a failure. */
  databaseFiles(): string;
  /** Opens a tab and waits until its script has run. */
  open(url: string): Promise<Page>;
  /** SIGKILL to every process of the browser, then starts it again on the same profile. */
  killAndReopen(): Promise<void>;
  close(): Promise<void>;
}

/** Starts Chromium on a new profile. */
export async function launchBrowser(): Promise<Browser> {
  const profile = mkdtempSync(join(tmpdir(), 'stepfast-chromium-'));
  const executablePath = findChromium();
  const launch = () => chromium.launchPersistentContext(profile, { executablePath, args: ARGS });
  let context = await launch();
  return {
    profile,
    get context() {
      return context;
    },
    hasWiped() {
      const log = join(profile, 'chrome_debug.log');
      return existsSync(log) && readFileSync(log, 'utf8').includes('corrupted (and deleted) database');
    },
    databaseFiles() {
      const folder = join(profile, 'Default', 'IndexedDB');
      const names = existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : [];
      const files = names.map((name) => join(folder, name)).filter((file) => statSync(file).isFile());
      const sizes = files.map((file) => `${file}: ${statSync(file).size}`);
      const logs = files.filter((file) => /LOG(\.old)?$/.test(file)).map((file) => readFileSync(file, 'utf8'));
      return [...sizes, ...logs].join('\n');
    },
    async open(url) {
      const page = await context.newPage();
      page.on('pageerror', (error) => console.error(`in the page: ${error.stack ?? error}`));
      await page.goto(url);
      return page;
    },
    async killAndReopen() {
      const gone = new Promise<void>((closed) => context.once('close', () => closed()));
      for (const pid of processesOf(profile))
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // it ended together with its parent
        }
      await gone;
      context = await launch();
    },
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    },
  };
}
