import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import { Preferences } from "./preferences";
import "./ui/tokens.css";
import "./ui/base.css";
import "./ui/ui.css";
import "./shell.css";

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <Preferences>
      <App />
    </Preferences>
  </StrictMode>,
);
