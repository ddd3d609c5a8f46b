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
  { path: "models", icon: "models", title: ["Models", "模型"], component: lazy(() => import("./pages/models/models")) },
  { path: "api", icon: "api", title: ["API", "接口"], component: lazy(() => import("./pages/api/api")) },
];
