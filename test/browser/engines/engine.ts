/*
 * What the tests need of a browser, so that they are the same for all engines. What an engine can not do is absent.
 */

/** Each engine is told that this name is this machine. Pages from there are no secure context: there are no Web Locks. */
export const UNTRUSTED_HOST = 'plain.test';

export interface Tab {
  /** The value of an expression in the page, awaited; must be JSON. */
  evaluate<Value>(expression: string): Promise<Value>;
  /** Goes elsewhere, like a click on a link. */
  load(url: string): Promise<void>;
  back(): Promise<void>;
  reload(): Promise<void>;
  close(): Promise<void>;
  /** In front of the others, which are hidden then. */
  show?(): Promise<void>;
  /** Finds out which process it is in, for what ends or stops it: that takes a while, and is not to be measured. */
  prepare?(): Promise<unknown>;
  /** Its process dies. */
  crash?(): Promise<void>;
  /** As the browser does with tabs that nobody has looked at for long. The page hears of it. */
  freeze?(): Promise<void>;
  thaw?(): Promise<void>;
  /** Its process is stopped, and goes on: nobody in it hears of that. */
  suspend?(): Promise<void>;
  wake?(): Promise<void>;
}

export interface Engine {
  readonly name: string;
  /** The folder that holds all it keeps. */
  readonly profile: string;
  /** A new tab, in front, once its page is loaded. */
  open(url: string): Promise<Tab>;
  /** SIGKILL to all of its processes, `meanwhile` while nothing runs, then a new start on the same profile. Tabs are gone. */
  restart?(meanwhile?: () => void): Promise<void>;
  close(): Promise<void>;
}

export interface LaunchOptions {
  /** Its profile is kept in memory, where that can be: for tests of many databases, and not of the disk. */
  readonly inMemory?: boolean;
}

/** How an engine is come by, and what it can be driven to. */
export interface Driver {
  readonly name: string;
  /** Where the browser is, or `undefined`. */
  find(): string | undefined;
  launch(options?: LaunchOptions): Promise<Engine>;
  /** What its tabs can do beyond what all can. */
  readonly skills: readonly Skill[];
  /** Why it can not be driven to the rest. */
  readonly notDriven: { readonly [Name in Skill]?: string };
  /** What does not work in this engine, by the title of its test, and why. */
  readonly limits?: { readonly [title: string]: string };
}
export type Skill = keyof Tab;

/** Resolves when `fits` says so; asked again and again, as nothing tells. */
export async function until(fits: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await fits())) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Resolves when the page has set up what tests call, `app` or `lab`. */
export const isLoaded = (tab: Tab): Promise<void> =>
  until(() =>
    tab
      .evaluate<boolean>(`location.href !== 'about:blank' && document.readyState === 'complete' &&
        (location.pathname === '/nothing' || 'app' in globalThis || 'lab' in globalThis)`)
      .catch(() => false),
  );
