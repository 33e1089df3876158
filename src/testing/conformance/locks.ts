import type { StateChange } from '../../store/batch.js';
import type { Store } from '../../store/store.js';
import { caseGroup, change, commit, now, refused, spoiled } from './env.js';
import { check, equal, hostileStrings, range } from './kit.js';

const { cases, fact } = caseGroup('locks');

/** The cases about locks and their tokens (spec D8). */
export const locks = cases;

const lock = (holder: string, expiresAt = now + 100, key = 'k'): StateChange => ({
  kind: 'lock',
  key,
  holder,
  expiresAt,
});
const unlock = (token: number, key = 'k'): StateChange => ({ kind: 'unlock', key, token });

/** Tries to take the lock. Gives its token, or `undefined` when another has it. */
async function taken(store: Store, holder: string, at = now, until = at + 100, key = 'k'): Promise<number | undefined> {
  const { state } = await commit(store, { now: at, state: [lock(holder, until, key)] });
  return state[0]!.token;
}

/** Takes a lock that must be free. */
async function held(store: Store, holder: string, at = now, until = at + 100): Promise<number> {
  const token = await taken(store, holder, at, until);
  check(token !== undefined, `${holder} does not get the lock`);
  return token;
}

fact('D8: a lock is given to one holder, and the outcome tells another that it was not', async ({ open }) => {
  const store = await open();
  check((await held(store, 'x')) > 0, 'the token is greater than 0');
  equal(await change(store, lock('y')), [{}], 'the outcome for another holder');
  equal((await store.state('k'))?.holder, 'x', 'the holder');
});

fact('D8: a lock that is refused refuses nothing else of its batch', async ({ open }) => {
  const store = await open();
  await held(store, 'x');
  const outcomes = await change(store, lock('y'), { kind: 'set', key: 'other', value: 1 });
  equal([outcomes, (await store.state('other'))?.value], [[{}, {}], 1], 'the outcomes and the value');
});

fact('D8: a lock that was given back is free, and its token grows', async ({ open }) => {
  const store = await open();
  const first = await held(store, 'x');
  equal(await change(store, unlock(first)), [{}], 'the outcome of giving it back');
  const second = await held(store, 'y');
  check(second > first, `the token does not grow: ${first}, ${second}`);
});

fact('D8: a lock is free from the instant on when its time is over, and its token grows', async ({ open }) => {
  const store = await open();
  const first = await held(store, 'x', now, now + 10);
  equal(await taken(store, 'y', now + 9), undefined, 'the token one millisecond before');
  const second = await held(store, 'y', now + 10);
  check(second > first, `the token does not grow: ${first}, ${second}`);
  equal(await taken(store, 'x', now + 11), undefined, 'the token for the holder before');
});

fact('D8: the same holder takes its lock again, for longer, with a greater token', async ({ open }) => {
  const store = await open();
  const first = await held(store, 'x', now, now + 10);
  const second = await held(store, 'x', now, now + 50);
  check(second > first, `the token does not grow: ${first}, ${second}`);
  equal(await taken(store, 'y', now + 49), undefined, 'the token for another before the longer time is over');
  await held(store, 'y', now + 50);
});

fact('D8: a token grows over every giving back, expiry, sweep and reopening', async ({ open }) => {
  const tokens: number[] = [];
  for (const round of range(4)) {
    const store = await open();
    const at = now + round * 1000;
    const late = { kind: 'set', key: 'other', value: 1 } as const;
    tokens.push(await held(store, `given back ${round}`, at));
    await change(store, unlock(tokens.at(-1)!));
    tokens.push(await held(store, `expired ${round}`, at));
    for (const _ of range(5)) await commit(store, { now: at + 999, state: [late] });
    await store.close();
  }
  for (const index of range(tokens.length - 1))
    check(tokens[index + 1]! > tokens[index]!, `the token does not grow: ${tokens}`);
});

fact('D8: an old token does not give back the lock of another', async ({ open }) => {
  const store = await open();
  const first = await held(store, 'x', now, now + 10);
  const second = await held(store, 'y', now + 10);
  equal((await commit(store, { now: now + 11, state: [unlock(first)] })).state, [{}], 'the outcome');
  equal(await taken(store, 'z', now + 11), undefined, 'the token for a third');
  await commit(store, { now: now + 11, state: [unlock(second)] });
  await held(store, 'z', now + 11);
});

fact('D8: a token of before it was taken again does not give a lock back', async ({ open }) => {
  const store = await open();
  const first = await held(store, 'x');
  await held(store, 'x');
  await change(store, unlock(first));
  equal(await taken(store, 'y'), undefined, 'the token for another');
});

fact('D8: a token gives a lock back once, whatever comes between', async ({ open }) => {
  const store = await open();
  const first = await held(store, 'x');
  await change(store, unlock(first));
  await held(store, 'y');
  await change(store, unlock(first));
  equal(await taken(store, 'z'), undefined, 'the token for a third');
});

fact('D8: giving back what nobody has taken does nothing', async ({ open }) => {
  const store = await open();
  equal(await change(store, unlock(1)), [{}], 'the outcome');
  equal(await store.state('k'), undefined, 'the row');
});

fact('D8: a lock is still held when the store is opened again', async ({ open }) => {
  const store = await open();
  const token = await held(store, 'x');
  await store.close();
  const again = await open();
  equal(await taken(again, 'y'), undefined, 'the token for another');
  await change(again, unlock(token));
  await held(again, 'y');
});

fact('D8: of many concurrent takers from two contexts one gets the lock', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  const tokens = await Promise.all(range(32).map((index) => taken(stores[index % 2]!, `holder ${index}`)));
  const winners = range(32).filter((index) => tokens[index] !== undefined);
  equal(winners.length, 1, 'the number of winners');
  equal((await stores[0]!.state('k'))?.holder, `holder ${winners[0]}`, 'the holder');
});

fact('D8: a lock whose batch is refused is not taken, and not given back', async ({ open }) => {
  const store = await open();
  await refused(store, { state: [lock('x')], ...spoiled }, 'refused');
  const token = await held(store, 'y');
  await refused(store, { state: [unlock(token)], ...spoiled }, 'refused');
  equal(await taken(store, 'z'), undefined, 'the token for a third');
});

fact('D8: taking, giving back and taking again in one batch are done in turn', async ({ open }) => {
  const store = await open();
  const first = await held(store, 'x');
  const outcomes = await change(store, lock('y'), unlock(first), lock('y'));
  equal(outcomes.slice(0, 2), [{}, {}], 'the first two outcomes');
  check((outcomes[2]!.token ?? 0) > first, 'the lock is taken with a greater token');
});

fact('D8: hostile strings are keys and holders of locks like any other', async ({ open }) => {
  const store = await open();
  for (const text of hostileStrings) {
    const token = await taken(store, text, now, now + 100, text);
    check(token !== undefined, `${JSON.stringify(text)} is not taken`);
    equal(await taken(store, `${text}.`, now, now + 100, text), undefined, `another holder of ${JSON.stringify(text)}`);
  }
});

fact('Q4: a lock that was taken by a clock that was ahead holds nobody up once that is corrected', async ({ open }) => {
  const store = await open();
  const day = 86_400_000;
  const token = await held(store, 'x', now + day, now + day + 100);
  const next = await held(store, 'y', now, now + 100);
  check(next > token, 'the token grows');
  equal(await taken(store, 'z', now + 50), undefined, 'what another is told');
});
