/**
 * scripts/mutate.mjs says which tests judge the file at hand (test/mutate/vitest.config.ts), and its threshold. Not
 * `incremental`: what was found once of a mutant in a constant of a module would stand, whatever the tests have become.
 */
export default {
  testRunner: 'vitest',
  plugins: ['./node_modules/.mutate/node_modules/@stryker-mutator/vitest-runner/dist/src/index.js'],
  vitest: { configFile: 'test/mutate/vitest.config.ts', related: true },
  coverageAnalysis: 'perTest',
  concurrency: 2,
  tempDirName: '.prove/mutate',
  ignorePatterns: ['bench', 'coverage', 'demo', 'dist', 'docs', '*.tgz', '.prove', '.demo'],
  reporters: ['clear-text'],
  clearTextReporter: { allowColor: false, logTests: false, reportTests: false },
  thresholds: { break: Number(process.env.MUTATE_AT_LEAST ?? 95) },
};
