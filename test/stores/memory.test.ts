import { describe, expect, it } from 'vitest';
import { memoryMedium, memoryStore } from '../../adapters/memory/index.js';
import { storeConformance } from '../../src/testing/conformance.js';

const freshMedium = () => {
  const medium = memoryMedium();
  return () => memoryStore({ medium });
};

storeConformance('memory', freshMedium, { describe, it });

it('B: a medium that memoryMedium has not made is refused', () => {
  for (const medium of [{}, null, 'medium'])
    expect(() => memoryStore({ medium: medium as never })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining('memoryMedium()') }),
    );
});
