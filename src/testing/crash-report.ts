import { StepfastError } from '../errors.js';
import type { RunStatus } from '../run/inspect.js';
import type { CrashReport, CrashViolation } from './crash-everywhere.js';
import { type Entering, wordsFor } from './fakes.js';
import type { Blame } from './witness.js';

/*
 * What is said of plays that differ from the one in which nothing happened.
 */

/** One death of the context. */
export interface Death {
  readonly when: 'before' | 'after';
  /** The number of the commit since the app was opened. */
  readonly commit: number;
}

/** What one play has come to, as text where it is compared. */
export interface PlayedOut {
  readonly outcome: string;
  readonly effects: string;
  /** How the run stands in the end, where it came to one. */
  readonly status?: RunStatus;
  /** Why a run of it is blocked. */
  readonly blocked?: string | undefined;
  /** Commits of the last life. */
  readonly commits: number;
  /** How many of the deaths it came to. */
  readonly deaths: number;
  readonly again: readonly Entering[];
  /** Entered in more lives than one. */
  readonly repeated: readonly string[];
  readonly broke?: unknown;
  /** Its handlers had something to say after real time alone. */
  readonly isLate: boolean;
  readonly blame?: Blame | undefined;
}

export const wordsOf = (deaths: readonly Death[]): string => {
  const words = deaths.map(({ when, commit }) => `${when} commit ${commit}`);
  return words.length ? `crash ${words.join(', and in the next life ')}` : 'no crash';
};

const MAX_QUOTE = 300;
const cut = (text: string): string => (text.length > MAX_QUOTE ? `${text.slice(0, MAX_QUOTE)}...` : text);

const BETWEEN = 'what the handler (or `play`) does between steps, which is done again at each replay';
const ATTEMPT = 'a step that does something else at another `attempt`';
const quoted = (name: string) => (name === 'onFailed' ? name : `"${name}"`);
const listed = (names: readonly string[]) => names.map(quoted).join(', ');

/** Whose work the difference is, as far as it is known, and what to do about it. */
function verdictOn({ repeated, blame }: PlayedOut): { readonly who: string; readonly advice: string; step?: string } {
  const isKnown = blame !== undefined && (blame.functions.length > 0 || blame.isBetween);
  const functions = isKnown ? blame.functions : repeated;
  const isBetween = isKnown ? blame.isBetween : true;
  const some = functions.length > 1 ? 'one or more of ' : '';
  const named = functions.length && `Not idempotent: ${some}${listed(functions)}, entered twice.`;
  const unknown = named ? `Or ${BETWEEN}.` : `No step was entered twice. It is ${BETWEEN}, or ${ATTEMPT}.`;
  const between = isKnown ? `Not in a step: ${BETWEEN}.` : unknown;
  const advice = [
    functions.some((name) => name !== 'onFailed') &&
      "Hand the step's idempotencyKey to what it calls, or let it see first whether it was done.",
    functions.includes('onFailed') && 'Let onFailed see first whether it was done, by the id of the run.',
    isBetween && 'Put it into a step.',
  ];
  const [step] = functions;
  const isOne = functions.length === 1 && step !== 'onFailed' && !isBetween;
  return {
    who: [named, isBetween && between].filter(Boolean).join(' '),
    advice: advice.filter(Boolean).join(' '),
    ...(isOne && { step: step! }),
  };
}

/** Two plays without a crash ended in two ways. */
const UNSTEADY = {
  who: 'The scenario differs from itself.',
  advice: 'Give it as a function that makes the world anew for each play.',
};

const enteredAgain = (entering: Entering, crash: string): CrashViolation => {
  const { kind, name } = entering;
  const what = wordsFor(entering).replace(/^(s|t)/, (letter) => letter.toUpperCase());
  const message = `${what} was entered again after its outcome had been recorded.`;
  return { crash, kind: 'entered-again', ...(kind !== 'onFailed' && { step: name }), message };
};

/** How a play differs from the one in which nothing happened. */
export function compare(reference: PlayedOut, found: PlayedOut, crash: string): CrashViolation[] {
  const violations = found.again.map((entering) => enteredAgain(entering, crash));
  if (found.broke !== undefined) {
    const said = found.broke instanceof Error ? found.broke.message : String(found.broke);
    return [...violations, { crash, kind: 'broke', message: `The flow could not go on: ${said}` }];
  }
  const { repeated } = found;
  if (found.outcome !== reference.outcome)
    violations.push({
      crash,
      kind: 'outcome',
      ...(repeated.length === 1 && { step: repeated[0]! }),
      message: `The flow ended otherwise${repeated.length ? `, after ${listed(repeated)} had been entered twice` : ''}: ${cut(found.outcome)} instead of ${cut(reference.outcome)}.`,
    });
  if (found.effects !== reference.effects) {
    const { who, advice, ...step } = found.deaths ? verdictOn(found) : UNSTEADY;
    const message = `${who} The world ended as ${cut(found.effects)} instead of ${cut(reference.effects)}. ${advice}`;
    violations.push({ crash, kind: 'effects', ...step, message });
  }
  return violations;
}

/** What never goes on when nothing happens shows nothing by going on as little after a crash. */
export const neverGoesOn = (blocked: string): CrashViolation => ({
  crash: wordsOf([]),
  kind: 'broke',
  message: `The flow is blocked, though nothing happened to it: ${blocked}`,
});

const SHOWN = 10;

/** What is thrown: the violations, in words. The report itself is its `data`. */
export function failure(report: CrashReport): StepfastError {
  const { violations, crashes } = report;
  const lines = violations.slice(0, SHOWN).map(({ crash, message }) => `- ${crash}: ${message}`);
  if (violations.length > SHOWN) lines.push(`- and ${violations.length - SHOWN} more`);
  const count = violations.length === 1 ? '1 violation' : `${violations.length} violations`;
  const said = `${count} in ${crashes} crashes:\n${lines.join('\n')}\n`;
  return new StepfastError('NOT_CRASH_SAFE', said, { data: report });
}
