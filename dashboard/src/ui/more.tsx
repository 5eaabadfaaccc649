// Lists that come in pages: what is there so far, and a button for more.
import { useInfiniteQuery } from "@tanstack/react-query";
import { m } from "../messages/en";

interface Part<T> {
  items: T[];
  next?: string;
}

/** The items of a list so far; it is asked for anew after so many milliseconds of `live`. */
export function usePages<T>(queryKey: readonly unknown[], ask: (cursor: string | undefined, signal: AbortSignal) => Promise<Part<T>>, { live }: { live?: number } = {}) {
  const list = useInfiniteQuery({
    queryKey,
    queryFn: ({ pageParam, signal }) => ask(pageParam, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last: Part<T>) => last.next,
    // Those who read on in older pages are left in peace.
    refetchInterval: (query) => ((query.state.data?.pages.length ?? 0) > 1 ? false : (live ?? false)),
  });
  return { ...list, items: list.data?.pages.flatMap((part) => part.items) ?? [] };
}

export function More({ list }: { list: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown } }) {
  if (!list.hasNextPage) return null;
  return (
    <div>
      <button type="button" className="btn" disabled={list.isFetchingNextPage} onClick={() => void list.fetchNextPage()}>
        {m.common.more}
      </button>
    </div>
  );
}
