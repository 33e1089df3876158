/**
 * A copy of what crosses the border of a store (store rule S6), without properties that are `undefined`. By hand, because
 * `structuredClone` costs as much as all else of a commit in memory.
 *
 * @param clone Copies what is neither a plain object nor an array (a `Blob`, bytes). Default: they are not there.
 */
export function copyOf<T>(value: T, clone: (value: never) => unknown = (same) => same): T {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) {
    const list: unknown[] = [];
    for (const each of value) list.push(copyOf(each, clone));
    return list as T;
  }
  const proto = Object.getPrototypeOf(value);
  if (proto !== Object.prototype && proto !== null) return clone(value as never) as T;
  const copy: { [key: string]: unknown } = {};
  for (const key in value) {
    if (!Object.hasOwn(value, key)) continue;
    const found = copyOf((value as { readonly [key: string]: unknown })[key], clone);
    if (found === undefined) continue;
    // Assigned, this one name would become the prototype.
    if (key === '__proto__')
      Object.defineProperty(copy, key, { value: found, enumerable: true, configurable: true, writable: true });
    else copy[key] = found;
  }
  return copy as T;
}
