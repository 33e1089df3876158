import { approval } from './approval.js';
import { checkout } from './checkout.js';
import { deviceFlow } from './device-flow.js';
import { fanOut } from './fan-out.js';
import { importRows } from './import-rows.js';
import { offlineForm } from './offline-form.js';
import { onboarding } from './onboarding.js';
import { pairing } from './pairing.js';
import type { Example } from './stage.js';
import { subscription } from './subscription.js';
import { trialDrip } from './trial-drip.js';
import { upload } from './upload.js';
import { wizard } from './wizard.js';

/** All examples, by the name that `npm run example` takes. */
export const examples: { readonly [name: string]: Example } = {
  onboarding,
  checkout,
  upload,
  'offline-form': offlineForm,
  approval,
  'trial-drip': trialDrip,
  'device-flow': deviceFlow,
  pairing,
  'import-rows': importRows,
  subscription,
  'fan-out': fanOut,
  wizard,
};
