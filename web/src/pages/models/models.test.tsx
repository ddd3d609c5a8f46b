import { expect, test } from "vitest";
import { around, depths, fit, HEIGHT, layout } from "./layout";
import { firstMetric, number } from "./states";
import type { Graph, Node } from "./types";

const node = (id: string, kind: Node["kind"] = "model"): Node => ({ id, kind, label: id });
const edge = (from: string, to: string) => ({ from, to, exact: true, role: "" });

const GRAPH: Graph = {
  nodes: [node("tuned"), node("base"), node("data", "data"), node("talk", "data"), node("words", "tokenizer"), node("int8", "served")],
  edges: [edge("data", "base"), edge("words", "base"), edge("base", "tuned"), edge("talk", "tuned"), edge("tuned", "int8")],
};

test("columns go from data over tokenizers to models and what was made of them", () => {
  const depth = depths(GRAPH);
  expect(["data", "talk", "words", "base", "tuned", "int8"].map((id) => depth.get(id))).toEqual([0, 0, 1, 2, 3, 4]);
});

test("each node stands right of what it was made of, and none overlaps another", () => {
  const found = layout(GRAPH);
  const at = new Map(found.nodes.map((one) => [one.node.id, one]));
  for (const { from, to } of GRAPH.edges) expect(at.get(from)!.x).toBeLessThan(at.get(to)!.x);
  for (const one of found.nodes)
    for (const other of found.nodes) if (one !== other && one.x === other.x) expect(Math.abs(one.y - other.y)).toBeGreaterThanOrEqual(HEIGHT);
  expect(found.edges).toHaveLength(GRAPH.edges.length);
  expect(Math.min(...found.nodes.map((one) => one.y))).toBeGreaterThanOrEqual(0);
  expect(Math.max(...found.nodes.map((one) => one.y + HEIGHT))).toBeLessThanOrEqual(found.height);
});

test("a column that nobody is in takes no room", () => {
  const found = layout({ nodes: [node("one"), node("two")], edges: [edge("one", "two")] });
  expect(found.nodes.map((one) => one.x)).toEqual([0, found.columns[1]!.x]);
  expect(layout({ nodes: [], edges: [] })).toMatchObject({ nodes: [], edges: [], width: 0, height: 0 });
});

test("a circle and an edge to nowhere are left out of the drawing", () => {
  const found = layout({ nodes: [node("one"), node("two")], edges: [edge("one", "two"), edge("two", "one"), edge("none", "one")] });
  expect(found.nodes).toHaveLength(2);
  expect(found.edges).toHaveLength(1);
});

test("three hundred models are laid out in a moment", () => {
  const nodes = Array.from({ length: 300 }, (_, place) => node(`m${place}`));
  const edges = nodes.slice(1).map((one, place) => edge(`m${Math.floor(place / 2)}`, one.id));
  const started = performance.now();
  expect(layout({ nodes, edges }).nodes).toHaveLength(300);
  expect(performance.now() - started).toBeLessThan(2000);
});

test("around a node is what it hangs on and what hangs on it", () => {
  expect(around(GRAPH, "base").nodes.map((one) => one.id).sort()).toEqual(["base", "data", "int8", "tuned", "words"]);
});

test("texts are cut to their room, wide letters too", () => {
  expect(fit("short", 8)).toBe("short");
  expect(fit("abcdefghij", 8)).toBe("abcdefg…");
  expect(fit("一二三四五六", 8)).toBe("一二三…");
});

test("the loss on held-out data says most", () => {
  expect(firstMetric({ accuracy: 1, validation_loss: 2 })).toBe("validation_loss");
  expect(firstMetric({})).toBeUndefined();
  expect([number(1.84373447), number(1000)]).toEqual(["1.844", "1,000"]);
});
