// Which of many names somebody means who types a few letters of one.

/** How well `typed` fits `name`; `undefined` when it does not. Higher is better. */
export function fit(typed: string, name: string): number | undefined {
  const want = typed.trim().toLowerCase();
  const have = name.toLowerCase();
  if (want === "") return 0;
  const at = have.indexOf(want);
  if (at === 0) return 100 - have.length / 100;
  if (at > 0) return (/[\s./_-]/.test(have[at - 1] ?? "") ? 80 : 60) - have.length / 100;
  let from = 0;
  for (const letter of want) {
    const found = have.indexOf(letter, from);
    if (found < 0) return undefined;
    from = found + 1;
  }
  return 20 - from / 10;
}

/** Those that fit, the best first; of equals, the first. */
export function ranked<T>(typed: string, items: T[], name: (item: T) => string): T[] {
  const fits = items.map((item, index) => ({ item, index, score: fit(typed, name(item)) }));
  const good = fits.filter((one): one is typeof one & { score: number } => one.score !== undefined);
  return good.sort((a, b) => b.score - a.score || a.index - b.index).map((one) => one.item);
}
