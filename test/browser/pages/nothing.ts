// An empty page.
export {};
