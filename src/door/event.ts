import { checkName } from '../values/check.js';
import { nameOf } from '../values/kinds.js';
import { checkSchema, type StandardSchema } from './job.js';

/** An event with a schema: accepted wherever an event's name is. Create one with `defineEvent`. */
export interface EventType<Payload = unknown, Input = unknown, Name extends string = string> {
  readonly name: Name;
  readonly schema: StandardSchema<Payload, Input>;
  /** For the types alone: what a wait gets. */
  readonly '~payload'?: Payload;
  /** For the types alone: what `dispatch` is given. */
  readonly '~input'?: Input;
}

/**
 * Defines an event whose payload is checked at `dispatch` and typed wherever it is waited for.
 *
 * What the schema makes of the payload is stored; an event that does not fit is refused with `INVALID_PAYLOAD`.
 *
 * @param name 1 to 256 characters; recorded with each event, so it must not change.
 * @throws {StepfastError} `INVALID_NAME`, `INVALID_OPTION`.
 * @example const emailVerified = defineEvent('email.verified', z.object({ userId: z.string() }));
 */
export function defineEvent<Payload, Input, Name extends string = string>(
  name: Name,
  schema: StandardSchema<Payload, Input>,
): EventType<Payload, Input, Name> {
  checkName(name, 'an event');
  checkSchema(schema, `The schema of event "${name}"`);
  return { name, schema };
}

/** Refuses what is no event: a name, or what `defineEvent` returned. Without a schema, it would pass for a checked one. */
export function checkEvent(event: string | EventType): void {
  checkName(nameOf(event), 'an event');
  if (typeof event === 'object') checkSchema(event.schema, `The schema of event "${event.name}"`);
}
