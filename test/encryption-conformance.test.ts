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

/** Around a store of which each is asked this, and above which nobody has a name that the plug-in has not marked. */
const skip = {
  'E4: an event that has not gone through the plug-in that has written a run is not for that run, nor the other way round':
    'here everything goes through the plug-in',
};

for (const [kind, medium] of Object.entries(media))
  for (const [keys, plugin] of Object.entries(plugins)) {
    if (kind !== 'memory' && keys !== 'one key') continue; // what differs is above the stores
    const freshMedium = () => {
      const open = medium();
      return () => plugin().store!(open());
    };
    storeConformance(`encrypted ${kind} (${keys})`, freshMedium, { describe, it, skip });
  }
