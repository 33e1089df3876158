import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Stepfast, Store } from '../src/index.js';
import { type App, onboard } from './fixtures/onboarding.js';
import { onEveryStore, type World, world } from './harness.js';

// Pins: spec section 0, the flow that must run unchanged on every store, live and after a crash in any state; R1, R11.

const read = (name: string) => readFileSync(new URL(`./fixtures/${name}`, import.meta.url), 'utf8');

it('the flow that is tested is the flow that is promised, character for character', () => {
  const source = read('onboarding.ts');
  const begin = '// ---- the flow begins\n';
  const flow = source.slice(source.indexOf(begin) + begin.length, source.indexOf('// ---- the flow ends'));
  expect(flow).toBe(read('section-0.txt'));
  expect(flow).toContain("stepfast.job<{ userId: string; email: string }>('userOnboarding'");
});

const app = (w: World): App => ({
  async createUser(user) {
    w.log.push(`create ${user.id}`);
    return user;
  },
  async sendVerificationEmail(email) {
    w.log.push(`send ${email}`);
  },
  async unlockAccount(userId) {
    w.log.push(`unlock ${userId}`);
  },
});
const everything = ['create 42', 'send ada@example.com', 'unlock 42'];

const theRun = async (stepfast: Stepfast) => {
  const { runs } = await stepfast.runs.list();
  expect(runs).toHaveLength(1);
  return runs[0]!;
};
const expectOnboarded = async (stepfast: Stepfast) => {
  const run = await theRun(stepfast);
  expect(run).toMatchObject({ job: 'userOnboarding', status: 'completed', result: { onboarded: true } });
  const steps = (await stepfast.runs.timeline(run.id)).filter(({ kind }) => kind === 'step-completed');
  expect(steps.map(({ name }) => name)).toEqual(['create-user', 'send-verification-email', 'unlock-account']);
};

/** The engine, but the mail link is clicked only when the run has come to rest. */
const withLateClick = (
  w: World,
  stepfast: Stepfast,
  atRest: () => Promise<void> = async () => undefined,
): Stepfast => ({
  ...stepfast,
  dispatch: (async (...event: Parameters<Stepfast['dispatch']>) => {
    await w.clock.idle();
    await atRest();
    return stepfast.dispatch(...event);
  }) as Stepfast['dispatch'],
});

/** A store whose context dies just before or just after its commit number `at` has become durable. */
const mortal = (w: World, at: number, when: 'before' | 'after', died: () => void): Store => {
  const store = w.store();
  const { commit } = store;
  let commits = 0;
  const die = (): never => {
    store.abandon!();
    died();
    throw new Error('the context is gone');
  };
  store.commit = async (batch) => {
    if (++commits === at && when === 'before') die();
    const outcome = await commit.call(store, batch);
    return commits === at ? die() : outcome;
  };
  return store;
};

let warn: ReturnType<typeof vi.spyOn>;
beforeEach(() => {
  warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
});
afterEach(() => {
  // R7: only a job that awaits something else between its steps is warned about; this one never does.
  const warnings = warn.mock.calls.map((call: unknown[]) => String(call[0]));
  vi.restoreAllMocks();
  expect(warnings).toEqual([]);
});

onEveryStore('onboarding', (medium) => {
  it('runs live, waits for the click, and costs at most 7 commits', async () => {
    const w = world(medium);
    const engine = w.engine();
    const seen: string[] = [];
    await onboard(
      withLateClick(w, engine, async () => {
        seen.push((await theRun(engine)).status, ...w.log);
      }),
      app(w),
    );
    await w.clock.idle();
    expect(seen).toEqual(['waiting', 'create 42', 'send ada@example.com']);
    await expectOnboarded(engine);
    expect(w.log).toEqual(everything);
    expect(w.commits()).toBeLessThanOrEqual(7);
    expect(w.errors).toEqual([]);
  });

  it('takes a click that comes before anybody waits for it, for at most 7 commits', async () => {
    const w = world(medium);
    const engine = w.engine();
    await onboard(engine, app(w));
    await w.clock.idle();
    await expectOnboarded(engine);
    expect(w.log).toEqual(everything);
    expect(w.commits()).toBeLessThanOrEqual(7);
  });

  it('a second page load that starts it again joins the run that is there', async () => {
    const w = world(medium);
    const first = w.engine();
    await onboard(first, app(w));
    await w.clock.idle();
    w.crash(first);
    const second = w.engine();
    await onboard(second, app(w));
    await w.clock.idle();
    await expectOnboarded(second);
    expect(w.log).toEqual(everything);
  });

  it('a run that waits when the context dies goes on after the click', async () => {
    const w = world(medium);
    const before = w.engine();
    const closed = onboard(
      withLateClick(w, before, async () => {
        w.crash(before);
      }),
      app(w),
    );
    await expect(closed).rejects.toMatchObject({ code: 'CLOSED' });
    const after = w.engine();
    await onboard(withLateClick(w, after), app(w));
    await w.clock.idle();
    await expectOnboarded(after);
    expect(w.log).toEqual(everything);
  });

  it('fails with EVENT_TIMEOUT when nobody clicks within 24 hours, also when the app was closed all the time', async () => {
    const w = world(medium);
    const engine = w.engine();
    const closed = onboard(
      withLateClick(w, engine, async () => w.crash(engine)),
      app(w),
    );
    await expect(closed).rejects.toMatchObject({ code: 'CLOSED' });
    await w.clock.advance('3 days');
    const after = w.engine();
    const late: string[] = [];
    await onboard(
      withLateClick(w, after, async () => {
        const { status, error } = await theRun(after);
        late.push(status, String(error?.code));
      }),
      app(w),
    );
    expect(late).toEqual(['failed', 'EVENT_TIMEOUT']);
    await w.clock.idle();
    expect((await theRun(after)).status).toBe('failed');
    expect(w.log).toEqual(['create 42', 'send ada@example.com']);
  });

  for (const late of [false, true])
    for (const when of ['before', 'after'] as const)
      for (let at = 1; at <= 7; at++)
        it(`survives a crash ${when} commit ${at}${late ? ', with a click that comes late' : ''}`, async () => {
          const w = world(medium);
          let died = () => {};
          let isDead = false;
          const death = new Promise<void>((resolve) => {
            died = () => {
              isDead = true;
              resolve();
            };
          });
          const doomed = w.engine(undefined, { store: mortal(w, at, when, died) });
          const flow = onboard(late ? withLateClick(w, doomed) : doomed, app(w)).catch(() => undefined);
          await Promise.race([death, flow.then(() => w.clock.idle())]);
          if (!late || at < 7)
            w.crash(doomed); // a run of 6 commits has ended before its seventh
          else if (isDead) w.crash(doomed);
          else await doomed.close();
          const done = [...w.log];

          const engine = w.engine();
          await onboard(late ? withLateClick(w, engine) : engine, app(w));
          await w.clock.idle();
          await expectOnboarded(engine);
          // At least once, in order: only the step that was in flight may have run twice.
          expect(w.log.filter((line, index) => line !== w.log[index - 1])).toEqual(everything);
          expect(w.log.length - everything.length).toBeLessThanOrEqual(1);
          expect(w.log.slice(0, done.length)).toEqual(done);
        });
});
