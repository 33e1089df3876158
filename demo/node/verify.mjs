// Another process, which runs no job: it tells of the click on the link, through the inbox of the one that does.
import { createStepfast } from 'stepfast';
import { fileStore } from 'stepfast/file';

const [dir] = process.argv.slice(2);
const stepfast = createStepfast({ store: fileStore({ dir }) });
const receipt = await stepfast.dispatch('email.verified', { userId: '42' }, { correlationKey: 'user:42' });
console.log(`receipt ${JSON.stringify(receipt)}`);
await stepfast.close();
