/**
 * What `step.*` gives. It notes when it is first looked at: `await`, `then` and all that is made of them ask for its
 * `constructor` (`await` calls no `then` of a native promise). In a class of its own, for one that is set on a native promise
 * makes every promise of the process slower in V8; and it says `Promise`, so that `await` takes it as it is.
 */
export class StepPromise<Value> extends Promise<Value> {
  /** It stands in here, with its name, for as long as nobody has. */
  declare unheard?: Map<object, string>;

  // biome-ignore lint/complexity/useLiteralKeys: an accessor of this name is a syntax error where it is not computed
  override get ['constructor'](): PromiseConstructor {
    this.unheard?.delete(this);
    return Promise;
  }
}
