import { webkit } from './engines/webkit.js';
import { others } from './others.js';

others(webkit);
