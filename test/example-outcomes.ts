/*
 * What each example of demo/examples returns, on every store and in every engine.
 */

export const outcomes: { readonly [name: string]: unknown } = {
  onboarding: { status: 'completed', result: { onboarded: true }, mails: ['ada@example.com'], unlocked: true },
  checkout: {
    good: 'completed',
    bad: 'failed',
    ledger: ['reserved', 'charged', 'shipped', '---', 'reserved', 'charged', 'refunded', 'freed', 'told: ship'],
  },
  upload: { status: 'completed', result: 'a file of some length', sent: 6 },
  'offline-form': { sent: ['bridge 7: rust', 'bridge 8: fine'], completed: 2 },
  approval: { asked: ['manager', 'director'], result: { by: 'director', approved: true } },
  'trial-drip': {
    mails: ['ada', 'bob'],
    mornings: ['2026-01-01 missed 0', '2026-01-02 missed 0', '2026-01-09 missed 6'],
  },
  'device-flow': { status: 'completed', result: { token: 't0ken' }, asked: [5, 10, 20, 30] },
  pairing: {
    late: [],
    one: { paired: true, with: 'phone', by: 'code.typed' },
    two: { paired: false },
    codes: 4,
  },
  'import-rows': { status: 'completed', result: [9_989, 11], progress: 1, last: 10_000 },
  subscription: { status: 'completed', result: { months: 12 }, charges: 12, sameRun: true, isSmall: true },
  'fan-out': { status: 'completed', result: { done: 99, of: 100 }, isWithinFive: true },
  wizard: {
    draft: { page: 'address', answers: { name: 'Ada', address: 'Londn' } },
    one: { name: 'Ada', address: 'London', confirm: 'yes' },
    two: { cancelled: true },
  },
};
