/** Tools for tests of jobs and of stores. */
export { type SimulatedClock, simulatedClock } from './clock.js';
