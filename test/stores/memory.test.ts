import { describe, it } from 'vitest';
import { memoryMedium, memoryStore } from '../../adapters/memory/index.js';
import { storeConformance } from '../../src/testing/conformance.js';

const freshMedium = () => {
  const medium = memoryMedium();
  return () => memoryStore({ medium });
};

storeConformance('memory', freshMedium, { describe, it });
