// The pages of the studio, in the order of the menu; each is loaded when it is opened.
import type { ComponentType } from "react";
import type { IconName } from "./ui";

export interface Page {
  /** The first part of its address; "" is home. */
  path: string;
  icon: IconName;
  title: readonly [en: string, zh: string];
  scripts: () => Promise<{ default: ComponentType }>;
}

export const PAGES: readonly Page[] = [
  { path: "", icon: "home", title: ["Home", "主页"], scripts: () => import("./pages/home/home") },
  { path: "chat", icon: "chat", title: ["Chat", "对话"], scripts: () => import("./pages/chat/chat") },
  { path: "arena", icon: "arena", title: ["Arena", "竞技场"], scripts: () => import("./pages/arena/arena") },
  { path: "tokens", icon: "tokens", title: ["Token lens", "词元透镜"], scripts: () => import("./pages/tokens/tokens") },
  { path: "model", icon: "lens", title: ["Model lens", "模型透镜"], scripts: () => import("./pages/model/model") },
  { path: "train", icon: "train", title: ["Train", "训练"], scripts: () => import("./pages/train/train") },
  { path: "runs", icon: "runs", title: ["Runs", "训练记录"], scripts: () => import("./pages/runs/runs") },
  { path: "data", icon: "data", title: ["Data", "数据"], scripts: () => import("./pages/data/data") },
  { path: "models", icon: "models", title: ["Models", "模型"], scripts: () => import("./pages/models/models") },
  { path: "api", icon: "api", title: ["API", "接口"], scripts: () => import("./pages/api/api") },
];

const LOADED = new Map<string, ComponentType>();

/** A page's component, where its scripts are here. */
export function loaded(page: Page): ComponentType | null {
  return LOADED.get(page.path) ?? null;
}

/** Load a page's scripts; a second call asks for nothing. */
export async function load(page: Page): Promise<ComponentType> {
  const { default: component } = await page.scripts();
  LOADED.set(page.path, component);
  return component;
}
