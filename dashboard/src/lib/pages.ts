// A list that is read in pages while its head changes: what is new stands on top, what changed is changed in place.

export interface Named {
  id: string;
}

/** The pages with the head laid over them. The head is the newest state of the first rows. */
export function merge<T extends Named>(head: T[], pages: T[][]): T[] {
  const fresh = new Map(head.map((row) => [row.id, row]));
  const seen = new Set<string>();
  const rows: T[] = [];
  for (const row of [...head, ...pages.flat()]) {
    if (seen.has(row.id)) continue;
    seen.add(row.id);
    rows.push(fresh.get(row.id) ?? row);
  }
  return rows;
}
