import { fastForward } from './clock.js';
import { button, el } from './dom.js';

/* The ways to disturb a run that the page offers. */

const DAY_MS = 24 * 60 * 60 * 1_000;

/**
 * Ends the page as a crash does: nobody hears of it. An orderly reload tells stepfast (by `pagehide`) that the page was
 * left; a crash can not, so the listener here, which is the first, keeps that event from everybody.
 */
let isCrashing = false;
addEventListener('pagehide', (event) => isCrashing && event.stopImmediatePropagation(), { capture: true });

function crash(): void {
  isCrashing = true;
  location.reload();
}

const action = (control: Node, text: string) => el('li', {}, control, el('span', { class: 'detail' }, text));

export function breakView(runId: string | undefined): Node[] {
  const secondTab = el(
    'a',
    { class: 'button', id: 'second-tab', href: runId ? `#${runId}` : '#', target: '_blank', rel: 'noopener' },
    'Open a second tab',
  );
  return [
    action(
      button('reload', 'Reload', () => location.reload()),
      'Best while a step runs.',
    ),
    action(button('crash', 'Crash this tab', crash), 'Gone without a word.'),
    action(secondTab, 'Either can go on with it.'),
    action(
      button('fast-forward', 'Fast-forward 24 h', () => fastForward(DAY_MS)),
      'While it waits for the click.',
    ),
  ];
}
