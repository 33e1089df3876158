import { expect, it } from 'vitest';
import { judge } from '../src/run/judge.js';
import type { LiveRun } from '../src/run/live-run.js';
import { createCodec } from '../src/values/codec.js';

// Pins: what waits with `match` or `schema` say of events, alone (spec E9).

it('E9: a predicate that throws says no, and is told of; a refusal by a schema is recorded once', async () => {
  const codec = createCodec({ URL, blobs: true });
  const told: unknown[] = [];
  const run = {
    row: { runId: 'r', job: 'job' },
    verdicts: new Map(),
    digest: { skipped: new Set(['["wait","known",1]:1']) },
  } as unknown as LiveRun;
  const cause = new Error('secret');
  const of = (name: string, says: (payload: unknown) => unknown) =>
    ({
      asked: { ask: { key: `["wait","${name}",1]`, command: { kind: 'wait', judge: says } }, set: { id: [name, 1] } },
      event: { seq: 1, id: 'e', name: 'go', payload: codec.encode(5, 'it') },
    }) as never;
  const refused = { kind: 'refused', reason: 'why' };
  const open = [
    of('throws', () => {
      throw cause;
    }),
    of('fits', (payload) => ({ kind: payload === 5 ? 'fits' : 'other' })),
    of('refuses', async () => refused),
    of('known', () => refused),
  ];
  const entries = await judge(run, { codec, report: (error) => void told.push(error) }, open, 7);
  expect(entries).toEqual([
    { kind: 'event-skipped', at: 7, id: ['refuses', 1], seq: 1, eventId: 'e', event: 'go', reason: 'why' },
  ]);
  expect([...run.verdicts.values()]).toEqual([{ kind: 'other' }, { kind: 'fits' }, refused, refused]);
  expect(told).toEqual([
    expect.objectContaining({ code: 'INVALID_OPTION', runId: 'r', job: 'job', step: 'throws', cause }),
  ]);
  expect(String((told[0] as Error).message)).not.toContain('secret');
});
