/**
 * Seeds that have found something, run first each time. A seed is a path through this very simulator: what it found is
 * kept in words, and in a test of its own (test/late-answers.test.ts), because a change of the simulator leads it
 * elsewhere: those below were found before its programs and users were what they are now.
 */
export const REGRESSIONS: readonly { readonly seed: number; readonly found: string }[] = [
  { seed: 13, found: 'a function entered long after its fence was confirmed: the answer to the commit was old' },
  { seed: 12, found: 'a run left due although nothing was to be done, after its wait had passed over an event' },
  { seed: 114, found: 'undoing blocked, because the handler awaits something else before its first step' },
  { seed: 179, found: 'an engine that spins while a handler backs off, because the answer to its commit was lost' },
  { seed: 281, found: 'a timer that is not set, because the clock was set forward past the one before' },
  { seed: 669, found: 'a wake-up not seen, because the run had been woken before and nobody had claimed it' },
];
