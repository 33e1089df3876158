/* Elements and words. Text only ever becomes text: there is no innerHTML anywhere. */

type Child = Node | string | false | undefined;
type Attributes = { readonly [name: string]: string | boolean | undefined };

/** Creates an element. `true` sets a bare attribute, `false` and `undefined` leave it out. */
export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value);
  element.append(...children.filter((child): child is Node | string => child !== undefined && child !== false));
  return element;
}

export function button(id: string, label: string, onClick: () => unknown, kind = ''): HTMLButtonElement {
  const element = el('button', { type: 'button', id, class: kind }, label);
  element.addEventListener('click', onClick);
  return element;
}

export const byId = (id: string): HTMLElement => {
  const element = document.getElementById(id);
  if (!element) throw new Error(`There is no element "${id}".`);
  return element;
};

const drawn = new Map<string, string>();

/** Draws a part of the page if what it shows has changed; the focus stays where it was. */
export function draw<Model>(id: string, model: Model, view: (model: Model) => readonly Child[]): void {
  const text = JSON.stringify(model) ?? '';
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  const part = byId(id);
  const focused = part.contains(document.activeElement) ? document.activeElement?.id : undefined;
  part.replaceChildren(
    ...view(model).filter((child): child is Node | string => child !== undefined && child !== false),
  );
  if (focused) document.getElementById(focused)?.focus();
}

const dayAndTime = new Intl.DateTimeFormat('en-GB', { weekday: 'short', hour: '2-digit', minute: '2-digit' });

export const dayText = (at: number) => dayAndTime.format(at);

/** How long after the start: `+1.64 s`, `+3:20` minutes, `+24:01:05` hours. */
export function sinceText(ms: number): string {
  if (ms < 60_000) return `+${(ms / 1_000).toFixed(2)} s`;
  const [seconds, minutes] = [Math.floor(ms / 1_000) % 60, Math.floor(ms / 60_000) % 60].map((n) =>
    String(n).padStart(2, '0'),
  );
  const hours = Math.floor(ms / 3_600_000);
  return hours ? `+${hours}:${minutes}:${seconds}` : `+${Number(minutes)}:${seconds}`;
}

export const timesText = (n: number) => (n === 1 ? 'once' : n === 2 ? 'twice' : `${n} times`);
