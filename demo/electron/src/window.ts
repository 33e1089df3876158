import type { RunSnapshot, Stepfast } from 'stepfast';
import { connectStepfast } from 'stepfast/bridge';

/*
 * A window. It has no engine and no job: it asks the one in the main process, and hears of each change.
 */

const part = (id: string) => document.getElementById(id)!;

function row(stepfast: Stepfast, { id, payload, status }: RunSnapshot): HTMLLIElement {
  const item = document.createElement('li');
  item.textContent = `${(payload as { title: string }).title}: ${status} `;
  item.dataset.status = status;
  if (status === 'waiting') {
    const button = document.createElement('button');
    button.textContent = 'Approve';
    button.onclick = () => stepfast.dispatch('approved', undefined, { correlationKey: id }).catch(show);
    item.append(button);
  }
  return item;
}

const show = (error: Error) => {
  part('problem').textContent = error.message;
};

/** Shows the drafts that are there, and those that any window adds. */
function view(stepfast: Stepfast): void {
  const shown = new Map<string, HTMLLIElement>();
  const watch = (runId: string) => {
    if (shown.has(runId)) return;
    const place = document.createElement('li');
    part('drafts').append(place);
    shown.set(runId, place);
    stepfast.runs.subscribe(runId, (snapshot) => {
      const next = row(stepfast, snapshot);
      shown.get(runId)!.replaceWith(next);
      shown.set(runId, next);
    });
  };
  const look = async () => {
    for (const { id } of (await stepfast.runs.list({ job: 'publish' })).runs) watch(id);
  };
  part('new').onsubmit = (event) => {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const title = String(new FormData(form).get('title'));
    form.reset();
    stepfast.start('publish', { title }).then(look, show);
  };
  addEventListener('focus', () => void look().catch(show)); // drafts of the other window
  look().catch(show);
}

addEventListener('message', ({ source, data, ports: [port] }) => {
  if (source !== window || data !== 'stepfast-port' || !port) return;
  view(connectStepfast(port, { onLost: show }));
});
