import { StepfastError } from '../../src/errors.js';
import type { CommitOutcome } from '../../src/store/batch.js';
import type { Writes } from '../../src/store/transition/scope.js';
import { transition } from '../../src/store/transition.js';
import type { Archive } from './archive.js';
import { notSerializable, type Prepared } from './batch.js';
import { storeError } from './files.js';
import { type Image, MOST_DECIDED } from './image.js';
import { askedIn, isAsked } from './inbox.js';
import { type Adopted, adopt, readsOf, removalsOf } from './reads.js';
import { stage } from './stage.js';

/*
 * What a group of batches comes to. Memory runs ahead of the disk here (owner.ts, W2).
 */

export interface Waiting extends Prepared {
  /** Sent by another process. */
  readonly isForeign?: true;
  /** The name of its request in the inbox: what was decided of that once is its outcome. */
  readonly request?: string | undefined;
  readonly resolve: (outcome: CommitOutcome) => void;
  readonly reject: (error: unknown) => void;
}

const hasAny = ({ runs, events, drops, state, deletes }: Writes): boolean =>
  runs.size + events.size + drops.size + state.size + deletes.size > 0;

/** What a group of batches comes to, before it is on disk. */
interface Decided {
  readonly text: string;
  readonly changed: ReadonlyMap<string, boolean>;
  readonly deleted: readonly string[];
  readonly answered: readonly (readonly [waiting: Waiting, outcome: CommitOutcome])[];
}

interface Deciding {
  readonly dir: string;
  readonly archive: Archive;
  readonly isStrict: boolean;
  readonly fence: number;
}

/** Decides a group in order. A batch that can not be decided or encoded is refused alone. */
export async function decide(
  { dir, archive, isStrict, fence }: Deciding,
  image: Image,
  group: readonly Waiting[],
): Promise<Decided> {
  const first = isStrict ? image.n + 1 : image.snapshotEnd + 1;
  const answered: [Waiting, CommitOutcome][] = [];
  const changed = new Map<string, boolean>();
  const deleted: string[] = [];
  let text = '';
  for (const waiting of group)
    try {
      const { batch, texts, request } = waiting;
      if (waiting.isForeign && request !== undefined && !isAsked(dir, request)) throw takenBack();
      const before = request === undefined ? undefined : image.decided.get(request);
      if (before) {
        answered.push([waiting, before]);
        continue;
      }
      const adopted: Adopted = new Map();
      const { outcome, writes } = await transition(readsOf(image, archive, adopted, batch), batch);
      if (outcome.kind === 'committed' && hasAny(writes)) {
        adopt(writes, image, adopted);
        const removals = removalsOf(writes, image, adopted);
        const isRecorded = request !== undefined && batch.state?.length;
        const staged = { writes, removals, texts, asked: isRecorded ? ([request, outcome] as const) : undefined };
        text += stage(image, staged, fence, first);
        deleted.push(...writes.deletes);
        const isOwn = !waiting.isForeign;
        for (const runId of [...writes.runs.keys(), ...writes.deletes])
          changed.set(runId, isOwn && changed.get(runId) !== false);
      }
      answered.push([waiting, outcome]);
    } catch (error) {
      waiting.reject(notSerializable(error) ?? storeError(error, 'reading', dir));
    }
  if (image.decided.size > image.mostDecided) forgetAnswered(dir, image);
  return { text, changed, deleted, answered };
}

/** Its sender commits it itself, or waits for it no more. */
const takenBack = () => new StepfastError('CLOSED', 'The request was taken back by the process that sent it.');

/** A request that is not in the inbox any more is never decided again (guest.ts, U5). */
function forgetAnswered(dir: string, image: Image): void {
  const asked = askedIn(dir);
  for (const id of image.decided.keys()) if (!asked.has(id)) image.decided.delete(id);
  image.mostDecided = Math.max(MOST_DECIDED, 2 * image.decided.size);
}
