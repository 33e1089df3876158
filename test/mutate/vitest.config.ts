import { defineConfig } from 'vitest/config';

/** The tests that judge the mutants of one file: named by scripts/mutate.mjs. */
export default defineConfig({
  resolve: { alias: [{ find: './harness.js', replacement: new URL('harness.ts', import.meta.url).pathname }] },
  test: {
    include: (process.env.MUTATE_TESTS ?? 'test/*.test.ts').split(','),
    testTimeout: 8_000, // what a mutant has stopped is waited for no longer
  },
});
