import { describe, expect, it } from "vitest";
import { visible, written } from "../../ui/token";
import { habits } from "./attention";
import { partsOf, type Anatomy, type Layer } from "./parts";

const layer = { attention: { heads: 2 } } as Layer;
const parameter = (name: string, numbers: number) => ({ name, shape: [numbers], numbers, dtype: "float32", bytes: 4 * numbers });

describe("parts of a model", () => {
  it("gathers the weights of a block and leaves the others by themselves, in order", () => {
    const parameters = ["token_embedding.weight", "blocks.0.attention.query.weight", "blocks.0.norm.weight", "blocks.1.norm.weight", "norm.weight", "norm.bias"].map((name, place) => parameter(name, place + 1));
    const parts = partsOf({ parameters, layers: [layer, layer], encoder: null } as unknown as Anatomy);
    expect(parts.map((part) => [part.name, part.numbers, part.bytes])).toEqual([["token_embedding", 1, 4], ["blocks.0", 5, 20], ["blocks.1", 4, 16], ["norm", 11, 44]]);
    expect(parts[1]!.layer).toBe(layer);
  });

  it("keeps an encoder's blocks apart", () => {
    const parts = partsOf({ parameters: [parameter("decoder.blocks.0.w", 1), parameter("encoder.blocks.0.w", 2)], layers: [layer], encoder: { layers: [layer] } } as unknown as Anatomy);
    expect(parts.map((part) => part.name)).toEqual(["decoder.blocks.0", "encoder.blocks.0"]);
  });
});

it("tells how far a head looks back and how wide it spreads", () => {
  // The first token reads itself; the second reads both alike: half a token back, one bit.
  expect(habits(Float32Array.from([1, 0, 0.5, 0.5]), 2)).toEqual({ far: 0.25, bits: 0.5 });
});

describe("a written token", () => {
  it("shows what cannot be seen", () => {
    expect(visible("  a b ")).toBe("··a b·");
    expect(visible("a\n\t")).toBe("a↵⇥");
    expect(visible("")).toBe("∅");
    expect(written({ id: 1, text: "京", bytes: [10, 255] })).toBe("0A FF");
  });
});
