// Where the nodes of a graph go: columns from what is given (data) to what was made of it, few crossings, no overlap.
//
// An edge over several columns gets a place in each of them, so that it runs between nodes and not through them. The
// nodes of a column are ordered by the mean place of their neighbours, a few times to and fro, which is the usual way.
// Ref: Sugiyama, Tagawa, Toda, "Methods for visual understanding of hierarchical system structures", 1981.
import type { Edge, Graph, Node } from "./types";

export const WIDTH = 168;
export const HEIGHT = 54;
const GAP_X = 48;
const GAP_Y = 18;
const LANE = 6;
const SWEEPS = 6;

export interface Placed {
  node: Node;
  x: number;
  y: number;
}

export interface Drawn {
  edge: Edge;
  /** A path for SVG. */
  d: string;
}

export interface Layout {
  nodes: Placed[];
  edges: Drawn[];
  /** Where each column begins, and how deep it is: 0 data, 1 tokenizers, 2 models from nothing, 3 and on what was made of them. */
  columns: { x: number; depth: number }[];
  width: number;
  height: number;
}

/** How deep each node is; an edge that would close a circle counts for nothing. */
export function depths({ nodes, edges }: Graph): Map<string, number> {
  const parents = new Map<string, string[]>(nodes.map((node) => [node.id, []]));
  for (const edge of edges) if (parents.has(edge.from)) parents.get(edge.to)?.push(edge.from);
  const kinds = new Map(nodes.map((node) => [node.id, node.kind]));
  const found = new Map<string, number>();
  const under = new Set<string>();
  const visit = (id: string): number => {
    const known = found.get(id);
    if (known !== undefined) return known;
    if (under.has(id)) return -1;
    under.add(id);
    const above = parents.get(id)!.map(visit);
    under.delete(id);
    const least = { data: 0, tokenizer: 1, model: 2, gone: 2, served: 2 }[kinds.get(id)!];
    const depth = Math.max(least, ...above.map((one) => one + 1));
    found.set(id, depth);
    return depth;
  };
  for (const node of nodes) visit(node.id);
  return found;
}

interface Slot {
  id: string;
  height: number;
  y: number;
  before: Slot[];
  after: Slot[];
}

const mean = (values: number[]) => values.reduce((sum, one) => sum + one, 0) / values.length;
const middle = (slot: Slot) => slot.y + slot.height / 2;

export function layout(graph: Graph): Layout {
  const depth = depths(graph);
  const used = [...new Set(depth.values())].sort((one, other) => one - other);
  const column = new Map([...depth].map(([id, at]) => [id, used.indexOf(at)]));
  const columns: Slot[][] = used.map(() => []);
  const slots = new Map<string, Slot>();
  const add = (id: string, at: number, height: number): Slot => {
    const slot = { id, height, y: 0, before: [], after: [] };
    columns[at]!.push(slot);
    return slot;
  };
  for (const node of graph.nodes) slots.set(node.id, add(node.id, column.get(node.id)!, HEIGHT));
  const routes = new Map<Edge, Slot[]>();
  for (const edge of graph.edges) {
    const [from, to] = [slots.get(edge.from), slots.get(edge.to)];
    if (!from || !to || column.get(edge.from)! >= column.get(edge.to)!) continue;
    const route = [from];
    for (let at = column.get(edge.from)! + 1; at < column.get(edge.to)!; at++) route.push(add("", at, LANE));
    route.push(to);
    for (let place = 1; place < route.length; place++) {
      route[place - 1]!.after.push(route[place]!);
      route[place]!.before.push(route[place - 1]!);
    }
    routes.set(edge, route);
  }
  for (const slotsOf of columns) pack(slotsOf, () => 0);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const forth = sweep % 2 === 0;
    for (const slotsOf of forth ? columns : [...columns].reverse()) {
      const wanted = new Map(slotsOf.map((slot) => [slot, wish(slot, forth)]));
      slotsOf.sort((one, other) => wanted.get(one)! - wanted.get(other)!);
      pack(slotsOf, (slot) => wanted.get(slot)! - slot.height / 2);
    }
  }
  return finish(graph, columns, used, routes, slots, column);
}

/** Where a slot would like its middle to be: at the mean of those that it hangs on. */
function wish(slot: Slot, forth: boolean): number {
  const near = forth ? slot.before : slot.after;
  return near.length ? mean(near.map(middle)) : middle(slot);
}

/** Put slots below each other in their order, each as near to its wish as the one above lets it; then centre them. */
function pack(slots: Slot[], wanted: (slot: Slot) => number): void {
  let free = -Infinity;
  let shift = 0;
  for (const slot of slots) {
    slot.y = Math.max(free, wanted(slot));
    shift += wanted(slot) - slot.y;
    free = slot.y + slot.height + GAP_Y;
  }
  for (const slot of slots) slot.y += shift / slots.length;
}

function finish(graph: Graph, columns: Slot[][], used: number[], routes: Map<Edge, Slot[]>, slots: Map<string, Slot>, column: Map<string, number>): Layout {
  const top = Math.min(0, ...columns.flat().map((slot) => slot.y));
  const left = (at: number) => at * (WIDTH + GAP_X);
  const edges = [...routes].map(([edge, route]) => {
    const first = column.get(edge.from)!;
    let d = "";
    let [x, y] = [0, 0];
    route.forEach((slot, place) => {
      const [nextX, nextY] = [left(first + place), middle(slot) - top];
      if (place === 0) d = `M${nextX + WIDTH} ${round(nextY)}`;
      else d += `C${x + GAP_X / 2} ${round(y)} ${nextX - GAP_X / 2} ${round(nextY)} ${nextX} ${round(nextY)}`;
      if (place > 0 && place < route.length - 1) d += `H${nextX + WIDTH}`;
      [x, y] = [nextX + WIDTH, nextY];
    });
    return { edge, d };
  });
  const nodes = graph.nodes.map((node) => ({ node, x: left(column.get(node.id)!), y: round(slots.get(node.id)!.y - top) }));
  return {
    nodes,
    edges,
    columns: used.map((depth, at) => ({ x: left(at), depth })),
    width: Math.max(0, columns.length * (WIDTH + GAP_X) - GAP_X),
    height: round(Math.max(0, ...columns.flat().map((slot) => slot.y - top + slot.height))),
  };
}

const round = (value: number) => Math.round(value * 10) / 10;

/** The part of a graph that one node hangs on, and that hangs on it. */
export function around({ nodes, edges }: Graph, id: string): Graph {
  const reach = (from: "from" | "to", to: "from" | "to") => {
    const found = new Set([id]);
    const open = [id];
    while (open.length) {
      const at = open.pop()!;
      for (const edge of edges)
        if (edge[from] === at && !found.has(edge[to])) {
          found.add(edge[to]);
          open.push(edge[to]);
        }
    }
    return found;
  };
  const kept = new Set([...reach("from", "to"), ...reach("to", "from")]);
  return { nodes: nodes.filter((node) => kept.has(node.id)), edges: edges.filter((edge) => kept.has(edge.from) && kept.has(edge.to)) };
}

/** Cut a text to about so many letters' width; a Chinese one is twice as wide. */
export function fit(text: string, letters: number): string {
  let room = letters;
  let end = 0;
  for (const letter of text) {
    room -= /[\u2e80-\uffff]/.test(letter) ? 2 : 1;
    if (room < 0) return `${text.slice(0, Math.max(1, end - 1))}…`;
    end += letter.length;
  }
  return text;
}
