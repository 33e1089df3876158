import { describe } from 'vitest';
import { type Medium, media } from '../harness.js';

export * from '../harness.js';

/** In the place of the harness of all stores: for code that no store touches one will do, and takes a third of the time. */
export const onEveryStore = (title: string, tests: (medium: Medium) => void): void => {
  describe(`${title} (memory)`, () => tests(media.memory!));
};
