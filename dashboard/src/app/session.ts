// Who is signed in. The cookie that says so is out of reach here: the server is asked.
import { QueryClient, queryOptions, useQuery } from "@tanstack/react-query";
import { ApiError, PAGE, type User, get, refusal, remove, post } from "../api/client";

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 2_000,
      retry: (failures, error) => failures < 2 && !(error instanceof ApiError && error.status >= 400 && error.status < 500),
      refetchOnWindowFocus: true,
    },
  },
});

export const me = queryOptions({ queryKey: ["me"], queryFn: () => get("/auth/me"), staleTime: 60_000, retry: false });

/** Who is signed in; pages below the shell are shown to somebody alone. */
export function useMe(): User | undefined {
  return useQuery(me).data;
}

/** Whether somebody may change things. The server decides; this only spares people buttons that would be refused. */
export function mayWrite(user: User | undefined): boolean {
  return user?.role === "owner" || user?.role === "admin" || user?.role === "member";
}

/** A `code` of an authenticator app goes along where the server asks for one. */
export async function signIn(email: string, password: string, code?: string): Promise<void> {
  let response: Response;
  try {
    response = await fetch("/auth/session", {
      method: "POST",
      headers: { ...PAGE, "Content-Type": "application/json" },
      body: JSON.stringify({ email, password, code }),
      credentials: "same-origin",
    });
  } catch {
    throw new ApiError(0, "unreachable", "");
  }
  if (!response.ok) throw await refusal(response);
  queries.clear();
  queries.setQueryData(me.queryKey, (await response.json()) as User);
}

export async function signOut(everywhere: boolean): Promise<void> {
  if (everywhere) await post("/auth/logout", { body: { everywhere: true } });
  else await remove("/auth/session");
  queries.clear();
}
