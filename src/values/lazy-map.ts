/*
 * Maps and sets that cost next to nothing while they are empty. A run in memory has some thirty, of which a plain flow of
 * steps fills five; an empty one of the language takes 200 bytes, which were a sixth of all that the garbage collector had
 * to carry around for each run in flight.
 */

const NO_MAP = new Map<never, never>();
const NO_SET = new Set<never>();

export class LazyMap<K, V> implements Map<K, V> {
  #own: Map<K, V> | undefined;

  get size(): number {
    return this.#own?.size ?? 0;
  }
  get(key: K): V | undefined {
    return this.#own?.get(key);
  }
  has(key: K): boolean {
    return this.#own?.has(key) ?? false;
  }
  set(key: K, value: V): this {
    this.#own ??= new Map();
    this.#own.set(key, value);
    return this;
  }
  delete(key: K): boolean {
    return this.#own?.delete(key) ?? false;
  }
  clear(): void {
    this.#own?.clear();
  }
  keys(): MapIterator<K> {
    return (this.#own ?? NO_MAP).keys();
  }
  values(): MapIterator<V> {
    return (this.#own ?? NO_MAP).values();
  }
  entries(): MapIterator<[K, V]> {
    return (this.#own ?? NO_MAP).entries();
  }
  forEach(call: (value: V, key: K, map: Map<K, V>) => void): void {
    this.#own?.forEach(call);
  }
  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.entries();
  }
  readonly [Symbol.toStringTag] = 'LazyMap';
}

export class LazySet<T> implements Set<T> {
  #own: Set<T> | undefined;

  get size(): number {
    return this.#own?.size ?? 0;
  }
  has(value: T): boolean {
    return this.#own?.has(value) ?? false;
  }
  add(value: T): this {
    this.#own ??= new Set();
    this.#own.add(value);
    return this;
  }
  delete(value: T): boolean {
    return this.#own?.delete(value) ?? false;
  }
  clear(): void {
    this.#own?.clear();
  }
  keys(): SetIterator<T> {
    return this.values();
  }
  values(): SetIterator<T> {
    return (this.#own ?? NO_SET).values();
  }
  entries(): SetIterator<[T, T]> {
    return (this.#own ?? NO_SET).entries();
  }
  forEach(call: (value: T, again: T, set: Set<T>) => void): void {
    this.#own?.forEach(call);
  }
  [Symbol.iterator](): SetIterator<T> {
    return this.values();
  }
  readonly [Symbol.toStringTag] = 'LazySet';
}
