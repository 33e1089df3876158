/** What scripts/mutate.mjs says of the file at hand: the tests that judge it (test/mutate/vitest.config.ts), and its threshold. */
export default {
  testRunner: 'vitest',
  plugins: ['./node_modules/.mutate/node_modules/@stryker-mutator/vitest-runner/dist/src/index.js'],
  vitest: { configFile: 'test/mutate/vitest.config.ts', related: true },
  coverageAnalysis: 'perTest',
  concurrency: 2,
  incremental: true,
  tempDirName: '.prove/mutate',
  ignorePatterns: ['bench', 'coverage', 'demo', 'dist', 'docs', '*.tgz', '.prove', '.demo'],
  reporters: ['clear-text'],
  clearTextReporter: { allowColor: false, logTests: false, reportTests: false },
  thresholds: { break: Number(process.env.MUTATE_AT_LEAST ?? 95) },
};
