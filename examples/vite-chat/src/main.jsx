import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Chat } from "./Chat.jsx";
import "./style.css";

const source = new URLSearchParams(location.search).get("model") ?? "hf://Zyphra/Zamba2-1.2B-Instruct-v2";

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <Chat source={source} />
  </StrictMode>,
);
