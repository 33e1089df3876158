import { endings } from './flows/endings.js';
import { ofOneRun } from './flows/one-run.js';
import { ofSeveralRuns } from './flows/several-runs.js';
import type { Flow } from './stage.js';

/** Every word of the step language, and what users do around it. */
export const flows: readonly Flow[] = [...ofOneRun, ...ofSeveralRuns, ...endings];
