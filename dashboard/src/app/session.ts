// Who is signed in. The cookie that says so is out of reach here: the server is asked.
import { QueryClient, queryOptions, useQuery } from "@tanstack/react-query";
import { ApiError, type User, get, post, remove } from "../api/client";

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
  begun(await post("/auth/session", { body: { email, password, code } }));
}

/** Signs in by what this browser came back from an issuer with, which is in a cookie. */
export async function finishSignIn(code?: string): Promise<void> {
  begun(await post("/auth/session/sso", { body: { code } }));
}

/** Comes into a workspace by an invitation. */
export async function comeIn(token: string, password: string, name?: string): Promise<void> {
  begun(await post("/auth/session/invitation", { body: { token, password, name } }));
}

function begun(user: User): void {
  queries.clear();
  queries.setQueryData(me.queryKey, user);
}

export async function signOut(everywhere: boolean): Promise<void> {
  if (everywhere) await post("/auth/logout", { body: { everywhere: true } });
  else await remove("/auth/session");
  queries.clear();
}
