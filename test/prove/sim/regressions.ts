/**
 * Seeds that have found something, run first each time. A seed is a path through this very simulator: what it found is
 * kept in words, and in a test of its own (test/late-*.test.ts), because a change of the
 * simulator leads it elsewhere: those below were found before its programs and users were what they are now.
 */
export const REGRESSIONS: readonly { readonly seed: number; readonly found: string }[] = [
  { seed: 13, found: 'a function entered long after its fence was confirmed: the answer to the commit was old' },
  { seed: 12, found: 'a run left due although nothing was to be done, after its wait had passed over an event' },
  { seed: 114, found: 'undoing blocked, because the handler awaits something else before its first step' },
  { seed: 179, found: 'an engine that spins while a handler backs off, because the answer to its commit was lost' },
  { seed: 281, found: 'a timer that is not set, because the clock was set forward past the one before' },
  { seed: 669, found: 'a wake-up not seen, because the run had been woken before and nobody had claimed it' },
  { seed: 289, found: 'a run left to an owner that does nothing: it was claimed before its retry was answered' },
  { seed: 111, found: 'a store that is asked again and again as long as a step is undone' },
  { seed: 215, found: 'a run that asks for ever for the event of a look-back that another run has taken' },
  { seed: 245, found: 'an event lost: too late for one wait, passed over when the next came by a clock set back' },
  { seed: 859, found: 'a version that falls, because a run was cancelled while newer code took it up' },
  { seed: 1315, found: 'a loop in one turn: a run out of time whose step had asked for a number' },
  { seed: 1487, found: 'a timer that comes late, because a clock was set forward and the next look left it' },
  { seed: 1674, found: 'a look-back timed out before the store was asked for its events' },
  { seed: 2375, found: 'a slot held for ever, for a step that lost its race in the round that counted for it' },
  { seed: 1073, found: 'a run that is never looked for again: it was listened to, and found no slot' },
  {
    seed: 911,
    found: 'a step that is never undone: its undoing was given up, and its run taken up again and cancelled',
  },
  { seed: 2462, found: 'a run that is never looked for again: a slot was freed while a look counted it as taken' },
  { seed: 3077, found: 'undoing blocked, because one branch of a handler sleeps and another awaits something else' },
  {
    seed: 12979,
    found: 'a wake-up not seen, because the commit that took off the mark of the one before was under way',
  },
  { seed: 16947, found: 'an event passed over, because the commit that took it was refused for another one' },
  { seed: 31336, found: 'an event lost: too late for a wait whose timeout it overtook, and not left for the next one' },
  { seed: 49250, found: 'a wait timed out by who had read its journal later than the events that it may take' },
  {
    seed: 4541,
    found: 'a run left by its owner when it began anew, because its fence of before was asked for meanwhile',
  },
  { seed: 51780, found: 'an engine that spins: a wait had come to its deadline, and the row did not show it' },
  { seed: 62020, found: 'an engine that spins: the clock was set back before the handler that failed was tried again' },
  { seed: 22862, found: 'an engine that spins: the loser of a race waited for the number of its increment' },
  {
    seed: 33259,
    found: 'a run left for ever: it was listened to while an owner that was taken for dead went on with it',
  },
  {
    seed: 533094,
    found: 'an engine that spins: a step failed at the instant at which it had failed before its run was retried',
  },
  {
    seed: 519653,
    found:
      'a function entered again: its handler asked for it between two turns, when its outcome was recorded already',
  },
  {
    seed: 533620,
    found: 'an event lost: too late for one wait, and older than one of another name that it was offered',
  },
  { seed: 640, found: 'a fork that is blocked: its recorded waits have keys that name the run it was forked from' },
  { seed: 1269, found: 'a journal that grows without end: contexts that find a run unfit claim it in turns' },
  {
    seed: 1006349,
    found: 'a fork that does not undo what was undone, and done again, in the run that it was forked from',
  },
  {
    seed: 3009716,
    found: 'an event not seen: its run was claimed by who had looked before it came, and told of nothing',
  },
  { seed: 3005416, found: 'a queue that nobody looks at again: its rate was free by the time a look had ended' },
  { seed: 14, found: 'a run begun anew by code of a later version, and still of the version before' },
  { seed: 15630, found: 'steps never undone: their run was cancelled while its journal was read to be listened to' },
  { seed: 19755, found: 'a crash loop that never ends: other code has given the slot back after each crash' },
  { seed: 1_016_810, found: 'the loser of a race entered twice: the commit that decided was overtaken' },
  { seed: 1_042_067, found: 'a run that never ends: the loser of its last race had ended while that was decided' },
  {
    seed: 10_033,
    found: 'a step that waits for its number for ever: the answer to the confirmation behind that commit was lost',
  },
  {
    seed: 13_942,
    found: 'a step with the result of its namesake: it had lost a race before a restart whose answer was lost',
  },
  {
    seed: 1_018_395,
    found:
      'a race that another function wins: its run was upgraded before it was begun, and taken for one of other code',
  },
  { seed: 4_007_442, found: 'contexts that call each other without end, for a run that finds its queue full' },
  { seed: 1_025_830, found: 'a queue left alone for hours: its rate was waited for by a clock that had been set back' },
];
