import type { RunSnapshot } from 'stepfast';
import { button, dayText, el, timesText } from './dom.js';
import { type SignUp, STEPS } from './flow.js';
import type { Effect, Mail, Work } from './world.js';

/* The parts of the page, each a function of what it shows. */

export interface Actions {
  readonly signUp: (name: string, email: string) => void;
  readonly startOver: () => void;
  readonly verify: (userId: string) => void;
  readonly retry: (runId: string) => void;
}

const DOING: { readonly [step: string]: string } = {
  'create-user': 'Creating your account',
  'send-verification-email': 'Sending a verification mail',
  'unlock-account': 'Unlocking your account',
};

const signUpForm = ({ signUp }: Actions): Node[] => {
  const name = el('input', {
    id: 'name',
    name: 'name',
    autocomplete: 'name',
    required: true,
    value: 'Ada Lovelace',
    maxlength: '80',
  });
  const email = el('input', {
    id: 'email',
    name: 'email',
    type: 'email',
    autocomplete: 'email',
    required: true,
    value: 'ada@example.com',
    maxlength: '120',
  });
  const form = el(
    'form',
    { class: 'sign-up' },
    el('label', { for: 'name' }, 'Name'),
    name,
    el('label', { for: 'email' }, 'E-mail'),
    email,
    el('button', { type: 'submit', id: 'sign-up', class: 'primary' }, 'Sign up'),
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    signUp(name.value.trim(), email.value.trim());
  });
  return [form];
};

const said = (mark: string, title: string, ...more: readonly (Node | string)[]) =>
  el('div', { class: `said ${mark}` }, el('p', { class: 'lead' }, title), ...more);

/** What the person who signs up sees. */
export function appView(run: RunSnapshot | undefined, work: Work | undefined, actions: Actions): Node[] {
  if (!run) return signUpForm(actions);
  const { name, email } = run.payload as SignUp;
  const startOver = button('start-over', 'Sign up someone else', actions.startOver, 'plain');
  const [wait] = run.waitingFor;
  if (run.status === 'completed')
    return [
      said('done', `Welcome, ${name}.`, el('p', {}, 'Your e-mail is verified and your account is unlocked.')),
      startOver,
    ];
  if (run.status === 'failed') {
    const isLate = run.error?.code === 'EVENT_TIMEOUT';
    const why = isLate
      ? 'Nobody opened the link within 24 hours, so the wait has timed out. A retry arms it again; your account is not created twice, and no second mail is sent.'
      : (run.error?.message ?? '');
    return [
      said('bad', isLate ? 'The link has expired.' : 'This did not work.', el('p', {}, why)),
      el(
        'div',
        { class: 'buttons' },
        button('retry', 'Retry', () => actions.retry(run.id), 'primary'),
        startOver,
      ),
    ];
  }
  if (wait) {
    const until = wait.deadline === undefined ? '' : ` The link is good until ${dayText(wait.deadline)}.`;
    return [said('wait', 'Check your inbox.', el('p', {}, `We have sent a mail to ${email}.${until}`)), startOver];
  }
  return [
    said('live', `${DOING[work?.step ?? ''] ?? 'One moment'}…`, el('p', {}, 'Reload the page now, if you like.')),
  ];
}

/** The mail that the pretend mail service has delivered. */
export function inboxView(mail: Mail | undefined, run: RunSnapshot | undefined, actions: Actions): Node[] {
  if (!mail) return [el('p', { class: 'empty' }, run ? 'No mail yet.' : 'Empty.')];
  const label = run?.status === 'completed' ? 'Verified' : 'Verify e-mail';
  const verify = button('verify', label, () => actions.verify(mail.userId), 'primary');
  verify.disabled = run?.status !== 'waiting';
  return [
    el(
      'article',
      { class: 'mail' },
      el('p', { class: 'subject' }, 'Please verify your e-mail'),
      el('p', { class: 'meta' }, `to ${mail.to} · ${dayText(mail.at)}`),
      el('p', {}, `Hello ${mail.name}, one click and your account is ready.`),
      verify,
    ),
  ];
}

/** How often each side effect ran, as the world outside has counted it. */
export function effectsView(effects: readonly Effect[]): Node[] {
  const rows = STEPS.map((step, index) => {
    const { calls, done } = effects[index]!;
    const called = `called ${timesText(calls)}`;
    const note =
      calls === 0 ? 'not yet' : done === 0 ? `${called}, no effect yet` : `${called}, took effect ${timesText(done)}`;
    return el(
      'li',
      { 'data-step': step, 'data-calls': String(calls), 'data-done': String(done) },
      el('span', { class: 'count', 'aria-hidden': 'true' }, String(calls)),
      el('span', { class: 'what' }, el('span', { class: 'title' }, step), el('span', { class: 'detail' }, note)),
    );
  });
  return [el('ul', { class: 'effects' }, ...rows)];
}

/** All runs of this browser, newest first. */
export function historyView(runs: readonly RunSnapshot[], currentId: string | undefined): Node[] {
  if (!runs.length) return [el('p', { class: 'empty' }, 'None yet. Sign up, and watch.')];
  const rows = runs.map((run) => {
    const { name, email } = run.payload as SignUp;
    const current = run.id === currentId && 'true';
    return el(
      'li',
      {},
      el(
        'a',
        { href: `#${run.id}`, 'aria-current': current },
        el(
          'span',
          { class: 'what' },
          el('span', { class: 'title' }, name),
          el('span', { class: 'detail' }, `${email} · ${dayText(run.createdAt)}`),
        ),
        el('span', { class: `status ${run.status}` }, run.status),
      ),
    );
  });
  return [el('ul', { class: 'history' }, ...rows)];
}
