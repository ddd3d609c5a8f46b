// What temperature and top-p make of a model's logits: the numbers of smelt/infer/sampling.py, without asking the model.

export interface Sorted {
  /** Ids, the likeliest first; of equal ones the lower first. */
  ids: Uint32Array;
  logits: Float64Array;
}

export interface Drawn {
  /** One for each of `Sorted.ids`. */
  probabilities: Float64Array;
  /** How many tokens top-p leaves. */
  kept: number;
  /** In bits. */
  entropy: number;
}

export function sorted(logits: ArrayLike<number>): Sorted {
  const ids = Uint32Array.from({ length: logits.length }, (_, id) => id);
  ids.sort((a, b) => logits[b]! - logits[a]! || a - b);
  return { ids, logits: Float64Array.from(ids, (id) => logits[id]!) };
}

/** Temperature 0 takes the likeliest; top-p keeps the fewest likeliest tokens that have at least so much together. */
export function draw({ logits }: Sorted, temperature: number, topP: number): Drawn {
  const probabilities = new Float64Array(logits.length);
  if (temperature === 0) {
    probabilities[0] = 1;
    return { probabilities, kept: 1, entropy: 0 };
  }
  let total = 0;
  for (let place = 0; place < logits.length; place++) total += probabilities[place] = Math.exp((logits[place]! - logits[0]!) / temperature);
  let kept = 0;
  let mass = 0;
  while (kept < logits.length && (kept === 0 || topP === 1 || mass < topP * total)) mass += probabilities[kept++]!;
  let mean = 0; // of the scores, by which the entropy needs one logarithm in all
  for (let place = 0; place < kept; place++) {
    probabilities[place]! /= mass;
    mean += (probabilities[place]! * (logits[place]! - logits[0]!)) / temperature;
  }
  probabilities.fill(0, kept);
  const entropy = (Math.log(mass) - mean) / Math.LN2;
  return { probabilities, kept, entropy };
}
