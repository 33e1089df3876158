import 'fake-indexeddb/auto';
import { describe, it } from 'vitest';
import { indexedDBStore } from '../../adapters/indexeddb/index.js';
import { storeConformance } from '../../src/testing/conformance.js';

let count = 0;
const freshMedium = () => {
  const name = `conformance-${count++}`;
  return () => indexedDBStore({ name });
};

storeConformance('indexeddb', freshMedium, { describe, it });
