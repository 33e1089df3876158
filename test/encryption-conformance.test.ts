import 'fake-indexeddb/auto';
import './fake-locks.js';
import { describe, it } from 'vitest';
import { encryption } from '../plugins/encryption/index.js';
import { storeConformance } from '../src/testing/conformance.js';
import { media } from './harness.js';

// Pins: a store with encryption around it is a store like any other (spec D6). The stores themselves are those of the
// other suites; two contexts on one medium have a plug-in each, as two tabs would.

const bytes = (fill: number) => new Uint8Array(32).fill(fill);
const keyOf = (subject: { readonly kind: string }) => (subject.kind === 'run' ? 'own' : undefined);
const plugins = {
  'one key': () => encryption({ key: bytes(1), indexKey: bytes(2) }),
  'a key of each run': () => encryption({ key: bytes(1), indexKey: bytes(2), keyOf, keys: async () => bytes(3) }),
};

for (const [kind, medium] of Object.entries(media))
  for (const [keys, plugin] of Object.entries(plugins)) {
    if (kind !== 'memory' && keys !== 'one key') continue; // what differs is above the stores
    const freshMedium = () => {
      const open = medium();
      return () => plugin().store!(open());
    };
    storeConformance(`encrypted ${kind} (${keys})`, freshMedium, { describe, it });
  }
