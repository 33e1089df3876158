/** Figures of repeated measurements. */
export function quantile(values, at) {
  const sorted = [...values].sort((a, b) => a - b);
  const place = (sorted.length - 1) * at;
  const low = sorted[Math.floor(place)];
  const high = sorted[Math.ceil(place)];
  return low + (high - low) * (place - Math.floor(place));
}

export const median = (values) => quantile(values, 0.5);

/** The distance between the least and the greatest, as a part of the median. */
export const spread = (values) => (Math.max(...values) - Math.min(...values)) / (median(values) || 1);
