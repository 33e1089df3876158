/**
 * A copy of what crosses the border of the store (store rule S6). By hand, because `structuredClone` costs as much as all
 * else of a commit; it is asked for what is neither a plain object nor an array (a `Blob`, bytes).
 */
export function copyOf<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(copyOf) as T;
  const proto = Object.getPrototypeOf(value);
  if (proto !== Object.prototype && proto !== null) return structuredClone(value);
  const copy: { [key: string]: unknown } = {};
  for (const key of Object.keys(value)) {
    const found = copyOf((value as { readonly [key: string]: unknown })[key]);
    // Assigned, this one name would become the prototype.
    if (key === '__proto__')
      Object.defineProperty(copy, key, { value: found, enumerable: true, configurable: true, writable: true });
    else copy[key] = found;
  }
  return copy as T;
}
