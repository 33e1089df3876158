import { storeError } from './files.js';

/** Runs one thing after another: nobody sees memory that is ahead of the disk. */
export interface Turn {
  alone<T>(body: () => Promise<T>): Promise<T>;
  /** Whether something runs at this moment. */
  isBusy(): boolean;
  /** Resolves when everything asked for so far is over. */
  over(): Promise<unknown>;
}

/** @param assertOpen Throws when the store is closed; asked at the start of each turn. */
export function createTurn(assertOpen: () => void, dir: () => string): Turn {
  let isBusy = false;
  let last: Promise<unknown> = Promise.resolve();
  return {
    alone(body) {
      const result = last.then(async () => {
        assertOpen();
        isBusy = true;
        try {
          return await body();
        } catch (error) {
          throw storeError(error, 'using', dir());
        } finally {
          isBusy = false;
        }
      });
      last = result.catch(() => undefined); // the caller hears of it; the queue goes on
      return result;
    },
    isBusy: () => isBusy,
    over: () => last,
  };
}
