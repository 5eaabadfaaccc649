import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { onSignedOut } from "./api/client";
import { me, queries } from "./app/session";
import { startTheme } from "./app/theme";
import { router } from "./router";
import "./styles/base.css";
import "./styles/pages.css";

startTheme();
onSignedOut(() => {
  const { pathname, href } = router.state.location;
  // Whoever was not signed in has nothing that could be over.
  const over = queries.getQueryData(me.queryKey) ? "1" : undefined;
  if (pathname !== "/sign-in") void router.navigate({ to: "/sign-in", search: { next: href === "/" ? undefined : href, over } });
});
const root = document.getElementById("app");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </StrictMode>,
  );
}
