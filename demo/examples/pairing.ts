import type { Stepfast } from 'stepfast';
import type { Example } from './stage.js';

/*
 * Two devices are paired: whichever comes first counts, the code scanned by the other device, the code typed in, or the
 * user giving up; and a code that is shown for two minutes is renewed.
 */

export const pairing: Example = async ({ open, clock, say }) => {
  const shown: string[] = [];

  const define = (stepfast: Stepfast) => {
    stepfast.job<{ device: string }>('pair', async ({ payload, step }) => {
      for (;;) {
        const code = (await step.uuid()).slice(0, 6);
        await step.run('show-code', () => void shown.push(code));
        const first = await step.race([
          step.waitForEvent<{ device: string }>(['code.scanned', 'code.typed'], { correlationKey: code }),
          step.waitForEvent('pairing.cancelled', { correlationKey: payload.device }),
          step.sleep('code-expires', '2m'),
        ]);
        if (!first) continue;
        if (first.name === 'pairing.cancelled') return { paired: false };
        return { paired: true, with: (first.payload as { device: string }).device, by: first.name };
      }
    });
  };

  const app = open(define);
  const one = await app.start('pair', { device: 'laptop' });
  const two = await app.start('pair', { device: 'tablet' });
  await clock.advance('3m'); // both codes are renewed once
  const [old, , fresh] = shown;
  const late = await app.dispatch('code.scanned', { device: 'phone' }, { correlationKey: old! });
  say(`A scan of the old code wakes ${late.resumed.length} runs.`);
  await app.dispatch('code.typed', { device: 'phone' }, { correlationKey: fresh! });
  await app.dispatch('pairing.cancelled', undefined, { correlationKey: 'tablet' });
  await clock.idle();
  return { late: late.resumed, one: await one.result(), two: await two.result(), codes: shown.length };
};
