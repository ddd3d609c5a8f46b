// The pages of the studio, in the order of the menu; each is loaded when it is opened.
import { lazy, type ComponentType } from "react";
import type { IconName } from "./ui";

export interface Page {
  /** The first part of its address; "" is home. */
  path: string;
  icon: IconName;
  title: readonly [en: string, zh: string];
  component: ComponentType;
}

export const PAGES: readonly Page[] = [
  { path: "", icon: "home", title: ["Home", "主页"], component: lazy(() => import("./pages/home/home")) },
  { path: "chat", icon: "chat", title: ["Chat", "对话"], component: lazy(() => import("./pages/chat/chat")) },
  { path: "arena", icon: "arena", title: ["Arena", "竞技场"], component: lazy(() => import("./pages/arena/arena")) },
  { path: "tokens", icon: "tokens", title: ["Token lens", "词元透镜"], component: lazy(() => import("./pages/tokens/tokens")) },
  { path: "model", icon: "lens", title: ["Model lens", "模型透镜"], component: lazy(() => import("./pages/model/model")) },
  { path: "train", icon: "train", title: ["Train", "训练"], component: lazy(() => import("./pages/train/train")) },
  { path: "runs", icon: "runs", title: ["Runs", "训练记录"], component: lazy(() => import("./pages/runs/runs")) },
  { path: "data", icon: "data", title: ["Data", "数据"], component: lazy(() => import("./pages/data/data")) },
  { path: "models", icon: "models", title: ["Models", "模型"], component: lazy(() => import("./pages/models/models")) },
  { path: "api", icon: "api", title: ["API", "接口"], component: lazy(() => import("./pages/api/api")) },
];
