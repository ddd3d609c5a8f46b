import { describe, expect, it } from "vitest";
import { unpack } from "../../ui/reader";
import { draw, sorted } from "./distribution";
import { shade, surprise } from "./words";

const logits = Array.from({ length: 600 }, (_, id) => 7 * Math.sin(1.7 * id) + 3 * Math.cos(0.31 * id) + id / 300);

// Of these logits by smelt/infer/sampling.py: temperature, top-p, tokens kept, entropy, and the likeliest, second, 11th
// and 51st token with its probability.
const KNOWN: [number, number, number, number, [number, number][]][] = [
  [1, 1, 600, 5.886827, [[548, 0.07782516], [426, 0.05711351], [182, 0.02533607], [407, 0.00408722]]],
  [0.7, 1, 600, 5.122008, [[548, 0.13477471], [426, 0.08662343], [182, 0.02712377], [407, 0.00200206]]],
  [1.6, 0.9, 103, 6.259567, [[548, 0.04267141], [426, 0.03516809], [182, 0.02116041], [407, 0.00676596]]],
  [0.3, 0.5, 2, 0.830957, [[548, 0.7371898], [426, 0.2628102], [8, 0], [48, 0]]],
  [1, 0.95, 76, 5.562517, [[548, 0.08182109], [426, 0.06004601], [182, 0.02663695], [407, 0.00429708]]],
  [2, 0.05, 2, 0.995696, [[548, 0.53860103], [426, 0.46139897], [8, 0], [48, 0]]],
];

describe("redrawing a distribution in the browser", () => {
  it.each(KNOWN)("equals what the engine samples from at temperature %s and top-p %s", (temperature, topP, kept, entropy, likely) => {
    const order = sorted(Float32Array.from(logits));
    const drawn = draw(order, temperature, topP);
    expect(drawn.kept).toBe(kept);
    expect(drawn.entropy).toBeCloseTo(entropy, 3);
    expect(drawn.probabilities.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 9);
    for (const [id, share] of likely) expect(Math.abs(drawn.probabilities[order.ids.indexOf(id)]! - share)).toBeLessThan(1e-5);
  });

  it("takes the likeliest at temperature 0, and the first of equals first", () => {
    const order = sorted([1, 5, 5, 0]);
    expect([...order.ids]).toEqual([1, 2, 0, 3]);
    expect([...draw(order, 0, 1).probabilities]).toEqual([1, 0, 0, 0]);
    expect(draw(order, 1, 1e-9).kept).toBe(1);
  });

  it("reads float32 as the server packs it", () => {
    expect([...unpack("AAAAP28SgzoAAMDA")]).toEqual([0.5, Math.fround(0.001), -6]);
  });
});

describe("surprise", () => {
  it("is measured in bits and shaded by doubling steps", () => {
    expect(surprise(Math.log(0.25))).toBeCloseTo(2);
    expect(surprise(0)).toBe(0);
    expect([0, 0.6, 1, 3, 4, 8, 30].map(shade)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });
});
