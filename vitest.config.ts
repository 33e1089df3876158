import { defineConfig } from 'vitest/config';

/** The examples import the package by its name, as users do; here that is its source. */
const source = (path: string) => new URL(path, import.meta.url).pathname;
const alias = [
  { find: /^stepfast$/, replacement: source('src/index.ts') },
  { find: /^stepfast\/testing$/, replacement: source('src/testing/index.ts') },
  { find: /^stepfast\/(memory|indexeddb|file)$/, replacement: source('adapters/$1/index.ts') },
  { find: /^stepfast\/(bridge|encryption|schedules|transfer)$/, replacement: source('plugins/$1/index.ts') },
];

const OTHER_ENGINES = ['test/browser/firefox.test.ts', 'test/browser/webkit.test.ts'];

export default defineConfig({
  test: {
    // More than there are cores: much of the time the tests wait for disks, processes and the patience of engines.
    maxWorkers: 4,
    projects: [
      {
        resolve: { alias },
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/browser/**', 'test/mutate/**', 'test/package/**'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'browser',
          include: ['test/browser/**/*.test.ts'],
          exclude: OTHER_ENGINES,
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
      {
        // Their times are not Chromium's: each waits for its own processes, so the two run side by side.
        test: {
          name: 'browsers',
          include: OTHER_ENGINES,
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
      {
        // Runs on the packed tarball and the built demo; `npm test` builds both first.
        test: {
          name: 'package',
          include: ['test/package/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
