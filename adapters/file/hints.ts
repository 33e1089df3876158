import fs from 'node:fs';
import { join } from 'node:path';
import type { StoreListener } from '../../src/store/store.js';
import { LOG, segmentPath, segmentsIn } from './segments.js';
import { watchFolder } from './watch.js';

/*
 * Who hears of changes (store rule S7: hints may be lost, doubled or late).
 *
 * An owner knows what it writes and says it. Everybody else looks at the folder: the owner's writes show in `log/`, its
 * coming and going in `lock/`; `fs.watch` misses some, so a timer that keeps no process alive looks at the size.
 */

const LOOK_MS = 1_000;

export interface Hints {
  tell(runId: string | undefined, isOwn?: boolean): void;
  add(listener: StoreListener): () => void;
  /** Looks at the folder while somebody listens; does nothing before it is known, or when it looks already. */
  follow(dir: string): void;
  unfollow(): void;
  stop(): void;
}

export function createHints(onError: (error: unknown) => void): Hints {
  const listeners = new Set<StoreListener>();
  let unwatch: (() => void) | undefined;

  const tell = (runId: string | undefined, isOwn = false) => {
    for (const listener of listeners)
      try {
        listener(runId, isOwn);
      } catch (error) {
        onError(error); // a listener is not part of the commit that it hears of
      }
  };
  const unfollow = () => {
    unwatch?.();
    unwatch = undefined;
  };

  return {
    tell,
    add(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
        if (listeners.size === 0) unfollow();
      };
    },
    follow(dir) {
      if (unwatch || listeners.size === 0) return;
      const onChange = () => tell(undefined);
      const stops = [watchFolder(join(dir, LOG), onChange), watchFolder(join(dir, 'lock'), onChange)];
      let seen = '';
      let isTold = false;
      const look = () => {
        const highest = segmentsIn(dir).at(-1) ?? 0;
        const now = `${highest}:${fs.statSync(segmentPath(dir, highest), { throwIfNoEntry: false })?.size}`;
        if (seen !== '' && now !== seen) onChange();
        seen = now;
      };
      const timer = setInterval(() => {
        try {
          look();
          isTold = false;
        } catch (error) {
          if (!isTold) onError(error); // no descriptors left, no rights: it may pass
          isTold = true;
        }
      }, LOOK_MS);
      timer.unref();
      unwatch = () => {
        clearInterval(timer);
        for (const stop of stops) stop();
      };
    },
    unfollow,
    stop() {
      unfollow();
      listeners.clear();
    },
  };
}
