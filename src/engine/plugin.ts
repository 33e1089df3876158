import type { Start } from '../door/start.js';
import type { Platform } from '../platform.js';
import type { Batch, CommitOutcome } from '../store/batch.js';
import type { JournalEntry } from '../store/journal.js';
import type { Store } from '../store/store.js';
import type { Codec } from '../values/codec.js';

/*
 * The seam for what not every app needs: `createStepfast({ use: [...] })`. Who does not import a plug-in does not pay
 * for it.
 */

/** What a plug-in gets of the engine it is used in. */
export interface PluginHost {
  readonly platform: Platform;
  readonly codec: Codec;
  /** The store as the engine sees it: with every plug-in's `store` around it. */
  readonly store: Store;
  /** Opens the engine, as any call of it does. */
  open(): Promise<void>;
  /** One commit, at the engine's time. */
  commit(parts: Omit<Batch, 'now'>): Promise<CommitOutcome>;
  /** Starts a run, checked as any start is. */
  readonly start: Start;
  /** Looks for due work: what the plug-in committed may be some. */
  look(): void;
  report(error: unknown): void;
}

/** Entries of one run that have become durable. */
export interface Committed {
  readonly runId: string;
  readonly job: string;
  readonly entries: readonly JournalEntry[];
}

/** Something to `use` in an engine. All members but the name are optional. */
export interface Plugin<Words extends object = object> {
  readonly name: string;
  /** Stands between the engine and its store: encryption, compression, faults for tests. The first one used is nearest to the engine. */
  readonly store?: (inner: Store) => Store;
  /** Words that the plug-in adds to the engine: called once, when it is created. */
  readonly words?: (host: PluginHost) => Words;
  /** A job was registered: what was left for want of it may go on. */
  readonly registered?: () => void;
  /** The engine was opened: timers may be set. */
  readonly opened?: () => void;
  /** The engine is closing. */
  readonly closed?: () => void;
  /** Hears of every entry that this engine's driving of a run has made durable: for tracing, metrics, log output. What it throws is reported, and breaks nothing. */
  readonly committed?: (committed: Committed) => void;
}
