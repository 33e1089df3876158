import type { Proof, Proving, Technique } from '../technique.js';
import { differences } from './ending.js';
import { faultsOf, textOf } from './faults.js';
import { flows } from './flows.js';
import { MEDIA } from './media.js';
import { playCase } from './stage.js';

async function prove({ say }: Proving): Promise<Proof> {
  const violations: string[] = [];
  const counts: Record<string, number> = {};
  let cases = 0;
  const only = process.env.CRASH_CASE?.split('/');
  for (const [name, kind] of Object.entries(MEDIA))
    for (const flow of flows) {
      if (only && (only[0] !== name || only[1] !== flow.name)) continue;
      if (flow.media && !flow.media.includes(name)) continue;
      const expected = await playCase(flow, kind, []);
      if (only?.[2]) console.error(expected);
      for (const mode of Object.keys(kind.modes))
        for (let at = 1; ; at++) {
          const faults = only?.[2] ? faultsOf(only[2]) : [{ mode, at }];
          const where = `${name}/${flow.name}/${textOf(faults)}`;
          let wrong: string[];
          let struck = 1;
          try {
            const found = await Promise.race([
              playCase(flow, kind, faults),
              new Promise<never>((_, reject) => setTimeout(reject, 15_000, new Error('it hangs'))),
            ]);
            if (only?.[2]) console.error(found);
            struck = found.struck;
            wrong = differences(expected, found);
          } catch (error) {
            wrong = [`it could not go on: ${error instanceof Error ? error.stack : error}`];
          }
          if (!struck) break;
          cases++;
          counts[name] = (counts[name] ?? 0) + 1;
          for (const each of wrong) {
            say(`${where}: ${each}`);
            violations.push(`${where}: ${each}`);
          }
          if (only?.[2] || at > 400) break;
        }
      say(`${name}/${flow.name}: ${cases} cases so far, ${violations.length} violations`);
    }
  return { cases, violations, seeds: 0, counts };
}

export const technique: Technique = { title: 'Crash at every operation', prove };
