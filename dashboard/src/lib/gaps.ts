// Which numbers a falling list leaves out.

export interface Gap {
  /** The smallest and the largest of the numbers that are missing. */
  from: number;
  to: number;
}

/**
 * What is missing before each number of a falling list, and after the last: one more than there are numbers.
 * `size` is how many there should be from 0 on, where that is known; `whole` says that nothing follows.
 */
export function gaps(numbers: readonly number[], size: number | undefined, whole: boolean): (Gap | undefined)[] {
  const between = (above: number, below: number): Gap | undefined => (above - below > 1 ? { from: below + 1, to: above - 1 } : undefined);
  const before = numbers.map((number, at) => between(at === 0 ? (size ?? number + 1) : (numbers[at - 1] as number), number));
  const last = numbers.at(-1);
  return [...before, whole ? between(last ?? size ?? 0, -1) : undefined];
}
