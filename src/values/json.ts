/** What a store keeps of a value: plain JSON. The codec (codec.ts) maps users' values to it and back. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
