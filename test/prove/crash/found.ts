/** Two faults in a row that were drawn by chance once, and found something. Numbers of operations move with the code. */
export const FOUND: readonly string[] = [
  'file/race/error-once@19+power-loss@31',
  'file/retry-a-run/torn@9+error-long@25',
  'file/fork-and-delete/full-long@8+full-long@13',
  'file/cancel-mid-step/error-once@26+full-long@15',
  'file/debounce-and-singleton/torn@10+error-long@69',
  'file/onboarding/error-long@8+data-loss@4',
];
